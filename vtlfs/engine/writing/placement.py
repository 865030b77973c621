"""Where the stripe units of a stream go: over the disks in turn, past those that are bad, slow or short of room."""

from collections.abc import Collection

from vtlfs.engine.memory import Account
from vtlfs.engine.stripe import NO_NUMBERS, RoundRobin
from vtlfs.engine.writing.buffer import StripeBuffer
from vtlfs.engine.writing.context import WriteContext
from vtlfs.errors import DiskError

FEWEST_DISKS = 2  # with fewer left, a stream can't avoid the bad ones


class Placement:
    """Chooses a disk for each stripe unit of one stream, and a slot there. Used in the trio loop."""

    __slots__ = ("_account", "_dealer", "_dirty", "_failed", "_low_space", "_pool")

    def __init__(self, context: WriteContext, dealer: RoundRobin, account: Account) -> None:
        self._account = account
        self._pool = context.pool
        self._dirty = context.dirty
        self._dealer = dealer
        self._low_space = (
            context.low_space
        )  # bytes; a unit passes over a disk with less free, where two others have a place
        self._failed: frozenset[int] = NO_NUMBERS  # disks that have failed this stream

    def deal(self, number: int) -> StripeBuffer:
        """Return a new stripe unit in hand, with its place.

        A slow disk gets no new unit while two other disks keep up, so that no stream waits for it.
        """
        slow = self._bad() | self._slow()
        place = self._dealer.deal(number, slow if self._has_others(slow) else self._to_avoid())
        return StripeBuffer(number, *place, self._account)

    def reassign(self, unit: StripeBuffer, avoid: Collection[int] | None = None) -> bool:
        """Give a unit a place on another disk, if its own disk is in `avoid`. The whole unit is to be sent there.

        `avoid` of None: the bad disks. False where the unit keeps its place, also because too few disks are left.
        """
        avoid = self._to_avoid() if avoid is None else avoid
        if unit.disk not in avoid:
            return False
        unit.move(*self._dealer.deal(unit.number, avoid))
        return True

    def is_bad(self, disk: int) -> bool:
        """Tell whether a disk has failed this stream, or can't be used just now."""
        return disk in self._failed or not self._pool[disk].usable

    def overloaded(self) -> set[int] | None:
        """Return the disks that are bad, slow or short of room; None where fewer than two others are left."""
        overloaded = self._bad() | self._slow() | self._pool.short_of(self._low_space)
        return overloaded if self._has_others(overloaded) else None

    def record_failure(self, disk: int, error: BaseException) -> bool:
        """Note an error of a disk; tell whether another disk is worth a try: the error is the disk's own fault."""
        if not isinstance(error, DiskError) or not self._pool[disk].note_fault(error):
            return False
        self._failed |= {disk}
        return True

    def _bad(self) -> set[int]:
        return {pooled.number for pooled in self._pool.disks if self.is_bad(pooled.number)}

    def _slow(self) -> set[int]:
        return self._pool.busy() | self._dirty.above_share()

    def _to_avoid(self) -> Collection[int]:
        """Return the disks that are bad; none where too few would be left."""
        bad = self._bad()
        return bad if self._has_others(bad) else ()

    def _has_others(self, avoided: Collection[int]) -> bool:
        return len(self._pool) - len(avoided) >= FEWEST_DISKS
