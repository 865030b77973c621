"""A write session: one stream on its way to the disks.

The session collects bytes into extents, in whatever order the bytes come. An extent that reaches the end of its stripe
unit is sealed, and goes to the queue of its disk at once. A flush also seals the unfinished ones, waits for the disks,
syncs them and records where each extent lies: durable first, then recorded. All methods run in the trio loop; the
disks' executors see bytes and member files only.

After every `await` other writes to the same session may have happened. No `await` stands between the look and the
change when a byte is put into its extent, and when an extent is sealed, dealt and counted (`Stripes`).
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from vtlfs.disks.headers import Ending, Opening
from vtlfs.engine.layout.dealer import Dealer
from vtlfs.engine.layout.intervals import cut
from vtlfs.engine.media.truncation import Current
from vtlfs.engine.memory import WRITER_BYTES
from vtlfs.engine.traffic import Traffic
from vtlfs.engine.writing.context import WriteContext
from vtlfs.engine.writing.eviction import Eviction
from vtlfs.engine.writing.intake import Intake
from vtlfs.engine.writing.lazy_lock import LazyLock
from vtlfs.engine.writing.own_bytes import OwnBytes
from vtlfs.engine.writing.recording import Recording
from vtlfs.engine.writing.reservation import Reservation
from vtlfs.engine.writing.striping.durability import Durability
from vtlfs.engine.writing.striping.pipeline import WritePipeline
from vtlfs.engine.writing.striping.placement import FEWEST_DISKS
from vtlfs.engine.writing.striping.stripes import Stripes
from vtlfs.engine.writing.verdict import Verdict
from vtlfs.errors import (
    NotPermitted,
    NotSequential,
    SessionEnded,
    TrackingError,
    VtlfsError,
)
from vtlfs.model import ImportedEnd, Medium, State, TapeFile, utc_now

log = logging.getLogger(__name__)


class WriteSession:
    """One stream that is written. `number` is the session's identifier; offsets are those of the stream, from 0."""

    __slots__ = (
        *("_closed", "_context", "_durability", "_flushing", "_intake", "_own", "_pipeline", "_recording"),
        *(
            "_stripe_unit",
            "_stripes",
            "_traffic",
            "_verdict",
            "account",
            "barcode",
            "drive",
            "eviction",
            "imported",
            "is_ending",
        ),
        *("length", "medium", "number", "requests"),
    )

    def __init__(
        self, number: int, opening: Opening, context: WriteContext, *, turn: int, medium: Medium, traffic: Traffic
    ) -> None:
        """`opening` goes into the headers; `medium`: as it was when the session began.

        `turn` differs from stream to stream, so that streams begin on different disks. `traffic` counts it.
        """
        self.number = number
        self.barcode = opening.medium
        self.drive = opening.drive
        self.medium = medium
        self.length = 0  # offset after the last byte that has come
        self.requests = 0
        self._stripe_unit = opening.stripe_unit
        self._verdict = verdict = Verdict(number, opening.medium)
        self._context = context
        self._traffic = traffic
        self._flushing = LazyLock()
        self.account = context.memory.open(WRITER_BYTES)
        keeps = context.durable_close and len(context.pool) > FEWEST_DISKS
        stripes = Stripes(opening.stripe_unit, self.account, context.dirty if keeps else None)
        pipeline = WritePipeline(number, opening, context, Dealer(opening.parity, turn), stripes, verdict.fail)
        self._stripes = stripes
        self._pipeline = pipeline
        self._durability = Durability(context.pool, stripes, pipeline, verdict.fail)
        self.eviction = Eviction(context.pool, stripes, pipeline, self._durability, self._flushing)
        context.memory.register(self.account, self.eviction)
        self._recording = Recording(number, stripes, context)
        self._own = OwnBytes(number, opening.stripe_unit, stripes, pipeline, context, verdict)
        limited = medium.capacity is not None
        reservation = Reservation(number, opening.medium, context.catalogue, context.committer) if limited else None
        self._intake = Intake(context, opening.stripe_unit, stripes, pipeline, reservation)
        context.dirty.register(self)
        self._closed = False  # a close() was answered, and no write has come since
        self.is_ending = False  # its release has begun
        self.imported: ImportedEnd | None = None  # of an imported stream that is whole and right: how it ends

    @property
    def opening(self) -> Opening:
        """What its headers say of its beginning."""
        return self._pipeline.opening

    def note_program(self, program: str) -> None:
        """Note which program writes, before the first byte: in the headers, and soon in the tracking database."""
        opener = replace(self.opening.opener, program=program)
        self._pipeline.opening = replace(self.opening, opener=opener)
        self._recording.note_program(program)

    @property
    def is_recorded(self) -> bool:
        """Tell whether all bytes of the stream are recorded; with sync=none, recorded bytes may be unsynced."""
        return self._verdict.error is None and self._recording.length == self.length

    @property
    def recorded(self) -> int:
        """The stream's bytes that are recorded, from its first one to a gap or its end."""
        return self._recording.length

    @property
    def has_failed(self) -> bool:
        """Tell whether bytes that the writer had handed over were lost."""
        return self._verdict.error is not None

    def note_page_cache(self) -> None:
        """Note that the stream comes through the kernel's page cache. To be called before the first write."""
        self._stripes.ends.disregard()

    def note_begins_volume(self) -> None:
        """Note that the program has begun the medium anew: it looks for its stream at the beginning."""
        self._verdict.begins_volume = True

    async def reserve(self, end: int) -> None:
        """Reserve the medium's room for the stream up to `end`, which writes then find. Raises MediumFull."""
        await self._intake.reserve(end)

    async def write(self, offset: int, data: bytes) -> None:
        """Take in `data` at `offset`, which need not be the end: the kernel may send pages out of order, or twice.

        Bytes in hand are replaced. Waits while the disks' queues are full. Raises, before it takes a byte: MediumFull,
        or DiskError with ENOSPC; the first error of the stream; NotSequential if `data` differs from bytes that are
        sealed.
        """
        self._verdict.raise_error()
        self.requests += 1
        self._traffic.requests += 1
        try:
            await self._intake.prepare(offset, len(data))
        except VtlfsError as error:
            self._verdict.refused = error
            raise
        view = memoryview(data)
        known = await self._compare(offset, view)
        for piece in cut(offset + known, len(data) - known, self._stripe_unit):
            source = known + piece.source
            self._stripes.put(offset + source, view[source : source + piece.size])
        end = max(self.length, offset + len(data))
        self._traffic.bytes += end - self.length
        self.length = end
        self._stripes.ends.note_write(self.length)
        self._closed = False
        self._recording.go_on()
        self.account.note_use()
        await self._pipeline.send(flush=False)
        await self._throttle()

    async def _compare(self, offset: int, data: memoryview) -> int:
        """Return how many of the bytes are sealed already. Raises NotSequential if another byte is in one's place.

        More bytes may be sealed during the comparison. Those that are not, nobody else has seen: they can be replaced.
        """
        known = 0
        while (sealed := min(self._stripes.sealed - offset, len(data))) > known:
            if await self.read(offset + known, sealed - known) != data[known:sealed]:
                raise NotSequential(offset, self.length)
            known = sealed
        return known

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the stream, from memory or from the disks; fewer than `size` at its end."""
        return await self._own.read(offset, max(0, min(size, self.length - offset)))

    async def begin_volume(self, begin: Callable[[], Awaitable[Current]]) -> Current:
        """Drop the bytes in hand, and go on in the current volume of the medium; return what `begin` returned.

        `begin` ends the volume that there is, if need be. Raises what it raises, and NotPermitted if bytes have left
        hand, for they may be durable; the stream is as it was then.
        """
        self._verdict.raise_error()
        async with self._flushing:  # else the bytes in hand could be sealed meanwhile
            if self._stripes.sealed or self._pipeline.members:
                raise NotPermitted("truncating a stream after its first bytes were stored")
            now = await begin()
            self._stripes.clear()
            self.length = 0
            if now.volume.number != self.opening.volume:
                self._intake.begin_volume()
            self.medium = now.medium
            self._pipeline.opening = replace(
                self.opening,
                volume=now.volume.number,
                retain_mode=now.volume.retain_mode,
                retain_seconds=now.volume.retain_seconds,
            )
            return now

    async def flush(self, *, closing: bool = False) -> None:
        """Send all bytes of the stream to the disks; return when they are recorded. Raises the stream's first error.

        `closing`: for a close(), which may be the last one. The flush announces that close(), so that look-ups in other
        mounts wait for the release. A TrackingError leaves the stream unharmed: the next flush records the same.
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
            await self._sync_recorded()
            self._verdict.raise_error()

    async def _flush(self, *, announce: bool = False) -> None:
        async with self._flushing:
            await self._pipeline.send(flush=True)
            await self._record(durable=self._context.durable_close, announce=announce)
        self._verdict.raise_error()

    async def checkpoint(self) -> None:
        """Close the stripe; sync and record the written stripes. The writer gets errors of disks from its next call.

        What is recorded ends where a write ends, as far as that is known, so bytes in hand may be sent to the disks.
        """
        if self._stripes.has_unrecorded and not self._flushing.locked():
            async with self._flushing:
                try:
                    if not self._stripes.ends.has(self._stripes.sealed):
                        await self._pipeline.send(flush=True)
                    self._pipeline.close_stripe()
                    await self._record(durable=True)
                except VtlfsError as error:
                    log.warning("session %d: checkpoint: %s; trying again", self.number, error)

    async def writeback(self, least: int | None = None) -> None:
        """Free memory: sync the disks for which `least` bytes or more are kept; None: as many as are worth a sync.

        The writer gets errors from its next call.
        """
        await self._durability.writeback(self._context.memory.sizes.worth_a_sync if least is None else least)

    async def _throttle(self) -> None:
        """Begin a writeback while memory is short or the dirty budget half used; wait while that budget is exceeded."""
        dirty = self._context.dirty
        if (dirty.is_much or self._context.memory.is_short) and self._stripes.has_kept:
            dirty.writeback_soon(self)
            await dirty.wait()

    def send_elsewhere(self, disk: int) -> int:
        """Send stripes with extents in flight to a disk that hangs, or unsynced there, elsewhere; return how many."""
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
                await self._sync_recorded()
                self._verdict.raise_error()
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
            self._verdict.fail(error)
        async with self._flushing:  # else `give_back` would sync member files that are being closed
            return await self._end(*self._verdict.end(error, abort=abort and not self._closed), recorded)

    async def _end(self, state: State, error: str | None, recorded: Callable[[], object]) -> TapeFile | None:
        at, requests = utc_now(), self.requests
        imported = self.imported if state is State.RELEASED else None
        if imported is not None:
            state, error, at, requests = imported.state, imported.error, imported.released_at, imported.requests
        tape_file = None
        try:
            tape_file = await self._recording.release(self.opening, state, error, at, requests, imported)
        except SessionEnded as ended:  # the process that ended the session finishes the headers, too
            log.error("%s", ended)
            ending = None
        else:
            self._verdict.log_end(state, error, requests, tape_file)
            ending = self._verdict.ending(state, error, at, requests, tape_file)
        self._traffic.end(state, error)
        recorded()
        await self._finish(ending)
        return tape_file

    # --- the record -------------------------------------------------------------------------------------------------

    async def _record(self, *, durable: bool, announce: bool = False) -> None:
        """Wait for the extents in flight, and record the stripes that are written, up to the first lost one.

        `durable`: sync the disks first, and record only durable stripes. `announce`: the same transaction announces a
        close(). A TrackingError leaves all as it was.
        """
        await self._pipeline.drain()
        if durable:
            await self._durability.sync(recorded=not self._context.durable_close)
        await self._recording.progress(self.opening, self.requests, durable=durable, announce=announce)

    async def _sync_recorded(self) -> None:
        """Sync the disks and the database's log, for stripes that sync=none has recorded unsynced."""
        async with self._flushing:
            await self._durability.sync(recorded=True)
            await self._recording.sync_log()

    async def _finish(self, ending: Ending | None) -> None:
        """Close the member files. Errors are only logged: the data is recorded already.

        The dirty budget forgets the stream first, so that no writeback syncs member files that are being closed.
        """
        self._context.dirty.leave(self)
        self._stripes.let_go()
        await self._pipeline.finish(ending)
        self._stripes.clear()
        self.account.close()

    # --- errors -----------------------------------------------------------------------------------------------------

    def excuse(self) -> None:
        """Forget that the last write was refused: the program never hears of it, for its stream goes on elsewhere."""
        self._verdict.refused, self._verdict.goes_on = None, True

    def refuse(self, error: VtlfsError) -> None:
        """Fail the stream with an error that no write() can return: the program's write() has returned already."""
        self._verdict.fail(error)
