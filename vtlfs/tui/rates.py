"""How fast open sessions and disks are, from what the mounts write down every second. Without a clock.

Nothing is asked of a mount itself, so a live view can't disturb a stream, nor hang with a mount that hangs. Of a mount
without figures there is what it recorded at its checkpoints: rates of its sessions, over a longer time, and no disks.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vtlfs.engine import live
from vtlfs.engine.live import LiveStats
from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Session

WINDOW_SECONDS = 3.0  # of a session's rate; a kernel hands over what it has cached in bursts
MARGIN_SECONDS = 1.0  # by which a window is longer than the time between two checkpoints
STALE_SECONDS = 2.5  # after which a mount that has said nothing new is taken to do nothing
KEPT = 600  # seconds of throughput

Rates = tuple[float, float]  # bytes per second that are written and read


@dataclass(frozen=True, slots=True)
class Sample:
    """What was found at a time: the open sessions, and the figures of each mount that has them."""

    at: float
    sessions: list[Session]
    mounts: Mapping[int, LiveStats]


def take(tracking: Tracking, library: Path, at: float) -> Sample:
    """Look at the database and at the mounts' figures. May block."""
    found = {mount.id: told for mount in tracking.mounts() if (told := live.read(library, mount.id)) is not None}
    sessions = []
    for number in tracking.open_session_ids():
        session = tracking.session(number)
        told = found.get(session.mount)
        if told is not None and number in told.sessions:
            size, requests = told.sessions[number]
            session = replace(session, bytes=size, requests=requests)
        sessions.append(session)
    return Sample(at, sessions, found)


@dataclass(slots=True)
class _Track:
    """The latest figures of one mount, and when the newest of them came."""

    window: float
    seen: deque[LiveStats] = field(default_factory=deque)
    came: float = 0.0

    def add(self, told: LiveStats, at: float) -> None:
        if self.seen and told.at == self.seen[-1].at:
            return
        if self.seen and told.at < self.seen[-1].at:  # of a monotonic clock of another boot: nothing can be counted on
            self.seen.clear()
        self.seen.append(told)
        self.came = at
        while len(self.seen) > 2 and self.seen[1].at <= told.at - self.window:
            self.seen.popleft()

    def session_rate(self, number: int) -> float:
        first, last = self.seen[0], self.seen[-1]
        span = last.at - first.at
        return max(0, last.sessions.get(number, (0, 0))[0] - first.sessions.get(number, (0, 0))[0]) / (span or 1)

    def disk_rates(self) -> dict[int, Rates]:
        """Return what each disk did between the two newest figures."""
        if len(self.seen) < 2:
            return {}
        before, last = self.seen[-2], self.seen[-1]
        rates = {}
        for disk, (written, read) in last.disks.items():
            old_written, old_read = before.disks.get(disk, (0, 0))
            rates[disk] = ((written - old_written) / (last.at - before.at), (read - old_read) / (last.at - before.at))
        return rates


@dataclass(slots=True)
class Meter:
    """FairSemaphore samples into rates. `checkpoint`: seconds between two of them."""

    checkpoint: float
    _tracks: dict[int, _Track] = field(default_factory=dict)
    _disks: dict[int, deque[Rates]] = field(default_factory=dict)
    _stale: set[int] = field(default_factory=set)

    def add(self, sample: Sample) -> None:
        """Take in the newest sample."""
        told = dict(sample.mounts)
        for number in {session.mount for session in sample.sessions} - told.keys():
            known = {found.id: (found.bytes, found.requests) for found in sample.sessions if found.mount == number}
            told[number] = LiveStats(sample.at, known, {})
        for number, figures_ in told.items():
            window = WINDOW_SECONDS if number in sample.mounts else self.checkpoint + MARGIN_SECONDS
            self._tracks.setdefault(number, _Track(window)).add(figures_, sample.at)
        self._tracks = {number: track for number, track in self._tracks.items() if number in told}
        self._stale = {number for number, track in self._tracks.items() if sample.at - track.came > STALE_SECONDS}
        sums: dict[int, Rates] = {}
        for number in self._tracks.keys() - self._stale:
            for disk, (written, read) in self._tracks[number].disk_rates().items():
                before = sums.get(disk, (0.0, 0.0))
                sums[disk] = (before[0] + written, before[1] + read)
        for disk in sums.keys() | self._disks.keys():
            self._disks.setdefault(disk, deque(maxlen=KEPT)).append(sums.get(disk, (0.0, 0.0)))

    def session_rate(self, session: Session) -> float:
        """Return the session's bytes per second."""
        track = self._tracks.get(session.mount)
        return 0.0 if track is None or session.mount in self._stale else track.session_rate(session.id)

    def disk_rates(self, disk: int) -> list[Rates]:
        """Return what the disk did in each second, the oldest first; at least one."""
        return list(self._disks.get(disk, ())) or [(0.0, 0.0)]
