"""Indexing: the streams that are not indexed yet, one after the other. In the trio loop of a mount or of a command.

Whoever does it holds the lease `index`. The database of the index blocks, so it is used in a thread.
"""

import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import trio

from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.port import Catalogue
from vtlfs.errors import IndexUnusable, NoSuchSession, VtlfsError
from vtlfs.members import filling
from vtlfs.members.child import Found, FoundRemark, Limits, Worker, WorkerFailed
from vtlfs.members.database import MemberIndex
from vtlfs.members.filling import FoundArchive, FoundMember, Interrupted, StreamFiller
from vtlfs.members.stream import OpenReader, StreamReader, find_stream, first_session, held
from vtlfs.members.values import StreamState
from vtlfs.model import Stream, format_size

ROWS_AT_ONCE = 1000  # tape files that are looked up together
MAX_NOTE = 500

Pause = Callable[[int], Awaitable[None]]
"""Is told how many bytes were read, and waits for as long as that is to take."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass
class Indexed:
    """What came of it: streams, members, bytes of the streams.

    `unknown`: how many streams are no archives that are read. `failed`: streams that the library's disks did not give;
    they are still pending.
    """

    streams: int = 0
    members: int = 0
    bytes: int = 0
    unknown: int = 0
    failed: list[int] = field(default_factory=list)

    def in_words(self) -> str:
        """Return it in one clause."""
        files = f"{self.streams:,} tape file{'s' * (self.streams != 1)} with {self.members:,} members"
        unknown = f", {self.unknown:,} of which can't be" if self.unknown else ""
        return f"{files}, {format_size(self.bytes)}{unknown}"


def is_due(index: MemberIndex, tracking: Tracking) -> bool:
    """Tell whether streams have come, or went, since the index was filled; quick. Blocks. Not: whether some wait."""
    ordinal, session, event = index.position()
    known = tracking.tape_files.since_ordinal(max(1, ordinal), 2)
    is_new = [row for row in known if row[0] > ordinal]
    is_other = bool(ordinal) and (ordinal, session) not in known
    return bool(is_new or is_other or tracking.events.reclaimed_after(event))


class Indexing:
    """One run. `progress` is told the bytes that each step has done."""

    def __init__(
        self,
        library: Library,
        catalogue: Catalogue,
        open_reader: OpenReader,
        index: MemberIndex,
        *,
        pause: Pause,
        progress: Callable[[int], object] = lambda size: None,
        limits: Limits | None = None,
        is_background: bool = False,
    ) -> None:
        """`is_background`: the worker has a low priority, and the log does not warn of what reading alone tells."""
        self._level = logging.INFO if is_background else logging.WARNING
        self.result = Indexed()
        self._library = library
        self._catalogue = catalogue
        self._open_reader = open_reader
        self._index = index
        self._pause = pause
        self._progress = progress
        self._limits = limits or Limits()
        self._worker = Worker(self._limits, is_background=is_background)

    def close(self) -> None:
        """End the worker process."""
        self._worker.close()

    async def update(self) -> None:
        """Note what has come and gone since the last time. Raises IndexDamaged."""
        ordinal, session, event = await self._in_thread(self._index.position)
        await self._forget_reclaimed(event)
        if ordinal and (ordinal, session) not in await self._released(ordinal, 1):
            ordinal = 0  # the catalogue was rebuilt: ordinals may have changed, identifiers have not
        while found := await self._released(ordinal + 1, ROWS_AT_ONCE):
            streams = await self._catalogue.read(partial(_streams, [session for _, session in found]))
            ordinal, session = found[-1]
            await self._in_thread(partial(filling.add_pending, self._index, streams, ordinal, session))

    async def run(self, sessions: list[int] | None = None, *, again: bool = False) -> Indexed:
        """Index streams: the pending ones, or some. `again`: also what is indexed of them. Raises IndexDamaged."""
        for session in await self._in_thread(self._index.pending) if sessions is None else sessions:
            await self._one(session, again)
        return self.result

    # --- one stream -------------------------------------------------------------------------------------------------

    async def _one(self, session: int, again: bool) -> None:
        try:
            stream = await self._catalogue.read(lambda tracking: find_stream(tracking, session))
        except NoSuchSession:
            await self._forget([session])
            return
        with held(self._library, stream):
            before = None if again else await self._in_thread(partial(filling.interrupted, self._index, session))
            if before is None:
                await self._forget([session], stays_pending=True)
            filler = await self._in_thread(lambda: StreamFiller(self._index, session, before))
            reader = StreamReader(stream, self._open_reader)
            try:
                await self._walk(stream, reader, filler, before)
            finally:
                reader.close()

    async def _walk(
        self, stream: Stream, reader: StreamReader, filler: StreamFiller, before: Interrupted | None
    ) -> None:
        notes = [] if before is None or before.note is None else [before.note]
        begin, known = (0, 0) if before is None else (before.start, before.members)
        limits, done, is_unknown = self._limits, begin, False
        self._progress(begin)
        where = f"session {stream.session} ({stream.parts[0].medium}, tape file {stream.parts[0].number:04d})"

        async def read(offset: int, size: int) -> bytes:
            nonlocal done
            data = await reader.read(offset, size)
            await self._pause(len(data))
            if offset + len(data) > done:
                self._progress(offset + len(data) - done)
                done = offset + len(data)
            return data

        async def take(found: Found) -> None:
            nonlocal is_unknown
            if isinstance(found, FoundRemark):
                notes.append(found.text)
                is_unknown = found.is_unknown
                await self._in_thread(partial(filler.note, "; ".join(notes)[:MAX_NOTE]))
            elif isinstance(found, FoundArchive):
                filler.begin_archive(found)
            else:
                await self._in_thread(partial(self._add, filler, found))
                if filler.members > limits.members or filler.text > limits.text:
                    raise WorkerFailed(f"it has more names than are indexed: these are its first {filler.members:,}")

        try:
            await self._worker.walk(stream.bytes, read, take, start=begin)
        except WorkerFailed as error:
            notes.append(str(error))
            is_unknown = not filler.members
        except IndexUnusable:
            raise
        except VtlfsError as error:
            log.log(self._level, "%s: not indexed: %s", where, error)
            self.result.failed.append(stream.session)
            self._progress(stream.bytes - done)
            return
        self._progress(stream.bytes - done)
        state = StreamState.UNKNOWN if is_unknown else StreamState.INDEXED
        await self._in_thread(partial(filler.end, state, stream.bytes, "; ".join(notes)[:MAX_NOTE] or None))
        self.result.streams += 1
        self.result.unknown += is_unknown
        self.result.members += filler.members - known
        self.result.bytes += stream.bytes - begin
        log.debug("%s: %d members%s", where, filler.members, f"; {'; '.join(notes)}" if notes else "")

    def _add(self, filler: StreamFiller, members: list[FoundMember]) -> None:
        """Add members. Raises IndexUnusable where that would leave the tracking database too little room."""
        status = os.statvfs(self._library.path)
        if status.f_bavail * status.f_frsize < self._limits.room:
            least = format_size(self._limits.room)
            raise IndexUnusable(f"{self._index.path}: not indexed further, to leave {least} of room; make room there")
        filler.add(members)

    # --- what has come and gone -------------------------------------------------------------------------------------

    async def _released(self, ordinal: int, limit: int) -> list[tuple[int, int]]:
        return await self._catalogue.read(lambda tracking: tracking.tape_files.since_ordinal(ordinal, limit))

    async def _forget_reclaimed(self, after: int) -> None:
        last = await self._catalogue.read(lambda tracking: tracking.events.last())
        for medium, volume in await self._catalogue.read(lambda tracking: tracking.events.reclaimed_after(after)):
            sessions = await self._catalogue.read(partial(_sessions_of, medium, volume))
            await self._forget(sessions)
        await self._in_thread(partial(self._index.note_event, last))

    async def _forget(self, sessions: list[int], *, stays_pending: bool = False) -> None:
        for session in sessions:
            some = partial(filling.forget_some, self._index, session, stays_pending=stays_pending)
            while await self._in_thread(some):
                pass

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work)


def _streams(sessions: list[int], tracking: Tracking) -> dict[int, bool]:
    """Return the streams of which sessions are, and whether the session is a further part of it."""
    found: dict[int, bool] = {}
    for session in sessions:
        first = first_session(tracking, session)
        found[first] = found.get(first, False) or first != session
    return found


def _sessions_of(medium: str, volume: int, tracking: Tracking) -> list[int]:
    """Return the streams of which a volume had tape files."""
    return [first_session(tracking, file.session) for file in tracking.tape_files.of(medium, volume=volume)]
