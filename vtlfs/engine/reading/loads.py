"""The cache of extents that the readers of a mount have loaded; the least recently used extent is dropped first.

A reader finds its loads by offset in a dictionary of its own; the cache counts the loads of all readers, and takes
the oldest load out of its reader's dictionary. A load on its way from a disk keeps its memory even if it is dropped, so
readers wait while many bytes are on their way. Loads from a disk that hangs are not counted once they are dropped: only
the few reading threads of that disk hold an extent each. Used in the trio loop.
"""

from collections import OrderedDict
from typing import Protocol

import outcome
import trio

from vtlfs.engine.memory import MemoryBudget

UNUSED_SECONDS = 5.0  # a load that no reader has used for so long is dropped


class Reader(Protocol):
    """A reader, as far as the cache uses it."""

    loads: "dict[int, Load]"

    def emptied(self) -> None:
        """Note that the reader has no loads any more, so that its read-ahead begins anew."""


class Source(Protocol):
    """The disk from which a load comes, as far as the cache uses it."""

    @property
    def reads_hang(self) -> bool:
        """Tell whether the disk has finished no read for a while."""


class Load:
    """An extent that is on its way from its disk, or loaded."""

    __slots__ = ("arrived", "at", "is_given_up", "offset", "reader", "result", "size", "source")

    def __init__(self, offset: int, size: int, reader: Reader, source: Source) -> None:
        self.offset = offset
        self.size = size
        self.source = source
        self.is_given_up = False  # dropped while its disk hangs, and not counted any more
        self.reader: Reader | None = reader  # None once it was dropped
        self.at = 0.0  # when it was last used, by the trio clock
        self.arrived = trio.Event()
        self.result: outcome.Outcome[bytes] | None = None


class LoadCache:
    """See the module."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        budget.caches.append(self)
        self._here: OrderedDict[Load, None] = OrderedDict()  # the loaded extents, the least recently used first
        self.readers = 0  # readers that have an extent loaded, or on its way
        self._bytes = 0  # of all loads, also those on their way
        self._coming = 0  # bytes of the loads on their way
        self._less_coming: trio.Event | None = None  # set when a load has arrived; None while no reader waits for that

    async def room(self, size: int) -> None:
        """Wait until an extent of this size may be loaded. It may at once if no other is on its way."""
        while self._coming and self._coming + size > self._budget.loaded:
            if self._less_coming is None:
                self._less_coming = trio.Event()
            await self._less_coming.wait()

    def may_read_ahead(self, size: int) -> bool:
        """Tell whether an extent may be loaded ahead of the reader."""
        return self._coming + size <= self._budget.read_ahead and not self._budget.is_short

    def begin(self, load: Load) -> None:
        """Count a load, and put it into its reader's dictionary."""
        self._bytes += load.size
        self._coming += load.size
        self._budget.take(load.size)
        assert load.reader is not None
        self.readers += not load.reader.loads
        load.reader.loads[load.offset] = load
        self._trim()

    def set_result(self, load: Load, result: "outcome.Outcome[bytes]") -> None:
        """Take in the bytes of a load, or its error."""
        load.result = result
        load.arrived.set()
        if load.is_given_up:
            return
        self._no_longer_coming(load)
        if load.reader is None:
            self._free(load)
        else:
            load.at = trio.current_time()
            self._here[load] = None
            self._trim()

    def note_use(self, load: Load) -> None:
        """Note that a load was used just now."""
        if load in self._here:
            load.at = trio.current_time()
            self._here.move_to_end(load)

    def drop(self, load: Load) -> None:
        """Take a load out of its reader's dictionary. A task that waits for the load still gets its bytes."""
        reader, load.reader = load.reader, None
        if reader is not None and reader.loads.get(load.offset) is load:
            del reader.loads[load.offset]
            if not reader.loads:
                self.readers -= 1
                reader.emptied()
        if load in self._here:
            del self._here[load]
            self._free(load)
        elif load.result is None and load.source.reads_hang and not load.is_given_up:
            load.is_given_up = True
            self._no_longer_coming(load)
            self._free(load)

    def drop_idle(self, seconds: float = UNUSED_SECONDS) -> None:
        """Drop the loads that no reader has used for a while."""
        until = trio.current_time() - seconds
        while self._here and (oldest := next(iter(self._here))).at < until:
            self.drop(oldest)

    def _no_longer_coming(self, load: Load) -> None:
        self._coming -= load.size
        if self._less_coming is not None:
            self._less_coming.set()
            self._less_coming = None

    def _trim(self) -> None:
        """Drop the least recently used loads, but not the last one, until the rest is within the readers' share.

        While memory is short, the share is smaller: to load an extent again costs less than to put a stream away.
        """
        most = self._budget.loaded // (4 if self._budget.is_short else 1)
        while self._bytes > most and len(self._here) > 1:
            self.drop(next(iter(self._here)))

    def _free(self, load: Load) -> None:
        self._bytes -= load.size
        self._budget.give(load.size)
