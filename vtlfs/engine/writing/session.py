"""A write session: one stream on its way to the disks.

The session collects bytes into stripe units, in whatever order the bytes come. A full unit goes to the queue of its
disk at once. A flush also sends the unfinished units, waits for the disks, syncs them and records where each unit lies:
durable first, then recorded. All methods run in the trio loop; the disks' executors see bytes and member files only.

After every `await` other writes to the same session may have happened. No `await` stands between the look and the
change when a byte is put into its unit, when a full unit leaves the session's hands (`StripeUnits.queue`), and when a
unit in flight is counted (`WritePipeline`).
"""

import logging
from collections.abc import Callable

from vtlfs import blame
from vtlfs.disks.headers import Ending, Opening
from vtlfs.engine.memory import WRITER_BYTES
from vtlfs.engine.stripe import Piece, RoundRobin, cut
from vtlfs.engine.writing.buffer import StripeBuffer
from vtlfs.engine.writing.context import WriteContext
from vtlfs.engine.writing.durability import Durability
from vtlfs.engine.writing.lazy_lock import LazyLock
from vtlfs.engine.writing.pipeline import WritePipeline
from vtlfs.engine.writing.placement import FEWEST_DISKS
from vtlfs.engine.writing.recording import Recording
from vtlfs.engine.writing.room import Room
from vtlfs.engine.writing.units import StripeUnits
from vtlfs.errors import (
    MediumFull,
    NotSequential,
    SessionEnded,
    TrackingError,
    VtlfsError,
    errno_name,
)
from vtlfs.model import MIB, State, TapeFile, utc_now

WORTH_A_SYNC = 4 * MIB  # bytes that a stream keeps until a disk is synced: fewer are not worth a sync

log = logging.getLogger(__name__)


class WriteSession:
    """One stream. `number` is the session's identifier; offsets are the stream's own, from 0."""

    __slots__ = (
        *("_allocating", "_closed", "_context", "_durability", "_error", "_flushing", "_pinned", "_pipeline"),
        *("_recording", "_refused", "_room", "_stripe_unit", "_units", "account", "barcode", "drive"),
        *("is_ending", "length", "number", "requests"),
    )

    def __init__(
        self,
        number: int,
        barcode: str,
        stripe_unit: int,
        dealer: RoundRobin,
        opening: Opening,
        context: WriteContext,
        *,
        limited: bool,
    ) -> None:
        """`opening` goes into the headers; `limited`: the medium has a capacity."""
        self.number = number
        self.barcode = barcode
        self.drive = opening.drive
        self.length = 0  # end of the last byte that came
        self.requests = 0
        self._stripe_unit = stripe_unit
        self._context = context
        self._room = Room(number, barcode, context.catalogue, context.committer) if limited else None
        self._allocating = LazyLock()
        self._flushing = LazyLock()
        self.account = context.memory.open(WRITER_BYTES, self)
        keeps = context.durable_close and len(context.pool) > FEWEST_DISKS
        units = StripeUnits(stripe_unit, context.dirty if keeps else None)
        pipeline = WritePipeline(number, stripe_unit, dealer, opening, context, self.account, units, self._fail)
        self._units = units
        self._pipeline = pipeline
        self._durability = Durability(stripe_unit, context.pool, units, pipeline, self._fail)
        self._recording = Recording(number, stripe_unit, units, context)
        context.dirty.register(self)
        self._pinned = 0  # writes that need their stripe units in memory now
        self._error: VtlfsError | None = None
        self._refused: VtlfsError | None = None  # of the last write of which nothing was taken
        self._closed = False  # a close() was answered, and no write has come since
        self.is_ending = False  # its release has begun

    @property
    def is_durable(self) -> bool:
        """Tell whether all bytes of the stream are recorded; with sync=none, recorded bytes may be unsynced."""
        return self._error is None and self._recording.length == self.length

    @property
    def has_failed(self) -> bool:
        """Tell whether bytes that the writer had handed over were lost."""
        return self._error is not None

    async def write(self, offset: int, data: bytes) -> None:
        """Take in `data` at `offset`, which need not be the end: the kernel may send pages out of order, and again.

        Waits while the disks' queues are full. Raises MediumFull, or DiskError with ENOSPC, before it takes a byte; the
        first error of the stream; NotSequential where `data` differs from the bytes of a full stripe unit.
        """
        self._raise_error()
        self.requests += 1
        pieces = list(cut(offset, len(data), self._stripe_unit))
        try:
            await self._make_room(offset + len(data), pieces)
            self._pinned += 1
            try:
                await self._have_in_hand(pieces)
                full, repeats = self._put(pieces, memoryview(data))
            finally:
                self._pinned -= 1
        except VtlfsError as error:
            self._refused = error
            raise
        self.length = max(self.length, offset + len(data))
        self._closed = False
        self._recording.go_on()
        self.account.note_use()
        await self._pipeline.send(full)
        await self._throttle()
        for piece in repeats:
            await self._check_same(offset + piece.source, memoryview(data)[piece.source : piece.source + piece.size])

    def _put(self, pieces: list[Piece], view: memoryview) -> tuple[list[StripeBuffer], list[Piece]]:
        """Take in bytes. Return the stripe units that are full now, and the pieces of units that were full before."""
        full: list[StripeBuffer] = []
        repeats: list[Piece] = []
        for piece in pieces:
            unit = self._units.in_hand(piece.unit)
            if unit is None:
                repeats.append(piece)
            elif self._units.put(unit, piece.start, view[piece.source : piece.source + piece.size]):
                full.append(unit)
        return full, repeats

    async def read(self, offset: int, size: int) -> bytes:
        """Return the stream's own bytes, wherever they are; fewer at its end."""
        parts: list[bytes] = []
        for piece in cut(offset, max(0, min(size, self.length - offset)), self._stripe_unit):
            unit = self._units.in_hand(piece.unit)
            if unit is not None and not unit.away:
                parts.append(unit.peek(piece.start, piece.size))
            else:
                whole = await self._read_back(piece.unit)
                parts.append(whole[piece.start : piece.start + piece.size])
        return b"".join(parts)

    async def flush(self, *, closing: bool = False) -> None:
        """Send all bytes of the stream to the disks; return when they are recorded. Raises the stream's first error.

        `closing`: for a close(), which may be the last one. The flush announces that close(), so that look-ups in other
        mounts wait for the release. A TrackingError leaves the stream unharmed: the next flush records the same units.
        """
        was_closed = self._closed
        self._closed = was_closed or closing  # a write, also one during this flush, makes it False again
        try:
            await self._flush(announce=closing)
        except BaseException:
            self._closed = self._closed and was_closed
            raise
        if closing:
            await self._recording.announce_close()

    async def fsync(self) -> None:
        """Return when all bytes of the stream are durable and recorded.

        The first fsync() of a stream announces a close(), for most programs that sync do so once, just before close().
        """
        await self._flush(announce=not self._recording.was_announced)
        if not self._context.durable_close:
            await self._sync_late()
            self._raise_error()
            self._recording.tail_is_durable = self._recording.has_tail

    async def _flush(self, *, announce: bool = False) -> None:
        async with self._flushing:
            await self._pipeline.send([unit for unit in self._units.all_in_hand() if not unit.is_sent])
            durable = self._context.durable_close or self._recording.tail_is_durable
            await self._record(durable=durable, announce=announce)
        self._raise_error()

    async def checkpoint(self) -> None:
        """Sync and record the full stripe units that are written. Errors of disks are kept for the writer."""
        if self._units.has_unsynced and not self._flushing.locked():
            async with self._flushing:
                try:
                    await self._record(durable=True)
                except VtlfsError as error:
                    log.warning("session %d: checkpoint: %s; trying again", self.number, error)

    async def writeback(self, least: int = WORTH_A_SYNC) -> None:
        """Free memory: sync the disks for which `least` bytes or more are kept. Errors are kept for the writer."""
        await self._durability.writeback(least)

    async def _throttle(self) -> None:
        """Begin a writeback while memory is short or the dirty budget half used; wait while that budget is exceeded."""
        dirty = self._context.dirty
        if (dirty.is_much or self._context.memory.is_short) and self._units.has_kept:
            dirty.writeback_soon(self)
            await dirty.wait()

    def send_elsewhere(self, disk: int) -> int:
        """Send the stripe units in flight to a disk that hangs to other disks; return how many units were sent."""
        return self._pipeline.send_elsewhere(disk)

    async def release(self, *, abort: bool = False, recorded: Callable[[], object] = lambda: None) -> TapeFile | None:
        """End the session; its recorded bytes become a tape file. Return the tape file, None without one.

        `abort`: the mount goes down before the kernel has said that the last descriptor is closed. `recorded` is
        called when the release is in the database: only the closing of the member files follows, for which a disk may
        take long. A TrackingError leaves the session as it was, so that it can be released again.
        """
        self.is_ending = True
        self._recording.begin_release()
        error: VtlfsError | None = None
        try:
            await self.flush()
            if not self._context.durable_close:
                await self._sync_late()
                self._raise_error()
        except SessionEnded as ended:
            error = ended
        except TrackingError:
            raise
        except VtlfsError as failure:
            error = failure
        if error is None and self._recording.length < self.length:
            error = VtlfsError(
                f"{self.length - self._recording.length} bytes of the stream are not recorded: it has a gap"
            )
            self._fail(error)
        self._pinned += 1  # so `can_give` says no: `give_back` would sync member files that are being closed
        try:
            return await self._end(*self._verdict(error, abort=abort and not self._closed), recorded)
        finally:
            self._pinned -= 1

    async def _end(self, state: State, error: str | None, recorded: Callable[[], object]) -> TapeFile | None:
        at = utc_now()
        tape_file = None
        try:
            tape_file = await self._recording.release(state, error, at, self.requests)
        except SessionEnded as ended:  # by somebody else, who knows how: the headers are left as they are
            log.error("%s", ended)
            ending = None
        else:
            log.info("session %d: %s", self.number, self._summary(state, error, tape_file))
            ending = self._ending(state, error, at, tape_file)
        recorded()
        await self._finish(ending)
        return tape_file

    def _summary(self, state: State, error: str | None, tape_file: TapeFile | None) -> str:
        kept = "nothing kept"
        if tape_file is not None:
            kept = f"{tape_file.bytes} bytes kept as tape file {tape_file.number:04d} of {self.barcode}"
        return f"{state}{f', {error}' if error else ''}: {self.requests} requests, {kept}"

    def _verdict(self, error: VtlfsError | None, *, abort: bool) -> tuple[State, str | None]:
        if error is not None:
            return State.FAILED, errno_name(error)
        if abort:
            return State.FAILED, "ESHUTDOWN"
        refused = self._refused
        return State.RELEASED, None if refused is None else errno_name(refused)

    # --- room -------------------------------------------------------------------------------------------------------

    async def _make_room(self, end: int, pieces: list[Piece]) -> None:
        """Reserve room on the medium, and wait for memory, before the write takes a byte."""
        if self._room is not None:
            await self._room.reserve(end)
        memory = self._context.memory
        if memory.is_short:
            units = [(piece, self._units.in_hand(piece.unit)) for piece in pieces]
            # A write that may close a gap never waits: the bytes behind the gap can't leave memory before it.
            if not any(unit and unit.has_gap for _, unit in units):
                await memory.room(
                    sum(unit.needs(piece.start, piece.size) if unit else piece.size for piece, unit in units)
                )

    async def _have_in_hand(self, pieces: list[Piece]) -> None:
        """Bring the stripe units into memory, and allocate slots on disks short of room, before a byte is taken."""
        tight: list[StripeBuffer] = []
        for piece in pieces:
            unit = self._units.in_hand(piece.unit)
            if unit is None and piece.unit >= self._recording.next and self._units.get(piece.unit) is None:
                unit = self._pipeline.deal(piece.unit)
            if unit is not None and not unit.allocated and self._is_tight(unit.disk):
                tight.append(unit)
            if unit is not None and unit.away:
                data = await self._read_back(unit.number)
                if unit.away:  # another write may have put it back meanwhile
                    unit.put_back(data)
        if tight:
            async with self._allocating:
                for unit in tight:
                    await self._pipeline.allocate(unit)

    def _is_tight(self, disk: int) -> bool:
        return self._context.pool[disk].disk.free < self._context.low_space

    # --- memory -----------------------------------------------------------------------------------------------------

    def can_give(self, *, may_open: bool = True) -> bool:
        """Tell whether `give_back` may free memory now: not while a write, a flush or the release is at work."""
        if self._pinned or self._flushing.locked():
            return False
        return self._units.has_kept or any(
            not self._context.pool[unit.disk].stalled and (may_open or unit.disk in self._pipeline.members)
            for unit in self._idle_units()
        )

    async def give_back(self) -> None:
        """Free memory: shrink the buffers of small units; else put unfinished units away; else sync disks.

        An unfinished unit goes to its disk as with a flush. Where full units are kept until a sync, the disk is synced
        before the unit is put away: else a dying disk would lose bytes that memory could still have given to another
        disk. Nothing is recorded. A unit that grows meanwhile stays in memory. An error is the stream's, as with a
        flush.
        """
        async with self._flushing:
            units = self._idle_units()
            if sum(unit.shrink() for unit in units if self._units.is_idle(unit)):
                return
            if units:
                await self._put_down(units)
            else:
                await self._durability.writeback(0)
            for unit in units:
                is_there = unit.is_sent and self._units.is_idle(unit) and self._units.is_safe(unit)
                if is_there and not self._pinned and not unit.away:
                    unit.put_away()

    async def _put_down(self, units: list[StripeBuffer]) -> None:
        """Write unfinished units to their disks, synced where full units are kept until a sync."""
        await self._pipeline.send([unit for unit in units if not unit.is_sent])
        await self._pipeline.drain()
        if self._units.keeps:
            await self._durability.sync()

    def _idle_units(self) -> list[StripeBuffer]:
        """Return the unfinished units with bytes in memory; not those with a gap, which can't be sent whole."""
        return [unit for unit in self._units.all_in_hand() if not unit.away and unit.coverage.end and not unit.has_gap]

    # --- the record -------------------------------------------------------------------------------------------------

    async def _record(self, *, durable: bool, announce: bool = False) -> None:
        """Wait for the units in flight, and record the units that are written. A TrackingError leaves all as it was.

        `durable`: sync the disks first, and record only durable units. Only the units before the first lost one are
        recorded. `announce`: the same transaction announces a close().
        """
        await self._pipeline.drain()
        if durable:
            await self._durability.sync(recorded=not self._context.durable_close)
        await self._recording.progress(self.requests, durable=durable, announce=announce)

    async def _sync_late(self) -> None:
        """Sync the disks and the database's log, for units that sync=none has recorded unsynced."""
        async with self._flushing:
            await self._durability.sync(recorded=True)
            await self._recording.sync_log()

    def _ending(self, state: State, error: str | None, at: str, tape_file: TapeFile | None) -> Ending:
        """Return what the headers are to say of the end."""
        number = start = size = None
        if tape_file is not None:
            number, start, size = tape_file.number, tape_file.start, tape_file.bytes
        return Ending(state, error, at, number, start, size, self.requests)

    async def _finish(self, ending: Ending | None) -> None:
        """Close the member files. Errors are only logged: the data is recorded already.

        First the dirty budget forgets the stream: nobody is to sync member files that are being closed.
        """
        self._context.dirty.leave(self)
        self._units.let_go_of_kept()
        await self._pipeline.finish(ending)
        self._units.clear()
        self.account.close()

    # --- units that are not in hand ---------------------------------------------------------------------------------

    async def _read_back(self, number: int) -> bytes:
        """Read the bytes of a unit from its disk: a unit that is full or put away."""
        await self._pipeline.drain()
        self._raise_error()
        row = self._units.row(number, durable=False)
        if row is None:
            # A recorded unit keeps its slot, so the row can't become stale.
            rows = await self._context.catalogue.read(lambda tracking: tracking.stripe_units.of(self.number, number, 1))
            row = rows[0]
        return await self._context.pool.read_extent(row, self._stripe_unit)

    async def _check_same(self, offset: int, data: memoryview) -> None:
        """Raise NotSequential unless the stream has these very bytes at the offset."""
        if await self.read(offset, len(data)) != data:
            raise NotSequential(offset, self.length)

    # --- errors -----------------------------------------------------------------------------------------------------

    def refuse(self, error: VtlfsError) -> None:
        """Fail the stream with an error that no write() could return: the kernel had taken the bytes, now lost."""
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Keep the first error for the writer."""
        if self._error is None:
            known = isinstance(error, VtlfsError)
            self._error = error if isinstance(error, VtlfsError) else VtlfsError(str(error))
            expected = isinstance(error, MediumFull) or blame.fault_of(self._error.errno) is blame.Fault.FULL
            log.log(
                logging.WARNING if expected else logging.ERROR,
                "session %d on %s: %s",
                self.number,
                self.barcode,
                error,
                exc_info=None if known else error,
            )

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
