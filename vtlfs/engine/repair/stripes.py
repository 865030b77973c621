"""A stripe that lacks something, and its pieces: all that a repair knows about them.

Used in the trio loop. While a thread computes a stripe, nothing else touches that stripe.
"""

import secrets
from dataclasses import dataclass, field, replace
from enum import Enum

from vtlfs.disks.headers import Ending, Opening
from vtlfs.model import Extent, Session

Bytes = bytes | bytearray
GAP = 1 << 32  # the largest gap between the stripe numbers of a session; see `Ended.new_stripe`


class Condition(Enum):
    """The state in which a repair finds an extent."""

    GOOD = "good"  # as far as is known
    AWAY = "away"  # on a disk that is out or does not answer, or at an unknown position
    DAMAGED = "damaged"  # its bytes or its record are wrong, on a disk that stays


@dataclass(slots=True, eq=False)
class Piece:
    """An extent of a stripe. `data`: its stored bytes, once read or computed; `was_tried`: a read has been tried."""

    row: Extent
    condition: Condition
    data: Bytes | None = None
    was_tried: bool = False

    @property
    def may_be_had(self) -> bool:
        """Tell whether the bytes of the extent are in memory, or can be read as far as is known."""
        return self.data is not None or (self.condition is Condition.GOOD and not self.was_tried)


@dataclass(slots=True, eq=False)
class Ended:
    """A session that has left a tape file, and what the headers of its member files say."""

    session: Session
    opening: Opening
    ending: Ending
    last_stripe: int | None = None  # the highest stripe number so far; None: not looked up yet
    ends: dict[int, int] | None = None  # by disk, where the recorded extents end, in bytes; None: not looked up yet
    uses: int = 0  # batches that have stripes of the session and have not ended

    @property
    def number(self) -> int:
        """The identifier of the session."""
        return self.session.id

    def new_stripe(self) -> int:
        """Return a number for a new stripe, greater than all stripe numbers of the session.

        An interrupted repair may have left unrecorded extents on the disks. So that a rebuild does not take them for
        parts of the new stripe, a gap of random length separates its number from the last one.
        """
        assert self.last_stripe is not None
        self.last_stripe += 1 + secrets.randbelow(GAP)
        return self.last_stripe


@dataclass(slots=True, eq=False)
class Stripe:
    """A stripe that may lack something: its data by place, and its parity by row.

    `is_noted`: the table `lack` has the stripe; `is_damaged`: a verification has noted damage, so that the repair
    examines the stripe. `beside`: the disks of the neighbouring stripes in the stream. `is_contradictory`: bytes that
    were computed from the stripe did not have the recorded BLAKE3. `weight`: its share of the repair's total, in bytes.
    """

    ended: Ended
    data: list[Piece]
    parity: list[Piece]
    is_noted: bool = False
    is_damaged: bool = False
    beside: frozenset[int] = frozenset()
    is_contradictory: bool = False
    weight: int = 0

    @property
    def pieces(self) -> list[Piece]:
        """All extents of the stripe, data first."""
        return [*self.data, *self.parity]

    @property
    def number(self) -> int:
        """The number of the stripe in its session."""
        return self.data[0].row.stripe

    @property
    def wanted(self) -> int:
        """How many parity extents the stripe is to have."""
        return self.ended.session.parity

    @property
    def lacks(self) -> bool:
        """Tell whether the stripe lacks something, as far as is known."""
        return (
            self.is_noted
            or len(self.parity) < self.wanted
            or any(piece.condition is not Condition.GOOD for piece in self.pieces)
        )

    @property
    def is_torn(self) -> bool:
        """Tell whether places of the stripe are empty, because a rebuild recorded their extents with another stripe.

        Nothing can be computed from the parity of a torn stripe.
        """
        return [piece.row.place for piece in self.data] != list(range(len(self.data)))

    @property
    def can_compute(self) -> bool:
        """Tell whether all data of the stripe can be read, or computed from extents that can be read."""
        if self.is_torn:
            return all(piece.may_be_had for piece in self.data)
        had = sum(piece.may_be_had for piece in self.pieces)
        return all(piece.may_be_had for piece in self.data) or (had >= len(self.data) and not self.is_contradictory)

    @property
    def longest(self) -> int:
        """Stored bytes of the longest data extent; each parity extent is as long."""
        return max(piece.row.stored for piece in self.data)


@dataclass(slots=True)
class Written:
    """An extent that a repair writes: its row and its bytes. `members`: for parity, the stripe's data by place."""

    row: Extent
    members: tuple[Extent, ...] = ()
    data: Bytes | None = field(default=None, repr=False)

    def on(self, disk: int) -> "Written":
        """Return the same extent on another disk."""
        return replace(self, row=replace(self.row, disk=disk))
