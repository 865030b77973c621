"""A write session: one stream on its way to the disks.

What arrives is collected into stripe units, in whatever order it comes; a full unit goes to its disk's queue at once. A
flush sends the unfinished ones too, waits for the disks, syncs them and records where everything lies: durable first,
then recorded. All methods run in the trio loop; the disks' executors see bytes and member files only.

After every `await` other writes to the same session may have happened. What is decided without one: which unit a byte
belongs to, that a unit is full (it leaves `_units` in the same step), and what is in flight (`_outstanding`).
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

WORTH_A_SYNC = 4 * MIB  # of a stream, kept in memory until its disk is synced

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
        self._room = Room(number, barcode, context.tracking, context.committer) if limited else None
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
        self._refused: VtlfsError | None = None
        self._closed = False  # a close() has been answered, and nothing has come since
        self.is_ending = False  # its release has begun

    @property
    def is_durable(self) -> bool:
        """Tell whether everything that came is on the disks and recorded."""
        return self._error is None and self._recording.length == self.length

    @property
    def has_failed(self) -> bool:
        """Tell whether bytes that the writer had handed over were lost."""
        return self._error is not None

    async def write(self, offset: int, data: bytes) -> None:
        """Take in `data` at `offset`, which need not be the end: the kernel may send pages out of order, and again.

        Waits while the disks' queues are full. Raises MediumFull or DiskError with ENOSPC before anything is taken;
        any error that befell earlier bytes; NotSequential where bytes of a full stripe unit would change.
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
        """Return when everything that has come is on the disks and recorded. Raises what befell it.

        `closing`: for a close(), which may be the last one. Other mounts then wait a moment for the release. A
        TrackingError does no harm to the stream: the next flush tries again.
        """
        was_closed = self._closed
        self._closed = was_closed or closing  # until something comes, were it during this flush
        try:
            await self._flush(announce=closing)
        except BaseException:
            self._closed = self._closed and was_closed
            raise
        if closing:
            await self._recording.announce_close()

    async def fsync(self) -> None:
        """Return when everything that has come would survive a power cut.

        Most programs that sync do so once, and close then: the first sync announces the close().
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
        """Make durable and record the full stripe units that the disks have taken. Errors stay for the writer."""
        if self._units.has_unsynced and not self._flushing.locked():
            async with self._flushing:
                try:
                    await self._record(durable=True)
                except VtlfsError as error:
                    log.warning("session %d: checkpoint: %s; trying again", self.number, error)

    async def writeback(self, least: int = WORTH_A_SYNC) -> None:
        """Free memory by syncing disks for which so much is kept. Errors stay for the writer."""
        await self._durability.writeback(least)

    async def _throttle(self) -> None:
        """Have the stream's disks synced where much is kept in memory until then; wait where all keep too much."""
        dirty = self._context.dirty
        if (dirty.is_much or self._context.memory.is_short) and self._units.has_kept:
            dirty.writeback_soon(self)
            await dirty.wait()

    def send_elsewhere(self, disk: int) -> int:
        """Send what is on its way to a disk that hangs to others; return how many stripe units that were."""
        return self._pipeline.send_elsewhere(disk)

    async def release(self, *, abort: bool = False, recorded: Callable[[], object] = lambda: None) -> TapeFile | None:
        """End the session; what is recorded of it becomes a tape file, which is returned.

        `abort`: the mount goes down before the kernel has said that the last descriptor is closed. `recorded` is
        called when the tape file is on the medium; what follows is only tidying up, which a disk may hold up. Raises
        TrackingError where the database doesn't take it; then the session is as it was, and can be released again.
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
        self._pinned += 1  # nobody is to sync member files that are being closed
        try:
            return await self._end(*self._verdict(error, abort=abort and not self._closed), recorded)
        finally:
            self._pinned -= 1

    async def _end(self, state: State, error: str | None, recorded: Callable[[], object]) -> TapeFile | None:
        at = utc_now()
        tape_file = None
        try:
            tape_file = await self._recording.release(state, error, at, self.requests)
        except SessionEnded as ended:
            log.error("%s", ended)
        else:
            log.info("session %d: %s", self.number, self._summary(state, error, tape_file))
        recorded()
        await self._finish(state, error, at, tape_file)
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
        """Have the medium promise the room, and wait for memory, before a byte is taken."""
        if self._room is not None:
            await self._room.reserve(end)
        memory = self._context.memory
        if memory.is_short:
            units = [(piece, self._units.in_hand(piece.unit)) for piece in pieces]
            if not any(unit and unit.has_gap for _, unit in units):  # which the others may be waiting for
                await memory.room(
                    sum(unit.needs(piece.start, piece.size) if unit else piece.size for piece, unit in units)
                )

    async def _have_in_hand(self, pieces: list[Piece]) -> None:
        """Have the stripe units in memory, and the disks promise the room for them, before a byte is taken."""
        tight: list[StripeBuffer] = []
        for piece in pieces:
            unit = self._units.in_hand(piece.unit)
            if unit is None and piece.unit >= self._recording.next and self._units.get(piece.unit) is None:
                unit = self._pipeline.deal(piece.unit)
            if unit is not None and not unit.allocated and self._is_tight(unit.disk):
                tight.append(unit)
            if unit is not None and unit.away:
                data = await self._read_back(unit.number)
                if unit.away:  # still
                    unit.put_back(data)
        if tight:
            async with self._allocating:
                for unit in tight:
                    await self._pipeline.allocate(unit)

    def _is_tight(self, disk: int) -> bool:
        return self._context.pool[disk].disk.free < self._context.low_space

    # --- memory -----------------------------------------------------------------------------------------------------

    def can_give(self, *, may_open: bool = True) -> bool:
        """Tell whether something could be had back just now: not while a write, a flush or the release needs it."""
        if self._pinned or self._flushing.locked():
            return False
        return self._units.has_kept or any(
            not self._context.pool[unit.disk].stalled and (may_open or unit.disk in self._pipeline.members)
            for unit in self._idle_units()
        )

    async def give_back(self) -> None:
        """Let go of what is in memory and can be had from a disk again; of small units, of buffers that are too large.

        An unfinished unit goes to its disk as with a flush, and is synced where full ones are kept until then, so that
        a disk that dies takes nothing along that it would not have taken otherwise. Nothing is recorded. Whatever is
        written meanwhile stays. What fails befalls the stream as with a flush.
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
        """Have the disks take all that has come of unfinished units, so that their bytes need not stay in memory."""
        await self._pipeline.send([unit for unit in units if not unit.is_sent])
        await self._pipeline.drain()
        if self._units.keeps:
            await self._durability.sync()

    def _idle_units(self) -> list[StripeBuffer]:
        """Return the unfinished units of which bytes are in memory, but those with a gap: they can't be sent whole."""
        return [unit for unit in self._units.all_in_hand() if not unit.away and unit.coverage.end and not unit.has_gap]

    # --- the record -------------------------------------------------------------------------------------------------

    async def _record(self, *, durable: bool, announce: bool = False) -> None:
        """Wait for what is in flight, sync it and record it. Raises TrackingError, which leaves all as it was.

        Where a disk has failed, record the units before the first that was to go there. `announce`: and that the
        stream may be about to be released.
        """
        await self._pipeline.drain()
        if durable:
            await self._durability.sync(recorded=not self._context.durable_close)
        await self._recording.progress(self.requests, durable=durable, announce=announce)

    async def _sync_late(self) -> None:
        """Make durable what was recorded without waiting for the disks."""
        async with self._flushing:
            await self._durability.sync(recorded=True)
            await self._recording.sync_log()

    async def _finish(self, state: State, error: str | None, at: str, tape_file: TapeFile | None) -> None:
        """Close the member files. What fails here is logged: the data is durable, and the database knows of it."""
        number = start = size = None
        if tape_file is not None:
            number, start, size = tape_file.number, tape_file.start, tape_file.bytes
        await self._pipeline.finish(Ending(state, error, at, number, start, size, self.requests))
        self._units.clear()
        self.account.close()
        self._context.dirty.leave(self)

    # --- what has been before ---------------------------------------------------------------------------------------

    async def _read_back(self, number: int) -> bytes:
        """Return a unit that is no longer in hand."""
        await self._pipeline.drain()
        self._raise_error()
        row = self._units.row(number, durable=False)
        if row is None:
            row = self._context.tracking.stripe_units.of(self.number, number, 1)[0]
        return await self._context.pool.read_extent(row, self._stripe_unit)

    async def _check_same(self, offset: int, data: memoryview) -> None:
        """Raise NotSequential unless the stream has these very bytes at the offset."""
        if await self.read(offset, len(data)) != data:
            raise NotSequential(offset, self.length)

    # --- errors -----------------------------------------------------------------------------------------------------

    def refuse(self, error: VtlfsError) -> None:
        """Make an error that a writer could not be told at once the fate of the stream: cached bytes were lost."""
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
