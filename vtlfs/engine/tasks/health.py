"""The housekeeping of a mount: probes its disks, and recovers other mounts of the library that died.

`probe_disks`, `note_fill`, `note_closed`, `note_finished` and `watch_mounts` are tasks of the engine, in the trio loop;
they run until cancelled.
"""

import logging
from collections.abc import Mapping
from contextlib import closing

import trio

from vtlfs.disks.base import Disk
from vtlfs.disks.cartridges import Cartridge
from vtlfs.engine import recover
from vtlfs.engine.lease import Lease
from vtlfs.engine.library import Library
from vtlfs.engine.media import cartridges
from vtlfs.engine.writing.announcements import SeenAnnouncements
from vtlfs.engine.writing.context import WriteContext
from vtlfs.engine.writing.session import WriteSession
from vtlfs.errors import VtlfsError
from vtlfs.model import utc_now

log = logging.getLogger(__name__)


class Health:
    """See the module."""

    def __init__(
        self,
        library: Library,
        mount: int,
        context: WriteContext,
        writers: Mapping[int, WriteSession],
        announcements: SeenAnnouncements,
    ) -> None:
        """`writers`: the open streams of the mount; their extents go to other disks when a disk hangs."""
        self._library = library
        self._mount = mount
        self._pool = context.pool
        self._timing = context.timing
        self._catalogue = context.catalogue
        self._committer = context.committer
        self._writers = writers
        self._announcements = announcements
        self._is_put_off = False  # member files of a dead mount are still to be trimmed, after a repair that runs

    @property
    def _disks(self) -> list[Disk]:
        return [pooled.disk for pooled in self._pool.disks]

    async def probe_disks(self) -> None:
        """Probe the disks now and then: their free space, whether they answer, and whether failed ones work again."""
        disks = await self._catalogue.read(lambda tracking: tracking.disks.all())
        noted = {disk.number: disk.fault for disk in disks}
        while True:
            for pooled in self._pool.disks:
                pooled.probe()
                if pooled.hangs and (moved := self._send_elsewhere(pooled.number)):
                    log.info(
                        "disk %d: %d stripes that had not become durable there were dealt anew over other disks",
                        pooled.number,
                        moved,
                    )
                if pooled.trouble != noted.get(pooled.number):
                    noted[pooled.number] = pooled.trouble
                    self._note_fault(pooled.number, pooled.trouble)
            await trio.sleep(self._timing.probe)

    def _send_elsewhere(self, disk: int) -> int:
        return sum(session.send_elsewhere(disk) for session in list(self._writers.values()))

    def _note_fault(self, disk: int, fault: str | None) -> None:
        """Record why a disk can't be used; `fault` of None: it can be used again."""
        at = utc_now()
        self._committer.post(lambda tracking: tracking.disks.record_fault(disk, fault, at))

    async def note_fill(self) -> None:
        """Record now and then how full the disks are."""
        while True:
            for pooled in self._pool.disks:
                number, total, free, at = pooled.number, pooled.disk.total, pooled.disk.free, utc_now()
                if total and not pooled.stalled:
                    self._committer.post(
                        lambda tracking, row=(number, total, free, at): tracking.disks.record_fill(*row)  # type: ignore[misc]
                    )
            await trio.sleep(self._timing.fill)

    async def note_closed(self, lease: Lease) -> None:
        """Note in the mount's lease, now and then, up to which ordinal the member files of its tape files are closed.

        After an error the lease keeps an older ordinal; then repairs postpone sessions longer than they must.
        """
        noted = 0
        while True:
            try:
                if (last := await self._closed()) != noted:
                    lease.note_closed(last)
                    noted = last
            except (VtlfsError, OSError) as error:
                log.warning("noting which member files are closed: %s; trying again", error)
                await trio.sleep(self._timing.written)
            await trio.sleep(self._timing.probe)

    async def note_finished(self, lease: Lease) -> None:
        """Note in the mount's lease, now and then, up to which ordinal its headers are finished and durable.

        After an error the lease keeps an older ordinal; then recovery looks at more headers than it must.
        """
        while True:
            try:
                last = await self._closed()
                await trio.sleep(self._timing.written)
                lease.note_finished(last)
            except (VtlfsError, OSError) as error:
                log.warning("noting which headers are finished: %s; trying again", error)
                await trio.sleep(self._timing.written)

    async def _closed(self) -> int:
        """Return the last ordinal, after all streams up to that ordinal have closed their member files."""
        last = await self._catalogue.read(lambda tracking: tracking.library.last_ordinal())
        # `last` was read first, so a session with an ordinal up to `last` has finished its headers, or is in `ending`.
        ending = [session for session in self._writers.values() if session.is_ending]
        while ending:
            await trio.sleep(self._timing.probe)
            ending = [session for session in ending if self._writers.get(session.number) is session]
        return last

    async def watch_mounts(self) -> None:
        """Recover other mounts of this library that died, now and then, and notice the announcements of live ones."""
        while True:
            try:
                last = await self._catalogue.read(lambda tracking: tracking.sessions.last_announcement())
                self._announcements.see(last, trio.current_time())
                await self.reap_dead_mounts()
                if self._is_put_off:
                    self._is_put_off = False
                    await self.tidy_up()
            except (VtlfsError, OSError) as error:
                log.error("recovering dead mounts: %s; trying again", error)
            await trio.sleep(self._timing.watch)

    async def reap_dead_mounts(self) -> None:
        """End the sessions of other mounts that died. If another mount was faster, the transaction ends none."""
        leases = self._library.leases
        for mount in await self._catalogue.read(
            lambda tracking: recover.dead_mounts(tracking, leases, except_mount=self._mount)
        ):
            ended = await self._committer.call(
                lambda tracking, mount=mount: recover.recover_mount(tracking, mount, utc_now()),  # type: ignore[misc]
                is_essential=True,
            )
            log.warning("mount %d (pid %d) died; %d of its sessions were ended", mount.id, mount.pid, len(ended))
            if await trio.to_thread.run_sync(self._trim, [mount.id]):
                leases.remove(mount.id)  # last, so that after a crash the lease shows that something is undone

    async def disks_are_back(self) -> None:
        """Do what could not be done while a disk was missing."""
        await self.remember()
        await self.tidy_up()

    async def remember(self) -> None:
        """Have all disks remember what was done to media, also those that were away then. Nothing is raised."""
        try:
            wanted = await trio.to_thread.run_sync(self._to_remember)
        except VtlfsError as error:
            log.warning("what the disks are to remember of media: %s", error)
            return
        if wanted:
            await cartridges.bring_pool_up_to_date(self._pool, wanted)

    async def keep(self, *barcodes: str) -> None:
        """Have the disks remember what a stream or a pool has done to media, after the commit. Nothing is raised."""
        try:
            found = await self._catalogue.read(lambda tracking: tracking.cartridges.of(barcodes))
        except VtlfsError as error:
            log.warning("what the disks are to remember of media: %s", error)
            return
        await cartridges.keep_in_pool(self._pool, found)

    def _to_remember(self) -> list[Cartridge]:
        """Return what all disks are to remember of media. In a thread: there may be many."""
        with closing(self._library.tracking(read_only=True)) as tracking:
            return tracking.cartridges.all()

    async def tidy_up(self) -> None:
        """Finish a recovery that was interrupted: trim the member files, and remove the leases."""
        left = await self._catalogue.read(lambda tracking: recover.left_leases(tracking, self._library.leases))
        if not left:
            return
        if await trio.to_thread.run_sync(self._trim, left):
            await self._committer.call(lambda tracking: recover.remove_leases(tracking, self._library.leases, left))

    def _trim(self, mounts: list[int]) -> bool:
        """Trim the member files of dead mounts; tell whether their leases may go. In a thread."""
        tracking = self._library.tracking(read_only=True)
        try:
            return recover.trim_all(self._library, tracking, mounts, self._disks)
        except recover.PutOff:
            self._is_put_off = True
            return False
        finally:
            tracking.close()
