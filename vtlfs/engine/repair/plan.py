"""The plan by which a stripe that lacks something is mended. Pure.

1. A damaged extent whose disk stays is written again on that disk.
2. A lost extent, an extent to be moved, and lacking parity go to disks that have nothing of the stripe. Stripe and
   place stay the same, so that the rest of the stripe need not change.
3. If there are too few such disks, the data of the stripe is dealt anew into narrower stripes, where data has to leave
   a retiring disk, or where the new stripes can lose more disks than the old one without the extents that got no disk.

A stripe that a rebuild has found torn is dealt anew in any case, because no parity fits it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from vtlfs.engine.layout.dealer import Candidate, Dealer
from vtlfs.engine.repair.stripes import Condition, Piece, Stripe, Written
from vtlfs.model import NO_CODEC, NOWHERE, Extent

FEWEST = 2  # disks that a library has; with fewer candidates, no stripe is dealt anew
NO_DISK = -1  # of an extent that has no place yet


class Trouble(Enum):
    """Why a stripe still lacks something after the repair."""

    NEEDS_DISK = "it needs another disk"
    NO_ROOM = "the disks are full"
    LOST = "bytes are lost"


@dataclass(slots=True)
class Plan:
    """What becomes of one stripe: the rows `new` replace the rows `old`.

    `trouble`: why the stripe still lacks something afterwards; None if it lacks nothing. `unplaced`: bytes for which no
    disk was found, or with LOST, bytes that are lost. `lacking`: for each stripe there will be, how many parity extents
    it will lack, 0 included, and the stored bytes of its data. `is_redealt`: the stripe itself will be gone.
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
        """Tell whether a lost or damaged extent of the stripe stays where it is, because no disk was found for it."""
        return any(piece.condition is not Condition.GOOD and piece.row not in self.old for piece in stripe.pieces)


class Chooser:
    """Chooses disks for extents so that each disk gets a share of them in proportion to its free space."""

    def __init__(self) -> None:
        self._credits: dict[int, float] = {}
        self.turn = 0  # stripes that were dealt anew

    def choose(self, candidates: Sequence[Candidate], devices: Collection[int], beside: Collection[int]) -> Candidate:
        """Return a candidate: if possible on none of these `devices`, and next none of the disks `beside`."""
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
    """Plan how to mend a stripe.

    `candidates`: disks that can take its extents; `devices`: the device of each disk; `leaving`: disks that are to be
    emptied. `are_full`: further disks can't take extents only because they have no room. `left`: how many disks there
    will be without the `leaving` ones, whether they can take extents now or not.
    """
    can_be_dealt = stripe.can_compute and stripe.wanted and len(candidates) >= FEWEST
    if stripe.is_torn and can_be_dealt:
        return _dealt_anew(stripe, candidates, chooser, are_full=are_full)
    found, occupied, homeless, is_hurt = _in_place(stripe, {one.number for one in candidates})
    staying = len(stripe.pieces) - len(homeless) - is_hurt
    if stripe.can_compute and not stripe.is_torn:
        homeless += _lacking_parity(stripe)
    unplaced = _reassign(
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
            piece.row  # parity that is lost with its disk, or for which the disks that are left are too few
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
    """Begin a plan with the damaged extents that are written again on their own disks.

    Return the plan, the disks that will have extents of the stripe, the extents that need another disk, in the order in
    which they get one, and how many extents are lost.
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


def _reassign(
    found: Plan,
    stripe: Stripe,
    homeless: Sequence[Extent],
    free: list[Candidate],
    chooser: Chooser,
    devices: set[int],
) -> list[Extent]:
    """Plan extents on the `free` disks, which have nothing of the stripe; return the extents that got no disk."""
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
    """Return rows for the parity that a stripe was to have, but of which the tracking database has no row."""
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
    """Return a plan that deals the data of a stripe into one or more new stripes."""
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
