"""Keeping the cartridge memory: what each disk remembers of media, for the day when the tracking database is lost.

Member headers tell nothing of some acts on a medium: erase, retire, remove, protect, hold, release, and a change of its
retention. After the commit of each such act, the disks are told of it. After a crash in between, or on a disk that is
away, an older memory is left; the next mount brings it up to date.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import outcome
import trio

from vtlfs.disks import aside
from vtlfs.disks.base import Disk
from vtlfs.disks.cartridges import Cartridge
from vtlfs.disks.executor import DiskExecutor
from vtlfs.disks.missing import MissingDisk
from vtlfs.disks.pool import DiskPool, PooledDisk
from vtlfs.disks.snapshots import Runs, union
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import DiskError, VtlfsError

PATIENCE_SECONDS = 2.0  # for which a mount waits for the disks to take it
SECONDS_A_MEDIUM = 0.1  # which a command allows for each medium

log = logging.getLogger(__name__)


def keep(library: Library, tracking: Tracking, barcodes: Sequence[str]) -> None:
    """Have the disks that answer remember what the tracking database has of some media. For commands: it forks.

    The act is committed, so nothing is raised: what fails is logged as a warning.
    """
    _keep(library, len(barcodes), lambda: partial(_put_cartridges, tracking.cartridges.of(barcodes)))


def keep_deleted(library: Library, snapshots: Iterable[int]) -> None:
    """Have the disks that answer remember that snapshots with these numbers were deleted, as `keep` does."""
    deleted = union((number, number) for number in snapshots)
    _keep(library, 1, lambda: partial(_put_snapshots, deleted))


def _put_cartridges(found: Sequence[Cartridge], disk: Disk) -> None:
    disk.put_cartridges(found)


def _put_snapshots(deleted: Runs, disk: Disk) -> None:
    disk.put_snapshots(deleted)


def _keep(library: Library, count: int, look: Callable[[], Callable[[Disk], None]]) -> None:
    """Have each disk that answers do what `look` returns."""
    try:
        put = look()
        disks = {Path(disk.path): disk for disk in library.disks_that_answer() if not isinstance(disk, MissingDisk)}

        def remember(path: Path) -> str | None:
            try:
                put(disks[path])
            except DiskError as error:
                return error.reason
            return None

        answers = aside.each([*disks], remember, aside.SECONDS + SECONDS_A_MEDIUM * count)
        for disk, answer in zip(disks.values(), answers, strict=True):
            if (why := answer.problem or answer.value) is not None:
                _warn(disk, why)
    except (VtlfsError, OSError) as error:
        log.warning("the disks can't be told what was done to media: %s; the next mount tells them", error)


def bring_up_to_date(disk: Disk, wanted: Sequence[Cartridge]) -> None:
    """Have a disk remember what it does not know yet. May block. What fails is logged as a warning."""
    try:
        known = dict(disk.cartridges())
        lacking = [one for one in wanted if not _is_known(one, known.get(f"{one.barcode}.cartridge"))]
        if lacking:
            disk.put_cartridges(lacking)
    except DiskError as error:
        _warn(disk, error.reason)


def _is_known(wanted: Cartridge, known: Cartridge | None) -> bool:
    return known is not None and replace(known, commits=wanted.commits) == wanted


async def keep_in_pool(pool: DiskPool, found: Sequence[Cartridge]) -> None:
    """Have the disks of a mount remember media, after the commit. `found`: what `tracking.cartridges.of` returns.

    Waits for the disks that work, and not for long: what comes late comes all the same. Nothing is raised.
    """
    await _each(pool, lambda disk: disk.put_cartridges(found))


async def keep_deleted_in_pool(pool: DiskPool, snapshots: Iterable[int]) -> None:
    """Have the disks of a mount remember that snapshots with these numbers were deleted, as `keep_in_pool` does."""
    deleted = union((number, number) for number in snapshots)
    await _each(pool, lambda disk: disk.put_snapshots(deleted))


async def bring_pool_up_to_date(pool: DiskPool, wanted: Sequence[Cartridge]) -> None:
    """Have the disks of a mount remember what they do not know yet, as after they were away."""
    await _each(pool, lambda disk: bring_up_to_date(disk, wanted))


async def _each(pool: DiskPool, work: Callable[[Disk], None]) -> None:
    left = {pooled.number for pooled in pool.disks if pooled.works}
    ended = trio.Event()

    def done(pooled: PooledDisk, result: "outcome.Outcome[None]") -> None:
        if isinstance(result, outcome.Error):
            _warn(pooled.disk, str(getattr(result.error, "reason", result.error)))
        left.discard(pooled.number)
        if not left:
            ended.set()

    for pooled in [one for one in pool.disks if one.number in left]:
        thread = DiskExecutor(f"disk{pooled.number}.cartridges")  # of its own: no stream waits for many files
        thread.submit(partial(done, pooled), work, pooled.disk)
        thread.close()
    if left:
        with trio.move_on_after(PATIENCE_SECONDS):
            await ended.wait()


def _warn(disk: Disk, why: str) -> None:
    log.warning(
        "disk %d (%s): %s; it does not remember what was done to media or snapshots, until a mount tells it",
        *(disk.number, disk.path, why),
    )
