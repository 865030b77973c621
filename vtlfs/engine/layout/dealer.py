"""The dealer chooses the disks of a stream's stripes: different disks within a stripe, and more from emptier disks.

Pure: the caller says which disks can take extents now.
"""

from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

GOLDEN = 0.618034  # the fractional parts of its multiples are spread evenly over 0 to 1
WIDEST = 16  # the most data extents in a stripe: with more, a repair reads too much for each extent
STRIPED = 2  # the fewest disks in a stream's first round, so that short streams are striped, too
NEARLY_ALL = 0.9  # a disk is in every round if its free space is at least this part of the largest free space


@dataclass(frozen=True, slots=True)
class Candidate:
    """A disk that can take an extent: its number, its device, and its free bytes."""

    number: int
    device: int
    free: int


class Dealer:
    """Deals the stripes of one stream over the disks, in rounds: within a round, no disk gets two extents.

    The share of rounds that a disk is in is its free space divided by the largest free space, so that the disks become
    full together. With parity, a round is one stripe: the disks get data in turn, until only the disks for the parity
    are left; no two of them are on one device, if there are enough devices. Without parity, each extent is a stripe.
    """

    __slots__ = ("_count", "_credits", "_last", "_left", "_parity", "_turn", "_wanted")

    def __init__(self, parity: int, turn: int) -> None:
        """`parity`: how many parity extents a stripe is to have. `turn` differs from stream to stream."""
        self._wanted = parity
        self._turn = turn
        self._last = -1  # the disk with the last data extent; the next extent goes to the disk after this one
        self._credits: dict[int, float] = {}  # by disk: 1 entitles it to be in a round
        self._left: list[int] = []  # disks of this round that have no extent yet
        self._parity = 0  # parity extents of this stripe: fewer than `_wanted` if there are too few disks
        self._count = 0  # data extents in the stripe

    def begin(self, candidates: Sequence[Candidate]) -> None:
        """Begin a stripe on some of the candidates; there must be at least one."""
        self._count = 0
        able = {one.number for one in candidates}
        if self._wanted or not able.intersection(self._left):
            self._left = self._round(candidates)
        self._parity = min(self._wanted, len(self._left) - 1)

    def is_full(self, candidates: Sequence[Candidate]) -> bool:
        """Tell whether the stripe takes no more data, because the disks that are left are for its parity."""
        able = {one.number for one in candidates}.intersection(self._left)
        return self._count > 0 and (len(able) <= self._parity or not self._wanted)

    def deal(self, candidates: Sequence[Candidate]) -> int:
        """Return the disk for the next data extent of a stripe that is not full."""
        able = {one.number for one in candidates}.intersection(self._left)
        disk = min(able, key=lambda number: (number <= self._last, number))
        self._left.remove(disk)
        self._last = disk
        self._count += 1
        return disk

    def close(self, candidates: Sequence[Candidate]) -> list[int]:
        """Return the disks for the parity of the stripe, by row: in turn, but disks that are no candidates last."""
        able = {one.number for one in candidates}
        in_turn = sorted(self._left, key=lambda disk: (disk not in able, disk <= self._last, disk))
        return in_turn[: self._parity]

    def upcoming(self, extents: int, candidates: Sequence[Candidate], *, is_open: bool) -> Counter[int]:
        """Return how many extents each disk will get from the next `extents` data extents and their parity.

        `is_open`: a stripe was begun and is not closed yet.
        """
        then = copy(self)
        then._credits, then._left = dict(self._credits), list(self._left)
        disks: Counter[int] = Counter()
        for _ in range(extents):
            if not is_open or then.is_full(candidates):
                disks.update(then.close(candidates) if is_open else ())
                then.begin(candidates)
                is_open = True
            disks[then.deal(candidates)] += 1
        disks.update(then.close(candidates))
        return disks

    def _round(self, candidates: Sequence[Candidate]) -> list[int]:
        """Choose the disks of a new round."""
        most = max(one.free for one in candidates)
        is_first = not self._credits
        for place, one in enumerate(candidates):
            share = 1.0 if one.free >= NEARLY_ALL * most else one.free / most
            # Credits begin at different values for each stream, so that short streams begin on different disks.
            before = (self._turn * GOLDEN + place / len(candidates)) % 1
            self._credits[one.number] = self._credits.get(one.number, before) + share
        order = sorted(candidates, key=lambda one: (-self._credits[one.number], one.number))
        fewest = max(self._wanted + 1, STRIPED if is_first else 1)
        if self._wanted and len({one.device for one in order}) >= fewest:
            best = {one.device: one for one in reversed(order)}  # the first disk of each device in `order`
            order = [one for one in order if best[one.device] is one]
        chosen = [one.number for place, one in enumerate(order) if place < fewest or self._credits[one.number] >= 1]
        if self._wanted:
            chosen = chosen[: WIDEST + self._wanted]
        due = sorted(number for number in chosen if self._credits[number] >= 1)
        for number in chosen:
            self._credits[number] -= 1
        if is_first:
            self._last = due[self._turn % len(due)] - 1
        return chosen
