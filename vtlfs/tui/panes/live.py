"""The live pane: open sessions with their rates, how much each disk writes and reads, and what is degraded."""

from collections.abc import Callable
from time import monotonic
from typing import ClassVar

from textual.app import ComposeResult

from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Access, Session
from vtlfs.tui import condition
from vtlfs.tui import format as fmt
from vtlfs.tui.panes.pane import Pane
from vtlfs.tui.rates import RateMeter, Sample, take_sample
from vtlfs.tui.source import Source
from vtlfs.tui.widgets.banner import Banner
from vtlfs.tui.widgets.plot import Plot
from vtlfs.tui.widgets.table import Column, Table

RATE_WIDTH = 11


class Live(Pane):
    """A table of open sessions, and a plot of the disks."""

    NAME = "live"
    LABEL = "Live"
    COLUMNS: ClassVar[list[Column[Session]]] = [
        Column("ID", 7, lambda s: f"{s.id}", right=True),
        Column("HOST", 0, lambda s: fmt.printable(s.host)),
        Column("PROGRAM", 9, lambda s: fmt.printable(s.program)),
        Column("DOES", 5, lambda s: str(s.access)),
        Column("DR", 2, lambda s: f"{s.drive}", right=True),
        Column("MEDIUM", 0, lambda s: s.medium),
        Column("OPENED", 9, lambda s: fmt.time(s.opened_at)[11:]),
        Column("BYTES", 9, lambda s: fmt.size(s.bytes), right=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._meter = RateMeter(checkpoint_seconds=0.0)

    def compose(self) -> ComposeResult:
        """Yield what is wrong, the table and the plot."""
        rate: Column[Session] = Column(
            "RATE", RATE_WIDTH, lambda s: fmt.rate(self._meter.session_rate(s)), right=True, style=lambda _: "good"
        )
        yield Banner()
        yield Table([*self.COLUMNS, rate], key=lambda session: session.id)
        yield Plot(("WRITTEN", "READ"))

    def load(self, tracking: Tracking, source: Source, state: int | None) -> Callable[[], None]:
        """Take a sample of all mounts."""
        library = source.require_library("a live view")
        sample = take_sample(tracking, library.path, monotonic())
        disks = [disk.number for disk in tracking.disks.all()]
        found = condition.load(tracking, library)

        def show() -> None:
            self.query_one(Banner).show(found.lines, found.condition)
            self._meter.checkpoint_seconds = library.config.checkpoint
            self._meter.add(sample)
            self.query_one(Table).show(sample.sessions)
            self._show_plot(sample, disks)

        return show

    def _show_plot(self, sample: Sample, disks: list[int]) -> None:
        series = []
        plot = self.query_one(Plot)
        for disk in disks:
            rates = self._meter.disk_rates(disk)[-plot.bars_per_row :]
            sums = [0.0] * (plot.bars_per_row - len(rates)) + [written + read for written, read in rates]
            series.append((f"disk {disk}", sums, tuple(fmt.rate(rate) for rate in rates[-1])))
        plot.show(self._plot_title(sample), series, (f"{plot.bars_per_row} s ago", "now"))

    def _plot_title(self, sample: Sample) -> str:
        parts = []
        for access, verb in ((Access.WRITE, "writing"), (Access.READ, "reading")):
            sessions = [session for session in sample.sessions if session.access is access]
            if sessions:
                rate = sum(self._meter.session_rate(session) for session in sessions)
                parts.append(f"{len(sessions):,} {verb} {fmt.size(int(rate))}/s")
        return f"throughput by disk; {', '.join(parts) or 'no open session'}"
