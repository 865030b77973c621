"""The timeline, which is the first screen: the state now, and below it every snapshot, the newest first."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

from vtlfs.errors import VtlfsError
from vtlfs.model import Snapshot, utc_now
from vtlfs.snap import browse
from vtlfs.tui import condition
from vtlfs.tui import format as fmt
from vtlfs.tui.condition import ConditionLines
from vtlfs.tui.screens.page import Page
from vtlfs.tui.source import NOW, Source
from vtlfs.tui.threads import DaemonThreads
from vtlfs.tui.widgets.banner import Banner
from vtlfs.tui.widgets.plot import Plot, Series
from vtlfs.tui.widgets.table import Column, Table

SPANS = 120  # the plot's time is divided into so many spans; each bar shows the largest of its spans
REFRESH_SECONDS = 5.0
UNMARKED = -1  # stands for no state: `NOW` is None, and snapshots count from 1


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """A state, and what was added since the state before. `state` is NOW also for an exported snapshot."""

    state: int | None
    label: str
    taken_at: str
    name: str
    open_sessions: int
    bytes: int
    added_sessions: int
    added_bytes: int


COLUMNS: list[Column[TimelineRow]] = [
    Column("ID", 5, lambda r: r.label, right=True),
    Column("TIME", 17, lambda r: fmt.minute(r.taken_at)),
    Column("NAME", 0, lambda r: fmt.printable(r.name)),
    Column("SESSIONS", 8, lambda r: fmt.delta(r.added_sessions), right=True, style=lambda _: "good"),
    Column("MORE", 10, lambda r: fmt.delta(r.added_bytes, in_bytes=True), right=True, style=lambda _: "good"),
    Column("BYTES", 9, lambda r: fmt.size(r.bytes), right=True),
    Column("OPEN", 4, lambda r: f"{r.open_sessions:,}" if r.open_sessions else "", right=True, style=lambda _: "warn"),
]


class TimelineScreen(Page):
    """A table of all states, and a plot of the bytes over time."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark"),
        Binding("c", "compare", "Compare"),
        Binding("h", "other_plot", "Hosts/media"),
        Binding("r", "reload", "Reload"),
        Binding("slash", "find_files", "Find files"),
    ]

    @dataclass
    class OpenState(Message):
        """The person wants to see a state."""

        state: int | None
        taken_at: str

    @dataclass
    class CompareStates(Message):
        """The person wants to compare two states; only the later one can be now."""

        earlier: int
        later: int | None

    @dataclass
    class FindFiles(Message):
        """The person wants to search for files in all archives."""

    def __init__(self, source: Source, threads: DaemonThreads) -> None:
        super().__init__(source, threads)
        self._marked: int | None = UNMARKED
        self._plot_group = "host"

    def heading(self) -> str:
        """Return the title."""
        return f"timeline: {self.source.path}"

    def body(self) -> Iterable[Widget]:
        """Return the banner, the table and the plot."""
        mark: Column[TimelineRow] = Column(
            "", 1, lambda r: "*" if r.state == self._marked else "", style=lambda _: "warn"
        )
        yield Banner()
        yield Table([mark, *COLUMNS], key=lambda row: row.state)
        yield Plot(("BYTES",))

    @property
    def table(self) -> "Table[TimelineRow]":
        """The table."""
        return self.query_one(Table)

    def on_mount(self) -> None:
        """Load the table and the plot; from then on, load the table periodically."""
        self.table.focus()
        self.action_reload()
        self.refresh_every(REFRESH_SECONDS, self._load_table)

    def on_screen_resume(self) -> None:
        """Load the table again when the person comes back from another screen."""
        self._load_table()

    def after_snapshot(self) -> None:
        """Show the new snapshot."""
        self._load_table()

    def action_reload(self) -> None:
        """Load the table and the plot again."""
        self._load_table()
        self._load_plot()

    def _load_table(self) -> None:
        source = self.source

        def query() -> tuple[list[TimelineRow], ConditionLines]:
            return timeline_rows(source), condition_of(source)

        def show(found: tuple[list[TimelineRow], ConditionLines]) -> None:
            rows, now = found
            self.query_one(Banner).show(now.lines, now.condition)
            self.table.show(rows)
            self.set_heading(f"{fmt.count(len(rows) - 1, 'snapshot')}: {source.path}")

        self.run_query(query, show, "table")

    def _load_plot(self) -> None:
        source, group = self.source, self._plot_group

        def query() -> browse.OverTime:
            with source.tracking() as tracking:
                return browse.bytes_over_time(tracking, group, SPANS)

        def show(found: browse.OverTime) -> None:
            series: list[Series] = [
                (fmt.printable(name), values, (fmt.size(sum(values)),)) for name, values in found.series
            ]
            axis_ends = (fmt.time(found.start), fmt.time(found.end))
            self.query_one(Plot).show(f"bytes over time, by {group}", series, axis_ends)

        self.run_query(query, show, "plot")

    def on_table_row_selected(self, event: Table.RowSelected) -> None:
        """Open the state under the cursor. An exported snapshot lists other snapshots, but can't open them."""
        event.stop()
        row = self.table.selected_row
        if row is None:
            return
        try:
            if row.state is not NOW:
                self.source.require_library(f"snapshot {row.state}")
        except VtlfsError as error:
            self.show_error(error)
        else:
            self.post_message(self.OpenState(row.state, row.taken_at))

    def action_mark(self) -> None:
        """Mark the row under the cursor for a comparison, or remove its mark."""
        if (row := self.table.selected_row) is not None:
            self._marked = UNMARKED if self._marked == row.state else row.state
            self.table.refresh()

    def action_compare(self) -> None:
        """Compare the row under the cursor with the marked row; if there is none, with the snapshot before."""
        row = self.table.selected_row
        if row is None:
            return
        other = self._marked
        if other == UNMARKED or other == row.state:
            before = self.table.row(self.table.cursor + 1)
            if before is None:
                self.notify("there is no older snapshot to compare with; mark another state with the space bar first")
                return
            other = before.state
        self.post_message(self.CompareStates(*_in_order(other, row.state)))

    def action_find_files(self) -> None:
        """Search for files in the archives of all tape files, of all times."""
        try:
            self.source.require_library("searching for files")
        except VtlfsError as error:
            self.show_error(error)
        else:
            self.post_message(self.FindFiles())

    def action_other_plot(self) -> None:
        """Change the plot between hosts and media."""
        self._plot_group = "medium" if self._plot_group == "host" else "host"
        self._load_plot()


def _in_order(a: int | None, b: int | None) -> tuple[int, int | None]:
    """Return two states, the earlier first; now is later than every snapshot."""
    if a is NOW or (b is not NOW and b < a):
        a, b = b, a
    assert a is not None
    return a, b


def condition_of(source: Source) -> ConditionLines:
    """Return the condition of the library now, in lines; for an exported snapshot, no lines. May block."""
    if source.library is None:
        return condition.FINE
    with source.tracking() as tracking:
        return condition.load(tracking, source.library)


def timeline_rows(source: Source) -> list[TimelineRow]:
    """Return a row for each state, now first. May block."""
    with source.tracking() as tracking:
        media, sessions, size = browse.counters(tracking)
        open_sessions = len(tracking.sessions.open_ids())
    snapshots = source.snapshots()
    name, label = (source.path.name, "this") if source.is_export else ("now", "now")
    taken_at = snapshots[0].taken_at if source.is_export and snapshots else utc_now()
    present = Snapshot(0, name, taken_at, False, media, sessions, open_sessions, 0, size)
    rows = []
    for later, before in pairwise([present, *snapshots, None]):
        assert later is not None
        rows.append(
            TimelineRow(
                state=NOW if later is present else later.id,
                label=label if later is present else str(later.id),
                taken_at=later.taken_at,
                name=later.name or ("scheduled" if later.scheduled else ""),
                open_sessions=later.open_sessions,
                bytes=later.bytes,
                added_sessions=later.sessions - (before.sessions if before else 0),
                added_bytes=later.bytes - (before.bytes if before else 0),
            )
        )
    return rows
