"""The arithmetic of striping: cuts a stream into stripe units, and tracks which bytes of a unit have arrived.

Pure: no I/O, no clock, no threads.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

NO_NUMBERS: frozenset[int] = frozenset()  # shared by all streams, because an empty set takes 216 bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """`size` bytes at `start` within stripe unit `unit`, and at `source` within the range that was cut."""

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


class IntervalSet:
    """The bytes of a range that have arrived: sorted, disjoint intervals."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Add the bytes from `start` to before `end`; some may have arrived before."""
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
        """Tell whether any of the bytes from `start` to before `end` has arrived."""
        at = bisect_right(self._ends, start)
        return at < len(self._starts) and self._starts[at] < end

    def intervals(self) -> list[tuple[int, int]]:
        """Return the intervals of bytes that have arrived, as (start, end) with the end excluded."""
        return list(zip(self._starts, self._ends, strict=True))

    @property
    def prefix(self) -> int:
        """How many bytes from 0 on have arrived without a gap."""
        return self._ends[0] if self._starts and self._starts[0] == 0 else 0

    @property
    def end(self) -> int:
        """The end of the last byte that has arrived; 0 without any."""
        return self._ends[-1] if self._ends else 0
