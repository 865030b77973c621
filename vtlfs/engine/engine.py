"""The engine of one mount: opens sessions and releases them.

The engine runs in one trio loop. Lasting state is in the tracking database, the state of one open() in its session
object. The engine itself knows the open sessions of the mount, and the identifiers that the mount may give.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import TypeVar

import trio

from vtlfs.disks.headers import Opening, PartOf
from vtlfs.engine import refusals
from vtlfs.engine.identifiers import SessionIdentifiers
from vtlfs.engine.lease import Lease
from vtlfs.engine.library import Library
from vtlfs.engine.live import LiveStats
from vtlfs.engine.media.truncation import Anew, Current, begin_anew, current
from vtlfs.engine.memory import READER_BYTES
from vtlfs.engine.reading.loads import LoadCache
from vtlfs.engine.reading.reader import MediumReader
from vtlfs.engine.reading.session import ReadSession
from vtlfs.engine.tasks.health import Health
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.traffic import TrafficTable
from vtlfs.engine.writing.admission import Admission
from vtlfs.engine.writing.announcements import SeenAnnouncements
from vtlfs.engine.writing.context import WriteContext
from vtlfs.engine.writing.session import WriteSession
from vtlfs.errors import NoSuchSession, Retained, TrackingError, VtlfsError, errno_name
from vtlfs.model import Access, Actor, Medium, Mount, Opener, Session, State, utc_now
from vtlfs.rules import rule_for

READ_AHEAD_UNITS_A_DISK = 2

T = TypeVar("T")

log = logging.getLogger(__name__)


class Engine:
    """See the module. Make one with `running`."""

    def __init__(
        self, library: Library, mount: Mount, context: WriteContext, lease: Lease, nursery: trio.Nursery
    ) -> None:
        self.library = library
        self.mount = mount
        self.pool = context.pool
        self.catalogue = context.catalogue
        self._context = context
        self._timing = context.timing
        self.memory = context.memory
        self.dirty = context.dirty
        self.cache = LoadCache(context.memory)
        self.traffic = TrafficTable()
        self.committer = self._committer = context.committer
        self._lease = lease
        self._nursery = nursery
        self.at_end: Callable[[Engine], Awaitable[None]] | None = None
        self.is_behind = False  # the tracking database is older than the disks, and only read
        self.identifiers = SessionIdentifiers(context.committer, nursery)
        self._writers: dict[int, WriteSession] = {}
        self._readers: dict[int, ReadSession] = {}
        self._by_drive: Counter[int] = Counter()
        self._admission = Admission(context.pool)
        self._releasing: dict[str, set[trio.Event]] = {}
        self._announcements = SeenAnnouncements(self._timing.elsewhere)
        self.health = Health(library, mount.id, context, self._writers, self._announcements)
        self._turn = 0  # the place in `pool.disks` of the disk on which the last stream began

    async def begin(self) -> None:
        """Learn what must be known before the first request. Raises TrackingError."""
        of_the_past = await self.catalogue.read(lambda tracking: tracking.sessions.last_announcement())
        self._announcements.see(of_the_past, trio.current_time())
        await self.identifiers.fetch()

    # --- opening ----------------------------------------------------------------------------------------------------

    async def least_busy_drive(self, among: Sequence[int] = ()) -> int:
        """Return the drive with the fewest open sessions in all mounts: of all drives, or of some.

        Two opens at the same time may get the same drive. Any number of sessions use a drive, so this only balances.
        """
        elsewhere = await self.catalogue.read(
            lambda tracking: tracking.sessions.count_open_by_drive(except_mount=self.mount.id)
        )
        drives = among or range(self.library.config.drives)
        return min(drives, key=lambda number: (elsewhere.get(number, 0) + self._by_drive[number], number))

    async def open_writer(
        self,
        barcode: str,
        drive: int,
        opener: Opener,
        *,
        anew: Anew | None = None,
        take: Callable[[Tracking, int, str], PartOf] | None = None,
        origin: str | None = None,
        opened_at: str | None = None,
    ) -> WriteSession:
        """Start a write session; it is in the tracking database when this returns.

        `anew`: the medium begins anew, see `begin_anew`. `take` is called first in the transaction that records the
        session, with the session's identifier and the time: it makes the medium one that may be written to, and returns
        of which stream the session is a part. Both are synced.
        `origin`, `opened_at`: of an imported session, which leaves a tape file only if its `imported` is set at the
        release. Raises NoSuchMedium, ReadOnlyMedium, TooManyStreams; for `anew` also what `begin_anew` raises; and what
        `take` raises.
        """
        at = opened_at or utc_now()
        stripe_unit = self.library.config.stripe_unit
        rule = rule_for(self.library.config.media, barcode)

        def begin(tracking: Tracking) -> tuple[Current, PartOf | None]:
            part = None if take is None else take(tracking, number, at)
            tracking.media.check_writable(barcode)
            tracking.sessions.open(
                *(number, self.mount.id, opener, Access.WRITE, drive, barcode, stripe_unit, at),
                parity=self._context.parity,
                origin=origin,
            )
            erased = anew is not None and begin_anew(tracking, barcode, number, opener, anew, at)
            return current(tracking, barcode, rule, erased=erased), part

        self._admission.admit()
        self._by_drive[drive] += 1
        try:
            number = await self.identifiers.take()
            now, part = await self._committer.call(begin, durable=anew is not None or take is not None)
        except BaseException as error:
            self._note_refusal(error, opener)
            self._by_drive[drive] -= 1
            self._admission.leave()
            raise
        opening = Opening(
            *(barcode, drive, opener, at, stripe_unit, self._context.parity, now.volume.number),
            retain_mode=now.volume.retain_mode,
            retain_seconds=now.volume.retain_seconds,
            origin=origin,
            part=part,
        )
        traffic = self.traffic.open(opener.host, drive, Access.WRITE)
        session = WriteSession(
            *(number, opening, self._context), turn=self._first_disk(), medium=now.medium, traffic=traffic
        )
        if anew is not None:
            session.note_begins_volume()
        self._writers[number] = session
        log.info(
            "session %d: opened by %s (pid %d, uid %d) of %s, to write %s through drive %d",
            *(number, opener.program, opener.pid, opener.uid, opener.host, barcode, drive),
        )
        await self._remember(now)
        return session

    async def begin_volume(self, session: WriteSession, by: str) -> None:
        """Erase the medium of a session that truncates it; it writes to the new volume then. `by`: what it did.

        Raises NotPermitted where bytes of the session were stored already, MediumBusy and Retained; nothing has changed
        then.
        """
        barcode, opener, at = session.barcode, session.opening.opener, utc_now()
        rule = rule_for(self.library.config.media, barcode)

        def begin(tracking: Tracking) -> Current:
            erased = begin_anew(tracking, barcode, session.number, opener, Anew(by), at)
            return current(tracking, barcode, rule, erased=erased)

        try:
            now = await session.begin_volume(lambda: self._committer.call(begin))
        except Retained as error:
            self._note_refusal(error, opener)
            raise
        await self._remember(now)
        session.note_begins_volume()

    def _note_refusal(self, error: BaseException, opener: Opener) -> None:
        """Record that retention has kept a program from erasing a medium."""
        if isinstance(error, Retained):
            actor, at = Actor(opener.uid, opener.host, opener.program), utc_now()
            self._committer.post(lambda tracking: refusals.record(tracking, error, actor, at))

    async def _remember(self, now: Current) -> None:
        """Have the disks remember an erasure that is committed, for the day when the tracking database is lost."""
        if now.erased:
            await self.health.keep(now.medium.barcode)

    async def open_reader(self, barcode: str, volume: int, size: int, drive: int, opener: Opener) -> ReadSession:
        """Start a session that reads the first `size` bytes of a volume, which must be a length that it has had."""
        await self.catalogue.read(lambda tracking: tracking.media.check_length(barcode))
        number = await self.identifiers.take()
        at, stripe_unit = utc_now(), self.library.config.stripe_unit
        self._committer.post(
            lambda tracking: tracking.sessions.open(
                *(number, self.mount.id, opener, Access.READ, drive, barcode, stripe_unit, at), volume=volume
            )
        )
        account = self._context.memory.open(READER_BYTES)
        traffic = self.traffic.open(opener.host, drive, Access.READ)
        session = ReadSession(number, drive, self.medium_reader(barcode, volume, size), account, traffic)
        self._readers[number] = session
        self._by_drive[drive] += 1
        log.debug("session %d: opened by %s of %s, to read %s", number, opener.program, opener.host, barcode)
        return session

    def medium_reader(self, barcode: str, volume: int, size: int) -> MediumReader:
        """Return a reader of a volume's first `size` bytes, for a session that is tracked otherwise."""
        return MediumReader(barcode, volume, size, self.catalogue, self.pool, self._read_ahead, self.cache)

    # --- closing ----------------------------------------------------------------------------------------------------

    async def release_writer(self, session: WriteSession, *, abort: bool = False) -> None:
        """End a write session. `wait_visible` waits for the release from now on, if a close() may have returned.

        After a TrackingError the release is tried again until it is recorded.
        """
        done = trio.Event()
        waiting = self._releasing.setdefault(session.barcode, set())
        if session.is_recorded or session.has_failed:
            waiting.add(done)

        def recorded() -> None:
            done.set()
            waiting.discard(done)
            if not waiting and self._releasing.get(session.barcode) is waiting:
                del self._releasing[session.barcode]

        async def give_up() -> None:
            """End the wait of look-ups: a failed stream may have extents in flight to a disk that hangs."""
            await trio.sleep(self._timing.failed)
            recorded()

        if session.has_failed:
            self._nursery.start_soon(give_up)
        try:
            await session.release(abort=abort, recorded=recorded)
        except TrackingError as error:
            log.error("session %d: its release was not recorded: %s; trying again", session.number, error)
            if abort:
                raise
            self._nursery.start_soon(self._release_again, session)
            return
        finally:
            recorded()
        if self._writers.pop(session.number, None) is not None:
            self._by_drive[session.drive] -= 1
            self._admission.leave()

    async def _release_again(self, session: WriteSession) -> None:
        await trio.sleep(self._timing.retry)
        if session.number in self._writers:
            await self.release_writer(session)

    def release_reader(self, session: ReadSession) -> None:
        """End a read session."""
        if self._readers.pop(session.number, None) is None:
            return
        self._by_drive[session.drive] -= 1
        session.close()
        at, size, requests = utc_now(), session.bytes, session.requests
        log.debug("session %d: read %d bytes", session.number, size)
        state = State.RELEASED if session.error is None else State.FAILED
        error = None if session.error is None else errno_name(session.error)
        session.traffic.end(state, error)
        self._committer.post(
            lambda tracking: tracking.sessions.release_reader(session.number, state, error, at, size, requests)
        )

    async def wait_visible(self, barcode: str) -> Medium:
        """Wait until the medium shows every stream whose close() has returned, in this mount or in another; return it.

        The flush of a close() in another mount announces the close() under a number. If that close() was not the last
        one, the other mount soon withdraws the announcement. A mount that hangs neither releases nor withdraws, so this
        wait has a limit. Raises NoSuchMedium.
        """
        for begun in list(self._releasing.get(barcode, ())):  # of now, before anything waits: none that begins later
            await begun.wait()
        until: int | None = None  # the last announcement at the start of this wait: later ones are of later close()s
        deadline = trio.current_time() + self._timing.elsewhere
        while True:
            now = trio.current_time()
            known = self._announcements.waited_out(now)
            medium, last, closing = await self._announced(barcode, known)
            # Seen now, after the wait: an earlier time would make the wait for that announcement too short.
            self._announcements.see(last, trio.current_time())
            until = last if until is None else until
            if closing is None or closing > until or now > deadline:
                return medium
            await trio.sleep(self._timing.elsewhere_poll)

    async def _announced(self, barcode: str, known: int) -> tuple[Medium, int, int | None]:
        return await self.catalogue.read(lambda tracking: tracking.media.get_announced(barcode, self.mount.id, known))

    async def describe(self, session: int) -> tuple[Session, int]:
        """Return what the database knows of a session, and the bytes that came so far. Raises NoSuchSession.

        Waits until the database knows of what has begun and ended so far.
        """
        if (writer := self._writers.get(session)) is not None:
            # Only for releases of this mount, whose session it is: to ask for those of others reads all open sessions
            # of the medium, at each of the many look-ups of a long list.
            for begun in list(self._releasing.get(writer.barcode, ())):
                await begun.wait()
        known = await self._known(session)
        # Looked at after the read: a session that ended meanwhile is not open here, and is read again below.
        is_open = session in self._writers or (known is not None and session in self._readers)
        if not is_open and (known is None or known.mount == self.mount.id):
            await self._committer.call(lambda _: None, durable=False)  # a commit, which takes a while on a busy disk
            known = None
        if known is None:
            known = await self.catalogue.read(lambda tracking: tracking.sessions.get(session))
        writer, reader = self._writers.get(session), self._readers.get(session)
        return known, writer.length if writer else reader.bytes if reader else known.bytes

    async def _known(self, session: int) -> Session | None:
        with suppress(NoSuchSession):
            return await self.catalogue.read(lambda tracking: tracking.sessions.get(session))
        return None

    async def open_sessions(self) -> list[int]:
        """Return the identifiers of the sessions that are open in any mount; of this one not those that were closed."""
        for barcode in list(self._releasing):
            await self.wait_visible(barcode)
        await self._committer.call(lambda _: None, durable=False)
        return await self.catalogue.read(lambda tracking: tracking.sessions.open_ids())

    def figures(self) -> LiveStats:
        """Return how far each open session is, and what the disks have done since the mount began."""
        sessions = {number: (writer.length, writer.requests) for number, writer in self._writers.items()}
        sessions |= {number: (reader.bytes, reader.requests) for number, reader in self._readers.items()}
        disks = {disk.number: (disk.written, disk.read) for disk in self.pool.disks}
        computed = {disk.number: disk.reconstructed for disk in self.pool.disks}
        return LiveStats(monotonic(), sessions, disks, computed)

    async def change(self, change: Callable[[Tracking], T], *, durable: bool = True, is_essential: bool = False) -> T:
        """Make a change of the tracking database, in one transaction, and return what it returned.

        `durable`: it survives a power cut. `is_essential`: it must be possible on a full file system.
        """
        return await self._committer.call(change, durable=durable, is_essential=is_essential)

    def is_reading(self, barcode: str, volume: int) -> bool:
        """Tell whether a session of this mount reads a volume, also one that is not recorded. Any thread may ask."""
        return any(reader.reads(barcode, volume) for reader in list(self._readers.values()))

    def _first_disk(self) -> int:
        """Return the place of the disk that a new stream begins on: each in turn, but not one that does not answer."""
        for _ in self.pool.disks:
            self._turn = (self._turn + 1) % len(self.pool)
            pooled = self.pool.disks[self._turn]
            if pooled.usable and not pooled.stalled:
                break
        return self._turn

    # --- plumbing ---------------------------------------------------------------------------------------------------

    def _read_ahead(self) -> int:
        """Return how many extents a reader fetches ahead. Idle readers, which have none in memory, do not count."""
        share = self._context.memory.read_ahead // self.library.config.stripe_unit // max(1, self.cache.readers)
        return min(READ_AHEAD_UNITS_A_DISK * len(self.pool), share)

    async def checkpoints(self) -> None:
        """Make the progress of running streams durable, now and then."""
        while True:
            await trio.sleep(self.library.config.checkpoint)
            self.checkpoint_all()

    def checkpoint_all(self) -> None:
        """Begin to make the progress of all running streams durable."""
        for session in self._writers.values():
            self._nursery.start_soon(session.checkpoint)

    async def end(self) -> None:
        """End what is open, give back what was leased, and record that the mount has ended."""
        await self.abort()
        for reader in list(self._readers.values()):
            self.release_reader(reader)
        unused = self.identifiers.unused()

        def end(tracking: Tracking) -> None:
            if unused:
                tracking.library.return_sessions(unused)
            if not tracking.sessions.open_of(self.mount.id):
                tracking.mounts.end(self.mount.id, "unmounted", utc_now())

        await self._committer.call(end, is_essential=True)
        if self.at_end is not None:
            await self.at_end(self)
        self._lease.end()

    async def abort(self) -> None:
        """End all streams that are open, at the same time. Cancelling waits for that."""
        if not self._writers:
            return
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as watching:
                watching.start_soon(self.health.probe_disks)  # a probe sends streams past a disk that hangs
                async with trio.open_nursery() as nursery:
                    for writer in self._writers.values():
                        nursery.start_soon(self._abort, writer)
                watching.cancel_scope.cancel()

    async def _abort(self, writer: WriteSession) -> None:
        try:
            await self.release_writer(writer, abort=True)
        except VtlfsError as error:
            log.error("session %d: %s; the next mount recovers the session", writer.number, error)
