"""A dialog that asks for one line of text."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from vtlfs.tui.widgets.key_bar import KeyBar


class PromptDialog(ModalScreen[str | None]):
    """Asks for a line of text. The result is None if the person cancels."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel")]
    DEFAULT_CSS = """
    PromptDialog { align: center middle; }
    PromptDialog > Vertical { width: 70; max-width: 95%; height: auto; padding: 1 2; background: $panel;
        border: solid $primary; }
    """

    def __init__(self, heading: str, placeholder: str, value: str = "") -> None:
        super().__init__()
        self._heading = heading
        self._placeholder = placeholder
        self._value = value

    def compose(self) -> ComposeResult:
        """Yield the heading, the input and the keys."""
        with Vertical():
            yield Label(self._heading, markup=False)
            yield Input(self._value, placeholder=self._placeholder)
        yield KeyBar()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Close the dialog with the text."""
        self.dismiss(event.value.strip())
