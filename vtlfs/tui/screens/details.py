"""The details of one row."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from vtlfs.tui.details import Details, Line
from vtlfs.tui.screens.page import DataPage
from vtlfs.tui.source import Target
from vtlfs.tui.widgets.table import Column, Table


class DetailsScreen(DataPage):
    """Fields above, and a table below. What is done, is done with the table's row, if that has data."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.pop_screen", "Back")]
    DEFAULT_CSS = """
    DetailsScreen #fields { height: auto; max-height: 50%; padding: 0 1; }
    DetailsScreen Table { height: 1fr; border-top: solid $primary; }
    """

    def __init__(self, details: Details, state: int | None, where: str) -> None:
        super().__init__()
        self.state = state
        self._details = details
        self._where = where

    def heading(self) -> str:
        """Return the title."""
        return f"{self._details.title}, {self._where}"

    def body(self) -> Iterable[Widget]:
        """Return fields and table."""
        shown = "\n".join(f"{name:<10} {value}" for name, value in self._details.fields)
        yield VerticalScroll(Static(shown, markup=False), id="fields")
        if self._details.headings:
            yield Table([_column(at, *heading) for at, heading in enumerate(self._details.headings)], name="lines")

    def on_mount(self) -> None:
        """Fill the table."""
        if self._details.headings:
            table = self.query_one("#lines", Table)
            table.show(self._details.lines)
            table.focus()

    def target(self) -> Target | None:
        """Return the table's row if it has data, else what the details are of."""
        if self._details.headings:
            line = self.query_one("#lines", Table).selected
            if isinstance(line, Line) and line.target is not None:
                return line.target
        return self._details.target


def _column(at: int, heading: str, width: int) -> Column[Line]:
    return Column(heading, width, lambda line: line.cells[at])
