"""Mends a batch of stripes: examine, read, plan, compute, write, sync, record, and discard the replaced extents.

Runs in the trio loop; the threads of the disks do the I/O.
"""

import errno
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import trio

from vtlfs.disks.pool import PooledDisk
from vtlfs.engine.repair import disk_jobs
from vtlfs.engine.repair.appending import Appending
from vtlfs.engine.repair.disk_jobs import NoAnswer, in_jobs
from vtlfs.engine.repair.plan import Plan, Trouble, plan
from vtlfs.engine.repair.produce import produce, unread
from vtlfs.engine.repair.shared import Shared, closed
from vtlfs.engine.repair.stripes import Condition, Ended, Piece, Stripe, Written
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import DiskError
from vtlfs.failpoints import reached
from vtlfs.model import NOWHERE, DiskState, Extent, utc_now

MEMBER_ERRORS = frozenset({errno.ELOOP, errno.EINVAL, errno.EEXIST, errno.EFBIG})  # faults of one member, not a disk

log = logging.getLogger(__name__)


class RowsChanged(Exception):
    """The rows of a stripe have changed in the tracking database since the repair read them."""


class Batch:
    """Stripes that are mended together. A stripe that can't be mended is counted in the result, or tried again."""

    def __init__(self, shared: Shared, stripes: Sequence[Stripe]) -> None:
        self._shared = shared
        self._stripes = list(stripes)
        self._plans: dict[Stripe, Plan] = {}
        self._unrecorded: list[Extent] = []  # written, but their stripe was not recorded: to be discarded
        self._sessions = {stripe.ended.number: stripe.ended for stripe in stripes}
        for ended in self._sessions.values():
            ended.uses += 1

    async def mend(self) -> None:
        """Mend all stripes of the batch. Raises TrackingError, and DiskError for a limit of this process."""
        taken: Counter[int] = Counter()
        try:
            await self._examine()
            await self._read([one for stripe in self._stripes for one in stripe.pieces if _is_to_be_read(one)])
            await self._plan()
            taken = self._shared.targets.take(one for found in self._plans.values() for one in found.new)
            written = await self._write()
            with trio.CancelScope(shield=True):
                await self._record(written)
                await self._discard(self._unrecorded)
        finally:
            self._shared.targets.give(taken)
            self._close()

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _examine(self) -> None:
        """Find out which extents are damaged, of the stripes that a verification has noted as damaged."""
        async with trio.open_nursery() as nursery:
            for stripe in self._stripes:
                if not stripe.is_damaged:
                    continue
                by_disk: defaultdict[int, list[Piece]] = defaultdict(list)
                for piece in stripe.pieces:
                    if piece.condition is Condition.GOOD:
                        by_disk[piece.row.disk].append(piece)
                for number, pieces in by_disk.items():
                    if (disk := self._shared.disks.get(number)) is not None:
                        nursery.start_soon(disk_jobs.examine, disk, stripe, pieces)

    async def _read(self, pieces: Iterable[Piece]) -> None:
        """Read pieces, from all disks at the same time."""
        disks = self._shared.disks
        by_disk: defaultdict[int, list[tuple[Piece, int]]] = defaultdict(list)
        for piece in pieces:
            by_disk[piece.row.disk].append((piece, piece.row.stored))
        async with trio.open_nursery() as nursery:
            for number, sized in by_disk.items():
                disk = disks.get(number)
                if disk is None or disk.reads_hang or not disk.disk.total:
                    for piece, _ in sized:
                        piece.was_tried, piece.condition = True, Condition.AWAY
                    continue
                for group in in_jobs(sized):
                    nursery.start_soon(disk_jobs.read, disk, group)

    # --- planning and computing ---------------------------------------------------------------------------------------

    async def _plan(self) -> None:
        """Plan each stripe, and produce the bytes that its plan writes.

        Extents that turn out to be unreadable, or to contradict the rows, change the plan: so it is made again.
        """
        left = self._stripes
        while left:
            for stripe in left:
                self._plans[stripe] = await self._plan_of(stripe)
            reading = {stripe: unread(stripe, self._plans[stripe]) for stripe in left}
            await self._read([piece for pieces in reading.values() for piece in pieces])
            have = [stripe for stripe in left if all(piece.data is not None for piece in reading[stripe])]
            left = [stripe for stripe in left if any(piece.data is None for piece in reading[stripe])]
            wrong = await trio.to_thread.run_sync(_produce, [(stripe, self._plans[stripe]) for stripe in have])
            for stripe in wrong:
                stripe.is_contradictory = True
            left += wrong

    async def _plan_of(self, stripe: Stripe) -> Plan:
        shared, ended = self._shared, stripe.ended
        candidates, are_full = shared.targets.candidates(ended.number, stripe.longest)
        may_be_dealt = stripe.is_torn or len(candidates) < len(stripe.data) + stripe.wanted
        if may_be_dealt and ended.last_stripe is None:
            ended.last_stripe = await shared.catalogue.read(lambda tracking: tracking.extents.last_stripe(ended.number))
        left = sum(pooled.number not in shared.leaving for pooled in shared.pool.disks)
        devices = shared.targets.devices()
        return plan(stripe, candidates, devices, shared.leaving, shared.chooser, are_full=are_full, left=left)

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _write(self) -> dict[Stripe, list[Extent]]:
        """Write and sync the extents that the plans say; return the new rows of the stripes that are durable."""
        by_member: defaultdict[tuple[int, int], list[tuple[Stripe, Written]]] = defaultdict(list)
        for stripe, found in self._plans.items():
            for one in found.new:
                by_member[one.row.disk, one.row.session].append((stripe, one))
        for number, session in by_member:
            if number in self._sessions[session].session.disks:
                await self._find_ends(self._sessions[session])
        rows: dict[Stripe, list[Extent]] = {stripe: [] for stripe in self._stripes}
        failed: set[Stripe] = set()
        by_disk: defaultdict[int, list[tuple[int, list[tuple[Stripe, Written]]]]] = defaultdict(list)
        for (number, session), extents in sorted(by_member.items(), key=lambda item: item[0]):
            by_disk[number].append((session, extents))
        async with trio.open_nursery() as nursery:
            for number, members in by_disk.items():
                nursery.start_soon(self._write_to, self._shared.disks.get(number), members, rows, failed)
        for stripe in failed:
            self._shared.again.setdefault(stripe.ended.number, set()).add(stripe.number)
            self._unrecorded += rows[stripe]
        return {stripe: rows[stripe] for stripe in self._stripes if stripe not in failed}

    async def _find_ends(self, ended: Ended) -> None:
        """Look up where the recorded extents of a session end on each disk."""
        if ended.ends is None:
            ended.ends = await self._shared.catalogue.read(lambda tracking: tracking.extents.ends(ended.number))

    async def _write_to(
        self,
        disk: PooledDisk | None,
        members: list[tuple[int, list[tuple[Stripe, Written]]]],
        rows: dict[Stripe, list[Extent]],
        failed: set[Stripe],
    ) -> None:
        """Write to the member files of one disk, and sync them. Adds to `rows`, and to `failed` where that fails."""
        concerned = {stripe for _, extents in members for stripe, _ in extents}
        if disk is None:
            failed |= concerned
            return
        used: list[Appending] = []
        try:
            sized = (((session, extents), sum(one.row.stored for _, one in extents)) for session, extents in members)
            for group in in_jobs(sized):
                jobs = [(self._appending(disk, session), [one for _, one in extents]) for session, extents in group]
                written = await disk_jobs.run(disk.writing, lambda: disk.hangs, disk_jobs.write, jobs)
                used += [appending for appending, _ in jobs]
                for (session, extents), outcome_ in zip(group, written, strict=True):
                    if isinstance(outcome_, DiskError):
                        failed |= {stripe for stripe, _ in extents}
                        self._note(disk, session, outcome_)
                        continue
                    for (stripe, _), row in zip(extents, outcome_, strict=True):
                        rows[stripe].append(row)
                        disk.written += row.stored
            async with self._shared.locks[disk.number]:
                await disk_jobs.sync(disk, used)
            await disk_jobs.run(disk.syncing, lambda: disk.hangs, disk.disk.measure)
        except NoAnswer:
            failed |= concerned
            for session, _ in members:
                abandoned = self._shared.open.pop((session, disk.number), None)
                if abandoned is not None:
                    abandoned.is_abandoned = True
                    self._shared.abandoned.append((disk, abandoned))  # not closed: another batch may have to sync it
        except DiskError as error:
            failed |= concerned
            self._note(disk, None, error)

    def _appending(self, disk: PooledDisk, session: int) -> Appending:
        ended = self._sessions[session]
        known = self._shared.open.get((session, disk.number))
        if known is None:
            known = Appending(disk.disk, ended, (ended.ends or {}).get(disk.number, 0))
            self._shared.open[session, disk.number] = known
        return known

    def _note(self, disk: PooledDisk, session: int | None, error: DiskError) -> None:
        """Note that a disk, or one member file on it, does not take extents.

        Raises `error` itself if it is a limit of this process, and so no fault of the disk.
        """
        if error.errno == errno.ECANCELED:  # another batch has noted that this disk does not answer
            return
        if session is not None and error.errno in MEMBER_ERRORS:
            log.warning("session %d: %s; its extents go to other disks", session, error)
            self._shared.targets.barred.add((session, disk.number))
        elif not disk.note_fault(error):
            raise error

    def _close(self) -> None:
        """Close the member files of sessions that no other running batch uses."""
        for ended in self._sessions.values():
            ended.uses -= 1
        for key, appending in list(self._shared.open.items()):
            session = self._sessions.get(key[0])
            if session is not None and not session.uses:
                del self._shared.open[key]
                self._shared.pool[key[1]].writing.submit(closed, appending.close)

    # --- recording ----------------------------------------------------------------------------------------------------

    async def _record(self, written: dict[Stripe, list[Extent]]) -> None:
        """Record all stripes in one transaction, then discard the extents that they replace.

        If the rows of any stripe have changed meanwhile, each stripe gets a transaction of its own.
        """
        recorded = list(written)
        try:
            await self._shared.change(lambda tracking: self._change(tracking, written))
        except RowsChanged:
            recorded = []
            for stripe, rows in written.items():
                try:
                    await self._shared.change(
                        lambda tracking, one={stripe: rows}: self._change(tracking, one)  # type: ignore[misc]
                    )
                    recorded.append(stripe)
                except RowsChanged:
                    self._shared.again.setdefault(stripe.ended.number, set()).add(stripe.number)
                    self._unrecorded += rows
        for stripe in recorded:
            self._count(self._plans[stripe])
        await self._discard([row for stripe in recorded for row in self._plans[stripe].old])

    def _change(self, tracking: Tracking, written: dict[Stripe, list[Extent]]) -> None:
        """Replace the old rows by the new ones, in a transaction. Raises RowsChanged.

        No row may be on a disk that has begun to retire meanwhile: that disk may leave as soon as it is empty.
        """
        old = [row for stripe in written for row in self._plans[stripe].old]
        new = [row for rows in written.values() for row in rows]
        in_use = {disk.number for disk in tracking.disks.all() if disk.state is DiskState.IN_USE}
        if any(row.disk not in in_use for row in new) or not tracking.extents.replace(old, new):
            raise RowsChanged
        gained: defaultdict[int, set[int]] = defaultdict(set)
        left: defaultdict[int, set[int]] = defaultdict(set)
        for row in new:
            gained[row.session].add(row.disk)
        for row in old:
            left[row.session].add(row.disk)
        for session in gained.keys() | left.keys():
            tracking.session_disks.note_moved(session, gained[session], left[session])
        whole, lacking = [], []
        for stripe in written:
            found, session = self._plans[stripe], stripe.ended.number
            is_examined = stripe.is_damaged or found.is_redealt
            is_damaged = stripe.is_damaged and found.leaves_something_of(stripe)
            still = [
                (session, number, size, parity, is_damaged, is_examined)
                for number, (parity, size) in found.lacking.items()
                if parity or is_damaged
            ]
            is_known = (stripe.is_noted or found.is_redealt) and found.trouble is not Trouble.LOST
            if is_known and all(one[1] != stripe.number for one in still):
                whole.append((session, stripe.number, is_examined))
            lacking += still
        tracking.lacks.note_mended(whole, lacking, utc_now())
        if old or new:
            tracking.library.count_move()
        self._shared.record_done(tracking, sum(stripe.weight for stripe in written))
        reached("repair.recorded")

    def _count(self, found: Plan) -> None:
        result = self._shared.result
        if found.does_something:
            result.stripes += 1
            result.bytes_written += sum(len(one.data or b"") for one in found.new)
        match found.trouble:
            case Trouble.NEEDS_DISK:
                result.needs_disk += 1
            case Trouble.NO_ROOM:
                result.no_room += 1
                result.bytes_missing += found.unplaced
            case Trouble.LOST:
                result.lost += 1
                result.bytes_lost += found.unplaced

    async def _discard(self, rows: Iterable[Extent]) -> None:
        by_disk: defaultdict[int, list[Extent]] = defaultdict(list)
        for row in rows:
            if row.disk not in self._shared.out and row.position != NOWHERE:
                by_disk[row.disk].append(row)
        for number, old in by_disk.items():
            disk = self._shared.disks.get(number)
            if disk is not None and disk.usable:
                try:
                    await disk_jobs.run(disk.writing, lambda disk=disk: disk.hangs, disk_jobs.discard, disk.disk, old)  # type: ignore[misc]
                except (DiskError, NoAnswer) as error:
                    log.warning("disk %d: extents were moved from it, but still take room there: %s", number, error)


def _is_to_be_read(piece: Piece) -> bool:
    is_there = piece.row.position != NOWHERE and not piece.was_tried
    return piece.condition is not Condition.GOOD and is_there


def _produce(work: Sequence[tuple[Stripe, Plan]]) -> list[Stripe]:
    """Produce the bytes of plans; return the stripes whose computed bytes contradict their rows. In a thread."""
    return [stripe for stripe, found in work if not produce(stripe, found)]
