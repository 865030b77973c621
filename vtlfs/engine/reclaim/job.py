"""Reclaiming as a mount does it by itself, in the background: a job of the mount's trio loop.

A volume is due when nothing has held it for `Timing.reclaim`: the row of a reader may be recorded a moment after its
open(). The mount's own readers are known at once. Which mount does it is decided by the lease, as for a repair.
"""

import logging
import socket
from collections.abc import Callable
from functools import partial

import trio

from vtlfs.disks.missing import MissingDisk
from vtlfs.engine.engine import Engine
from vtlfs.engine.jobs import background
from vtlfs.engine.jobs.background import Job
from vtlfs.engine.reclaim.outlook import reclaimable
from vtlfs.engine.reclaim.reclaim import LEASE, NAME, Reclaim
from vtlfs.engine.reserve import Reserve
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.reclaiming import EndedVolume
from vtlfs.model import Actor, utc_now
from vtlfs.sizes import SIZES, Sizes

LOOK_SECONDS = 2.0  # between two looks whether there is something to reclaim
AGAIN_SECONDS = 600.0  # before a disk is tried again from which something could not be removed
RESERVE_SECONDS = 30.0  # between two looks whether room is set aside

log = logging.getLogger(__name__)


class ReclaimJob(Job[list[EndedVolume]]):
    """See the module."""

    what = "reclaiming"
    every = LOOK_SECONDS
    lease = LEASE

    def __init__(self, engine: Engine, sizes: Sizes = SIZES) -> None:
        self._engine = engine
        self._sizes = sizes
        self._seen: dict[tuple[str, int], float] = {}  # since when nothing holds a volume, by trio's clock
        self._not_before: dict[int, float] = {}  # by disk
        self._due: list[EndedVolume] = []  # as `is_due` has found them

    def is_due(self, tracking: Tracking, at: str) -> bool:
        """Tell whether there is something to reclaim."""
        last = tracking.jobs.get(NAME)
        is_interrupted = last is not None and last.ended_at is None
        self._due = self._ready(tracking)
        is_left = any(tracking.reclaiming.is_left_on(number) for number in self._usable())
        return bool(self._due) or is_interrupted or is_left

    def claim(self, tracking: Tracking, at: str) -> list[EndedVolume]:
        """Return the volumes that are due. It is the lease that claims the work."""
        return self._due

    async def work(self, claim: list[EndedVolume]) -> None:
        """Reclaim, with the lease."""
        engine = self._engine
        run = Reclaim(
            engine.library,
            {pooled.number: pooled.disk for pooled in engine.pool.disks if pooled.number in self._usable()},
            *(engine.catalogue, partial(engine.change, is_essential=True)),
            actor=Actor(engine.mount.uid, socket.gethostname(), "vtlfs"),
            by=f"mount {engine.mount.id}",
            limit=engine.library.config.reclaim_limit,
            is_held=lambda volume: engine.is_reading(*volume.key),
            timing=engine.pool.timing,
            sizes=self._sizes,
        )
        try:
            result = await run.run(claim)
        finally:
            run.close()
        for number in result.left:
            self._not_before[number] = trio.current_time() + AGAIN_SECONDS
        if result.bytes or result.volumes:
            log.info("reclaimed %s", result.in_words())

    def _ready(self, tracking: Tracking) -> list[EndedVolume]:
        """Return the volumes that nothing has held for long enough, the oldest first."""
        engine, now = self._engine, trio.current_time()
        free = [volume for volume in reclaimable(engine.library, tracking) if not engine.is_reading(*volume.key)]
        self._seen = {volume.key: self._seen.get(volume.key, now) for volume in free}
        return [volume for volume in free if now - self._seen[volume.key] >= engine.pool.timing.reclaim]

    def _usable(self) -> list[int]:
        """Return the disks from which members may be removed now; a disk that is full may be."""
        now = trio.current_time()
        return [
            pooled.number
            for pooled in self._engine.pool.disks
            if not isinstance(pooled.disk, MissingDisk)
            and not pooled.hangs
            and self._not_before.get(pooled.number, 0.0) <= now
        ]


async def run(engine: Engine, clock: Callable[[], str] = utc_now) -> None:
    """Reclaim whenever that is due, and set room aside for it, for as long as the mount lasts."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep_reserve, engine)
        await background.run(engine, ReclaimJob(engine), clock)


async def _keep_reserve(engine: Engine) -> None:
    reserve = Reserve(engine.library.path)
    while True:
        await trio.to_thread.run_sync(reserve.make)
        await trio.sleep(RESERVE_SECONDS)
