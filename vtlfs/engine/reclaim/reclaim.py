"""Deletes the stored bytes of volumes, in the trio loop of a mount or of a command, which holds the lease of a repair.

It takes a batch of sessions at a time: marks them, forgets their extents, and removes their members from all disks at
the same time. Wherever the process dies, the next run goes on with the step that was interrupted.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from vtlfs.disks.base import Disk
from vtlfs.disks.executor import DiskExecutor
from vtlfs.disks.snapshots import Runs
from vtlfs.engine.jobs.rate_limit import RateLimit
from vtlfs.engine.library import Library
from vtlfs.engine.reclaim.outlook import is_free
from vtlfs.engine.repair import disk_jobs
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.engine.tracking.repositories.reclaiming import EndedVolume
from vtlfs.errors import DiskError, DiskMissing, VtlfsError, first_of
from vtlfs.model import MAX_SIZE, Actor, format_size, utc_now
from vtlfs.sizes import SIZES, Sizes
from vtlfs.timing import DEFAULT, Timing

NAME = "reclaim"  # of the job's row
LEASE = "repair"  # which changes what lies in the members of ended sessions, too
MEMBERS_A_JOB = 16
MOST_FAILURES = 3  # of members on one disk, before the disk is left for later

Change = Callable[[Callable[[Tracking], Any]], Awaitable[Any]]
Progress = Callable[[int, int], object]  # is told the stored bytes that are done, and those in total


@dataclass
class Reclaimed:
    """What came of it. `bytes`: stored bytes that were deleted. `left`: disks that have members left, and why.

    `postponed`: volumes that a reader holds by now, or of which a mount has a member open.
    """

    volumes: list[tuple[str, int]] = field(default_factory=list)
    sessions: int = 0
    bytes: int = 0
    postponed: int = 0
    left: dict[int, str] = field(default_factory=dict)

    def in_words(self) -> str:
        """Return it in one clause."""
        said = [f"{format_size(self.bytes)} of {len(self.volumes):,} erased volume{'s' * (len(self.volumes) != 1)}"]
        said += [f"{self.postponed:,} postponed"] if self.postponed else []
        said += [f"disk {number} has some left ({why})" for number, why in sorted(self.left.items())]
        return ", ".join(said)


def _nobody(done: int, total: int) -> None:
    """Tell nobody of the progress."""


class Reclaim:
    """One run. To be made in the trio loop, and closed."""

    def __init__(
        self,
        library: Library,
        disks: Mapping[int, Disk],
        catalogue: Catalogue,
        change: Change,
        *,
        actor: Actor,
        by: str,
        limit: int | None = None,
        is_held: Callable[[EndedVolume], bool] = lambda volume: False,
        progress: Progress = _nobody,
        timing: Timing = DEFAULT,
        sizes: Sizes = SIZES,
    ) -> None:
        """`by`: who does it, for the job's row. `is_held`: what else tells that a volume is read."""
        self.result = Reclaimed()
        self._library = library
        self._disks = disks
        self._catalogue = catalogue
        self._change = change
        self._actor = actor
        self._by = by
        self._rate = RateLimit(limit, trio.current_time)
        self._is_held = is_held
        self._progress = progress
        self._timing = timing
        self._sizes = sizes
        self._executors = {number: DiskExecutor(f"disk{number}.reclaim") for number in disks}
        self._failures: Counter[int] = Counter()  # by disk
        self._away: set[int] = set()  # disks that are left for later
        self._total = 0
        self._deleted: Runs = ()  # snapshots, of which a disk is told before a member goes
        self._told: set[int] = set()  # disks that were

    def close(self) -> None:
        """Let the threads end."""
        for executor in self._executors.values():
            executor.close()

    async def run(self, volumes: Sequence[EndedVolume]) -> Reclaimed:
        """Finish what an earlier run has left, and reclaim volumes. Raises TrackingError.

        Cancelling stops it between two steps.
        """
        self._total = sum(volume.stored for volume in volumes)
        at = utc_now()
        await self._change(lambda tracking: tracking.jobs.begin(NAME, self._by, self._total, at))
        await self._change(lambda tracking: tracking.reclaiming.forget_retired())
        self._progress(0, self._total)
        # No snapshot that is deleted later holds one of the volumes.
        self._deleted = await self._catalogue.read(lambda tracking: tracking.snapshots.deleted())
        await self._settle(0, MAX_SIZE)
        for volume in volumes:
            await self._volume(volume)
        words = self.result.in_words()
        await self._change(lambda tracking: tracking.jobs.end(NAME, words, utc_now()))
        return self.result

    # --- one volume -------------------------------------------------------------------------------------------------

    async def _volume(self, volume: EndedVolume) -> None:
        after = 0
        while batch := await self._next(volume, after):
            sessions = self._closed(batch)
            if len(sessions) < len(batch) or not await self._change(partial(self._mark, volume, sessions)):
                self.result.postponed += 1
                return
            after = sessions[-1]
            self.result.sessions += len(sessions)
            await self._settle(sessions[0], after)
        if await self._change(partial(self._end, volume)):
            self.result.volumes.append(volume.key)
            await self._settle(0, MAX_SIZE)  # headers of streams that left no tape file
        else:
            self.result.postponed += 1

    async def _next(self, volume: EndedVolume, after: int) -> list[tuple[int, int, int]]:
        """Return the next sessions to be marked together: with each its mount, and the ordinal of its tape file."""
        found = await self._catalogue.read(
            lambda tracking: tracking.reclaiming.sessions(*volume.key, after, self._sizes.reclaim_sessions)
        )
        batch: list[tuple[int, int, int]] = []
        size = 0
        for session, mount, ordinal, length in found:
            if batch and size + length > self._sizes.reclaim_batch:
                break
            batch.append((session, mount, ordinal))
            size += length
        return batch

    def _closed(self, batch: Sequence[tuple[int, int, int]]) -> list[int]:
        """Return those sessions whose members no mount has open any more: it may be finishing their headers."""
        leases, closed = self._library.leases, []
        for session, mount, ordinal in batch:
            if leases.is_alive(mount) and ordinal > leases.closed_up_to(mount):
                continue
            closed.append(session)
        return closed

    def _mark(self, volume: EndedVolume, sessions: Sequence[int], tracking: Tracking) -> bool:
        """Mark sessions, unless something holds their volume by now; tell whether that is so."""
        if self._is_held(volume) or not is_free(self._library, tracking, volume):
            return False
        tracking.reclaiming.mark(sessions)
        tracking.library.count_move()  # a copy of the database that was made before does not know it
        return True

    def _end(self, volume: EndedVolume, tracking: Tracking) -> bool:
        at = utc_now()
        size = tracking.reclaiming.end(*volume.key, at)
        if size is not None and volume.tape_files:
            names = {"medium": volume.medium, "volume": volume.number}
            tracking.events.add("reclaimed", self._actor, at, **names, bytes=size, data=volume.bytes)  # type: ignore[arg-type]
        return size is not None

    # --- what is left -----------------------------------------------------------------------------------------------

    async def _settle(self, first: int, last: int) -> None:
        """Forget the extents of marked sessions, and remove their members where that can be done now."""
        after = first - 1
        while sessions := [
            session
            for session in await self._catalogue.read(
                lambda tracking, after=after: tracking.reclaiming.marked(after, self._sizes.reclaim_sessions)  # type: ignore[misc]
            )
            if session <= last
        ]:
            after = sessions[-1]
            await self._forget(sessions)
            await self._remove_all(sessions[0], after)
            self._progress(min(self.result.bytes, self._total), self._total)

    async def _forget(self, sessions: Sequence[int]) -> None:
        is_done = False
        while not is_done:
            size, is_done = await self._change(partial(self._forget_some, sessions))
            self.result.bytes += size
            await trio.sleep(self._rate.take(size))

    def _forget_some(self, sessions: Sequence[int], tracking: Tracking) -> tuple[int, bool]:
        size, is_done = tracking.reclaiming.forget_extents(sessions, self._sizes.reclaim_rows)
        if size:
            tracking.jobs.advance(NAME, min(self.result.bytes + size, self._total))
        return size, is_done

    async def _remove_all(self, first: int, last: int) -> None:
        """Remove the members of sessions `first` to `last` from all disks, at the same time. Raises TrackingError."""
        try:
            async with trio.open_nursery() as nursery:
                for number, disk in self._disks.items():
                    if number not in self._away:
                        nursery.start_soon(self._remove, number, disk, first, last)
        except BaseExceptionGroup as group:
            known = group.subgroup(VtlfsError)
            if known is None:
                raise
            raise first_of(known) from None

    async def _remove(self, number: int, disk: Disk, first: int, last: int) -> None:
        """Remove the members of sessions `first` to `last` that are left on a disk; what fails is left for later."""
        executor = self._executors[number]
        hangs = lambda: executor.stalled_seconds > self._timing.removing  # noqa: E731
        while some := await self._catalogue.read(
            lambda tracking, first=first: tracking.reclaiming.left_on(number, first, last, MEMBERS_A_JOB)  # type: ignore[misc]
        ):
            try:
                deleted = () if number in self._told else self._deleted
                removed, error = await disk_jobs.run(executor, hangs, _remove, disk, some, deleted)
            except disk_jobs.NoAnswer:
                self._away.add(number)
                self.result.left[number] = "it does not answer"
                return
            if removed:
                self._told.add(number)
                await self._change(lambda tracking, gone=removed: tracking.reclaiming.note_removed(number, gone))  # type: ignore[misc]
            if error is not None:
                self.result.left[number] = error.reason
                self._failures[number] += 1
                first = some[len(removed)] + 1
                if self._failures[number] == MOST_FAILURES or isinstance(error, DiskMissing):
                    self._away.add(number)
                    return


def _remove(disk: Disk, sessions: Sequence[int], deleted: Runs) -> tuple[list[int], DiskError | None]:
    """Remove the members of sessions; return those whose members are gone, and the error of the first that is not.

    The disk remembers before which snapshots are `deleted`: a rebuild from an older copy of the database would bring
    them back, and miss what is removed here. A disk that is full remembers it afterwards.
    """
    removed: list[int] = []
    is_told = _tell(disk, deleted)
    for session in sessions:
        try:
            disk.remove(session)
        except DiskError as error:
            return removed, error
        removed.append(session)
    if not is_told:
        _tell(disk, deleted)
    return removed, None


def _tell(disk: Disk, deleted: Runs) -> bool:
    """Have a disk remember deleted snapshots; tell whether it does. One disk of the library is enough."""
    if deleted:
        try:
            disk.put_snapshots(deleted)
        except DiskError:
            return False
    return True
