"""The arithmetic of striping: how a stream is cut into stripe units, and how a unit collects what arrives of it.

Pure: no I/O, no clock, no threads.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
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

    def intervals(self) -> list[tuple[int, int]]:
        """Return the intervals of bytes that have come, each up to before its end."""
        return list(zip(self._starts, self._ends, strict=True))

    @property
    def prefix(self) -> int:
        """How many bytes have come without a gap from the beginning."""
        return self._ends[0] if self._starts and self._starts[0] == 0 else 0

    @property
    def end(self) -> int:
        """The end of the last byte that has come."""
        return self._ends[-1] if self._ends else 0
