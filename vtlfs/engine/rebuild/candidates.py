"""Which of the records that were found make up a session's stream, and their rows in the database."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby

from blake3 import blake3

from vtlfs.disks.base import Disk
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import DamagedUnit, DiskError
from vtlfs.model import StripeUnit

UNKNOWN = bytes(32)  # in place of a BLAKE3


class Units:
    """Chooses units and records them. `disks` are those that there are, by number."""

    def __init__(self, tracking: Tracking, disks: dict[int, Disk]) -> None:
        self.lacking: set[int] = set()  # sessions of which units are recorded that are nowhere
        self.torn: set[int] = set()  # sessions without an end, of which a unit is described that is not whole
        self._tracking = tracking
        self._disks = disks

    def record(self, session: int, stripe_unit: int, length: int | None, disks: int) -> int:
        """Record a session's units anew: those of its first `length` bytes; None: those that are whole, up to a gap.

        What the database had recorded of it is among the candidates. `disks`: over how many it was dealt. Return how
        many bytes it has.
        """
        execute = self._tracking.sql.execute
        execute("DELETE FROM record WHERE session = ? AND trusted", session)
        execute(
            "INSERT INTO record SELECT session, unit, bytes, disk, slot, blake3, 1 FROM main.stripe_unit"
            " WHERE session = ? AND blake3 <> ?",
            *(session, UNKNOWN),
        )
        execute("DELETE FROM main.stripe_unit WHERE session = ?", session)
        return self.record_new(session, stripe_unit, length, disks)

    def record_new(self, session: int, stripe_unit: int, length: int | None, disks: int) -> int:
        """Do the same for a session of which the database has no units."""
        chosen = self._chosen(session, stripe_unit, length)
        if length is not None:
            chosen = self._filled_up(session, chosen, stripe_unit, length, disks)
        size, used = 0, set()
        for unit in chosen:
            place = (unit.unit, unit.disk, unit.slot, unit.bytes, unit.blake3)
            self._tracking.sql.execute("INSERT INTO main.stripe_unit VALUES (?, ?, ?, ?, ?, ?)", session, *place)
            size = unit.unit * stripe_unit + unit.bytes
            used.add(unit.disk)
        known = json.dumps(sorted(used), separators=(",", ":"))
        self._tracking.sql.execute("UPDATE main.session SET bytes = ?, disks = ? WHERE id = ?", size, known, session)
        return size

    def _chosen(self, session: int, stripe_unit: int, length: int | None) -> Iterator[StripeUnit]:
        """Yield the units of a stream in order, those that are missing left out where its length is known."""
        rows = self._tracking.sql.execute(
            "SELECT unit, bytes, disk, slot, blake3, trusted FROM record WHERE session = ?"
            " ORDER BY unit, bytes DESC, trusted DESC, disk, slot",
            session,
        )
        following = 0
        for number, group in groupby(rows, key=lambda row: row[0]):
            candidates = [(StripeUnit(session, row[0], row[2], row[3], row[1], row[4]), row[5]) for row in group]
            if length is None:
                unit = self._largest_whole(candidates, stripe_unit) if number == following else None
                if number == following and unit is not candidates[0][0]:
                    self.torn.add(session)
                if unit is None:
                    return
                yield unit
                if unit.bytes < stripe_unit:
                    return
                following += 1
            elif (wanted := min(stripe_unit, length - number * stripe_unit)) > 0:
                unit = self._of_size([one for one, _ in candidates], stripe_unit, wanted)
                if unit is not None:
                    yield unit

    def _largest_whole(self, candidates: list[tuple[StripeUnit, int]], stripe_unit: int) -> StripeUnit | None:
        """Return the candidate with the most bytes that are there. What the database had recorded is believed."""
        return next((unit for unit, trusted in candidates if trusted or self._is_whole(unit, stripe_unit)), None)

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
                yield StripeUnit(session, number, *dealt.place(number), size, UNKNOWN)
            if unit is not None:
                yield unit
                following = unit.unit + 1

    def _dealt(self, session: int, disks: int) -> "Dealt":
        """Return where units were dealt to of which nothing is left, and slots there that no other unit has."""
        first = self._tracking.sql.first("SELECT disk - unit FROM record WHERE session = ? LIMIT 1", session)
        slots = dict(
            self._tracking.sql.execute(
                "SELECT disk, max(slot) + 1 FROM record WHERE session = ? GROUP BY disk", session
            )
        )
        missing = min(set(range(disks)) - set(self._disks), default=0)
        return Dealt(max(disks, 1), first[0] if first else missing, slots)


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
