"""One state of the library, a snapshot or now: its drives, media, sessions and disks, and what goes on now."""

from collections.abc import Callable, Iterable
from time import monotonic
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import TabbedContent, TabPane

from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Medium, Session
from vtlfs.tui import details
from vtlfs.tui.details import Details
from vtlfs.tui.format import time
from vtlfs.tui.panes import DiskRow, Disks, DriveRow, Drives, Live, Media, Pane, Sessions
from vtlfs.tui.screens.page import DataPage
from vtlfs.tui.source import NOW, Target
from vtlfs.tui.widgets.table import Table

REFRESH_SECONDS = 1.0
SHARE = 10  # of the time, at most one part in so many is spent with looking again


class StateScreen(DataPage):
    """Tabs, each with a table; now has one more, and looks again each second."""

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

    def __init__(self, state: int | None, at: str, tab: str = "sessions") -> None:
        super().__init__()
        self.state = state
        self._at = at
        self._first_tab = tab
        self._wait_until = 0.0

    @property
    def where(self) -> str:
        """What to call the state."""
        if self.state is not NOW:
            return f"snapshot {self.state} of {time(self._at)}"
        return "now" if self.browser.source.library is not None else "exported snapshot"

    def heading(self) -> str:
        """Return the title."""
        return f"{self.where}: {self.browser.source.path}"

    def body(self) -> Iterable[Widget]:
        """Return the tabs."""
        panes: list[Pane] = [Drives(), Media(), Sessions(), Disks()]
        if self.live:
            panes.append(Live())
        with TabbedContent(initial=self._first_tab):
            for number, pane in enumerate(panes, 1):
                yield TabPane(f"{number} {pane.LABEL}", pane, id=pane.NAME)

    @property
    def live(self) -> bool:
        """Tell whether this state goes on changing."""
        return self.state is NOW and self.browser.source.library is not None

    @property
    def pane(self) -> Pane:
        """What is seen."""
        active = self.query_one(TabbedContent).active or self._first_tab
        return self.query_one(f"#{active}", TabPane).query_one(Pane)

    def on_mount(self) -> None:
        """Look again from time to time, if there can be anything new."""
        if self.live:
            self.every(REFRESH_SECONDS, self._again)

    def _again(self) -> None:
        if monotonic() >= self._wait_until:
            self.fetch(self.pane)

    def fetch(self, pane: Pane) -> None:
        """Ask for what the pane shows, and show it."""
        source, state = self.browser.source, self.state
        began = monotonic()

        def question() -> Callable[[], None]:
            with source.tracking(state) as tracking:
                return pane.look(tracking, source, state)

        def show(answer: Callable[[], None]) -> None:
            self._wait_until = monotonic() + SHARE * (monotonic() - began)
            answer()

        self._wait_until = monotonic() + 60  # no second question before there is an answer
        self.ask(question, show, f"pane-{pane.NAME}", lambda: setattr(self, "_wait_until", monotonic() + SHARE))

    def on_tabbed_content_tab_activated(self) -> None:
        """Fill the pane that comes to be seen."""
        if not self.is_whole:
            return
        self.pane.query_one(Table).focus()
        self.fetch(self.pane)
        self.refresh_bindings()

    def on_pane_wants(self, event: Pane.Wants) -> None:
        """Fetch what a pane finds that it lacks."""
        event.stop()
        self.fetch(event.pane)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer searching, filtering and sorting where there are sessions."""
        if not self.is_whole:  # asked while the screen is put up or taken down
            return True
        if action in ("search", "filter", "sort", "reverse"):
            return isinstance(self.pane, Sessions)
        if parameters == ("live",):
            return self.live
        return True

    def target(self) -> Target | None:
        """Return the data of the row under the cursor."""
        row = self.pane.query_one(Table).selected
        if isinstance(row, Session):
            return details.target_of(row)
        return Target(row.barcode, None) if isinstance(row, Medium) else None

    def on_table_chosen(self, event: Table.Chosen) -> None:
        """Show the details of the row."""
        event.stop()
        self.action_details()

    def action_details(self) -> None:
        """Show the details of the row under the cursor."""
        row = self.pane.query_one(Table).selected
        if row is None:
            return
        source, state = self.browser.source, self.state

        def question() -> Details:
            with source.tracking(state) as tracking:
                return _details(tracking, row)

        def show(found: Details) -> None:
            from vtlfs.tui.screens.details import DetailsScreen

            self.push(DetailsScreen(found, state, self.where))

        self.ask(question, show, "details")

    def action_tab(self, name: str) -> None:
        """Go to a tab."""
        if self.query(f"TabPane#{name}"):
            self.query_one(TabbedContent).active = name

    def action_search(self) -> None:
        """Ask for a text to look for."""
        from vtlfs.tui.screens.prompt import Prompt

        sessions = self.query_one(Sessions)
        prompt = Prompt("Search host, program, medium or session; empty for all", "text", sessions.query_now.text or "")
        self.app.push_screen(prompt, lambda text: None if text is None else sessions.search(text))

    def action_filter(self) -> None:
        """Ask which sessions to show."""
        from vtlfs.tui.screens.filter import FilterDialog

        sessions = self.query_one(Sessions)
        self.app.push_screen(FilterDialog(sessions.query_now), lambda q: None if q is None else sessions.change(q))

    def action_sort(self) -> None:
        """Sort by the next column."""
        self.query_one(Sessions).sort_next()

    def action_reverse(self) -> None:
        """Sort the other way."""
        self.query_one(Sessions).reverse()


def _details(tracking: Tracking, row: object) -> Details:
    if isinstance(row, Session):
        return details.of_session(tracking, row.id)
    if isinstance(row, Medium):
        return details.of_medium(tracking, row.barcode)
    if isinstance(row, DriveRow):
        return details.of_drive(tracking, row.drive.number)
    assert isinstance(row, DiskRow)
    return details.of_disk(row.disk, row.health)
