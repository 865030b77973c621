"""Which disks can take the extents of a stream now: no bad, slow or nearly full disk, while enough others are left."""

from vtlfs.engine.layout.dealer import Candidate
from vtlfs.engine.layout.intervals import NO_NUMBERS
from vtlfs.engine.writing.context import WriteContext
from vtlfs.errors import DiskError

FEWEST_DISKS = 2  # with fewer good disks left, a stream uses the bad ones, too


class Placement:
    """The disks for one stream, which remembers those that have failed it. Used in the trio loop."""

    __slots__ = ("_dirty", "_failed", "_low_space", "_parity", "_pool")

    def __init__(self, context: WriteContext, parity: int) -> None:
        """`parity`: how many parity extents a stripe is to have."""
        self._pool = context.pool
        self._dirty = context.dirty
        self._low_space = context.low_space  # bytes; a disk with less free space is passed over while others have more
        self._parity = parity
        self._failed: frozenset[int] = NO_NUMBERS  # disks that have failed this stream

    def candidates(self) -> list[Candidate]:
        """Return the disks that can take extents now; all disks if fewer than two are good.

        A slow disk gets no extents while enough others keep up, so that no stream waits for it. With too few disks for
        the parity, stripes get less parity.
        """
        good = self._good()
        prompt = good - self._passed_over()
        enough = max(FEWEST_DISKS, min(self._parity + 1, len(good)))
        chosen = prompt if len(prompt) >= enough else good
        return [
            Candidate(pooled.number, pooled.disk.device, pooled.disk.free)
            for pooled in self._pool.disks
            if pooled.number in chosen or len(good) < FEWEST_DISKS
        ]

    def is_bad(self, disk: int) -> bool:
        """Tell whether a disk has failed this stream, can't be used just now, or is retiring."""
        return disk in self._failed or not self._pool[disk].usable

    def has_others(self) -> bool:
        """Tell whether enough disks are good for a stripe."""
        return len(self._good()) >= FEWEST_DISKS

    def is_passed_over(self, disk: int) -> bool:
        """Tell whether a disk is bad, slow or short of room, and enough other disks are not."""
        return all(one.number != disk for one in self.candidates())

    def record_failure(self, disk: int, error: BaseException) -> bool:
        """Note an error of a disk; tell whether other disks may work, since the error is the disk's own fault."""
        if not isinstance(error, DiskError) or not self._pool[disk].note_fault(error):
            return False
        self._failed |= {disk}
        return True

    def _good(self) -> set[int]:
        """Return the disks that can be used; where fewer than two are left, also those that are retiring."""
        good = {pooled.number for pooled in self._pool.disks if not self.is_bad(pooled.number)}
        if len(good) < FEWEST_DISKS:
            good.update(one.number for one in self._pool.disks if one.works and one.number not in self._failed)
        return good

    def _passed_over(self) -> set[int]:
        return self._pool.busy() | self._dirty.above_share() | self._pool.short_of(self._low_space)
