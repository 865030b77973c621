"""Two states side by side: what came, what went, what grew."""

from collections.abc import Iterable
from time import monotonic
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from vtlfs.tui import format as fmt
from vtlfs.tui.comparison import Comparison, Row, compare
from vtlfs.tui.details import Details
from vtlfs.tui.screens.page import DataPage
from vtlfs.tui.source import NOW, Target
from vtlfs.tui.widgets.table import Column, Table

LOOKS = {"+": "good", "-": "bad", "~": "warn"}


class Compare(DataPage):
    """A table with the earlier state on the left and the later on the right."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back"),
        Binding("n", "next_kind", "Next kind"),
    ]
    DEFAULT_CSS = "Compare #sums { height: 1; padding: 0 1; }"

    def __init__(self, earlier: int, later: int | None) -> None:
        super().__init__()
        self.state = later
        self._earlier = earlier
        self._starts: list[int] = []

    def heading(self) -> str:
        """Return the title."""
        later = "now" if self.state is NOW else f"snapshot {self.state}"
        return f"snapshot {self._earlier} and {later}: {self.browser.source.path}"

    def body(self) -> Iterable[Widget]:
        """Return the table."""
        later = "NOW" if self.state is NOW else f"SNAPSHOT {self.state}"
        columns: list[Column[Row]] = [
            Column("", 1, lambda row: row.sign, look=lambda row: LOOKS.get(row.sign, "")),
            Column("WHAT", 9, lambda row: row.kind),
            Column("WHICH", 14, lambda row: fmt.printable(row.name)),
            Column(f"SNAPSHOT {self._earlier}", 0, lambda row: fmt.printable(row.before)),
            Column(later, 0, lambda row: fmt.printable(row.after)),
            Column("MORE", 10, lambda row: row.more, right=True, look=lambda _: "good"),
        ]
        yield Static("comparing", id="sums", markup=False)
        yield Table(columns, name="rows")

    def on_mount(self) -> None:
        """Compare."""
        source, earlier, later = self.browser.source, self._earlier, self.state
        self.query_one("#rows", Table).focus()
        began = monotonic()
        waiting = self.set_interval(1.0, lambda: self._say(f"comparing, {monotonic() - began:.0f} s"))

        def show(found: Comparison) -> None:
            waiting.stop()
            self._show(found)

        def failed() -> None:
            waiting.stop()
            self._say("could not be compared")

        self.ask(lambda: compare(source, earlier, later), show, "compare", failed)

    def _show(self, found: Comparison) -> None:
        self._starts = found.rows.starts
        self.query_one("#rows", Table).show(found.rows)
        self._say(found.summary)

    def _say(self, message: str) -> None:
        if self.is_whole:
            self.query_one("#sums", Static).update(message)

    def target(self) -> Target | None:
        """Return the data of the row in the later state."""
        row = self.query_one("#rows", Table).selected
        return row.target if isinstance(row, Row) else None

    def on_table_chosen(self, event: Table.Chosen) -> None:
        """Show the row's details."""
        event.stop()
        self.action_details()

    def action_details(self) -> None:
        """Show the details of the session or medium, in the later state."""
        row = self.query_one("#rows", Table).selected
        if not isinstance(row, Row) or row.details is None:
            return
        source, state, details = self.browser.source, self.state, row.details

        def question() -> Details:
            with source.tracking(state) as tracking:
                return details(tracking)

        def show(found: Details) -> None:
            from vtlfs.tui.screens.details import DetailsScreen

            self.push(DetailsScreen(found, state, "now" if state is NOW else f"snapshot {state}"))

        self.ask(question, show, "details")

    def action_next_kind(self) -> None:
        """Go to the first row of the next kind, after the last one to the first row of all."""
        table = self.query_one("#rows", Table)
        table.cursor = next((start for start in self._starts if start > table.cursor), 0)
