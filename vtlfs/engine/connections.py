"""The connections to the tracking database with which a trio run works: one that reads, and the group committer's.

A mount has them as long as it lasts (`assembly`), and a command that repairs or reclaims for as long as it runs.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from vtlfs.disks.base import Disk
from vtlfs.disks.marks import MarkThreads
from vtlfs.engine.library import Library
from vtlfs.engine.reserve import Reserve
from vtlfs.engine.tracking.committer import GroupCommitter
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.sizes import SIZES, Sizes


@dataclass(frozen=True, slots=True)
class Connections:
    """See the module. `marks`: the threads that raise the high-water marks of the disks after each commit.

    `is_behind`: the tracking database is older than the disks.
    """

    catalogue: Catalogue
    committer: GroupCommitter
    marks: MarkThreads
    is_behind: bool


@asynccontextmanager
async def connected(
    library: Library, disks: Sequence[Disk], *, behind: bool = False, sizes: Sizes = SIZES
) -> AsyncIterator[Connections]:
    """Have the connections, and the marks of these disks. Raises LibraryError where the library is not in order.

    `behind`: a tracking database that is older than the disks is no error.
    """
    reading = library.tracking(read_only=True)
    try:
        marks = MarkThreads(disks)
        writing = library.tracking(marks=marks, behind=behind)
        committer = GroupCommitter(lambda: writing, Reserve(library.path, sizes).give_up)
        try:
            yield Connections(Catalogue(reading), committer, marks, writing.frozen)
        finally:
            with trio.CancelScope(shield=True):
                await committer.close()
                await trio.to_thread.run_sync(marks.close)
    finally:
        reading.close()
