"""The screen of one state, a snapshot or now: its drives, media, sessions and disks, and for now the live figures."""

from collections.abc import Callable, Iterable
from time import monotonic
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import TabbedContent, TabPane

from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Session
from vtlfs.tui import details
from vtlfs.tui import format as fmt
from vtlfs.tui.details import Details
from vtlfs.tui.medium_details import of_medium
from vtlfs.tui.panes.live import Live
from vtlfs.tui.panes.pane import Pane
from vtlfs.tui.panes.sessions import Sessions
from vtlfs.tui.panes.tables import DiskRow, Disks, DriveRow, Drives, Media, MediumRow
from vtlfs.tui.screens.page import DataPage
from vtlfs.tui.source import NOW, Source, Target
from vtlfs.tui.threads import DaemonThreads
from vtlfs.tui.widgets.table import Table

REFRESH_SECONDS = 1.0
IDLE_FACTOR = 10  # the pause after a load is so many times as long as the load, to spare a large library
RETRY_SECONDS = 10.0  # the pause after a failed load
LOAD_SECONDS = 60.0  # if a load has not ended after this time, the next load begins


class StateScreen(DataPage):
    """Tabs with a pane each. For the state now, the visible pane is loaded again every second."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back"),
        Binding("slash", "search", "Search"),
        Binding("f", "filter", "Filter"),
        Binding("o", "sort", "Sort"),
        Binding("O", "reverse", "Reverse"),
        Binding("1", "tab('drives')", "Drives"),
        Binding("2", "tab('media')", "Media"),
        Binding("3", "tab('sessions')", "Sessions"),
        Binding("4", "tab('disks')", "Disks"),
        Binding("5", "tab('live')", "Live"),
    ]
    DEFAULT_CSS = """
    StateScreen TabbedContent { height: 1fr; }
    StateScreen TabPane { padding: 0; }
    """
    FIRST_TAB = Sessions.NAME

    def __init__(self, source: Source, threads: DaemonThreads, state: int | None, taken_at: str) -> None:
        super().__init__(source, threads)
        self.state = state
        self._taken_at = taken_at
        self._next_load = 0.0  # the monotonic time before which no load begins by itself

    @property
    def state_name(self) -> str:
        """The state, as the titles call it."""
        if self.state is not NOW:
            return f"snapshot {self.state} of {fmt.time(self._taken_at)}"
        return "exported snapshot" if self.source.is_export else "now"

    def heading(self) -> str:
        """Return the title."""
        return f"{self.state_name}: {self.source.path}"

    def body(self) -> Iterable[Widget]:
        """Return the tabs."""
        panes: list[Pane] = [Drives(), Media(), Sessions(), Disks()]
        if self.is_live:
            panes.append(Live())
        with TabbedContent(initial=self.FIRST_TAB):
            for number, pane in enumerate(panes, 1):
                yield TabPane(f"{number} {pane.LABEL}", pane, id=pane.NAME)

    @property
    def is_live(self) -> bool:
        """Whether this state goes on changing."""
        return self.state is NOW and not self.source.is_export

    @property
    def pane(self) -> Pane:
        """The visible pane."""
        active = self.query_one(TabbedContent).active or self.FIRST_TAB
        return self.query_one(f"#{active}", TabPane).query_one(Pane)

    def on_mount(self) -> None:
        """Load the visible pane periodically, if the state changes."""
        if self.is_live:
            self.refresh_every(REFRESH_SECONDS, self._refresh_pane)

    def _refresh_pane(self) -> None:
        if monotonic() >= self._next_load:
            self.load_pane(self.pane)

    def load_pane(self, pane: Pane) -> None:
        """Load a pane in a thread, then let the pane show the result."""
        source, state = self.source, self.state
        began = monotonic()

        def load() -> Callable[[], None]:
            with source.tracking(state) as tracking:
                return pane.load(tracking, source, state)

        def loaded(show: Callable[[], None]) -> None:
            self._next_load = monotonic() + IDLE_FACTOR * (monotonic() - began)
            show()

        def failed() -> None:
            self._next_load = monotonic() + RETRY_SECONDS

        self._next_load = monotonic() + LOAD_SECONDS
        self.run_query(load, loaded, f"pane-{pane.NAME}", failed)

    def on_tabbed_content_tab_activated(self) -> None:
        """Focus and load the pane that has become visible."""
        if not self.is_ready:
            return
        self.pane.query_one(Table).focus()
        self.load_pane(self.pane)
        self.refresh_bindings()

    def on_pane_load_requested(self, event: Pane.LoadRequested) -> None:
        """Load the pane that asks for other rows."""
        event.stop()
        self.load_pane(event.pane)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer search, filter and sort only on the sessions pane, and the live tab only for the state now."""
        if not self.is_ready:  # Textual asks while the screen is being mounted or removed, too
            return True
        if action in ("search", "filter", "sort", "reverse"):
            return isinstance(self.pane, Sessions)
        if parameters == (Live.NAME,):
            return self.is_live
        return True

    def target(self) -> Target | None:
        """Return the stored data of the row under the cursor."""
        row = self.pane.query_one(Table).selected_row
        if isinstance(row, Session):
            return details.target_of(row)
        return Target(row.medium.barcode, None) if isinstance(row, MediumRow) else None

    def on_table_row_selected(self, event: Table.RowSelected) -> None:
        """Show the details of the row."""
        event.stop()
        row = self.pane.query_one(Table).selected_row
        if row is not None:
            self.load_details(lambda tracking: _details_of(row, tracking))

    def action_tab(self, name: str) -> None:
        """Go to a tab."""
        if self.query(f"TabPane#{name}"):
            self.query_one(TabbedContent).active = name

    def action_search(self) -> None:
        """Ask for a text, then search the sessions for it."""
        self.query_one(Sessions).request_search()

    def action_filter(self) -> None:
        """Ask for a query, then show the sessions that match it."""
        self.query_one(Sessions).request_filter()

    def action_sort(self) -> None:
        """Sort by the next column."""
        self.query_one(Sessions).sort_by_next_column()

    def action_reverse(self) -> None:
        """Reverse the order."""
        self.query_one(Sessions).reverse()


def _details_of(row: object, tracking: Tracking) -> Details:
    if isinstance(row, Session):
        return details.of_session(tracking, row.id)
    if isinstance(row, MediumRow):
        return of_medium(tracking, row.medium.barcode)
    if isinstance(row, DriveRow):
        return details.of_drive(tracking, row.drive.number)
    assert isinstance(row, DiskRow)
    return details.of_disk(row.disk, row.health, row.stored)
