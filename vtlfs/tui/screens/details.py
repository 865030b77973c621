"""The details of one session, medium, volume, drive or disk."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static, TabbedContent, TabPane

from vtlfs.tui.details import Details, DetailsRow, DetailsTable
from vtlfs.tui.screens.page import DataPage
from vtlfs.tui.source import Source, Target
from vtlfs.tui.threads import DaemonThreads
from vtlfs.tui.widgets.table import Column, Table


class DetailsScreen(DataPage):
    """Fields above, and a table below; several tables have a tab each. All is loaded before the screen is opened."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back"),
        Binding("tab", "next_tab", "Next table", priority=True),
        *(Binding(str(number), f"tab({number})", show=False) for number in range(1, 4)),
    ]
    DEFAULT_CSS = """
    DetailsScreen #fields { height: auto; max-height: 50%; padding: 0 1; }
    DetailsScreen #fields.alone { height: 1fr; max-height: 100%; }
    DetailsScreen TabbedContent { height: 1fr; }
    DetailsScreen TabPane { padding: 0; }
    DetailsScreen Table { height: 1fr; border-top: solid $primary; }
    DetailsScreen TabPane Table { border-top: none; }
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
        """Return the fields and the table."""
        fields = "\n".join(f"{name:<10} {value}" for name, value in self._details.fields)
        tables = self._details.tables
        yield VerticalScroll(Static(fields, markup=False), id="fields", classes="" if tables else "alone")
        if len(tables) == 1:
            yield _table(tables[0])
        elif tables:
            with TabbedContent():
                for number, table in enumerate(tables, 1):
                    yield TabPane(f"{number} {table.name}", _table(table), id=f"table{number}")

    def on_mount(self) -> None:
        """Fill the tables."""
        for table, found in zip(self.query(Table), self._details.tables, strict=True):
            table.show(found.rows)
        if self._details.tables:
            self.query(Table).first().focus()

    @property
    def _tabs(self) -> TabbedContent | None:
        return self.query_one(TabbedContent) if len(self._details.tables) > 1 else None

    @property
    def _row(self) -> DetailsRow | None:
        """The row under the cursor of the visible table."""
        if not self._details.tables:
            return None
        where = self._tabs.active_pane if self._tabs is not None else self
        row = None if where is None else where.query_one(Table).selected_row
        return row if isinstance(row, DetailsRow) else None

    def target(self) -> Target | None:
        """Return the stored data of the table's row; if the row has none, that of the whole session or medium."""
        row = self._row
        return self._details.target if row is None or row.target is None else row.target

    def on_table_row_selected(self, event: Table.RowSelected) -> None:
        """Show the details of the row, if there are any."""
        event.stop()
        row = self._row
        if row is not None and row.details is not None:
            self.load_details(row.details)

    def on_tabbed_content_tab_activated(self, event: TabbedContent.TabActivated) -> None:
        """Focus the table of the visible tab."""
        event.pane.query_one(Table).focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer tabs only where there are any."""
        return len(self._details.tables) > 1 if action in ("tab", "next_tab") else True

    def action_next_tab(self) -> None:
        """Go to the next table."""
        if (tabs := self._tabs) is not None:
            number = int(tabs.active.removeprefix("table"))
            self.action_tab(number % len(self._details.tables) + 1)

    def action_tab(self, number: int) -> None:
        """Go to a table."""
        if (tabs := self._tabs) is not None and number <= len(self._details.tables):
            tabs.active = f"table{number}"


def _table(table: DetailsTable) -> Table[DetailsRow]:
    return Table([_column(index, *column) for index, column in enumerate(table.columns)])


def _column(index: int, heading: str, width: int) -> Column[DetailsRow]:
    return Column(heading, width, lambda row: row.cells[index])
