"""Which of the records that were found make up a session's stream, and their rows in the database."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby

from blake3 import blake3

from vtlfs.disks.base import Disk
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.scanned import Candidate
from vtlfs.engine.tracking.rows import UNKNOWN_BLAKE3
from vtlfs.errors import DamagedUnit, DiskError
from vtlfs.model import StripeUnit


class Units:
    """Chooses units and records them. `disks` are those that there are, by number."""

    def __init__(self, tracking: Tracking, disks: dict[int, Disk]) -> None:
        self.lacking: set[int] = set()  # sessions with recorded units of which no disk has the bytes
        self.torn: set[int] = set()  # sessions without an end, with a record whose unit is not whole
        self._scanned = tracking.scanned
        self._rebuilding = tracking.rebuilding
        self._disks = disks

    def record(self, session: int, stripe_unit: int, length: int | None, disks: int) -> int:
        """Record a session's units anew: those of its first `length` bytes; None: those that are whole, up to a gap.

        What the database had recorded of it is among the candidates. `disks`: over how many it was dealt. Return how
        many bytes it has.
        """
        self._scanned.take_recorded(session)
        return self.record_new(session, stripe_unit, length, disks)

    def record_new(self, session: int, stripe_unit: int, length: int | None, disks: int) -> int:
        """Do the same for a session of which the database has no units."""
        chosen = self._chosen(session, stripe_unit, length)
        if length is not None:
            chosen = self._filled_up(session, chosen, stripe_unit, length, disks)
        size, used = 0, set()
        for unit in chosen:
            self._rebuilding.add_unit(unit)
            size = unit.unit * stripe_unit + unit.bytes
            used.add(unit.disk)
        self._rebuilding.set_extent(session, size, used)
        return size

    def _chosen(self, session: int, stripe_unit: int, length: int | None) -> Iterator[StripeUnit]:
        """Yield the units of a stream in order, those that are missing left out where its length is known."""
        following = 0
        for number, group in groupby(self._scanned.candidates(session), key=lambda one: one.unit.unit):
            candidates = list(group)
            if length is None:
                unit = self._largest_whole(candidates, stripe_unit) if number == following else None
                if number == following and unit is not candidates[0].unit:
                    self.torn.add(session)
                if unit is None:
                    return
                yield unit
                if unit.bytes < stripe_unit:
                    return
                following += 1
            elif (wanted := min(stripe_unit, length - number * stripe_unit)) > 0:
                unit = self._of_size([one.unit for one in candidates], stripe_unit, wanted)
                if unit is not None:
                    yield unit

    def _largest_whole(self, candidates: list[Candidate], stripe_unit: int) -> StripeUnit | None:
        """Return the candidate with the most bytes that are there. What the database had recorded is believed."""
        whole = (one.unit for one in candidates if one.is_trusted or self._is_whole(one.unit, stripe_unit))
        return next(whole, None)

    def _of_size(self, candidates: list[StripeUnit], stripe_unit: int, wanted: int) -> StripeUnit | None:
        """Return the candidate of so many bytes, or the first so many bytes of a longer one; None without one."""
        exact = list({(one.disk, one.slot): one for one in candidates if one.bytes == wanted}.values())
        if len(exact) > 1:
            exact = [one for one in exact if self._is_whole(one, stripe_unit)] or exact
        if exact:
            return exact[0]
        for one in candidates:
            if one.bytes > wanted and one.disk in self._disks:
                try:
                    data = self._disks[one.disk].read(one, stripe_unit)
                except (DamagedUnit, DiskError):
                    continue
                return replace(one, bytes=wanted, blake3=blake3(data[:wanted]).digest())
        return None

    def _is_whole(self, unit: StripeUnit, stripe_unit: int) -> bool:
        try:
            self._disks[unit.disk].read(unit, stripe_unit)
        except (KeyError, DamagedUnit, DiskError):
            return False
        return True

    def _filled_up(
        self, session: int, chosen: Iterable[StripeUnit], stripe_unit: int, length: int, disks: int
    ) -> Iterator[StripeUnit]:
        """Yield the units of a stream of `length` bytes, those of which nothing is left with a BLAKE3 that none has."""
        following = 0
        dealt: Dealt | None = None
        last = -(-length // stripe_unit)
        for unit in chain(chosen, [None]):
            for number in range(following, last if unit is None else unit.unit):
                dealt = dealt or self._dealt(session, disks)
                self.lacking.add(session)
                size = min(stripe_unit, length - number * stripe_unit)
                yield StripeUnit(session, number, *dealt.place(number), size, UNKNOWN_BLAKE3)
            if unit is not None:
                yield unit
                following = unit.unit + 1

    def _dealt(self, session: int, disks: int) -> "Dealt":
        """Return where units were dealt to of which nothing is left, and slots there that no other unit has."""
        first = self._scanned.first_disk(session)
        missing = min(set(range(disks)) - set(self._disks), default=0)
        return Dealt(max(disks, 1), missing if first is None else first, self._scanned.slots(session))


@dataclass(slots=True)
class Dealt:
    """How a stream was dealt: unit N to disk (first + N) mod `disks`. `slots`: the next free one on each disk."""

    disks: int
    first: int
    slots: dict[int, int]

    def place(self, unit: int) -> tuple[int, int]:
        """Return the disk of a unit and a slot that no other has."""
        disk = (self.first + unit) % self.disks
        slot = self.slots.get(disk, 0)
        self.slots[disk] = slot + 1
        return disk, slot
