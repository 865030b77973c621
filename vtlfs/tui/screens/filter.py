"""A dialog that asks by which values to filter the sessions."""

from dataclasses import replace
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from vtlfs.model import State
from vtlfs.snap.browse import SessionQuery
from vtlfs.tui.widgets.key_bar import KeyBar

EXAMPLES = {  # of each field, shown while the field is empty
    "host": "alpha",
    "drive": "0",
    "medium": "A00001L9",
    "state": ", ".join(State),
    "since": "2026-11-22, or 2026-11-22T17:30, in UTC",
    "until": "2026-11-22, that day included",
}


class FilterDialog(ModalScreen[SessionQuery | None]):
    """Asks for a value for each field; an empty field filters nothing. The result is None if the person cancels."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Cancel"),
        Binding("enter", "apply", "Apply", priority=True),
        Binding("ctrl+l", "clear", "All sessions"),
    ]
    DEFAULT_CSS = """
    FilterDialog { align: center middle; }
    FilterDialog > Vertical { width: 64; max-width: 95%; height: auto; padding: 1 2; background: $panel;
        border: solid $primary; }
    FilterDialog Grid { grid-size: 2; grid-columns: 10 1fr; grid-rows: 1; height: auto; }
    FilterDialog #problem { color: $text-error; height: auto; }
    """

    def __init__(self, query: SessionQuery) -> None:
        super().__init__()
        self._query = query

    def compose(self) -> ComposeResult:
        """Yield fields and keys."""
        with Vertical():
            yield Label("Which sessions")
            with Grid():
                for name, example in EXAMPLES.items():
                    value = getattr(self._query, name)
                    yield Label(name)
                    yield Input("" if value is None else str(value), placeholder=example, id=name, compact=True)
            yield Label("", id="problem", markup=False)
        yield KeyBar()

    def action_apply(self) -> None:
        """Close the dialog with the query, or say which field is wrong."""
        values: dict[str, Any] = {name: self.query_one(f"#{name}", Input).value.strip() or None for name in EXAMPLES}
        drive, state = values.pop("drive"), values["state"]
        if drive is not None and not (drive.isascii() and drive.isdigit() and len(drive) < 10):
            self._refuse("drive", f"{drive!r} is not the number of a drive")
        elif state is not None and state not in list(State):
            self._refuse("state", f"a state is one of {', '.join(State)}")
        else:
            self.dismiss(replace(self._query, drive=None if drive is None else int(drive), **values))

    def action_clear(self) -> None:
        """Empty all fields."""
        for name in EXAMPLES:
            self.query_one(f"#{name}", Input).value = ""

    def _refuse(self, name: str, why: str) -> None:
        self.query_one("#problem", Label).update(why)
        self.query_one(f"#{name}", Input).focus()
