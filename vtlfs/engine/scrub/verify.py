"""`vtlfs verify`: reads all media, or some, and compares all bytes with what the tracking database has recorded.

Each disk has a task that walks over its member files and their extents in order, and threads of its own that read and
compare; all disks work at the same time. The jobs in flight are limited, and so is the memory that they take.
"""

import logging
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import outcome
import trio

from vtlfs.disks.base import Disk
from vtlfs.disks.contents import Flaw, Part
from vtlfs.disks.executor import DiskExecutor
from vtlfs.engine.jobs import foreground
from vtlfs.engine.jobs.rate_limit import RateLimit
from vtlfs.engine.library import Library
from vtlfs.engine.member_headers import header_of
from vtlfs.engine.reading import stored
from vtlfs.engine.scrub import verification as verifications
from vtlfs.engine.scrub.defects import (
    Defect,
    DefectCoalescer,
    absent,
    of_extent,
    of_header,
    unlisted,
    unmapped,
    unread,
)
from vtlfs.engine.scrub.losses import Losses
from vtlfs.engine.scrub.mending import Mending
from vtlfs.engine.scrub.salvage import Salvage
from vtlfs.engine.scrub.unfinished import Unfinished
from vtlfs.engine.scrub.verification import Verification
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.extents import BEGIN
from vtlfs.engine.tracking.repositories.lacks import HEADERS
from vtlfs.errors import DiskError, TrackingError
from vtlfs.model import Session, TapeFile, utc_now
from vtlfs.sizes import SIZES, Sizes
from vtlfs.timing import DEFAULT, Timing

THREADS = 4  # per disk: some compare while others read
STEPS_A_SECOND = 4  # at least, where the speed is limited

log = logging.getLogger(__name__)

MAP = -1  # the key in `Verification.progress`, beside the disks' numbers, for the walk over the map of tape files

Report = Callable[[Defect], None]
Progress = Callable[[int], None]


@dataclass(slots=True)
class _Piece:
    """A part of a session's extents on a disk, with their tape file and session, and the turn of the last extent."""

    part: Part
    file: TapeFile
    session: Session
    turn: int


@dataclass(slots=True)
class _Job:
    """Pieces that a thread examines one after the other, and the flaws that it finds in each."""

    pieces: list[_Piece]
    done: trio.Event = field(default_factory=trio.Event)
    result: "outcome.Outcome[list[list[Flaw]]] | None" = None

    @property
    def stored(self) -> int:
        return sum(piece.part.bytes for piece in self.pieces)

    @property
    def bytes(self) -> int:
        """Bytes of tape files."""
        return sum(extent.bytes for piece in self.pieces for extent in piece.part.extents)

    def set_result(self, result: "outcome.Outcome[list[list[Flaw]]]") -> None:
        self.result = result
        self.done.set()


_Locate = Callable[[Iterable[tuple[_Piece, list[Flaw]]]], Awaitable[list[Defect]]]


class Verifier:
    """One verification that runs in the trio loop; it may be cancelled at any time."""

    def __init__(
        self,
        library: Library,
        tracking: Tracking,
        verification: Verification,
        report: Report,
        progress: Progress,
        timing: Timing = DEFAULT,
        sizes: Sizes = SIZES,
        mending: Mending | None = None,
    ) -> None:
        """`mending`: mends the defects; None: they are only reported."""
        self._mending = mending
        self._losses = Losses(library, verification, sizes)
        self._absent: set[int] = set()  # disks that are not there, or have gone away
        _, _, self._total = verifications.extent(tracking, verification)
        self._library = library
        self._tracking = tracking
        self._verification = verification
        self._report = report
        self._progress = progress
        self._timing = timing
        self._sizes = sizes
        self._coalescers: list[DefectCoalescer] = []

    async def run(self, limit: int | None) -> None:
        """Verify all that is left to verify, reading at most `limit` bytes a second; None: as fast as the disks can.

        Records the end of the verification, or its progress if it is cancelled or fails.
        """
        rate_limit = RateLimit(limit, trio.current_time)
        self._unfinished = Unfinished(self._library, self._tracking, self._verification, self._timing, self._sizes)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._save_now_and_then)
                nursery.start_soon(self._mend_now_and_then)
                async with trio.open_nursery() as walks:
                    walks.start_soon(self._walk_map)
                    disks, lost = self._disks()
                    salvage = Salvage(self._tracking, disks, rate_limit, self._sizes)
                    self._absent.update(number for number, _, _ in lost)
                    for where in lost:
                        walks.start_soon(self._note_absent, *where)
                    for disk in disks.values():
                        walks.start_soon(self._walk, disk, rate_limit, salvage)
                lost_bytes = await self._losses.all(self._absent)
                nursery.cancel_scope.cancel()
            self._see_whether_all_was_read()
            self._verification.hurt.update(lost_bytes)
            if self._mending is not None:
                self._save()
                self._verification.mended += await self._mending.mend(again=True)
            self._verification.ended_at = utc_now()
        finally:
            self._save()

    def _disks(self) -> tuple[dict[int, Disk], list[tuple[int, str, str]]]:
        """Return the disks that were found, by number; and (number, path, reason) of each disk that is missing."""
        ever = self._tracking.disks.ever()
        discovery = self._library.discover(ever)
        why = {str(error.path): error.why for error in discovery.lost}
        lost, known = [], []
        for record in self._tracking.disks.all():
            known.append(record.number)
            if record.number not in discovery.places:
                path = record.path if record.path in why else next(iter(why), record.path)
                lost.append((record.number, path, why.pop(path, "no path in library.toml leads to it")))
        return {number: disk for number, disk in discovery.disks().items() if number in known}, lost

    async def _note_absent(self, number: int, path: str, why: str) -> None:
        """Report a missing disk, unless it has just left the library."""
        if number not in {disk.number for disk in self._tracking.disks.all()}:
            return
        self._absent.add(number)
        is_replaceable = await self._losses.are_none(self._absent)
        self._note(absent(number, path, why, is_replaceable=is_replaceable))

    async def _walk_map(self) -> None:
        """Check that the database maps every byte of the tape files to an extent. No disk is read."""
        begin, _ = self._verification.progress.get(MAP, (0, 0))
        if not begin:
            for medium, size, listed in verifications.unlisted(self._tracking, self._verification):
                self._note(unlisted(medium, size, listed))
        for file, session in verifications.tape_files(
            self._tracking, self._verification, begin, self._sizes.files_at_once
        ):
            known = self._tracking.extents.mapped_bytes(session.id)
            if known != file.bytes and not self._tracking.reclaiming.is_reclaimed(session.id):
                self._note(unmapped(file, file.bytes - known))
            self._verification.progress[MAP] = (session.id + 1, 0)
            await trio.lowlevel.checkpoint()

    def _see_whether_all_was_read(self) -> None:
        """Report bytes that were not read though there is no defect: a verification succeeds only if it read all.

        But for those that a repair has moved, or that were reclaimed, since it began.
        """
        missing = self._total - self._verification.bytes
        if missing and not self._absent and self._has_moved():
            self._count(missing)  # the repair has read what it moved, perhaps out of the way of every walk
        elif missing and not any(self._verification.defects.values()):
            self._note(unread(missing))

    def _has_moved(self) -> bool:
        """Tell whether extents were moved by a repair, or reclaimed, since this verification began."""
        return self._tracking.library.watermark().moves != self._verification.moves

    def _count(self, size: int) -> None:
        """Count verified bytes of tape files.

        If a repair moves extents meanwhile, two walks may read the same bytes; so no more are counted than there are.
        """
        if self._verification.bytes + size > self._total and self._has_moved():
            size = self._total - self._verification.bytes
        self._verification.bytes += size
        self._progress(size)

    # --- one disk ---------------------------------------------------------------------------------------------------

    async def _walk(self, disk: Disk, rate_limit: RateLimit, salvage: Salvage) -> None:
        """Examine one disk, from its recorded progress on."""
        executor = DiskExecutor(f"disk{disk.number}.verify", THREADS)
        coalescer = DefectCoalescer()
        self._coalescers.append(coalescer)
        waiting: deque[_Job] = deque()
        located = partial(self._located, disk, salvage, executor)

        def tell(flaws: Iterable[Flaw], file: TapeFile) -> None:
            self._tell(coalescer, (of_header(flaw, file, disk) for flaw in flaws))

        try:
            for job in self._jobs(disk, rate_limit.rate):
                await trio.sleep(rate_limit.take(job.stored))
                executor.submit(job.set_result, _examine, disk, [piece.part for piece in job.pieces])
                waiting.append(job)
                while len(waiting) >= self._sizes.jobs_in_flight or (waiting and waiting[0].done.is_set()):
                    await self._take(waiting, disk, coalescer, located)
                if self._unfinished.are_many:
                    await self._unfinished.look_again(disk, executor, tell)
            while waiting:
                await self._take(waiting, disk, coalescer, located)
            await self._unfinished.look_again(disk, executor, tell)
            self._emit(coalescer)
        except DiskError as error:
            self._emit(coalescer)
            await self._note_absent(disk.number, disk.path, error.reason)
        finally:
            executor.close()

    async def _take(self, waiting: deque[_Job], disk: Disk, coalescer: DefectCoalescer, located: _Locate) -> None:
        """Wait for the oldest job, report its defects, advance the progress. Raises DiskError if the disk is gone."""
        job = waiting[0]
        await job.done.wait()
        assert job.result is not None
        flaws = job.result.unwrap()
        defects = await located(zip(job.pieces, flaws, strict=True))
        waiting.popleft()  # nothing awaits from here on, so that an interruption neither loses nor repeats a defect
        for piece, found in zip(job.pieces, flaws, strict=True):
            if any(flaw.is_unfinished for flaw in found):
                self._unfinished.add(disk.number, piece.session)
        self._tell(coalescer, defects)
        last = job.pieces[-1]
        self._verification.progress[disk.number] = (last.part.session, last.turn)
        self._count(job.bytes)

    def _jobs(self, disk: Disk, rate: int | None) -> Iterator[_Job]:
        """Yield the jobs that are left to do on a disk, in the order in which their extents lie there."""
        sizes = self._sizes
        most = sizes.job if rate is None else max(1, min(sizes.job, rate // STEPS_A_SECOND))
        pieces: list[_Piece] = []
        size = 0
        for piece in self._pieces(disk.number, most):
            if pieces and (size + piece.part.bytes > most or len(pieces) == sizes.parts_a_job):
                yield _Job(pieces)
                pieces, size = [], 0
            pieces.append(piece)
            size += piece.part.bytes
        if pieces:
            yield _Job(pieces)

    def _pieces(self, disk: int, most: int) -> Iterator[_Piece]:
        """Yield the extents of a disk in pieces of at most `most` stored bytes, or of one extent."""
        begin, after = self._verification.progress.get(disk, (0, BEGIN))
        for file, session in verifications.tape_files(
            self._tracking, self._verification, begin, self._sizes.files_at_once
        ):
            if disk not in session.disks:
                continue  # `_walk_map` checks that no byte is missing
            if session.id != begin:
                after = BEGIN
            header = header_of(file, session)
            found = verifications.extents(self._tracking, disk, session.id, after, most, self._sizes)
            for turn, extents in found:
                part = Part(session.id, session.stripe_unit, *header, extents, after == BEGIN)
                yield _Piece(part, file, session, turn)
                after = turn

    # --- defects ----------------------------------------------------------------------------------------------------

    async def _located(
        self, disk: Disk, salvage: Salvage, executor: DiskExecutor, examined: Iterable[tuple[_Piece, list[Flaw]]]
    ) -> list[Defect]:
        """Turn the flaws that were found on a disk into defects, which name the bytes of tape files that are concerned.

        A flaw of an extent that a repair has moved meanwhile is no defect: its old place is free again.
        """
        defects = []
        for piece, flaws in examined:
            for flaw in flaws:
                if flaw.is_unfinished:
                    continue
                if flaw.extent is None:
                    if self._tracking.extents.is_on(piece.session.id, disk.number):
                        defects.append(of_header(flaw, piece.file, disk))
                elif self._tracking.extents.is_recorded(flaw.extent):
                    covered = await salvage.covered(flaw, piece.file, piece.session, executor)
                    defects.append(of_extent(flaw, flaw.extent, covered, piece.file, disk))
        return defects

    def _tell(self, coalescer: DefectCoalescer, defects: Iterable[Defect]) -> None:
        """Count and note defects, and report those that the coalescer has completed."""
        for defect in defects:
            self._add(defect)
            if defect.session is not None:
                stripe = HEADERS if defect.stripe is None else defect.stripe
                self._verification.note(defect.session, stripe)
                if self._mending is not None:
                    self._mending.add(defect.session, stripe)
            for gathered in coalescer.add(defect):
                self._report(gathered)

    def _note(self, defect: Defect) -> None:
        self._add(defect)
        self._report(defect)

    def _add(self, defect: Defect) -> None:
        self._verification.defects[defect.severity] += defect.count
        self._verification.replaceable += defect.count if defect.is_replaceable else 0
        if defect.session is not None and defect.lost_bytes:
            self._verification.hurt[defect.session] += defect.lost_bytes

    def _emit(self, coalescer: DefectCoalescer) -> None:
        for defect in coalescer.end():
            self._report(defect)

    async def _save_now_and_then(self) -> None:
        while True:
            await trio.sleep(self._timing.save)
            self._save()

    async def _mend_now_and_then(self) -> None:
        while self._mending is not None:
            await trio.sleep(self._timing.save)
            self._save()
            self._verification.mended += await self._mending.mend()

    def _save(self) -> None:
        """Report the defects that the coalescers hold, and record how far the verification has come."""
        for coalescer in self._coalescers:
            self._emit(coalescer)
        try:
            verifications.save(self._tracking, self._verification)
        except TrackingError as error:
            log.warning("the progress of the verification can't be recorded: %s", error)


def verify(
    library: Library,
    tracking: Tracking,
    verification: Verification,
    report: Report,
    progress: Progress,
    limit: int | None = None,
    timing: Timing = DEFAULT,
    sizes: Sizes = SIZES,
    mending: Mending | None = None,
) -> signal.Signals | None:
    """Run a verification until it has ended, or a signal stops it; return that signal.

    `report` is called with each defect, `progress` with further bytes that were verified. `limit`: bytes a second.
    `mending` mends the defects. Sets `verification.left_out` at the end. Raises TrackingError, and whatever `report`
    and `progress` raise.
    """
    verifier = Verifier(library, tracking, verification, report, progress, timing, sizes, mending)
    stopped = foreground.run(partial(verifier.run, limit))
    verification.left_out = verifications.left_out(tracking, verification)
    return stopped


def _examine(disk: Disk, parts: list[Part]) -> list[list[Flaw]]:
    return [stored.examine(disk, part) for part in parts]
