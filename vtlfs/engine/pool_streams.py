"""Streams that are written through a pool: a stream goes to the current medium of its pool, in a session of its own.

If the pool spans media, a stream continues on the next medium when its own is full: the write that does not fit goes
there as a whole, in a new session. All bytes before that write are made durable first, so that the library always keeps
the beginning of a stream. Each part is a tape file of its own. Used in the trio loop of a mount.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from vtlfs.disks.headers import PartOf
from vtlfs.engine.engine import Engine
from vtlfs.engine.media import pools
from vtlfs.engine.media.pools import Choice, Turn, Why
from vtlfs.engine.memory import Account
from vtlfs.engine.recover import file_of
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.pools import Part
from vtlfs.engine.writing.lazy_lock import LazyLock
from vtlfs.engine.writing.session import WriteSession
from vtlfs.errors import MediumFull, NoSuchPool, NotSequential, TrackingError, VtlfsError
from vtlfs.model import Actor, Medium, Opener, TapeFile, utc_now
from vtlfs.rules import PoolRule

Gate = Callable[[str], Awaitable[int]]
"""Checks that the opener may write to a medium, by its barcode; returns the drive to take. Raises what forbids it."""

log = logging.getLogger(__name__)


class _Moved(Exception):
    """The pool is elsewhere by now; nothing was changed."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.turn = turn


@dataclass(frozen=True, slots=True)
class _Part:
    """A session of a stream. `start`: offset in the stream of its first byte."""

    session: WriteSession
    start: int

    @property
    def medium(self) -> Medium:
        """Its medium, as it was at the opening."""
        return self.session.medium


class PoolStream:
    """One stream that is written through a pool: what a WriteSession is to a medium. Make one with `open_stream`."""

    def __init__(self, engine: Engine, name: str, rule: PoolRule, opener: Opener, gate: Gate) -> None:
        self._engine = engine
        self._name = name
        self._rule = rule
        self._opener = opener
        self._gate = gate
        self._parts: list[_Part] = []
        self._open: list[WriteSession] = []  # the last part, and those before whose release was cut short
        self._moving = LazyLock()
        self._refused: VtlfsError | None = None
        self.account: Account = engine.memory.open(0)

    @property
    def number(self) -> int:
        """The identifier of its first session, which is the stream's."""
        return self._parts[0].session.number

    @property
    def medium(self) -> Medium:
        """The medium on which it is, as it was when the stream came there."""
        return self._parts[-1].medium

    @property
    def length(self) -> int:
        """Offset after the last byte that has come."""
        return self._parts[-1].start + self._parts[-1].session.length

    @property
    def recorded(self) -> int:
        """The stream's bytes that are recorded, from its first one to a gap or its end."""
        return self._parts[-1].start + self._parts[-1].session.recorded

    async def begin(self) -> None:
        """Open the next session, on the medium to which the pool's next stream goes. Raises PoolEnded.

        The transaction that records the session decides which one that is; it is tried again where the pool has moved
        since the look.
        """
        catalogue, start = self._engine.catalogue, self.length if self._parts else 0
        turn = await catalogue.read(lambda tracking: pools.look(tracking, self._name, self._rule, utc_now()))
        while True:
            choice = turn.choice
            if choice is None:
                raise await catalogue.read(lambda tracking: pools.ended(tracking, self._name, self._rule, utc_now()))
            drive, take = await self._gate(choice.barcode), partial(self._take, choice, start)
            try:
                session = await self._engine.open_writer(choice.barcode, drive, self._opener, take=take)
            except _Moved as moved:
                turn = moved.turn
                continue
            self._parts.append(_Part(session, start))
            self._open.append(session)
            if choice.why is not Why.CURRENT:
                log.info("pool %s: takes medium %s: %s", self._name, choice.barcode, choice.why)
            if choice.why in (Why.EXPIRED, Why.GROWN):
                await self._engine.health.keep(choice.barcode)
            return

    def _take(self, choice: Choice, start: int, tracking: Tracking, session: int, at: str) -> PartOf:
        """Take the medium, and record the part, in the transaction that records the session. Raises _Moved.

        `start`: offset in the stream. Return what the session's headers say of it.
        """
        turn = pools.look(tracking, self._name, self._rule, at)
        if turn.choice != choice:
            raise _Moved(turn)
        actor = Actor(self._opener.uid, self._opener.host, self._opener.program)
        pools.take(tracking, self._name, self._rule, choice, actor, at)
        stream, place = self._parts[0].session.number if self._parts else session, len(self._parts)
        tracking.pools.add_part(Part(session, self._name, stream, place))
        return PartOf(self._name, stream, place, start, tracking.library.watermark().commits)

    # --- what a WriteSession does -----------------------------------------------------------------------------------

    def note_page_cache(self) -> None:
        """Note that the stream comes through the kernel's page cache; then it can't go on on another medium."""
        self._parts[-1].session.note_page_cache()

    def note_program(self, program: str) -> None:
        """Note which program writes, before the first byte."""
        self._opener = replace(self._opener, program=program)
        self._parts[-1].session.note_program(program)

    async def reserve(self, end: int) -> None:
        """Reserve room for the stream up to `end`, in a pool that does not span. Raises MediumFull."""
        part = self._parts[-1]
        if not self._rule.span:
            try:
                await part.session.reserve(end - part.start)
            except MediumFull:
                await self._note_full(part)
                raise

    async def write(self, offset: int, data: bytes) -> None:
        """Take in `data` at `offset`. In a pool that spans, `offset` is the stream's end, or bytes come once more.

        Raises NotSequential where these differ; MediumFull where the stream can't go on, since the pool does not span
        or no medium is as large as the write; PoolEnded; and what `WriteSession.write` raises.
        """
        if self._refused is not None:
            raise self._refused
        while True:
            part = self._parts[-1]
            if (known := min(part.start - offset, len(data))) > 0:  # bytes of parts that have been released
                if await self.read(offset, known) != data[:known]:
                    raise NotSequential(offset, self.length)
                offset, data = offset + known, data[known:]
            try:
                await part.session.write(offset - part.start, data)
            except MediumFull:
                await self._note_full(part)
                is_too_large = part.medium.capacity is not None and len(data) > part.medium.capacity
                if not self._rule.span or is_too_large:
                    raise
                async with self._moving:
                    if self._parts[-1] is part:
                        await self._go_on(part)
            else:
                return

    async def _note_full(self, part: _Part) -> None:
        """Have the next open() take another medium. If that can't be recorded, its stream comes back here."""
        barcode = part.medium.barcode
        try:
            await self._engine.change(lambda tracking: tracking.pools.note_full(self._name, barcode), durable=False)
        except TrackingError as error:
            log.warning("pool %s: medium %s is full, which could not be recorded: %s", self._name, barcode, error)

    async def _go_on(self, part: _Part) -> None:
        """Go on on the next medium, once all that has come is durable; release the part before."""
        await part.session.fsync()
        await self.begin()
        log.info(
            "session %d: medium %s is full; its stream goes on as session %d on %s",
            *(part.session.number, part.medium.barcode, self._parts[-1].session.number, self.medium.barcode),
        )
        part.session.excuse()
        await self._engine.release_writer(part.session)
        self._open.remove(part.session)
        if part.session.has_failed:
            self.refuse(VtlfsError(f"session {part.session.number}, a part of the stream, has failed"))

    async def flush(self, *, closing: bool = False) -> None:
        """Return when all bytes are recorded, as `WriteSession.flush`: those of the parts before are."""
        self._check()
        await self._parts[-1].session.flush(closing=closing)

    async def fsync(self) -> None:
        """Return when all bytes are durable and recorded: those of the parts before are."""
        self._check()
        await self._parts[-1].session.fsync()

    async def release(self) -> None:
        """End the stream: its last session, and those before that `_go_on` has left open where it was cut short.

        The release begins before the first `await`.
        """
        self.account.close()
        async with AsyncExitStack() as stack:
            for session in self._open:  # the last one is released first, and an error of one keeps no other open
                stack.push_async_callback(self._engine.release_writer, session)

    def refuse(self, error: VtlfsError) -> None:
        """Fail the stream with an error that no write() can return."""
        self._refused = self._refused or error
        self._parts[-1].session.refuse(error)

    def _check(self) -> None:
        if self._refused is not None:
            raise self._refused

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the stream, also of the parts that have been released; fewer than `size` at its end."""
        pieces, end = [], min(offset + size, self.length)
        for part, behind in zip(self._parts, [*self._parts[1:], None], strict=True):
            stop = end if behind is None else min(end, behind.start)
            if offset < stop:
                pieces.append(await self._read(part, offset - part.start, stop - offset))
                offset = stop
        return b"".join(pieces)

    async def _read(self, part: _Part, offset: int, size: int) -> bytes:
        if part is self._parts[-1]:
            return await part.session.read(offset, size)
        file = await self._engine.catalogue.read(partial(_file_of, part.session.number))
        if file is None:
            raise TrackingError(f"the release of session {part.session.number} is not recorded yet")
        reader = self._engine.medium_reader(file.medium, file.volume, file.end)
        try:
            return bytes(await reader.read(file.start + offset, size))
        finally:
            reader.close()


def _file_of(session: int, tracking: Tracking) -> TapeFile | None:
    return file_of(tracking, tracking.sessions.get(session))


async def open_stream(engine: Engine, name: str, opener: Opener, gate: Gate) -> PoolStream:
    """Begin a stream on the medium on which the pool is, or comes to. Raises NoSuchPool, PoolEnded, TooManyStreams."""
    rule = engine.library.config.pools.get(name)
    if rule is None:
        raise NoSuchPool(name)
    stream = PoolStream(engine, name, rule, opener, gate)
    try:
        await stream.begin()
    except BaseException:
        stream.account.close()
        raise
    return stream
