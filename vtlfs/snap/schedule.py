"""Snapshots that a mount takes by itself, as often as library.toml says, and their thinning.

However many mounts a library has, one of them takes each: all ask inside a transaction of their own whether it is time,
and the first that finds so takes it. The task runs in the mount's trio loop, the transaction in the thread of its group
committer.
"""

import logging
from collections.abc import Callable
from datetime import datetime

import trio

from vtlfs.engine.engine import Engine
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import VtlfsError
from vtlfs.model import Snapshot, utc_now
from vtlfs.snap import store
from vtlfs.snap.retention import to_remove

LOOK_SECONDS = 10.0  # at most, between two looks

log = logging.getLogger(__name__)


def is_due(last: Snapshot | None, at: str, every: float) -> bool:
    """Tell whether the next scheduled snapshot is to be taken at the time `at`. Pure.

    Which one is the last its number tells. A clock that jumps does little harm: by more than `every`, either way, one
    snapshot comes too early; by less, one comes by that much too early or too late. So the next one is never further
    away than two times `every`, whatever the last one's time says.
    """
    if last is None:
        return True
    age = (datetime.fromisoformat(at) - datetime.fromisoformat(last.taken_at)).total_seconds()
    return not -every < age < every


def is_wanted(tracking: Tracking, at: str, every: float) -> bool:
    """Tell whether a scheduled snapshot is to be taken: it is time, and something has changed since the last one."""
    return is_due(store.last_scheduled(tracking), at, every) and store.is_changed(tracking)


def take_if_wanted(tracking: Tracking, at: str, every: float, keep: dict[str, int]) -> Snapshot | None:
    """Take a scheduled snapshot if it is wanted, and thin them out. To be called inside a transaction."""
    if not is_wanted(tracking, at, every):
        return None
    taken = store.take(tracking, at, scheduled=True)
    if keep:
        store.remove(tracking, to_remove(store.snapshots(tracking), keep))
    return taken


async def run(engine: Engine, clock: Callable[[], str] = utc_now) -> None:
    """Take snapshots for as long as the mount lasts; returns at once where library.toml asks for none."""
    every, keep = engine.library.config.snapshot_every, engine.library.config.snapshot_keep
    if every is None:
        return
    while True:
        await trio.sleep(min(every, LOOK_SECONDS))
        try:
            if not is_wanted(engine.tracking, clock(), every):  # a look that disturbs nobody
                continue
            taken = await engine.change(lambda tracking: take_if_wanted(tracking, clock(), every, keep))
            if taken is not None:
                log.info("snapshot %d taken", taken.id)
        except VtlfsError as error:
            log.error("taking a snapshot: %s; trying again", error)
