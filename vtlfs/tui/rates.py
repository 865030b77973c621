"""Rates of open sessions and of disks, from the live figures that each mount writes down every second.

The live pane takes a sample in a worker thread, and adds it to its `RateMeter` in the event loop. The mount itself is
never asked, so a live view can neither disturb a stream nor hang with the mount. If a mount's figures can't be read,
the checkpoints in the tracking database take their place: they give rates of sessions, over a longer time, and none of
disks.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vtlfs.engine import live
from vtlfs.engine.live import LiveStats
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.sessions import SessionFilter
from vtlfs.model import Session

WINDOW_SECONDS = 3.0  # over which a session's rate is averaged: a kernel writes back its page cache in bursts
MARGIN_SECONDS = 1.0  # added to the time between two checkpoints, so that every window spans at least one
STALE_SECONDS = 2.5  # a mount whose figures have not changed for so long is shown as idle
HISTORY_SECONDS = 600  # for which the rates of a disk are kept

DiskRate = tuple[float, float]  # bytes per second, written and read


@dataclass(frozen=True, slots=True)
class Sample:
    """The open sessions, and the figures of each mount, at `at`: seconds of a monotonic clock."""

    at: float
    sessions: list[Session]
    mounts: Mapping[int, LiveStats]


def take_sample(tracking: Tracking, library: Path, at: float) -> Sample:
    """Read the open sessions from the tracking database, and the figures of all mounts. May block."""
    mounts = {
        mount.id: stats for mount in tracking.mounts.live() if (stats := live.read(library, mount.id)) is not None
    }
    sessions = []
    for session in tracking.sessions.find(SessionFilter(open_only=True)):
        stats = mounts.get(session.mount)
        if stats is not None and session.id in stats.sessions:
            size, requests = stats.sessions[session.id]
            session = replace(session, bytes=size, requests=requests)
        sessions.append(session)
    return Sample(at, sessions, mounts)


@dataclass(slots=True)
class _MountHistory:
    """The figures of one mount within the window, oldest first, and when the newest of them were seen."""

    window: float
    stats: deque[LiveStats] = field(default_factory=deque)
    last_change: float = 0.0  # monotonic, as `Sample.at`

    def add(self, newest: LiveStats, at: float) -> None:
        if self.stats and newest.at == self.stats[-1].at:
            return
        if self.stats and newest.at < self.stats[-1].at:  # the machine was rebooted: its clock and counters began anew
            self.stats.clear()
        self.stats.append(newest)
        self.last_change = at
        while len(self.stats) > 2 and self.stats[1].at <= newest.at - self.window:
            self.stats.popleft()

    def session_rate(self, number: int) -> float:
        first, last = self.stats[0], self.stats[-1]
        span = last.at - first.at
        return max(0, last.sessions.get(number, (0, 0))[0] - first.sessions.get(number, (0, 0))[0]) / (span or 1)

    def disk_rates(self) -> dict[int, DiskRate]:
        """Return the rates of each disk between the two newest figures."""
        if len(self.stats) < 2:
            return {}
        before, last = self.stats[-2], self.stats[-1]
        span = last.at - before.at
        rates = {}
        for disk, (written, read) in last.disks.items():
            old_written, old_read = before.disks.get(disk, (0, 0))
            rates[disk] = ((written - old_written) / span, (read - old_read) / span)
        return rates


@dataclass(slots=True)
class RateMeter:
    """Turns samples into rates. `checkpoint_seconds` is the time between two checkpoints of a mount."""

    checkpoint_seconds: float
    _mounts: dict[int, _MountHistory] = field(default_factory=dict)
    _disks: dict[int, deque[DiskRate]] = field(default_factory=dict)
    _stale: set[int] = field(default_factory=set)

    def add(self, sample: Sample) -> None:
        """Add the newest sample."""
        stats = dict(sample.mounts) | self._stats_from_checkpoints(sample)
        for mount, newest in stats.items():
            window = WINDOW_SECONDS if mount in sample.mounts else self.checkpoint_seconds + MARGIN_SECONDS
            self._mounts.setdefault(mount, _MountHistory(window)).add(newest, sample.at)
        self._mounts = {mount: history for mount, history in self._mounts.items() if mount in stats}
        self._stale = {
            mount for mount, history in self._mounts.items() if sample.at - history.last_change > STALE_SECONDS
        }
        self._add_disk_rates()

    @staticmethod
    def _stats_from_checkpoints(sample: Sample) -> dict[int, LiveStats]:
        """Return figures of the mounts that have open sessions and no live figures."""
        stats = {}
        for mount in {session.mount for session in sample.sessions} - sample.mounts.keys():
            sessions = {found.id: (found.bytes, found.requests) for found in sample.sessions if found.mount == mount}
            stats[mount] = LiveStats(sample.at, sessions, {})
        return stats

    def _add_disk_rates(self) -> None:
        """Append to each disk's history the sum of what all mounts do with that disk."""
        sums: dict[int, DiskRate] = {}
        for mount in self._mounts.keys() - self._stale:
            for disk, (written, read) in self._mounts[mount].disk_rates().items():
                before = sums.get(disk, (0.0, 0.0))
                sums[disk] = (before[0] + written, before[1] + read)
        for disk in sums.keys() | self._disks.keys():
            self._disks.setdefault(disk, deque(maxlen=HISTORY_SECONDS)).append(sums.get(disk, (0.0, 0.0)))

    def session_rate(self, session: Session) -> float:
        """Return the session's bytes per second."""
        history = self._mounts.get(session.mount)
        return 0.0 if history is None or session.mount in self._stale else history.session_rate(session.id)

    def disk_rates(self, disk: int) -> list[DiskRate]:
        """Return the rates of the disk in each second, the oldest first; at least one."""
        return list(self._disks.get(disk, ())) or [(0.0, 0.0)]
