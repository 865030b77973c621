"""Lines above a table that say what is wrong; hidden while nothing is."""

from collections.abc import Sequence

from textual.widgets import Static


class Banner(Static):
    """The lines. `degraded` and `failed` are their styles."""

    DEFAULT_CSS = """
    Banner { display: none; height: auto; padding: 0 1; }
    Banner.shown { display: block; }
    Banner.degraded { color: $text-warning; }
    Banner.failed { color: $text-error; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)

    def show(self, lines: Sequence[str], style: str) -> None:
        """Show the lines, which have been made printable; hide where there are none."""
        self.update("\n".join(lines))
        self.set_classes(["shown", style] if lines else [])
