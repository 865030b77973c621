"""The comparison of two states, side by side."""

from collections.abc import Iterable
from time import monotonic
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from vtlfs.tui import format as fmt
from vtlfs.tui.comparison import Comparison, Row, compare
from vtlfs.tui.screens.page import DataPage
from vtlfs.tui.source import NOW, Source, Target
from vtlfs.tui.threads import DaemonThreads
from vtlfs.tui.widgets.table import Column, Table

SIGN_STYLES = {"+": "good", "-": "bad", "~": "warn"}


class CompareScreen(DataPage):
    """A table with the earlier state on the left and the later state on the right.

    Extract, verify and the other operations on stored data work on the later state.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back"),
        Binding("n", "next_kind", "Next kind"),
    ]
    DEFAULT_CSS = "CompareScreen #summary { height: 1; padding: 0 1; }"
    _timer: Timer

    def __init__(self, source: Source, threads: DaemonThreads, earlier: int, later: int | None) -> None:
        super().__init__(source, threads)
        self.state = later
        self._earlier = earlier
        self._section_starts: list[int] = []

    def heading(self) -> str:
        """Return the title."""
        return f"snapshot {self._earlier} and {self.state_name}: {self.source.path}"

    def body(self) -> Iterable[Widget]:
        """Return the summary and the table."""
        later = "NOW" if self.state is NOW else f"SNAPSHOT {self.state}"
        columns: list[Column[Row]] = [
            Column("", 1, lambda row: row.sign, style=lambda row: SIGN_STYLES.get(row.sign, "")),
            Column("WHAT", 9, lambda row: row.kind),
            Column("WHICH", 14, lambda row: fmt.printable(row.name)),
            Column(f"SNAPSHOT {self._earlier}", 0, lambda row: fmt.printable(row.before)),
            Column(later, 0, lambda row: fmt.printable(row.after)),
            Column("MORE", 10, lambda row: row.change, right=True, style=lambda _: "good"),
        ]
        yield Static("comparing", id="summary", markup=False)
        yield Table(columns)

    @property
    def table(self) -> "Table[Row]":
        """The table."""
        return self.query_one(Table)

    def on_mount(self) -> None:
        """Compare in a thread, and show how long the comparison has been running."""
        self.table.focus()
        began = monotonic()
        self._timer = self.set_interval(1.0, lambda: self._show_status(f"comparing, {monotonic() - began:.0f} s"))
        source, earlier, later = self.source, self._earlier, self.state
        self.run_query(lambda: compare(source, earlier, later), self._show, "compare", self._show_failure)

    def _show(self, comparison: Comparison) -> None:
        self._timer.stop()
        self._section_starts = comparison.rows.starts
        self.table.show(comparison.rows)
        self._show_status(comparison.summary)

    def _show_failure(self) -> None:
        self._timer.stop()
        self._show_status("comparing failed")

    def _show_status(self, message: str) -> None:
        if self.is_ready:
            self.query_one("#summary", Static).update(message)

    def target(self) -> Target | None:
        """Return the stored data of the row under the cursor, in the later state."""
        row = self.table.selected_row
        return None if row is None else row.target

    def on_table_row_selected(self, event: Table.RowSelected) -> None:
        """Show the details of the row, if it is a session, a medium or a tape file of the later state."""
        event.stop()
        row = self.table.selected_row
        if row is not None and row.details is not None:
            self.load_details(row.details)

    def action_next_kind(self) -> None:
        """Move the cursor to the first row of the next kind; from the last kind, to the first row."""
        table = self.table
        table.cursor = next((start for start in self._section_starts if start > table.cursor), 0)
