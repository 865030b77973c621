"""Chooses, among the records that were found, those that make up a session's stream; adds their rows to the database.

Several records may be for the same offset. The one with the highest stripe number counts, provided that its bytes are
right: read from a disk, or computed from the rest of their stripe. Bytes are read only if the length of the stream is
unknown, or if there are several candidates.

If no record of a data extent is found, but parity describes it, and its stripe can be computed, the extent gets a row:
everything but its place is known. The row has position 0 (`NOWHERE`), so that readers compute the extent; it names a
missing disk that no other extent of the stripe is on, if there is one. An extent of which nothing is left, in a stream
whose length is known, gets a row with that position and a BLAKE3 that no bytes have, in a stripe of its own.

Parity gets its row if all data extents of its stripe have theirs. An interrupted repair may have left parts of the
stripes that were to replace a stripe; a stripe that is complete takes the place of such parts.

Disks that come and go leave an extent in several places: its disk was away, the extent was computed onto another disk,
and the disk has come back. A place that can be read wins, and each extent of a stripe gets a disk of its own. Used by
`Replay`, in the one thread of the database.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain, groupby

from vtlfs.disks.base import Disk
from vtlfs.engine.reading import stored
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.rebuild.found_extents import NO_DISK, Candidate, FoundStripe
from vtlfs.engine.tracking.rows import UNKNOWN_BLAKE3
from vtlfs.errors import DamagedExtent, DiskError
from vtlfs.model import NO_CODEC, NOWHERE, Extent


class Streams:
    """Chooses the extents of streams and records them. `disks` are those that there are, by number."""

    def __init__(self, tracking: Tracking, disks: dict[int, Disk], at: str) -> None:
        self.lacking: set[int] = set()  # sessions with recorded extents of which nothing is left
        self.torn: set[int] = set()  # sessions without an end, with a record whose extent is not whole
        self._found = tracking.found_extents
        self._extents = tracking.extents
        self._rebuilding = tracking.rebuilding
        self._disks = disks
        self._at = at
        self._has_chosen = False  # of the session that is being recorded: between places of the same extent
        known = [disk.number for disk in tracking.disks.all()]
        self._homes = [*(one for one in known if one not in disks), *disks]  # of lost extents, the likely ones first
        self._computed: tuple[tuple[int, int], set[int]] = ((0, 0), set())  # a stripe, and the places that come out

    def record(self, session: int, stripe_unit: int, length: int | None) -> int:
        """Record a session's extents anew: those of its first `length` bytes; None: the right ones, up to a gap.

        What the database had recorded of it is among the candidates. Return how many bytes it has.
        """
        self._found.take_recorded(session)
        self._rebuilding.begin_lacks(session)
        size = self.record_new(session, stripe_unit, length)
        self._rebuilding.end_lacks(session)
        return size

    def record_new(self, session: int, stripe_unit: int, length: int | None) -> int:
        """Do the same for a session of which the database has no extents."""
        chosen = self._chosen(session, length)
        if length is not None:
            chosen = self._filled_up(session, chosen, stripe_unit, length)
        size, self._has_chosen = 0, False
        for extent in chosen:
            self._extents.add([extent])
            size = extent.end
        if self._has_chosen:
            for stripe in self._found.torn(session):
                self._reunite(session, stripe, size)
        self._extents.add(self._parity(session, check=length is None))
        if self._has_chosen:
            for stripe in self._rebuilding.crowded(session):
                self._spread(session, stripe)
        self._rebuilding.set_stream(session, size, self._at)
        return size

    # --- data -------------------------------------------------------------------------------------------------------

    def _chosen(self, session: int, length: int | None) -> Iterator[Extent]:
        """Yield the extents of a stream in order, those that are missing left out where its length is known."""
        following = 0
        found = self._found.candidates(session, trusted_first=length is None)
        for offset, group in groupby(found, key=lambda one: one.extent.offset or 0):
            candidates = [one for one in group if length is None or one.extent.end <= length]
            if offset < following or not candidates:
                continue
            if length is None and offset > following:
                return
            extent = self._best(candidates, check=length is None)
            if extent is not None:
                yield self._placed(extent)
                following = extent.end
            elif length is None:
                self.torn.add(session)
                return

    def _best(self, candidates: list[Candidate], *, check: bool) -> Extent | None:
        """Return the first candidate whose bytes can be had. What the database had recorded is believed.

        Without `check`, a candidate that is alone is believed too, and where no bytes can be had, any that has a place
        is returned.
        """
        extents = [one.extent for one in candidates]
        alone = len({(one.disk, one.position) for one in extents}) == 1
        if candidates[0].is_trusted if check else alone and extents[0].disk != NO_DISK:
            return extents[0]
        self._has_chosen = True
        for _, group in groupby(extents, key=lambda one: one.stripe):
            stripe = list(group)
            there = next((one for one in stripe if self._read(one) is not None), None)
            if there is not None:
                return there
            if self._is_computable(stripe[0], check=check or not alone):
                return stripe[0]
        return None if check else next((one for one in extents if one.disk != NO_DISK), None)

    def _read(self, extent: Extent) -> bytes | None:
        """Return the stored bytes of an extent; None where they can't be had, or are not right."""
        with suppress(KeyError, DamagedExtent, DiskError):
            return stored.read_checked(self._disks[extent.disk], extent)
        return None

    def _is_computable(self, extent: Extent, *, check: bool) -> bool:
        """Tell whether an extent that can't be read is computed from its stripe; without `check`, by counting only."""
        stripe = self._found.stripe(extent.session, extent.stripe)
        if not any(one.place == extent.place and one.blake3 == extent.blake3 for one in stripe.members):
            return False
        if check:
            return extent.place in self._compute(stripe)
        data = {one.place for one in stripe.data if one.disk in self._disks} - {extent.place}
        rows = {one.place for one in stripe.parity if one.disk in self._disks}
        return len(stripe.members) - len(data) <= len(rows)

    def _compute(self, stripe: FoundStripe) -> set[int]:
        """Return the places of a stripe whose extents can't be read, and are right when they are computed."""
        key = (stripe.members[0].session, stripe.members[0].stripe)
        if self._computed[0] != key:
            self._computed = (key, self._computed_anew(stripe))
        return self._computed[1]

    def _computed_anew(self, stripe: FoundStripe) -> set[int]:
        data = self._read_all(stripe.data)
        lost = {one.place: one for one in stripe.members if one.place not in data}
        return set(stored.compute(lost, data, self._read_all(stripe.parity)))

    def _read_all(self, extents: list[Extent]) -> dict[int, bytes]:
        """Return the bytes of extents by place, as far as they can be had; there may be several for a place."""
        found: dict[int, bytes] = {}
        for extent in extents:
            if extent.place not in found and (data := self._read(extent)) is not None:
                found[extent.place] = data
        return found

    # --- stripes of which only some extents were chosen ---------------------------------------------------------------

    def _reunite(self, session: int, number: int, size: int) -> None:
        """Have all data extents of a stripe count, if all of them can be had from it."""
        stripe = self._found.stripe(session, number)
        found: dict[int, Extent] = {}
        for one in stripe.data:
            if one.place not in found and self._read(one) is not None:
                found[one.place] = one
        lost = {one.place for one in stripe.members} - found.keys()
        is_whole = stripe.members[-1].end <= size and lost <= (self._compute(stripe) if lost else set())
        if is_whole and self._rebuilding.clear(session, stripe.members[0].offset or 0, stripe.members[-1].end):
            self._extents.add([found.get(one.place) or self._placed(one) for one in stripe.members])

    # --- rows of what has no place ----------------------------------------------------------------------------------

    def _placed(self, extent: Extent) -> Extent:
        """Return an extent with a disk: one that parity describes and no record gets one that it may be on."""
        if extent.disk != NO_DISK:
            return extent
        stripe = self._found.stripe(extent.session, extent.stripe)
        used = {one.disk for one in (*stripe.data, *stripe.parity)}
        free = [number for number in self._homes if number not in used] or self._homes
        found = {one.place for one in stripe.data}
        before = sum(one.place not in found for one in stripe.members[: extent.place])
        return replace(extent, disk=free[before % len(free)])

    def _filled_up(self, session: int, chosen: Iterable[Extent], stripe_unit: int, length: int) -> Iterator[Extent]:
        """Yield the extents of a stream of `length` bytes, also those of which nothing is left."""
        following, stripe = 0, self._found.unused_stripe(session)
        for extent in chain(chosen, [None]):
            end = length if extent is None else extent.offset or 0
            while following < end:
                self.lacking.add(session)
                size = min(end, (following // stripe_unit + 1) * stripe_unit) - following
                where = (self._homes[0], NOWHERE, size, UNKNOWN_BLAKE3)
                yield Extent(session, stripe, 0, following, size, NO_CODEC, *where)
                following, stripe = following + size, stripe + 1
            if extent is not None:
                yield extent
                following = extent.end

    # --- parity -----------------------------------------------------------------------------------------------------

    def _parity(self, session: int, *, check: bool) -> Iterator[Extent]:
        """Yield the parity of the stripes that are recorded; `check`: none whose bytes are not right."""
        for _, group in groupby(self._found.parity(session), key=lambda one: (one.extent.stripe, one.extent.place)):
            candidates = list(group)
            extent = candidates[0].extent
            is_alone = len({(one.extent.disk, one.extent.position) for one in candidates}) == 1
            if not (candidates[0].is_trusted if check else is_alone):
                self._has_chosen = True
                right = (one.extent for one in candidates if self._read(one.extent) is not None)
                found = next(right, None if check else extent)
                if found is None:
                    continue
                extent = found
            yield extent

    # --- extents that lie in several places ---------------------------------------------------------------------------

    def _spread(self, session: int, stripe: int) -> None:
        """Have each extent of a stripe be on a disk of its own, where repair has left some of them in several places.

        One that is left without a disk is computed; the rows of the others say that all of the stripe is there.
        """
        rows = self._found.recorded(session, stripe)
        places = [
            {one.disk: one for one in (row, *self._found.places_of(row)) if one == row or self._read(one) is not None}
            for row in rows
        ]
        chosen = matched([list(one) for one in places])
        for row, options, disk in zip(rows, places, chosen, strict=True):
            self._rebuilding.place(replace(row, position=NOWHERE) if disk is None else options[disk])


def matched(options: list[list[int]]) -> list[int | None]:
    """Return for each list one of its numbers, so that no number is taken twice; None where that can't be. Pure."""
    taken: dict[int, int] = {}  # by number: which list has it

    def take(which: int, tried: set[int]) -> bool:
        for number in options[which]:
            if number not in tried:
                tried.add(number)
                if number not in taken or take(taken[number], tried):
                    taken[number] = which
                    return True
        return False

    for which in range(len(options)):
        take(which, set())
    found = {which: number for number, which in taken.items()}
    return [found.get(which) for which in range(len(options))]
