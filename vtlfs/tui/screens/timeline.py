"""The timeline: every snapshot, the newest first, and now above them all."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from vtlfs.model import Snapshot, utc_now
from vtlfs.snap import browse
from vtlfs.tui import format as fmt
from vtlfs.tui.screens.page import Page
from vtlfs.tui.source import NOW, Source
from vtlfs.tui.widgets.plot import Plot
from vtlfs.tui.widgets.table import Column, Table

SPANS = 120  # of the plot; what is seen is put together from them
REFRESH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Moment:
    """A row: a state, and what had changed since the one before. `number` is None for now, and for an exported one."""

    number: int | None
    time: str
    name: str
    sessions: int
    open_sessions: int
    bytes: int
    more_sessions: int
    more_media: int
    more_bytes: int
    label: str


COLUMNS: list[Column[Moment]] = [
    Column("ID", 5, lambda m: m.label, right=True),
    Column("TIME", 17, lambda m: fmt.minute(m.time)),
    Column("NAME", 0, lambda m: fmt.printable(m.name)),
    Column("SESSIONS", 8, lambda m: fmt.gain(m.more_sessions), right=True, look=lambda _: "good"),
    Column("MORE", 10, lambda m: fmt.gain(m.more_bytes, sized=True), right=True, look=lambda _: "good"),
    Column("BYTES", 9, lambda m: fmt.size(m.bytes), right=True),
    Column("OPEN", 4, lambda m: f"{m.open_sessions:,}" if m.open_sessions else "", right=True, look=lambda _: "warn"),
]


class Timeline(Page):
    """Where the application begins."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark"),
        Binding("c", "compare", "Compare"),
        Binding("h", "other_plot", "Hosts/media"),
        Binding("r", "reload", "Reload"),
    ]
    _marked: int | None = -1
    _group = "host"

    def heading(self) -> str:
        """Return the title."""
        return f"timeline: {self.browser.source.path}"

    def body(self) -> Iterable[Widget]:
        """Return table and plot."""
        mark: Column[Moment] = Column("", 1, lambda m: "*" if m.number == self._marked else "", look=lambda _: "warn")
        yield Table([mark, *COLUMNS], key=lambda m: m.number, name="moments")
        yield Plot(("BYTES",))

    @property
    def table(self) -> "Table[Moment]":
        """The table."""
        return self.query_one("#moments", Table)

    def on_mount(self) -> None:
        """Fetch what is shown, and look again from time to time."""
        self.table.focus()
        self.action_reload()
        self.every(REFRESH_SECONDS, self._fetch)

    def on_screen_resume(self) -> None:
        """Look again after another screen."""
        self._fetch()

    def after_taking(self) -> None:
        """Show the new snapshot."""
        self._fetch()

    def action_reload(self) -> None:
        """Fetch everything anew."""
        self._fetch()
        self._fetch_plot()

    def _fetch(self) -> None:
        source = self.browser.source

        def show(rows: list[Moment]) -> None:
            self.table.show(rows)
            self.retitle(f"{fmt.count(len(rows) - 1, 'snapshot')}: {source.path}")

        self.ask(lambda: moments(source), show, "moments")

    def _fetch_plot(self) -> None:
        source, group = self.browser.source, self._group

        def question() -> browse.OverTime:
            with source.tracking() as tracking:
                return browse.bytes_over_time(tracking, group, SPANS)

        def show(found: browse.OverTime) -> None:
            rows = [(fmt.printable(name), values, (fmt.size(sum(values)),)) for name, values in found.series]
            ends = (fmt.time(found.start), fmt.time(found.end))
            self.query_one(Plot).plot(f"bytes over time, by {group}", rows, ends)

        self.ask(question, show, "plot")

    def on_table_chosen(self, event: Table.Chosen) -> None:
        """Open the state."""
        event.stop()
        self.action_open()

    def action_open(self) -> None:
        """Open the state under the cursor."""
        if (moment := self.table.selected) is not None:
            from vtlfs.tui.screens.state import StateScreen

            try:
                if moment.number is not NOW:
                    self.browser.source.require(f"snapshot {moment.number}")
            except Exception as error:
                self.complain(error)
                return
            self.app.push_screen(StateScreen(moment.number, moment.time))

    def action_mark(self) -> None:
        """Remember the row for a comparison, or forget it."""
        if (moment := self.table.selected) is not None:
            self._marked = -1 if self._marked == moment.number else moment.number
            self.table.refresh()

    def action_compare(self) -> None:
        """Compare the row with the marked one, or else with the snapshot before it."""
        moment = self.table.selected
        if moment is None:
            return
        other = self._marked
        if other == -1 or other == moment.number:
            below = self.table.row(self.table.cursor + 1)
            if below is None:
                self.notify("there is no older snapshot to compare with; mark another with the space bar")
                return
            other = below.number
        from vtlfs.tui.screens.compare import Compare

        earlier, later = _in_order(other, moment.number)
        self.app.push_screen(Compare(earlier, later))

    def action_other_plot(self) -> None:
        """Plot by the other of host and medium."""
        self._group = "medium" if self._group == "host" else "host"
        self._fetch_plot()


def _in_order(a: int | None, b: int | None) -> tuple[int, int | None]:
    """Return two states in their order in time; only one can be now."""
    if a is None or (b is not None and b < a):
        a, b = b, a
    assert a is not None
    return a, b


def moments(source: Source) -> list[Moment]:
    """Return all states, now first. May block."""
    with source.tracking() as tracking:
        media, sessions, size = browse.counters(tracking)
        open_sessions = len(tracking.open_session_ids())
    found = source.snapshots()
    is_export = source.library is None
    name, label = (source.path.name, "this") if is_export else ("now", "now")
    at = found[0].taken_at if is_export and found else utc_now()
    present = Snapshot(0, name, at, False, media, sessions, open_sessions, 0, size)
    rows = []
    for later, before in pairwise([present, *found, None]):
        assert later is not None
        rows.append(
            Moment(
                NOW if later is present else later.id,
                later.taken_at,
                later.name or ("scheduled" if later.scheduled else ""),
                later.sessions,
                later.open_sessions,
                later.bytes,
                later.sessions - (before.sessions if before else 0),
                later.media - (before.media if before else 0),
                later.bytes - (before.bytes if before else 0),
                label if later is present else str(later.id),
            )
        )
    return rows
