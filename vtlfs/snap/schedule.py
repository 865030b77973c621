"""Scheduled snapshots: a mount takes and prunes them as often as library.toml says.

However many mounts a library has, one of them takes each snapshot, since taking it is a job. The snapshot is taken in
the transaction that claims the job, in the thread of the mount's group committer.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from vtlfs.disks.pool import DiskPool
from vtlfs.engine.engine import Engine
from vtlfs.engine.jobs import background
from vtlfs.engine.jobs.background import Job
from vtlfs.engine.media import cartridges
from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Snapshot, utc_now
from vtlfs.snap import store
from vtlfs.snap.retention import to_remove

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    """A scheduled snapshot, and the numbers of those that were pruned for it."""

    snapshot: Snapshot
    pruned: tuple[int, ...] = ()


def is_due(last: Snapshot | None, at: str, every: float) -> bool:
    """Tell whether the next scheduled snapshot is to be taken at the time `at`. Pure.

    `last` is the snapshot with the highest number. A clock that jumps by more than `every`, either way, brings one
    snapshot too early; a smaller jump moves one snapshot by as much. So the next snapshot comes within two times
    `every`, whatever the time of the last one is.
    """
    if last is None:
        return True
    age = (datetime.fromisoformat(at) - datetime.fromisoformat(last.taken_at)).total_seconds()
    return not -every < age < every


def is_wanted(tracking: Tracking, at: str, every: float) -> bool:
    """Tell whether a scheduled snapshot is to be taken: it is due, and rows have changed since the last snapshot."""
    return is_due(store.last_scheduled(tracking), at, every) and store.is_changed(tracking)


def take_if_wanted(tracking: Tracking, at: str, every: float, keep: dict[str, int]) -> Taken | None:
    """Take a scheduled snapshot if it is wanted, and prune the others. Call it inside a transaction."""
    if not is_wanted(tracking, at, every):
        return None
    taken = store.take(tracking, at, scheduled=True)
    pruned = to_remove(store.snapshots(tracking), keep) if keep else ()
    store.remove(tracking, pruned)
    return Taken(taken, tuple(pruned))


class Schedule(Job[Taken]):
    """The job of taking scheduled snapshots."""

    what = "taking a snapshot"

    def __init__(self, pool: DiskPool, every: float, keep: dict[str, int]) -> None:
        """`every`: seconds; `keep`: the retention rules, as in library.toml."""
        self._pool = pool
        self.every = every
        self._keep = keep

    def is_due(self, tracking: Tracking, at: str) -> bool:
        """Tell whether a scheduled snapshot is to be taken."""
        return is_wanted(tracking, at, self.every)

    def claim(self, tracking: Tracking, at: str) -> Taken | None:
        """Take the snapshot, and prune others."""
        return take_if_wanted(tracking, at, self.every, self._keep)

    async def work(self, claim: Taken) -> None:
        """Log the snapshot that was taken, and have the disks remember those that were pruned."""
        log.info("snapshot %d taken", claim.snapshot.id)
        if claim.pruned:
            await cartridges.keep_deleted_in_pool(self._pool, claim.pruned)


async def run(engine: Engine, clock: Callable[[], str] = utc_now) -> None:
    """Take snapshots for as long as the mount lasts. Returns at once if library.toml asks for none."""
    config = engine.library.config
    if config.snapshot_every is not None:
        await background.run(engine, Schedule(engine.pool, config.snapshot_every, config.snapshot_keep), clock)
