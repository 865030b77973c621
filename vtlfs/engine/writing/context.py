"""What every write session of a mount works with."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from vtlfs.disks.pool import DiskPool
from vtlfs.engine.memory import MemoryBudget
from vtlfs.engine.tracking.committer import GroupCommitter
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.writing.announcements import Closing

if TYPE_CHECKING:
    from vtlfs.engine.writing.session import WriteSession


@dataclass(slots=True)
class DirtyBudget:
    """Bytes that all streams of a mount keep in memory after they were written, until they are synced.

    A disk that dies takes what it had not synced along. Where there are too few disks to send that elsewhere, nothing
    is kept. `limit` is a share of the memory budget, in which these bytes are counted as those of their streams.
    """

    limit: int
    bytes: int = 0
    by_disk: Counter[int] = field(default_factory=Counter)
    freed: trio.Event | None = None  # somebody waits until there is less

    def keep(self, disk: int, size: int) -> None:
        """Keep so many bytes more that a disk has to sync."""
        self.bytes += size
        self.by_disk[disk] += size

    def move(self, disk: int, to: int, size: int) -> None:
        """Have another disk sync so many bytes."""
        self.by_disk[disk] -= size
        self.by_disk[to] += size

    def free(self, disk: int, size: int) -> None:
        """Keep so many bytes less."""
        self.bytes -= size
        self.by_disk[disk] -= size
        if self.freed is not None:
            self.freed.set()
            self.freed = None

    def unsynced(self) -> set[int]:
        """Return the disk that has not synced half of what may be kept, for the others want the rest."""
        return {disk for disk, size in self.by_disk.items() if size > self.limit // 2}

    @property
    def is_much(self) -> bool:
        """Tell whether it is time to sync."""
        return self.bytes > self.limit // 2

    @property
    def is_full(self) -> bool:
        """Tell whether writers have to wait for a sync."""
        return self.bytes > self.limit


@dataclass(frozen=True, slots=True)
class WriteContext:
    """What every write session of a mount works with."""

    pool: DiskPool
    recorder: GroupCommitter
    tracking: Tracking  # for reading, in the trio loop
    memory: MemoryBudget
    kept: DirtyBudget
    direct_below: int
    writeback_soon: "Callable[[WriteSession], object]"
    writeback_all: Callable[[trio.Event], object]  # again and again, until the event
    durable_close: bool = True
    closing: Closing = field(default_factory=Closing)
