"""The pane of sessions, however many there are: only those around the visible rows are loaded."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.message import Message
from textual.widgets import Static

from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Session, State
from vtlfs.snap import browse
from vtlfs.snap.browse import SessionQuery
from vtlfs.tui import format as fmt
from vtlfs.tui.panes.pane import Pane
from vtlfs.tui.source import Source
from vtlfs.tui.widgets.table import Column, Table

PAGE = 100  # sessions loaded before and behind the row that is needed

STATE_STYLES = {State.OPEN: "warn", State.FAILED: "bad", State.RECOVERED: "warn", State.RELEASED: ""}


class Sessions(Pane):
    """A line that says which sessions are shown, and the table."""

    NAME = "sessions"
    LABEL = "Sessions"
    COLUMNS: ClassVar[list[Column[Session]]] = [
        Column("ID", 7, lambda s: f"{s.id}", right=True, name="id"),
        Column("OPENED", 14, lambda s: fmt.time(s.opened_at)[2:16], name="opened_at"),
        Column("HOST", 0, lambda s: fmt.printable(s.host), name="host"),
        Column("PROGRAM", 8, lambda s: fmt.printable(s.program), name="program"),
        Column("DOES", 5, lambda s: str(s.access)),
        Column("DR", 2, lambda s: f"{s.drive}", right=True, name="drive"),
        Column("MEDIUM", 0, lambda s: s.medium, name="medium"),
        Column("STATE", 9, lambda s: s.error or str(s.state), name="state", style=lambda s: STATE_STYLES[s.state]),
        Column("BYTES", 9, lambda s: fmt.size(s.bytes), right=True, name="bytes"),
    ]
    DEFAULT_CSS = "Sessions Static { height: 1; padding: 0 1; color: $foreground; }"

    @dataclass
    class SearchRequested(Message):
        """The person wants to search; `pane` does it once the text is known."""

        pane: "Sessions"

    @dataclass
    class FilterRequested(Message):
        """The person wants to filter; `pane` does it once the query is known."""

        pane: "Sessions"

    def __init__(self) -> None:
        super().__init__()
        self.session_query = SessionQuery()
        self._needed_index = 0  # of a row, around which the sessions are loaded

    def compose(self) -> ComposeResult:
        """Yield the line and the table."""
        yield Static("", id="summary", markup=False)
        yield Table(self.COLUMNS, key=lambda session: session.id)

    def load(self, tracking: Tracking, source: Source, state: int | None) -> Callable[[], None]:
        """Load the sessions around the needed row, and count all sessions of the query."""
        query, first = self.session_query, max(0, self._needed_index - PAGE)
        sessions = browse.sessions_page(tracking, query, first, 2 * PAGE)
        count = browse.count_sessions(tracking, query)
        rows = dict(enumerate(sessions, first))

        def show() -> None:
            if query == self.session_query:  # the person may have changed the query while the thread ran
                self.query_one(Table).show_part(rows, count)
                self._show_summary(count)

        return show

    def _show_summary(self, count: int) -> None:
        query = self.session_query
        order = "descending" if query.descending else "ascending"
        by = "opening" if query.sort == "sequence" else query.sort
        parts = [fmt.count(count, "session"), f"by {by}, {order}"]
        for name in ("host", "drive", "medium", "state", "since", "until", "text"):
            if (value := getattr(query, name)) is not None:
                parts.append(f"{name} {value}")
        self.query_one("#summary", Static).update(fmt.printable("; ".join(parts)))

    def on_table_row_missing(self, event: Table.RowMissing) -> None:
        """Have the sessions around the missing row loaded, unless they are on their way."""
        event.stop()
        if event.index not in range(max(0, self._needed_index - PAGE), self._needed_index + PAGE):
            self._needed_index = event.index
            self.post_message(self.LoadRequested(self))

    def change_query(self, query: SessionQuery) -> None:
        """Show other sessions, or the same in another order, from the first on."""
        self.session_query = query
        self._needed_index = 0
        self.query_one(Table).clear()
        self.post_message(self.LoadRequested(self))

    def request_search(self) -> None:
        """Have the person asked for a text."""
        self.post_message(self.SearchRequested(self))

    def request_filter(self) -> None:
        """Have the person asked for a query."""
        self.post_message(self.FilterRequested(self))

    def search(self, text: str) -> None:
        """Show the sessions that contain a text; all sessions if the text is empty."""
        self.change_query(replace(self.session_query, text=text or None))

    def sort_by_next_column(self) -> None:
        """Sort by the column behind the one that the table is sorted by."""
        index = browse.SORTS.index(self.session_query.sort)
        self.change_query(replace(self.session_query, sort=browse.SORTS[(index + 1) % len(browse.SORTS)]))

    def reverse(self) -> None:
        """Reverse the order."""
        self.change_query(replace(self.session_query, descending=not self.session_query.descending))

    def on_table_heading_pressed(self, event: Table.HeadingPressed) -> None:
        """Sort by a column; if the table is sorted by it already, reverse the order."""
        event.stop()
        if event.name == self.session_query.sort:
            self.reverse()
        else:
            self.change_query(replace(self.session_query, sort=event.name))
