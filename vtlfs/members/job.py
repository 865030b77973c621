"""Indexing as a mount does it by itself, in the background: a job of the mount's trio loop.

New tape files are read soon after their release: then their bytes may still be in the page cache. Which mount does it
is decided by the lease `index`. It gives way to streams: while this mount writes, it reads at a tenth of its speed, and
the process that walks over archives has a low priority. It never stops altogether: a library that is written to day and
night is indexed as well.
"""

import logging
from collections.abc import Callable
from contextlib import closing

import trio

from vtlfs.engine.engine import Engine
from vtlfs.engine.jobs import background
from vtlfs.engine.jobs.background import Job
from vtlfs.engine.jobs.rate_limit import RateLimit
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import IndexDamaged, IndexUnusable, NoIndex
from vtlfs.members.child import Limits
from vtlfs.members.database import LEASE, MemberIndex
from vtlfs.members.indexing import Indexing, is_due
from vtlfs.model import MIB, utc_now

LOOK_SECONDS = 10.0  # between two looks whether there is something to index
AGAIN_SECONDS = 600.0  # before an index is tried again that could not be written; the first time, a stream, too
MOST_SECONDS = 86400.0  # before a stream is tried again that could never be read: each time twice as long
OTHERS_SECONDS = 60.0  # before the next look, where another mount or a command is indexing
BUSY_SECONDS = 5.0  # after its last write, for which the mount counts as writing
SHARE = 10  # of its speed, that is left to it meanwhile
SLOW = 10 * MIB  # ... where it has no limit
PENDING_ROWS = 1000

log = logging.getLogger(__name__)


class Throttle:
    """Holds indexing back, as library.toml says, and more while the mount writes."""

    def __init__(self, engine: Engine, limit: int | None) -> None:
        """`limit`: bytes a second; None: none but while the mount writes."""
        self._engine = engine
        self._rate = RateLimit(limit, trio.current_time)
        self._slow = RateLimit(SLOW if limit is None else max(1, limit // SHARE), trio.current_time)
        self._written = 0
        self._busy_until = 0.0

    async def pause(self, size: int) -> None:
        """Wait for as long as reading so many bytes is to take."""
        written = sum(disk.written for disk in self._engine.pool.disks)
        if written != self._written:
            self._written = written
            self._busy_until = trio.current_time() + BUSY_SECONDS
        is_busy = trio.current_time() < self._busy_until
        await trio.sleep((self._slow if is_busy else self._rate).take(size))


class IndexJob(Job[bool]):
    """See the module."""

    what = "indexing"
    every = LOOK_SECONDS
    lease = LEASE

    def __init__(self, engine: Engine, limits: Limits | None = None) -> None:
        self._engine = engine
        self._limits = limits or Limits()
        self._not_before = 0.0  # by trio's clock, as the following
        self._postponed: dict[int, tuple[float, float]] = {}  # until when, and for how long, by stream
        self._is_damaged = False

    def is_due(self, tracking: Tracking, at: str) -> bool:
        """Tell whether there is something to index, or to forget."""
        if trio.current_time() < self._not_before:
            return False
        library = self._engine.library
        try:
            with closing(MemberIndex.open(library.path, library.config.uuid)) as index:
                return is_due(index, tracking) or bool(self._ready(index))
        except NoIndex:
            return tracking.library.last_ordinal() > 0
        except IndexDamaged as error:
            log.warning("%s", error)
            self._is_damaged = True
            return True
        except IndexUnusable as error:
            self._put_off(error)
            return False

    def claim(self, tracking: Tracking, at: str) -> bool:
        """Return True. It is the lease that claims the work."""
        return True

    def note_taken(self) -> None:
        """Wait before the next look: somebody else is indexing."""
        self._not_before = trio.current_time() + OTHERS_SECONDS

    async def work(self, claim: bool) -> None:
        """Index, with the lease."""
        try:
            await self._work(self._engine)
        except IndexDamaged:
            self._is_damaged = True
            raise
        except IndexUnusable as error:
            self._put_off(error)

    def _put_off(self, error: IndexUnusable) -> None:
        """Wait before the next try. The library does without: no warning."""
        self._not_before = trio.current_time() + AGAIN_SECONDS
        log.info("indexing waits for %.0f s: %s", AGAIN_SECONDS, error)

    async def _work(self, engine: Engine) -> None:
        library, config = engine.library, engine.library.config
        index = MemberIndex.make(library.path, config.uuid, anew=self._is_damaged)
        self._is_damaged = False
        run = Indexing(
            *(library, engine.catalogue, engine.medium_reader, index),
            pause=Throttle(engine, config.index_limit).pause,
            limits=self._limits,
            is_background=True,
        )
        try:
            await run.update()
            while sessions := self._ready(index):
                await run.run(sessions)
                self._postpone(run.result.failed)
                run.result.failed.clear()
        finally:
            run.close()
            index.close()
        if run.result.streams:
            log.info("indexed %s", run.result.in_words())

    def _ready(self, index: MemberIndex) -> list[int]:
        """Return the next streams that are pending, without those that could not be read a while ago."""
        now = trio.current_time()
        late = {session for session, (until, _) in self._postponed.items() if until > now}
        pending = index.pending(PENDING_ROWS + len(late))
        return [session for session in pending if session not in late]

    def _postpone(self, failed: list[int]) -> None:
        """Leave streams that could not be read alone for a while: each time longer, for each time costs their bytes."""
        for session in failed:
            _, seconds = self._postponed.get(session, (0.0, AGAIN_SECONDS / 2))
            seconds = min(2 * seconds, MOST_SECONDS)
            self._postponed[session] = trio.current_time() + seconds, seconds


async def run(engine: Engine, clock: Callable[[], str] = utc_now) -> None:
    """Index whatever is released, for as long as the mount lasts. Returns at once if library.toml forbids it."""
    if engine.library.config.index_background:
        await background.run(engine, IndexJob(engine), clock)
