"""The objects and settings of a mount that all its write sessions share."""

from dataclasses import dataclass

from vtlfs.disks.pool import DiskPool
from vtlfs.engine.memory import MemoryBudget
from vtlfs.engine.tracking.committer import GroupCommitter
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.engine.writing.announcements import OwnAnnouncements
from vtlfs.engine.writing.dirty import DirtyBudget
from vtlfs.timing import DEFAULT, Timing


@dataclass(frozen=True, slots=True)
class WriteContext:
    """The objects and settings of a mount that all its write sessions share. Used in the trio loop."""

    pool: DiskPool
    committer: GroupCommitter
    catalogue: Catalogue
    memory: MemoryBudget
    dirty: DirtyBudget
    low_space: int
    parity: int  # the number of parity extents that each stripe is to have
    announcements: OwnAnnouncements
    durable_close: bool = True
    timing: Timing = DEFAULT
