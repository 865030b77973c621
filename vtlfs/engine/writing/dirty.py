"""The dirty budget of a mount: written bytes that all streams together keep in memory until a sync.

A dying disk loses its unsynced bytes; bytes that are still in memory can go to another disk. Streams register, count
the bytes that they keep, and wait for a writeback while the sum exceeds the budget. Used in the trio loop.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

import trio

AGAIN_SECONDS = 0.01  # between two rounds of writeback


class DirtyStream(Protocol):
    """A stream that keeps bytes in memory until they are synced."""

    async def writeback(self, least: int | None = None) -> None:
        """Sync the disks for which `least` bytes or more are kept; None: as many as are worth a sync.

        The stream keeps and reports the errors.
        """


@dataclass(slots=True)
class DirtyBudget:
    """Bytes that all streams of a mount keep in memory after they were written, until they are synced.

    With too few disks to send stripes elsewhere, streams keep no bytes. `limit` is a share of the memory budget, which
    counts these bytes on the accounts of their streams. `nursery` runs the writebacks.
    """

    limit: int
    nursery: trio.Nursery
    bytes: int = 0
    by_disk: Counter[int] = field(default_factory=Counter)
    streams: dict[DirtyStream, None] = field(default_factory=dict)
    wakeup: trio.Event | None = None  # set when bytes leave memory; None while no writer waits

    def register(self, stream: DirtyStream) -> None:
        """Take in a stream: writebacks sync its disks, too, when another stream needs the room."""
        self.streams[stream] = None

    def leave(self, stream: DirtyStream) -> None:
        """Forget a stream that has ended."""
        self.streams.pop(stream, None)

    def writeback_soon(self, stream: DirtyStream) -> None:
        """Begin a writeback of the disks for which a stream keeps much, without waiting for it."""
        self.nursery.start_soon(stream.writeback)

    async def wait(self) -> None:
        """Wait until all streams together keep no more than the limit.

        Any sync of any stream and disk makes room, so that no writer waits for the slowest disk.
        """
        while self.is_full:
            if self.wakeup is None:
                self.wakeup = trio.Event()
                self.nursery.start_soon(self._writeback_all, self.wakeup)
            await self.wakeup.wait()

    async def _writeback_all(self, enough: trio.Event) -> None:
        """Write back all streams, however little each keeps, until there is room."""
        while not enough.is_set():
            async with trio.open_nursery() as nursery:
                for stream in list(self.streams):
                    nursery.start_soon(stream.writeback, 0)
            await trio.sleep(AGAIN_SECONDS)

    def keep(self, size: int) -> None:
        """Count `size` bytes more that are kept."""
        self.bytes += size

    def let_go(self, size: int) -> None:
        """Count `size` bytes less."""
        self.bytes -= size
        if self.wakeup is not None:
            self.wakeup.set()
            self.wakeup = None

    def wait_for(self, disk: int, size: int) -> None:
        """Count `size` bytes that were written to a disk and wait for its sync."""
        self.by_disk[disk] += size

    def wait_no_more(self, disk: int, size: int) -> None:
        """Count `size` bytes less that wait for the sync of a disk."""
        self.by_disk[disk] -= size

    def above_share(self) -> set[int]:
        """Return the disks for which more than half of the budget is kept: the other disks need the rest."""
        return {disk for disk, size in self.by_disk.items() if size > self.limit // 2}

    @property
    def is_much(self) -> bool:
        """Tell whether streams should begin a writeback."""
        return self.bytes > self.limit // 2

    @property
    def is_full(self) -> bool:
        """Tell whether writers have to wait for a sync."""
        return self.bytes > self.limit
