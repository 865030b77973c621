"""A stripe that lacks something, and its pieces: what a repair knows of each.

Used in the trio loop. A thread that computes has a stripe to itself for that while.
"""

import secrets
from dataclasses import dataclass, field, replace
from enum import Enum

from vtlfs.disks.headers import Ending, Opening
from vtlfs.model import Extent, Session

Bytes = bytes | bytearray
GAP = 1 << 32


class Condition(Enum):
    """What is the matter with an extent."""

    GOOD = "good"  # as far as is known
    AWAY = "away"  # it is on a disk that is out, or nobody knows where
    DAMAGED = "damaged"  # its bytes or its record are wrong, on a disk that stays


@dataclass(slots=True, eq=False)
class Piece:
    """An extent of a stripe. `data`: its stored bytes; `was_tried`: somebody has tried to read them."""

    row: Extent
    condition: Condition
    data: Bytes | None = None
    was_tried: bool = False

    @property
    def may_be_had(self) -> bool:
        """Tell whether its bytes are here, or can be read as far as is known."""
        return self.data is not None or (self.condition is Condition.GOOD and not self.was_tried)


@dataclass(slots=True, eq=False)
class Ended:
    """A session that has left a tape file, and what its headers say."""

    session: Session
    opening: Opening
    ending: Ending
    last_stripe: int | None = None  # None: nobody has looked
    ends: dict[int, int] | None = None  # where the recorded extents on each disk end; None: nobody has looked
    uses: int = 0  # batches at work that have to do with it

    @property
    def number(self) -> int:
        """The identifier of the session."""
        return self.session.id

    def new_stripe(self) -> int:
        """Return a number for a new stripe, behind all of the session's.

        A repair that was interrupted may have left records of stripes on the disks that were never recorded. A rebuild
        must not take them for parts of this one, so the numbers leave a gap of random length behind the last one.
        """
        assert self.last_stripe is not None
        self.last_stripe += 1 + secrets.randbelow(GAP)
        return self.last_stripe


@dataclass(slots=True, eq=False)
class Stripe:
    """A stripe that may lack something: its data by place, and its parity by row.

    `is_noted`: it is in the table `lack`; `is_damaged`: as a verification has found it damaged, so that it is examined.
    `beside`: disks of the extents before and behind it in the stream. `is_contradictory`: what was computed from it was
    not what it should be.
    """

    ended: Ended
    data: list[Piece]
    parity: list[Piece]
    is_noted: bool = False
    is_damaged: bool = False
    beside: frozenset[int] = frozenset()
    is_contradictory: bool = False
    weight: int = 0  # bytes of the repair's total that it stands for

    @property
    def pieces(self) -> list[Piece]:
        """All its extents."""
        return [*self.data, *self.parity]

    @property
    def number(self) -> int:
        """Its number in its session."""
        return self.data[0].row.stripe

    @property
    def wanted(self) -> int:
        """How many parity extents it was to have."""
        return self.ended.session.parity

    @property
    def lacks(self) -> bool:
        """Tell whether it lacks something, as far as is known."""
        return (
            self.is_noted
            or len(self.parity) < self.wanted
            or any(piece.condition is not Condition.GOOD for piece in self.pieces)
        )

    @property
    def is_torn(self) -> bool:
        """Tell whether data extents of it are recorded with another stripe, after a rebuild: parity is no use to it."""
        return [piece.row.place for piece in self.data] != list(range(len(self.data)))

    @property
    def can_compute(self) -> bool:
        """Tell whether all its data can be read, or computed from what can be read."""
        if self.is_torn:
            return all(piece.may_be_had for piece in self.data)
        had = sum(piece.may_be_had for piece in self.pieces)
        return all(piece.may_be_had for piece in self.data) or (had >= len(self.data) and not self.is_contradictory)

    @property
    def longest(self) -> int:
        """Stored bytes of its longest data extent, which its parity has, too."""
        return max(piece.row.stored for piece in self.data)


@dataclass(slots=True)
class Written:
    """A row of an extent that is to be written, or was; `members`: of parity, the data of its stripe by place."""

    row: Extent
    members: tuple[Extent, ...] = ()
    data: Bytes | None = field(default=None, repr=False)

    def on(self, disk: int) -> "Written":
        """Return it on a disk."""
        return replace(self, row=replace(self.row, disk=disk))
