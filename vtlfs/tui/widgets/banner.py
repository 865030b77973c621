"""Lines above a table that report problems; hidden while there are none."""

from collections.abc import Sequence

from textual.widgets import Static


class Banner(Static):
    """A few lines of text, in the style `degraded` or `failed`."""

    DEFAULT_CSS = """
    Banner { display: none; height: auto; padding: 0 1; }
    Banner.shown { display: block; }
    Banner.degraded { color: $text-warning; }
    Banner.failed { color: $text-error; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)

    def show(self, lines: Sequence[str], style: str) -> None:
        """Show the lines, which must be printable; hide the banner if there are none."""
        self.update("\n".join(lines))
        self.set_classes(["shown", style] if lines else [])
