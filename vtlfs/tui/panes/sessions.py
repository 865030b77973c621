"""The sessions of a state, however many: only those that are seen are fetched."""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.widgets import Static

from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Session, State
from vtlfs.snap import browse
from vtlfs.snap.browse import SessionQuery
from vtlfs.tui import format as fmt
from vtlfs.tui.panes.pane import Pane
from vtlfs.tui.source import Source
from vtlfs.tui.widgets.table import Column, Table

PAGE = 100  # sessions that are fetched together

LOOKS = {State.OPEN: "warn", State.FAILED: "bad", State.RECOVERED: "warn", State.RELEASED: ""}


class Sessions(Pane):
    """A line that says which, and the table."""

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
        Column("STATE", 9, lambda s: s.error or str(s.state), name="state", look=lambda s: LOOKS[s.state]),
        Column("BYTES", 9, lambda s: fmt.size(s.bytes), right=True, name="bytes"),
    ]
    DEFAULT_CSS = "Sessions Static { height: 1; padding: 0 1; color: $foreground; }"

    def __init__(self) -> None:
        super().__init__()
        self.query_now = SessionQuery()
        self._around = 0

    def compose(self) -> ComposeResult:
        """Lay it out."""
        yield Static("", id="which", markup=False)
        yield Table(self.COLUMNS, key=lambda session: session.id)

    def look(self, tracking: Tracking, source: Source, state: int | None) -> Callable[[], None]:
        """Ask for the sessions that are seen, and how many there are."""
        query, first = self.query_now, max(0, self._around - PAGE)
        found = browse.sessions_page(tracking, query, first, 2 * PAGE)
        count = browse.count_sessions(tracking, query)
        rows = dict(enumerate(found, first))

        def show() -> None:
            if query == self.query_now:
                self.query_one(Table).show_some(rows, count)
                self._tell(count)

        return show

    def _tell(self, count: int) -> None:
        query = self.query_now
        way = "descending" if query.descending else "ascending"
        parts = [fmt.count(count, "session"), f"by {query.sort}, {way}"]
        for name in ("host", "drive", "medium", "state", "since", "until", "text"):
            if (value := getattr(query, name)) is not None:
                parts.append(f"{name} {value}")
        self.query_one("#which", Static).update(fmt.printable("; ".join(parts)))

    def on_table_lacks(self, event: Table.Lacks) -> None:
        """Fetch what is seen."""
        event.stop()
        if event.index not in range(max(0, self._around - PAGE), self._around + PAGE):
            self._around = event.index
            self.post_message(self.Wants(self))

    def change(self, query: SessionQuery) -> None:
        """Show other sessions, or in another order, from the first on."""
        self.query_now = query
        self._around = 0
        self.query_one(Table).forget()
        self.post_message(self.Wants(self))

    def search(self, text: str) -> None:
        """Look for a text; an empty one ends that."""
        self.change(replace(self.query_now, text=text or None))

    def sort_next(self) -> None:
        """Sort by the next column."""
        at = browse.SORTS.index(self.query_now.sort)
        self.change(replace(self.query_now, sort=browse.SORTS[(at + 1) % len(browse.SORTS)]))

    def reverse(self) -> None:
        """Sort the other way."""
        self.change(replace(self.query_now, descending=not self.query_now.descending))

    def on_table_heading_pressed(self, event: Table.HeadingPressed) -> None:
        """Sort by a column, and at the second press the other way."""
        event.stop()
        if event.name == self.query_now.sort:
            self.reverse()
        else:
            self.change(replace(self.query_now, sort=event.name))
