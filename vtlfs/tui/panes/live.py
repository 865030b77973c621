"""What goes on now: open sessions with their rates, and how fast each disk is written to."""

from collections.abc import Callable
from time import monotonic
from typing import ClassVar

from textual.app import ComposeResult

from vtlfs.engine.tracking import Tracking
from vtlfs.model import Access, Session
from vtlfs.tui import words
from vtlfs.tui.meter import Gauge, Meter
from vtlfs.tui.panes.pane import Pane
from vtlfs.tui.source import Source
from vtlfs.tui.widgets.plot import Plot
from vtlfs.tui.widgets.table import Column, Table

MARGIN_SECONDS = 1.0  # by which the window of a rate is longer than the time between two checkpoints


class Live(Pane):
    """A table of open sessions, and a plot."""

    NAME = "live"
    LABEL = "Live"
    COLUMNS: ClassVar[list[Column[Session]]] = [
        Column("ID", 8, lambda s: f"{s.id}", right=True),
        Column("HOST", 0, lambda s: words.printable(s.host)),
        Column("PROGRAM", 9, lambda s: words.printable(s.program)),
        Column("DOES", 5, lambda s: str(s.access)),
        Column("DRIVE/MEDIUM", 13, lambda s: f"{s.drive}/{s.medium}"),
        Column("OPENED", 9, lambda s: words.time(s.opened_at)[11:]),
        Column("BYTES", 9, lambda s: words.size(s.bytes) if s.access is Access.WRITE else "", right=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._gauge = Gauge()
        self._meter = Meter(6.0)

    def compose(self) -> ComposeResult:
        """Lay it out."""
        rate: Column[Session] = Column("RATE", 11, lambda s: words.rate(self._meter.session_rate(s)), right=True)
        yield Table([*self.COLUMNS, rate], key=lambda session: session.id)
        yield Plot()

    def look(self, tracking: Tracking, source: Source, state: int | None) -> Callable[[], None]:
        """Take a sample."""
        if source.library is not None:
            self._meter.window = source.library.config.checkpoint + MARGIN_SECONDS
        sample = self._gauge.sample(tracking, monotonic())
        disks = [disk.number for disk in tracking.disks()]

        def show() -> None:
            self._meter.add(sample)
            self.query_one(Table).show(sample.sessions)
            self._plot(disks)

        return show

    def _plot(self, disks: list[int]) -> None:
        rows = []
        plot = self.query_one(Plot)
        for disk in disks:
            rates = self._meter.disk_rates(disk)
            shown = [0.0] * (plot.spans - len(rates)) + rates[-plot.spans :]
            rows.append((f"disk {disk}", shown, words.rate(rates[-1])))
        open_sessions = words.count(len(self._meter.samples[-1].sessions), "open session")
        plot.plot(f"written to each disk, {open_sessions}", rows, (f"{plot.spans} s ago", "now"))
