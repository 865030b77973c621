"""A dialog that asks for one line."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from vtlfs.tui.widgets.keys import Keys


class Prompt(ModalScreen[str | None]):
    """Asks for a line; None when it was cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel")]
    DEFAULT_CSS = """
    Prompt { align: center middle; }
    Prompt > Vertical { width: 70; max-width: 95%; height: auto; padding: 1 2; background: $panel;
        border: solid $primary; }
    """

    def __init__(self, title: str, placeholder: str, value: str = "") -> None:
        super().__init__()
        self._words = (title, placeholder, value)

    def compose(self) -> ComposeResult:
        """Lay it out."""
        title, placeholder, value = self._words
        with Vertical():
            yield Label(title, markup=False)
            yield Input(value, placeholder=placeholder)
        yield Keys()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Return the line."""
        self.dismiss(event.value.strip())
