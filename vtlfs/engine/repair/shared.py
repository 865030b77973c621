"""The state that the batches of one repair share. Used in the trio loop."""

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import outcome
import trio

from vtlfs.disks.pool import DiskPool, PooledDisk
from vtlfs.engine.repair.appending import Appending
from vtlfs.engine.repair.plan import Chooser
from vtlfs.engine.repair.result import RepairResult
from vtlfs.engine.repair.targets import Targets
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.errors import VtlfsError

log = logging.getLogger(__name__)


def closed(result: "outcome.Outcome[None]") -> None:
    """Log the error of closing a member file, if there was one."""
    if isinstance(result, outcome.Error) and isinstance(result.error, VtlfsError):
        log.warning("closing a member file: %s", result.error)


@dataclass(slots=True)
class Shared:
    """The state that the batches of one repair share.

    `out`: disks whose extents count as lost; `leaving`: those of them that are to be emptied. `record_done`: records
    progress, in a transaction. `again`: the numbers of stripes that are to be tried again, by session.
    """

    pool: DiskPool
    catalogue: Catalogue
    change: Callable[[Callable[[Tracking], Any]], Awaitable[Any]]
    out: Collection[int]
    leaving: Collection[int]
    result: RepairResult
    record_done: Callable[[Tracking, int], None]
    again: dict[int, set[int]] = field(default_factory=dict)
    open: dict[tuple[int, int], Appending] = field(default_factory=dict)  # member files, by session and disk
    abandoned: list[tuple[PooledDisk, Appending]] = field(default_factory=list)  # on disks that did not answer
    chooser: Chooser = field(default_factory=Chooser)
    targets: Targets = field(init=False)
    locks: defaultdict[int, trio.Lock] = field(init=False)  # by disk: one batch syncs at a time

    def __post_init__(self) -> None:
        self.targets = Targets(self.pool, self.out)
        self.locks = defaultdict(trio.Lock)

    @property
    def disks(self) -> dict[int, PooledDisk]:
        """The disks by number, as they are now."""
        return {pooled.number: pooled for pooled in self.pool.disks}

    def close_abandoned(self) -> None:
        """Close the member files on disks that did not answer, once these answer. Called when no batch is running."""
        while self.abandoned:
            disk, appending = self.abandoned.pop()
            disk.writing.submit(closed, appending.close)
