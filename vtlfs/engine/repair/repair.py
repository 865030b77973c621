"""Repair at work on the disks of a pool. In the trio loop of a mount, a command or a verification.

Stripes that lack something are found by `Survey`, and mended in batches by `Batch`, some at the same time. Whoever
repairs holds `lease.work(library.path, "repair")`.
"""

import resource
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

import trio

from vtlfs.disks.contents import Part
from vtlfs.disks.pool import DiskPool
from vtlfs.engine.library import Library
from vtlfs.engine.rate_limit import RateLimit
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
IN_FLIGHT = 4  # batches: one is read while another one is written, and a third is synced; large ones are fewer
BATCHES_A_SECOND = 4  # at least, where the speed is limited
LABEL_SECONDS = 2.0  # for which a disk that has retired may take to show its label
ATTEMPTS = 3  # at a stripe whose rows have changed meanwhile, or whose new disk has failed

Change = Callable[[Callable[[Tracking], Any]], Awaitable[Any]]  # GroupCommitter.call, or Engine.change
Found = AsyncGenerator[Stripe | Ended, None]  # of a survey
Progress = Callable[[int, int], object]  # is told the bytes that are done, and the bytes in total


def _most_sessions(disks: int, wanted: int) -> int:
    """Return of how many sessions a batch may be: those wanted, if all take half of the descriptors there may be.

    One batch more than those in flight is waiting, and keeps the members of its sessions open.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    each = (IN_FLIGHT + 1) * disks * MEMBER_DESCRIPTORS
    return wanted if limit == resource.RLIM_INFINITY else max(1, min(wanted, limit // 2 // each))


def _nobody(done: int, total: int) -> None:
    """Tell nobody of the progress."""


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
    progress: Progress = _nobody,
    sizes: Sizes = SIZES,
) -> RepairResult:
    """Mend all stripes of the library that lack something; what lies on the disks that are `out` counts as lacking.

    Retiring disks are out, too, and retire when they are empty. `by`: who does it, for the job's row. `limit`: bytes a
    second that are read and written. `at_once`: batches, of which each takes some memory. Cancelling stops it between
    two transactions: what is mended stays so. Raises TrackingError, and DiskError for a limit of this process.
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
    """Mend what these sessions have in `lack`, and nothing else. `out`: disks that can't be used. Raises as above."""
    work = (library, pool, catalogue, change)
    repair = Repair(*work, out=out, limit=limit, at_once=IN_FLIGHT, progress=_nobody, sizes=SIZES)
    return await repair.some(sessions)


@contextmanager
def _one_error() -> Iterator[None]:
    """Raise the error of one of several tasks as if there were no tasks."""
    try:
        yield
    except BaseExceptionGroup as group:
        known = group.subgroup(VtlfsError)
        if known is None:
            raise
        raise first_of(known) from None


class AtWork:
    """The batches that are at work: some, of so many bytes together; or one, however large it is."""

    def __init__(self, most_batches: int, most: int) -> None:
        self._most_batches = most_batches
        self._most = most
        self._bytes = self._batches = 0
        self._fewer = trio.Event()  # set, and replaced by a new one, when a batch has ended

    async def begin(self, size: int) -> None:
        """Wait until a batch of this size may begin, and count it."""
        while self._batches and (self._batches == self._most_batches or self._bytes + size > self._most):
            await self._fewer.wait()
        self._batches += 1
        self._bytes += size

    def end(self, size: int) -> None:
        """Count a batch no longer."""
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
        """Mend everything, retire what is empty, and record how far that is."""
        leaving = await self._begin()
        survey = Survey(self._catalogue, self._library.leases, self._out, self._sizes)
        last = await self._catalogue.read(lambda tracking: tracking.library.last_ordinal())
        self._total = await self._catalogue.read(self._count)
        if not (self._total or leaving or await self._catalogue.read(lambda tracking: tracking.lacks.count())):
            before = await self._catalogue.read(lambda tracking: tracking.jobs.get(NAME))
            if before is not None and before.ended_at is None:  # interrupted, and what it had to do has come back
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
        """Take a disk that has retired out of library.toml. One that hangs keeps its label until `roster.tidy`."""
        label = None
        with trio.move_on_after(LABEL_SECONDS):
            label = await trio.to_thread.run_sync(roster.label_of, self._library, number, abandon_on_cancel=True)
        await trio.to_thread.run_sync(roster.leave, self._library, number, label)

    def _retire(self, number: int, tracking: Tracking) -> bool:
        return roster.finish_retiring(tracking, number, utc_now())

    async def some(self, sessions: Iterable[int]) -> RepairResult:
        """Mend what some sessions are known to lack."""
        leaving = await self._begin()
        survey = Survey(self._catalogue, self._library.leases, self._out, self._sizes)
        await self._mend(survey, survey.of(dict.fromkeys(sessions)), leaving)
        return self._result

    async def _begin(self) -> set[int]:
        """Return the disks that are to be emptied, which are out."""
        disks = await self._catalogue.read(lambda tracking: tracking.disks.all())
        leaving = {disk.number for disk in disks if disk.state is DiskState.RETIRING}
        self._out |= leaving
        return leaving

    def _count(self, tracking: Tracking) -> int:
        """Return how many stored bytes there are to do."""
        stored = tracking.disks.stored()
        return tracking.lacks.total() + sum(stored[disk].bytes for disk in self._out if disk in stored)

    async def _mend(self, survey: Survey, found: Found, leaving: Collection[int]) -> None:
        """Mend what a survey finds, and try those stripes again that could not be mended as they were found."""
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
        """Mend stripes, some batches at a time; return the sessions that have damaged headers."""
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
        at_work = AtWork(self._at_once, self._at_once * self._sizes.repair_batch) if rate is None else AtWork(1, 0)

        async with aclosing(found), trio.open_nursery() as nursery:

            async def begin(stripes: list[Stripe], size: int) -> None:
                await trio.sleep(self._rate.take(size))
                batch = Batch(shared, stripes)  # first, so that the members of its sessions stay open meanwhile
                await at_work.begin(size)
                nursery.start_soon(work, batch, size)

            async def work(batch: Batch, size: int) -> None:
                try:
                    await batch.mend()
                    self._progress(min(self._done, self._total), self._total)
                finally:
                    at_work.end(size)

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
        """Record that more of the total is done, in the transaction that records it. In the committer's thread."""
        if self._total:
            self._done += weight
            tracking.jobs.advance(NAME, min(self._done, self._total))

    async def _restore_headers(self, ended: Ended) -> None:
        """Write those headers of a session's members anew that are wrong; what can't be reached stays noted."""
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
                    what = (ended.number, ended.opening, ended.ending)
                    await disk_jobs.run(pooled.writing, hangs, pooled.disk.restore_header, *what)
            except (DiskError, disk_jobs.NoAnswer):
                are_right = False
        if are_right:
            await self._change(lambda tracking: tracking.lacks.remove(ended.number, [HEADERS]))
