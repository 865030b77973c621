"""Finds out whether a damaged extent can be computed from the rest of its stripe. Used by a verification.

A stripe can replace its lost data extents while these are no more than its parity extents that are left. So a tape file
is hurt only by a damaged extent that its stripe can't replace. The rest of the stripe is examined as soon as a defect
is found, and not remembered from the walks over other disks, so that a resumed verification needs no memory of them.

Used in the trio loop of a verification; the threads of the disk with the defect do the reading.
"""

from collections.abc import Mapping, Sequence

import trio

from vtlfs.disks.base import Disk
from vtlfs.disks.contents import Flaw, Kind, Part
from vtlfs.disks.executor import DiskExecutor
from vtlfs.engine.jobs.rate_limit import RateLimit
from vtlfs.engine.member_headers import header_of
from vtlfs.engine.reading import stored
from vtlfs.engine.scrub.defects import Covered
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import DiskError
from vtlfs.model import MAX_MEMBERS, Extent, Session, TapeFile
from vtlfs.sizes import Sizes


class Salvage:
    """The stripes of damaged extents, on the disks of one verification."""

    def __init__(self, tracking: Tracking, disks: Mapping[int, Disk], rate_limit: RateLimit, sizes: Sizes) -> None:
        self._tracking = tracking
        self._disks = disks
        self._rate_limit = rate_limit
        self._at_once = sizes.stripes_at_once
        self._block: tuple[int, int] = (-1, -1)  # (session, run): the run of stripes that `_begins` holds
        self._begins: dict[int, int] = {}  # by stripe, the offset at which it begins

    async def covered(self, flaw: Flaw, file: TapeFile, session: Session, executor: DiskExecutor) -> Covered:
        """Return which bytes of the tape file a damaged extent covers, and whether its stripe can replace it."""
        extent = flaw.extent
        assert extent is not None
        stripe = self._stripe(extent, session)
        data = [one for one in stripe if not one.is_parity]
        covering = data if extent.is_parity else [extent]
        offset = min((one.offset or 0 for one in covering), default=0)
        last_offset = max((one.end - 1 for one in covering), default=0)
        if flaw.kind is Kind.RECORD:
            return Covered(offset, last_offset, is_replaceable=False, lost_bytes=0)
        lost_bytes = extent.bytes
        if len(data) < len(stripe) and _is_whole(data):
            right = await self._right(extent, stripe, file, session, executor)
            lost_bytes = self._lost_bytes(extent, stripe, right)
            return Covered(offset, last_offset, _can_compute(stripe, right), lost_bytes)
        return Covered(offset, last_offset, is_replaceable=False, lost_bytes=lost_bytes)

    async def _right(
        self, lost: Extent, stripe: Sequence[Extent], file: TapeFile, session: Session, executor: DiskExecutor
    ) -> list[Extent]:
        """Examine the rest of a stripe; return the extents whose bytes are right."""
        rest = [one for one in stripe if one != lost]
        await trio.sleep(self._rate_limit.take(sum(one.stored for one in rest)))
        return await executor.run(self._examine, rest, file, session)

    def _lost_bytes(self, lost: Extent, stripe: Sequence[Extent], right: Sequence[Extent]) -> int:
        """Return how many bytes are lost with a damaged extent of a stripe.

        If the stripe could be computed without the damage, its bytes on missing disks are lost through the damage, too;
        they count with the first damaged extent of the stripe.
        """
        if _can_compute(stripe, right):
            return 0
        there = [one for one in stripe if one.disk in self._disks]
        first = next(one for one in there if one not in right)
        if lost != first or not _can_compute(stripe, there):
            return lost.bytes
        return lost.bytes + sum(one.bytes for one in stripe if one not in there)

    def _examine(self, extents: Sequence[Extent], file: TapeFile, session: Session) -> list[Extent]:
        """Return the extents whose bytes are right. In a thread."""
        header = header_of(file, session)
        right = []
        for extent in extents:
            part = Part(session.id, session.stripe_unit, *header, (extent,), is_first=False)
            try:
                flaws = stored.examine(self._disks[extent.disk], part)
            except (KeyError, DiskError):  # the disk is not there
                continue
            if all(flaw.kind is Kind.RECORD for flaw in flaws):
                right.append(extent)
        return right

    def _stripe(self, extent: Extent, session: Session) -> list[Extent]:
        """Return all extents of an extent's stripe. For parity without recorded data: only the extent itself."""
        member = extent
        if extent.is_parity:
            offset = self._begin(extent)
            if offset is None:
                return [extent]
            [member] = self._tracking.extents.of(extent.session, offset, 1)
        return self._tracking.extents.stripe(member, MAX_MEMBERS * session.stripe_unit)

    def _begin(self, parity: Extent) -> int | None:
        """Return the offset at which the stripe of a parity extent begins; None if it has no recorded data."""
        run = parity.stripe // self._at_once
        if self._block != (parity.session, run):
            first = run * self._at_once
            self._begins = self._tracking.extents.begins(parity.session, first, first + self._at_once - 1)
            self._block = (parity.session, run)
        return self._begins.get(parity.stripe)


def _is_whole(data: Sequence[Extent]) -> bool:
    """Tell whether these data extents of a stripe have the places 0, 1, 2, … without a gap."""
    return [extent.place for extent in data] == list(range(len(data)))


def _can_compute(stripe: Sequence[Extent], right: Sequence[Extent]) -> bool:
    """Tell whether all data of a stripe can be read or computed, if the extents `right` of it can be read."""
    data = sum(not one.is_parity for one in stripe)
    return len(right) >= data
