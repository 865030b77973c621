"""The arithmetic of striping: how a stream is cut into stripe units, and how a unit collects what arrives of it.

Pure: no I/O, no clock, no threads.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass

NO_NUMBERS: frozenset[int] = frozenset()  # one for all streams: each empty set that Python makes takes 216 bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """`size` bytes at `start` within stripe unit `unit`; `source` is where they are in what was cut."""

    unit: int
    start: int
    size: int
    source: int


def cut(offset: int, size: int, stripe_unit: int) -> Iterator[Piece]:
    """Cut `size` bytes at `offset` of a stream at the borders of its stripe units."""
    source = 0
    while source < size:
        unit, start = divmod(offset + source, stripe_unit)
        length = min(stripe_unit - start, size - source)
        yield Piece(unit, start, length, source)
        source += length


class RoundRobin:
    """Deals the stripe units of one stream over the disks in turn, beginning with disk `first`."""

    __slots__ = ("_disks", "_first", "_slots")

    def __init__(self, disks: int, first: int) -> None:
        self._disks = disks
        self._first = first
        self._slots = [0] * disks

    def deal(self, unit: int, avoid: Collection[int] = ()) -> tuple[int, int]:
        """Return the disk for a stripe unit, and the next free slot of the member file there.

        What would fall to a disk to `avoid` is spread over the others, of which there must be one.
        """
        disk = (self._first + unit) % self._disks
        if disk in avoid:
            others = [number for number in range(self._disks) if number not in avoid]
            disk = others[unit % len(others)]
        slot = self._slots[disk]
        self._slots[disk] += 1
        return disk, slot


class IntervalSet:
    """Which bytes of a range have come: sorted, disjoint intervals."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Note that the bytes from `start` to before `end` have come, perhaps again."""
        if self._ends and start == self._ends[-1]:
            self._ends[-1] = end
            return
        low = bisect_left(self._ends, start)
        high = low
        while high < len(self._starts) and self._starts[high] <= end:
            start, end = min(start, self._starts[high]), max(end, self._ends[high])
            high += 1
        self._starts[low:high] = [start]
        self._ends[low:high] = [end]

    def overlaps(self, start: int, end: int) -> bool:
        """Tell whether any of these bytes has come."""
        at = bisect_right(self._ends, start)
        return at < len(self._starts) and self._starts[at] < end

    @property
    def prefix(self) -> int:
        """How many bytes have come without a gap from the beginning."""
        return self._ends[0] if self._starts and self._starts[0] == 0 else 0

    @property
    def end(self) -> int:
        """The end of the last byte that has come."""
        return self._ends[-1] if self._ends else 0
