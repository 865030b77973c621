"""A dialog that asks which sessions to show."""

from dataclasses import replace
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from vtlfs.model import State
from vtlfs.snap.browse import SessionQuery
from vtlfs.tui.widgets.keys import Keys

FIELDS = {
    "host": "alpha",
    "drive": "0",
    "medium": "A00001L9",
    "state": ", ".join(State),
    "since": "2026-11-22, or 2026-11-22T17:30, in UTC",
    "until": "2026-11-22, that day included",
}


class FilterDialog(ModalScreen[SessionQuery | None]):
    """Asks for one line a field; an empty one does not restrict. None when it was cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Cancel"),
        Binding("enter", "apply", "Apply", priority=True),
        Binding("ctrl+l", "empty", "All sessions"),
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
        """Lay it out."""
        with Vertical():
            yield Label("Which sessions")
            with Grid():
                for name, example in FIELDS.items():
                    value = getattr(self._query, name)
                    yield Label(name)
                    yield Input("" if value is None else str(value), placeholder=example, id=name, compact=True)
            yield Label("", id="problem", markup=False)
        yield Keys()

    def action_apply(self) -> None:
        """Return what was asked for, or say what is wrong."""
        found: dict[str, Any] = {name: self.query_one(f"#{name}", Input).value.strip() or None for name in FIELDS}
        drive, state = found.pop("drive"), found["state"]
        if drive is not None and not (drive.isascii() and drive.isdigit() and len(drive) < 10):
            self._refuse("drive", f"{drive!r} is no drive's number")
        elif state is not None and state not in list(State):
            self._refuse("state", f"a state is one of {', '.join(State)}")
        else:
            self.dismiss(replace(self._query, drive=None if drive is None else int(drive), **found))

    def action_empty(self) -> None:
        """Empty all fields."""
        for name in FIELDS:
            self.query_one(f"#{name}", Input).value = ""

    def _refuse(self, name: str, why: str) -> None:
        self.query_one("#problem", Label).update(why)
        self.query_one(f"#{name}", Input).focus()
