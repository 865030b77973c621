"""Where the writes of one stream end, so that what is recorded of the stream never ends inside one of them.

A program that notes how much it has written, such as a backup daemon with blocks of its own, then finds whole blocks
after its mount was killed. Used in the trio loop; no method waits.
"""

from bisect import bisect_left, bisect_right


class WriteEnds:
    """The ends of writes that are ends of sealed extents, too. One write session has one."""

    __slots__ = ("_are_known", "_ends", "_last")

    def __init__(self) -> None:
        self._are_known = True
        self._ends: list[int] = []  # ascending, and not recorded yet
        self._last = 0

    def disregard(self) -> None:
        """Note that the stream may end anywhere.

        So it is where it comes through the kernel's page cache, which tells nobody where writes end, and where bytes of
        it were lost: all that is left before them is kept.
        """
        self._are_known = False

    def note_write(self, end: int) -> None:
        """Note that a write has come whole, and the stream ends at `end`."""
        self._last = end

    def note_sealed(self, end: int) -> None:
        """Note that an extent is sealed that ends at `end`."""
        if self._are_known and end == self._last:
            self._ends.append(end)

    def has(self, offset: int) -> bool:
        """Tell whether a write ends at the offset, as far as that is known; where nothing is known: yes."""
        place = bisect_left(self._ends, offset)
        return not self._are_known or (place < len(self._ends) and self._ends[place] == offset)

    def forget(self, recorded: int) -> None:
        """Forget the ends up to the length that is recorded."""
        del self._ends[: bisect_right(self._ends, recorded)]

    def clear(self) -> None:
        """Note that the stream begins again."""
        self._ends.clear()
        self._last = 0
