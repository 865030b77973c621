"""The details of one session, medium, drive or disk."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from vtlfs.tui.details import Details, DetailsRow
from vtlfs.tui.screens.page import DataPage
from vtlfs.tui.source import Source, Target
from vtlfs.tui.threads import DaemonThreads
from vtlfs.tui.widgets.table import Column, Table


class DetailsScreen(DataPage):
    """Fields above, and a table below. They were loaded before the screen was opened."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.pop_screen", "Back")]
    DEFAULT_CSS = """
    DetailsScreen #fields { height: auto; max-height: 50%; padding: 0 1; }
    DetailsScreen Table { height: 1fr; border-top: solid $primary; }
    """

    def __init__(
        self, source: Source, threads: DaemonThreads, details: Details, state: int | None, state_name: str
    ) -> None:
        super().__init__(source, threads)
        self.state = state
        self._details = details
        self._state_name = state_name

    def heading(self) -> str:
        """Return the title."""
        return f"{self._details.title}, {self._state_name}"

    def body(self) -> Iterable[Widget]:
        """Return fields and table."""
        fields = "\n".join(f"{name:<10} {value}" for name, value in self._details.fields)
        yield VerticalScroll(Static(fields, markup=False), id="fields")
        if self._details.columns:
            yield Table([_column(index, *column) for index, column in enumerate(self._details.columns)])

    def on_mount(self) -> None:
        """Fill the table."""
        if self._details.columns:
            table = self.query_one(Table)
            table.show(self._details.rows)
            table.focus()

    def target(self) -> Target | None:
        """Return the stored data of the table's row; if the row has none, that of the whole session or medium."""
        if self._details.columns:
            row = self.query_one(Table).selected_row
            if isinstance(row, DetailsRow) and row.target is not None:
                return row.target
        return self._details.target


def _column(index: int, heading: str, width: int) -> Column[DetailsRow]:
    return Column(heading, width, lambda row: row.cells[index])
