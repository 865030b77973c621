"""What a mount looks after beside its streams: its disks, and other mounts of the library that die.

`probe_disks`, `note_fill` and `watch_mounts` are tasks of the engine, in the trio loop; they never end by themselves.
"""

import logging
from collections.abc import Mapping

import trio

from vtlfs.disks.base import Disk
from vtlfs.engine import recover
from vtlfs.engine.lease import Lease
from vtlfs.engine.library import Library
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
        """`writers`: the open streams of the mount, which go to other disks when one hangs."""
        self._library = library
        self._mount = mount
        self._pool = context.pool
        self._timing = context.timing
        self._catalogue = context.catalogue
        self._committer = context.committer
        self._writers = writers
        self._announcements = announcements
        self._is_put_off = False  # member files of a dead mount are to be trimmed when nobody repairs any more

    @property
    def _disks(self) -> list[Disk]:
        return [pooled.disk for pooled in self._pool.disks]

    async def probe_disks(self) -> None:
        """Look at the disks now and then: their free space, whether they answer, and whether they work again."""
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
        """Record that a disk can't be used, or can be used again."""
        at = utc_now()
        self._committer.post(lambda tracking: tracking.disks.record_fault(disk, fault, at))

    async def note_fill(self) -> None:
        """Record how full the disks are, now and then."""
        while True:
            for pooled in self._pool.disks:
                number, total, free, at = pooled.number, pooled.disk.total, pooled.disk.free, utc_now()
                if total and not pooled.stalled:
                    self._committer.post(
                        lambda tracking, row=(number, total, free, at): tracking.disks.record_fill(*row)  # type: ignore[misc]
                    )
            await trio.sleep(self._timing.fill)

    async def note_closed(self, lease: Lease) -> None:
        """Note in the mount's lease, now and then, up to which tape file its member files are closed.

        An error leaves an older figure, for which a repair waits longer than it must.
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
        """Note in the mount's lease, now and then, up to which tape file its headers are finished and durable.

        An error leaves an older figure, which has recovery look at more headers than it must.
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
        """Wait until the streams that are ending have closed their member files; return up to which tape file."""
        last = await self._catalogue.read(lambda tracking: tracking.library.last_ordinal())
        # Asked first: a session with an ordinal up to `last` has finished its headers, or is among these.
        ending = [session for session in self._writers.values() if session.is_ending]
        while ending:
            await trio.sleep(self._timing.probe)
            ending = [session for session in ending if self._writers.get(session.number) is session]
        return last

    async def watch_mounts(self) -> None:
        """End the sessions of other mounts of this library that died, now and then."""
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
        """End the sessions of other mounts that died. The transaction finds out whether somebody else was faster."""
        leases = self._library.leases
        for mount in await self._catalogue.read(
            lambda tracking: recover.dead_mounts(tracking, leases, except_mount=self._mount)
        ):
            ended = await self._committer.call(
                lambda tracking, mount=mount: recover.recover_mount(tracking, mount, utc_now())  # type: ignore[misc]
            )
            log.warning("mount %d (pid %d) died; %d of its sessions were ended", mount.id, mount.pid, len(ended))
            if await trio.to_thread.run_sync(self._trim, [mount.id]):
                leases.remove(mount.id)  # last, so that what a crash leaves undone is found

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
