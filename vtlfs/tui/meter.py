"""How fast open sessions and disks are, from what the tracking database says again and again. Without a clock.

A mount records progress at its checkpoints, every few seconds; a rate is therefore that of a whole window of time.
Nothing is asked of the mount itself, so a live view can't disturb a stream, nor hang with a mount that hangs.
"""

from collections import defaultdict, deque
from dataclasses import dataclass, field

from vtlfs.engine.tracking import Tracking
from vtlfs.errors import NoSuchSession
from vtlfs.model import Access, Session

UNITS_AT_ONCE = 4096
KEPT = 120  # samples


@dataclass(frozen=True, slots=True)
class Sample:
    """What the database said: the open sessions, and the bytes that each disk was given since the last sample."""

    at: float
    sessions: list[Session]
    disks: dict[int, int]


@dataclass(slots=True)
class Gauge:
    """Takes the samples. Belongs to one thread at a time. `_ends`: how far into each session's units it has looked."""

    _ends: dict[int, tuple[int, int]] = field(default_factory=dict)

    def sample(self, tracking: Tracking, at: float) -> Sample:
        """Look at the database. What a session had before it was first seen does not count."""
        sessions = [tracking.session(number) for number in tracking.open_session_ids()]
        disks: dict[int, int] = defaultdict(int)
        for session in sessions:
            if session.access is Access.WRITE and session.id not in self._ends:
                self._ends[session.id] = divmod(session.bytes, session.stripe_unit)
        for number in list(self._ends):
            self._follow(tracking, number, disks)
        for number in set(self._ends) - {session.id for session in sessions}:
            del self._ends[number]
        return Sample(at, sessions, dict(disks))

    def _follow(self, tracking: Tracking, number: int, disks: dict[int, int]) -> None:
        unit, known = self._ends[number]
        try:
            rows = tracking.stripe_units(number, unit, UNITS_AT_ONCE)
        except NoSuchSession:
            return
        for row in rows:
            disks[row.disk] += row.bytes - (known if row.unit == unit else 0)
        if rows:
            self._ends[number] = (rows[-1].unit, rows[-1].bytes)


@dataclass(slots=True)
class Meter:
    """Turns samples into rates over a window of so many seconds."""

    window: float
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, sample: Sample) -> None:
        """Take in the newest sample."""
        self.samples.append(sample)

    def session_rate(self, session: Session) -> float:
        """Return the session's bytes per second."""
        newest = self.samples[-1]
        for sample in self.samples:
            if newest.at - sample.at > self.window:
                continue
            before = next((found for found in sample.sessions if found.id == session.id), None)
            if before is not None and newest.at > sample.at:
                return max(0, session.bytes - before.bytes) / (newest.at - sample.at)
        return 0.0

    def disk_rates(self, disk: int) -> list[float]:
        """Return the disk's bytes per second at each of the samples, the oldest first."""
        rates = []
        samples = list(self.samples)
        for index, sample in enumerate(samples):
            inside = [found for found in samples[: index + 1] if sample.at - found.at < self.window]
            start = samples[index - len(inside)].at if index >= len(inside) else samples[0].at
            span = sample.at - start
            rates.append(sum(found.disks.get(disk, 0) for found in inside) / span if span > 0 else 0.0)
        return rates
