"""Indexing as a command does it, in a trio run of its own."""

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

from vtlfs.disks.pool import DiskPool
from vtlfs.engine.jobs import foreground
from vtlfs.engine.jobs.rate_limit import RateLimit
from vtlfs.engine.library import Library
from vtlfs.engine.reading.reader import MediumReader
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.errors import IndexDamaged
from vtlfs.members.child import Limits
from vtlfs.members.database import LEASE, MemberIndex
from vtlfs.members.indexing import Indexed, Indexing
from vtlfs.members.stream import OpenReader, first_session

AHEAD_UNITS_A_DISK = 3

log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What came of the command. `interrupted`: the signal that stopped it, if one did."""

    indexed: Indexed = field(default_factory=Indexed)
    interrupted: signal.Signals | None = None


def index(
    library: Library,
    media: Sequence[str] | None,
    *,
    anew: bool = False,
    limit: int | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
    waits: Callable[[], object] = lambda: None,
    limits: Limits | None = None,
) -> Outcome:
    """Index what is not indexed yet: of some media, or of all.

    `anew`: throw the index away first; with `media`: index their tape files again. `progress` is told the
    bytes that are done, and those in total. `waits` is called where a mount indexes, whose end is
    waited for. SIGINT, SIGTERM and SIGHUP stop it. Raises NoSuchMedium, IndexDamaged, LibraryError.
    """
    outcome = Outcome()
    work = partial(_work, library, media, anew, limit, progress, waits, limits, outcome)
    outcome.interrupted = foreground.run(work)
    return outcome


async def _work(
    library: Library,
    media: Sequence[str] | None,
    anew: bool,
    limit: int | None,
    progress: Callable[[int, int], object],
    waits: Callable[[], object],
    limits: Limits | None,
    outcome: Outcome,
) -> None:
    async with foreground.turn(library.path, LEASE, waits):
        try:
            await _run(library, media, anew, anew and media is None, limit, progress, limits, outcome)
        except IndexDamaged as error:
            log.warning("%s", error)
            await _run(library, media, anew, True, limit, progress, limits, outcome)


async def _run(
    library: Library,
    media: Sequence[str] | None,
    again: bool,
    anew: bool,
    limit: int | None,
    progress: Callable[[int, int], object],
    limits: Limits | None,
    outcome: Outcome,
) -> None:
    """Index, with the lease. `again`: also what is indexed already; `anew`: throw the index away first."""
    rate = RateLimit(limit, trio.current_time)
    done = total = 0

    async def pause(size: int) -> None:
        await trio.sleep(rate.take(size))

    def advance(size: int) -> None:
        nonlocal done
        done += size
        progress(done, total)

    with (
        closing(library.tracking(read_only=True)) as tracking,
        _reading(library, tracking) as (catalogue, open_reader),
        closing(MemberIndex.make(library.path, library.config.uuid, anew=anew)) as members,
    ):
        run = Indexing(*(library, catalogue, open_reader, members), pause=pause, progress=advance, limits=limits)
        outcome.indexed = run.result
        with closing(run):
            await run.update()
            sessions = wanted(tracking, members, media, again=again)
            total = sum(_bytes(tracking, session) for session in sessions)
            await run.run(sessions, again=again)


@contextmanager
def _reading(library: Library, tracking: Tracking) -> Iterator[tuple[Catalogue, OpenReader]]:
    """Have the disks that answer now, and a function that opens readers of volumes."""
    pool = DiskPool([*library.disks_that_answer()], library.config.stripe_unit)
    catalogue = Catalogue(tracking)

    def ahead() -> int:
        return AHEAD_UNITS_A_DISK * len(pool)

    try:
        yield catalogue, lambda barcode, volume, size: MediumReader(barcode, volume, size, catalogue, pool, ahead)
    finally:
        pool.close()


def wanted(tracking: Tracking, index: MemberIndex, media: Sequence[str] | None, *, again: bool) -> list[int]:
    """Return the streams that are to be indexed: the pending ones, of some media or of all; `again`: all of `media`."""
    pending = index.pending()
    if media is None:
        return pending
    found: dict[int, None] = {}
    for barcode in media:
        tracking.media.get(barcode)
        for volume in tracking.volumes.of(barcode):
            for file in tracking.tape_files.of(barcode, volume=volume.number):
                found[first_session(tracking, file.session)] = None
    known = set(pending)
    return [session for session in sorted(found) if again or session in known]


def _bytes(tracking: Tracking, session: int) -> int:
    parts = [part.session for part in tracking.pools.parts(session)] or [session]
    return sum(file.bytes for file in tracking.tape_files.of_sessions(parts))
