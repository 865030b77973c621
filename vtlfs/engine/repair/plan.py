"""What is to be done about a stripe that lacks something. Pure.

In this order: extents that are damaged on a disk that stays are written again there; those that are lost or are to be
moved, and parity that is lacking, go to other disks that have nothing of the stripe, with the same number and place, so
that the rest of the stripe stays as it is; where there are too few such disks, the stripe's data is dealt anew, into
narrower stripes, if they can lose more disks than what the stripe would be left with. A stripe that a rebuild has found
torn is dealt anew in any case, for no parity fits it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from vtlfs.engine.layout.dealer import Candidate, Dealer
from vtlfs.engine.repair.stripes import Condition, Piece, Stripe, Written
from vtlfs.model import NO_CODEC, NOWHERE, Extent

FEWEST = 2  # disks on which stripes lie
NO_DISK = -1  # of an extent that has no place yet


class Trouble(Enum):
    """Why a stripe still lacks something afterwards."""

    NEEDS_DISK = "it needs another disk"
    NO_ROOM = "the disks are full"
    LOST = "bytes are lost"


@dataclass(slots=True)
class Plan:
    """Rows to be written in the place of others. `trouble`: why the stripe lacks something afterwards; None: nothing.

    `unplaced`: bytes that found no place. `lacking`: by stripe how many parity extents it will lack, 0 included, and
    the stored bytes of its data; a stripe that goes is not in it.
    """

    old: list[Extent] = field(default_factory=list)
    new: list[Written] = field(default_factory=list)
    lacking: dict[int, tuple[int, int]] = field(default_factory=dict)
    trouble: Trouble | None = None
    unplaced: int = 0
    is_redealt: bool = False

    @property
    def does_something(self) -> bool:
        """Tell whether a row changes."""
        return bool(self.old or self.new)

    def leaves_something_of(self, stripe: Stripe) -> bool:
        """Tell whether an extent of the stripe that is lost or damaged stays where it is, as it finds no other disk."""
        return any(piece.condition is not Condition.GOOD and piece.row not in self.old for piece in stripe.pieces)


class Chooser:
    """Chooses disks for extents in proportion to the free space of each, as the stripes come."""

    def __init__(self) -> None:
        self._credits: dict[int, float] = {}
        self.turn = 0  # stripes that were dealt anew

    def choose(self, candidates: Sequence[Candidate], devices: Collection[int], beside: Collection[int]) -> Candidate:
        """Return one of the candidates, on none of these devices if possible, and not beside these disks."""
        total = sum(one.free for one in candidates) or 1
        for one in candidates:
            self._credits[one.number] = self._credits.get(one.number, 0.0) + one.free / total
        best = max(
            candidates,
            key=lambda one: (one.device not in devices, one.number not in beside, self._credits[one.number]),
        )
        self._credits[best.number] -= 1
        return best


def plan(
    stripe: Stripe,
    candidates: Sequence[Candidate],
    devices: Mapping[int, int],
    leaving: Collection[int],
    chooser: Chooser,
    *,
    are_full: bool,
    left: int,
) -> Plan:
    """Say what is to be done about a stripe.

    `candidates`: disks that can take its extents; `devices`: the device of each disk; `leaving`: disks that are to be
    emptied. `are_full`: there are more disks, which have no room. `left`: how many disks there are when those have
    left, whether they can take extents now or not.
    """
    can_be_dealt = stripe.can_compute and stripe.wanted and len(candidates) >= FEWEST
    if stripe.is_torn and can_be_dealt:
        return _dealt_anew(stripe, candidates, chooser, are_full=are_full)
    found, occupied, homeless, is_hurt = _in_place(stripe, {one.number for one in candidates})
    staying = len(stripe.pieces) - len(homeless) - is_hurt
    if stripe.can_compute and not stripe.is_torn:
        homeless += _lacking_parity(stripe)
    unplaced = _elsewhere(
        found,
        stripe,
        homeless,
        [one for one in candidates if one.number not in occupied],
        chooser,
        {devices[number] for number in occupied if number in devices},
    )
    staying += len(homeless) - len(unplaced)
    if unplaced:
        must = any(row.disk in leaving and not row.is_parity for row in unplaced)
        is_better = min(stripe.wanted, len(candidates) - 1) > staying - len(stripe.data)
        if (must or is_better) and can_be_dealt:
            return _dealt_anew(stripe, candidates, chooser, are_full=are_full)
        is_enough = staying - len(stripe.data) >= min(stripe.wanted, left - 1)
        found.old += [
            piece.row  # it is gone, and so will be its disk; or with the disks that are left, there can't be more
            for piece in stripe.parity
            if piece.row in unplaced and piece.row.disk in leaving and (piece.data is None or is_enough)
        ]
        found.unplaced = sum(row.stored for row in unplaced)
        found.trouble = Trouble.NO_ROOM if are_full else Trouble.NEEDS_DISK
    if is_hurt:
        found.trouble = Trouble.LOST
        found.unplaced = sum(piece.row.stored for piece in stripe.data if not _can_be_had(piece, stripe))
    else:
        _note_lacking(found, stripe)
    return found


def _in_place(stripe: Stripe, able: Collection[int]) -> tuple[Plan, set[int], list[Extent], int]:
    """Begin a plan with what is written again where it is.

    Return it, the disks that have extents of the stripe then, the extents that need another disk, in the order in which
    they get one, and how many are lost.
    """
    found = Plan()
    occupied = {piece.row.disk for piece in stripe.pieces if piece.condition is Condition.GOOD}
    homeless: list[Extent] = []
    lost = 0
    for piece in stripe.pieces:
        row = piece.row
        if piece.condition is Condition.GOOD:
            continue
        if not _can_be_had(piece, stripe):
            lost += 1
            if row.position != NOWHERE:
                occupied.add(row.disk)
        elif piece.condition is Condition.DAMAGED and row.disk in able and row.disk not in occupied:
            occupied.add(row.disk)
            _write(found, stripe, row, row.disk)
        else:
            homeless.append(row)
    homeless.sort(key=lambda row: (row.is_parity, row.place))
    return found, occupied, homeless, lost


def _elsewhere(
    found: Plan,
    stripe: Stripe,
    homeless: Sequence[Extent],
    free: list[Candidate],
    chooser: Chooser,
    devices: set[int],
) -> list[Extent]:
    """Have extents go to disks that have nothing of the stripe; return those for which there are too few."""
    for place, row in enumerate(homeless):
        if not free:
            return [*homeless[place:]]
        disk = chooser.choose(free, devices, stripe.beside)
        free.remove(disk)
        devices.add(disk.device)
        _write(found, stripe, row, disk.number)
    return []


def _can_be_had(piece: Piece, stripe: Stripe) -> bool:
    return piece.may_be_had or stripe.can_compute


def _lacking_parity(stripe: Stripe) -> list[Extent]:
    """Return rows for the parity that a stripe was to have and has no row of."""
    there = {piece.row.place for piece in stripe.parity}
    where = (NO_DISK, NOWHERE, stripe.longest, b"")
    return [
        Extent(stripe.ended.number, stripe.number, place, None, 0, NO_CODEC, *where)
        for place in range(stripe.wanted)
        if place not in there
    ]


def _write(found: Plan, stripe: Stripe, row: Extent, disk: int) -> None:
    if row.disk != NO_DISK:
        found.old.append(row)
    members = tuple(piece.row for piece in stripe.data) if row.is_parity else ()
    found.new.append(Written(replace(row, disk=disk, position=NOWHERE), members))


def _note_lacking(found: Plan, stripe: Stripe) -> None:
    rows = len(stripe.parity) - sum(row.is_parity for row in found.old) + sum(one.row.is_parity for one in found.new)
    found.lacking[stripe.number] = max(0, stripe.wanted - rows), sum(piece.row.stored for piece in stripe.data)


def _dealt_anew(stripe: Stripe, candidates: Sequence[Candidate], chooser: Chooser, *, are_full: bool) -> Plan:
    """Return the plan by which the data of a stripe becomes one or more new ones."""
    found = Plan(old=[piece.row for piece in stripe.pieces], is_redealt=True)
    chooser.turn += 1
    dealer = Dealer(stripe.wanted, chooser.turn)
    rest = [piece.row for piece in stripe.data]
    while rest:
        dealer.begin(candidates)
        number = stripe.ended.new_stripe()
        data: list[Extent] = []
        while rest and not dealer.is_full(candidates):
            place = {"disk": dealer.deal(candidates), "position": NOWHERE, "stripe": number, "place": len(data)}
            data.append(replace(rest.pop(0), **place))  # type: ignore[arg-type]
        disks = dealer.close(candidates)
        longest = max(row.stored for row in data)
        found.new += [Written(row) for row in data]
        for place_of_parity, disk in enumerate(disks):
            row = Extent(stripe.ended.number, number, place_of_parity, None, 0, NO_CODEC, disk, NOWHERE, longest, b"")
            found.new.append(Written(row, tuple(data)))
        lacks = stripe.wanted - len(disks)
        found.lacking[number] = lacks, sum(row.stored for row in data)
        if lacks:
            found.trouble = Trouble.NO_ROOM if are_full else Trouble.NEEDS_DISK
            found.unplaced += lacks * longest
    return found
