"""The plan of a load test, its report, and the table that shows the report."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mounting import Mounted, OnDisks

from vtlfs.model import MIB, format_size

STREAM_SECONDS = 15.0  # that a stream takes on average: so many are open at once, and so many come
DISKS = 4
MAX_RESIDENT = 300 * MIB  # of a mount
CROWD_WRITES, CROWD_READS = "IDLE1", "IDLE2"  # media of the crowd of idle files
MOST_SHOWN = 40


@dataclass(frozen=True)
class Plan:
    """The plan. `size`: bytes in all streams; `seconds`: for how long streams are begun; `sessions`: writers.

    `crowd`: how many idle files are open for writing and for reading besides, in all mounts together.
    """

    root: Path
    seconds: float
    sessions: int = 250
    media: int = 50
    size: int = 10 << 30
    seed: int = 1
    crowd: int = 0
    disks: Sequence[Path] = ()  # directories to have disks in; none: four in `root`

    @property
    def average(self) -> int:
        """Bytes of an average stream."""
        return max(1, int(self.size / self.seconds * min(STREAM_SECONDS, self.seconds / 3) / self.sessions))

    @property
    def barcodes(self) -> list[str]:
        """The media."""
        return [f"S{number:03d}" for number in range(1, self.media + 1)]


class Report:
    """The report: problems, counters and peaks. Any thread may add to it."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        self.peaks: dict[str, float] = {}
        self.lines: list[tuple[str, str]] = []
        self.interrupted = False
        self.started = time.monotonic()
        self._lock = threading.Lock()

    def problem(self, text: str) -> None:
        """Note a problem."""
        if not self.interrupted:  # else programs end in the middle
            with self._lock:
                self.problems.append(text)

    def want(self, condition: object, text: str) -> None:
        """Note a problem unless the condition is true."""
        if not condition:
            self.problem(text)

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self.counts[name] += number

    def peak(self, name: str, value: float) -> None:
        """Note a value of which the highest counts."""
        with self._lock:
            self.peaks[name] = max(value, self.peaks.get(name, value))

    def line(self, name: str, text: str) -> None:
        """Add a line to the table."""
        self.lines.append((name, text))

    def table(self) -> str:
        """Return the report as text."""
        counts = self.counts
        seconds = counts["streaming ms"] / 1000 or 1
        rows = [
            ("streams", f"{counts['streams']:,}, of these killed {counts['killed']:,}"),
            ("written", f"{format_size(counts['written'])}, {counts['written'] / seconds / 1e6:.0f} MB/s"),
            ("at once", f"{int(self.peaks.get('open sessions', 0))} write sessions"),
            ("idle files besides", f"{counts['idle files']:,}"),
            ("compared while it ran", f"{counts['reads']:,} reads, {format_size(counts['compared'])}"),
            ("compared at the end", f"{counts['streams compared']:,} streams, {format_size(counts['audited'])}"),
            ("snapshots", f"{counts['snapshots']} taken, {counts['pruned']} pruned, {counts['views']} views compared"),
            ("verified", f"{counts['verifications']} times, {format_size(counts['verified'])}"),
            ("other commands", f"{counts['commands']}"),
            ("slowest ls -l", self._slowest()),
            *self.lines,
            ("duration", f"{time.monotonic() - self.started:.0f} s, streams for {seconds:.0f} s"),
            ("problems", f"{len(self.problems)}"),
        ]
        shown = [f"PROBLEM: {text}" for text in self.problems[:MOST_SHOWN]]
        if len(self.problems) > MOST_SHOWN:
            shown.append(f"… and {len(self.problems) - MOST_SHOWN} more")
        return "\n".join([*(f"{name:<24} {text}" for name, text in rows), *shown])

    def _slowest(self) -> str:
        directories = [name for name in sorted(self.peaks) if name.startswith("ls ")]
        return ", ".join(f"{name.removeprefix('ls ')} {self.peaks[name]:.2f} s" for name in directories)


@dataclass
class Stage:
    """The library, its mounts, and the state that all threads share."""

    plan: Plan
    report: Report
    library: OnDisks
    mounts: dict[str, Mounted] = field(default_factory=dict)  # by host
    over: threading.Event = field(default_factory=threading.Event)  # nothing new is begun
    stopped: threading.Event = field(default_factory=threading.Event)  # what runs is to end at once
