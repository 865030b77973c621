"""One repair of the disks of a pool. Runs in the trio loop of a mount, a command or a verification.

`Survey` finds the stripes that lack something; batches of them (`Batch`) are mended, several at the same time. The
caller holds `lease.work(library.path, "repair")`, so a library has one repair at a time.
"""

import resource
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

import trio

from vtlfs.disks.contents import Part
from vtlfs.disks.pool import DiskPool
from vtlfs.engine.jobs.rate_limit import RateLimit
from vtlfs.engine.library import Library
from vtlfs.engine.repair import disk_jobs
from vtlfs.engine.repair.batch import Batch
from vtlfs.engine.repair.result import RepairResult
from vtlfs.engine.repair.shared import Shared
from vtlfs.engine.repair.stripes import Ended, Stripe
from vtlfs.engine.repair.survey import Survey
from vtlfs.engine.roster import roster
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.engine.tracking.repositories.lacks import HEADERS
from vtlfs.errors import DiskError, VtlfsError, first_of
from vtlfs.model import DiskState, utc_now
from vtlfs.sizes import SIZES, Sizes

NAME = "repair"  # of the lease, and of the job's row
BATCH_STRIPES = 256
MEMBER_DESCRIPTORS = 2
IN_FLIGHT = 4  # batches at the same time, so that one is read while others are written or synced
BATCHES_A_SECOND = 4  # at least, where the speed is limited: batches are then so much smaller
LABEL_SECONDS = 2.0  # to wait for the label of a disk that has retired, as the disk may hang
ATTEMPTS = 3  # further attempts at a stripe whose rows have changed meanwhile, or whose new disk has failed

Change = Callable[[Callable[[Tracking], Any]], Awaitable[Any]]  # GroupCommitter.call, or Engine.change
Found = AsyncGenerator[Stripe | Ended, None]  # what a survey yields
Progress = Callable[[int, int], object]  # called with the bytes done and the bytes in total


def _most_sessions(disks: int, wanted: int) -> int:
    """Return the most sessions of a batch: `wanted`, or fewer where their member files need too many descriptors.

    All batches together take at most half of the descriptors that the process may have. Beside the batches in flight,
    one batch is waiting, and it has member files open, too.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    each = (IN_FLIGHT + 1) * disks * MEMBER_DESCRIPTORS
    return wanted if limit == resource.RLIM_INFINITY else max(1, min(wanted, limit // 2 // each))


def _no_progress(done: int, total: int) -> None:
    """Show no progress."""


async def repair_all(
    library: Library,
    pool: DiskPool,
    catalogue: Catalogue,
    change: Change,
    *,
    out: Collection[int],
    by: str,
    limit: int | None = None,
    at_once: int = IN_FLIGHT,
    progress: Progress = _no_progress,
    sizes: Sizes = SIZES,
) -> RepairResult:
    """Mend all stripes of the library that lack something. Extents on the disks `out` count as lost.

    Retiring disks are out, too; each of them leaves the library when it is empty. `by`: who repairs, for the job's row.
    `limit`: bytes a second, read and written together. `at_once`: the most batches at the same time; each takes
    memory. Cancelling stops the repair between two transactions, and stripes that are mended stay mended. Raises
    TrackingError, and DiskError for a limit of this process.
    """
    work = (library, pool, catalogue, change)
    repair = Repair(*work, out=out, limit=limit, at_once=at_once, progress=progress, sizes=sizes)
    return await repair.all(by)


async def mend_sessions(
    library: Library,
    pool: DiskPool,
    catalogue: Catalogue,
    change: Change,
    sessions: Sequence[int],
    *,
    out: Collection[int] = (),
    limit: int | None = None,
) -> RepairResult:
    """Mend the stripes and headers of these sessions that the table `lack` has, and nothing else.

    `out`: disks that can't be used. Raises the errors of `repair_all`.
    """
    work = (library, pool, catalogue, change)
    repair = Repair(*work, out=out, limit=limit, at_once=IN_FLIGHT, progress=_no_progress, sizes=SIZES)
    return await repair.some(sessions)


@contextmanager
def _one_error() -> Iterator[None]:
    """Raise the VtlfsError of one of several tasks by itself, not as a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        known = group.subgroup(VtlfsError)
        if known is None:
            raise
        raise first_of(known) from None


class RunningBatches:
    """Limits the batches that run at the same time, by their number and their bytes. One may always run."""

    def __init__(self, most_batches: int, most: int) -> None:
        """`most`: bytes of all running batches together."""
        self._most_batches = most_batches
        self._most = most
        self._bytes = self._batches = 0
        self._fewer = trio.Event()  # set, and replaced by a new one, when a batch has ended

    async def begin(self, size: int) -> None:
        """Wait until a batch of this many bytes may begin, and count the batch as running."""
        while self._batches and (self._batches == self._most_batches or self._bytes + size > self._most):
            await self._fewer.wait()
        self._batches += 1
        self._bytes += size

    def end(self, size: int) -> None:
        """Count a batch as ended."""
        self._batches -= 1
        self._bytes -= size
        self._fewer.set()
        self._fewer = trio.Event()


class Repair:
    """One repair; see the module."""

    def __init__(
        self,
        library: Library,
        pool: DiskPool,
        catalogue: Catalogue,
        change: Change,
        *,
        out: Collection[int],
        limit: int | None,
        at_once: int,
        progress: Progress,
        sizes: Sizes,
    ) -> None:
        self._sizes = sizes
        self._library = library
        self._pool = pool
        self._catalogue = catalogue
        self._change = change
        self._out = set(out)
        self._rate = RateLimit(limit, trio.current_time)
        self._at_once = at_once
        self._progress = progress
        self._result = RepairResult()
        self._done = self._total = 0

    async def all(self, by: str) -> RepairResult:
        """Mend everything, let empty disks retire, and record the progress in the job's row."""
        leaving = await self._begin()
        survey = Survey(self._catalogue, self._library.leases, self._out, self._sizes)
        last = await self._catalogue.read(lambda tracking: tracking.library.last_ordinal())
        self._total = await self._catalogue.read(self._count)
        if not (self._total or leaving or await self._catalogue.read(lambda tracking: tracking.lacks.count())):
            before = await self._catalogue.read(lambda tracking: tracking.jobs.get(NAME))
            if before is not None and before.ended_at is None:  # interrupted, and the disks that it missed are back
                await self._change(lambda tracking: tracking.jobs.end(NAME, self._result.in_words(), utc_now()))
            return self._result
        begun_at = utc_now()
        await self._change(lambda tracking: tracking.jobs.begin(NAME, by, self._total, begun_at))
        self._progress(0, self._total)
        await self._mend(survey, survey.all(last), leaving)
        for number in sorted(leaving):
            if await self._change(partial(self._retire, number)):
                await self._leave(number)
                self._result.emptied.append(number)
        words = self._result.in_words()
        await self._change(lambda tracking: tracking.jobs.end(NAME, words, utc_now()))
        return self._result

    async def _leave(self, number: int) -> None:
        """Take a retired disk out of library.toml and remove its label. If the disk hangs, `roster.tidy` does so."""
        label = None
        with trio.move_on_after(LABEL_SECONDS):
            label = await trio.to_thread.run_sync(roster.label_of, self._library, number, abandon_on_cancel=True)
        await trio.to_thread.run_sync(roster.leave, self._library, number, label)

    def _retire(self, number: int, tracking: Tracking) -> bool:
        return roster.finish_retiring(tracking, number, utc_now())

    async def some(self, sessions: Iterable[int]) -> RepairResult:
        """Mend the stripes of these sessions that are known to lack something."""
        leaving = await self._begin()
        survey = Survey(self._catalogue, self._library.leases, self._out, self._sizes)
        await self._mend(survey, survey.of(dict.fromkeys(sessions)), leaving)
        return self._result

    async def _begin(self) -> set[int]:
        """Return the retiring disks, and add them to those that are out."""
        disks = await self._catalogue.read(lambda tracking: tracking.disks.all())
        leaving = {disk.number for disk in disks if disk.state is DiskState.RETIRING}
        self._out |= leaving
        return leaving

    def _count(self, tracking: Tracking) -> int:
        """Return how many stored bytes the repair has to mend or move."""
        stored = tracking.disks.stored()
        return tracking.lacks.total() + sum(stored[disk].bytes for disk in self._out if disk in stored)

    async def _mend(self, survey: Survey, found: Found, leaving: Collection[int]) -> None:
        """Mend the stripes that a survey finds; try again those whose rows or disks changed meanwhile."""
        shared = Shared(self._pool, self._catalogue, self._change, self._out, leaving, self._result, self._record_done)
        headers = await self._in_batches(found, shared)
        for _ in range(ATTEMPTS):
            again, shared.again = shared.again, {}
            if not again:
                break
            headers += await self._in_batches(survey.of(again), shared)
        self._result.needs_disk += sum(map(len, shared.again.values()))
        for ended in {ended.number: ended for ended in headers}.values():
            await self._restore_headers(ended)
        self._result.postponed = len(survey.postponed)

    async def _in_batches(self, found: Found, shared: Shared) -> list[Ended]:
        """Mend stripes, several batches at a time; return the sessions that have damaged headers."""
        try:
            with _one_error():
                return await self._batches(found, shared)
        finally:
            shared.close_abandoned()

    async def _batches(self, found: Found, shared: Shared) -> list[Ended]:
        headers: list[Ended] = []
        rate = self._rate.rate
        most = (
            self._sizes.repair_batch
            if rate is None
            else max(1, min(self._sizes.repair_batch, rate // BATCHES_A_SECOND))
        )
        most_sessions = _most_sessions(len(self._pool), self._sizes.repair_sessions)
        most_bytes = self._at_once * self._sizes.repair_batch
        running = RunningBatches(self._at_once, most_bytes) if rate is None else RunningBatches(1, 0)

        async with aclosing(found), trio.open_nursery() as nursery:

            async def begin(stripes: list[Stripe], size: int) -> None:
                await trio.sleep(self._rate.take(size))
                # Made before waiting, so that earlier batches leave its member files open.
                batch = Batch(shared, stripes)
                await running.begin(size)
                nursery.start_soon(work, batch, size)

            async def work(batch: Batch, size: int) -> None:
                try:
                    await batch.mend()
                    self._progress(min(self._done, self._total), self._total)
                finally:
                    running.end(size)

            stripes: list[Stripe] = []
            sessions: set[int] = set()
            size = 0
            async for one in found:
                if isinstance(one, Ended):
                    headers.append(one)
                    continue
                cost = sum(piece.row.stored for piece in one.pieces)
                is_full = size + cost > most or len(stripes) == BATCH_STRIPES
                if stripes and (is_full or (len(sessions) >= most_sessions and one.ended.number not in sessions)):
                    await begin(stripes, size)
                    stripes, sessions, size = [], set(), 0
                stripes.append(one)
                sessions.add(one.ended.number)
                size += cost
            if stripes:
                await begin(stripes, size)
        return headers

    def _record_done(self, tracking: Tracking, weight: int) -> None:
        """Record progress, in the transaction that records the mended stripes. In the committer's thread."""
        if self._total:
            self._done += weight
            tracking.jobs.advance(NAME, min(self._done, self._total))

    async def _restore_headers(self, ended: Ended) -> None:
        """Write the wrong headers of a session's member files anew. If a disk can't be reached, the lack stays."""
        session = await self._catalogue.read(lambda tracking: tracking.sessions.get(ended.number))
        part = Part(ended.number, session.stripe_unit, ended.opening, ended.ending, (), is_first=True)
        are_right = True
        for pooled in self._pool.disks:
            if pooled.number not in session.disks:
                continue
            if pooled.number in self._out:
                are_right = False
                continue
            try:
                hangs = lambda pooled=pooled: pooled.reads_hang or pooled.hangs  # noqa: E731
                if await disk_jobs.run(pooled.reading, hangs, disk_jobs.header_is_wrong, pooled.disk, part):
                    header = (ended.number, ended.opening, ended.ending)
                    await disk_jobs.run(pooled.writing, hangs, pooled.disk.restore_header, *header)
            except (DiskError, disk_jobs.NoAnswer):
                are_right = False
        if are_right:
            await self._change(lambda tracking: tracking.lacks.remove(ended.number, [HEADERS]))
