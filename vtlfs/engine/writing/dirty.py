"""The dirty budget of a mount: bytes that were written, and that all streams keep in memory until they are synced.

A disk that dies takes what it had not synced along; what is still in memory can go to another disk. Streams register,
count what they keep, and wait for a writeback where all keep too much together. Used in the trio loop.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

import trio

AGAIN_SECONDS = 0.01  # between two rounds of writeback


class DirtyStream(Protocol):
    """Whoever keeps bytes until they are synced."""

    async def writeback(self, least: int = ...) -> None:
        """Sync the disks for which at least so many bytes are kept. What fails is the stream's to tell."""


@dataclass(slots=True)
class DirtyBudget:
    """Bytes that all streams of a mount keep in memory after they were written, until they are synced.

    Where there are too few disks to send them elsewhere, nothing is kept. `limit` is a share of the memory budget, in
    which these bytes are counted as those of their streams. `nursery`: where disks are synced.
    """

    limit: int
    nursery: trio.Nursery
    bytes: int = 0
    by_disk: Counter[int] = field(default_factory=Counter)
    streams: dict[DirtyStream, None] = field(default_factory=dict)
    freed: trio.Event | None = None  # somebody waits until there is less

    def register(self, stream: DirtyStream) -> None:
        """Have a stream's disks synced where others need the room."""
        self.streams[stream] = None

    def leave(self, stream: DirtyStream) -> None:
        """Forget a stream that has ended."""
        self.streams.pop(stream, None)

    def writeback_soon(self, stream: DirtyStream) -> None:
        """Have a stream's disks synced, those for which it keeps much; do not wait for that."""
        self.nursery.start_soon(stream.writeback)

    async def wait(self) -> None:
        """Wait until all streams together keep no more than the limit.

        Whichever stream and disk comes first makes room: nobody waits for a disk because it is slower than others.
        """
        while self.is_full:
            if self.freed is None:
                self.freed = trio.Event()
                self.nursery.start_soon(self._writeback_all, self.freed)
            await self.freed.wait()

    async def _writeback_all(self, enough: trio.Event) -> None:
        """Have all streams synced, whatever little they keep, until there is room."""
        while not enough.is_set():
            async with trio.open_nursery() as nursery:
                for stream in list(self.streams):
                    nursery.start_soon(stream.writeback, 0)
            await trio.sleep(AGAIN_SECONDS)

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
