"""The bytes of a stream, read over the tape files that it consists of. In the trio loop of a mount or of a command.

`vtlfs index` and `vtlfs restore` read through it, each extent checked, from all disks at once.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeAlias

from vtlfs.engine import lease
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import NoSuchSession
from vtlfs.model import Stream, TapeFile

if TYPE_CHECKING:
    from vtlfs.engine.reading.reader import MediumReader

OpenReader: TypeAlias = "Callable[[str, int, int], MediumReader]"
"""Opens a reader of a volume's first bytes: barcode, number of the volume, how many. `Engine.medium_reader` is one."""


def first_session(tracking: Tracking, session: int) -> int:
    """Return by which session the stream is named of which a session is, which is its own unless a pool spanned."""
    part = tracking.pools.part(session)
    return session if part is None else part.stream


def find_stream(tracking: Tracking, session: int) -> Stream:
    """Return a stream by the identifier of its first session, as it is by now, on current volumes or on ended ones.

    Over a snapshot's view: as it was then. Raises NoSuchSession where nothing of it was left, or the stored bytes of
    all of it are deleted; where only some of its tape files' are, reading them raises Reclaimed.
    """
    places = tracking.pools.parts(session)
    sessions = [part.session for part in places] or [session]
    parts = tuple(tracking.tape_files.of_sessions(sessions))
    if all(tracking.reclaiming.is_reclaimed(part.session) for part in parts):
        raise NoSuchSession(session)
    return Stream(session, parts)


class StreamReader:
    """Reads a stream at any offset. One task uses it at a time. Close it after use."""

    def __init__(self, stream: Stream, open_reader: OpenReader) -> None:
        self.stream = stream
        self._open_reader = open_reader
        self._current: tuple[TapeFile, MediumReader] | None = None

    async def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes at the offset; fewer only at the end. Raises DamagedExtent, DiskError, Reclaimed."""
        parts: list[bytes | memoryview] = []
        end = min(offset + size, self.stream.bytes)
        while offset < end:
            part = self.stream.part_at(offset)
            begin = self.stream.start_of(part)
            stop = min(end, begin + part.bytes)
            place = part.start + offset - begin
            parts.append(await self._reader(part).read(place, stop - offset))
            offset = stop
        return b"".join(parts)

    def close(self) -> None:
        """Let go of what was loaded."""
        if self._current is not None:
            self._current[1].close()
            self._current = None

    def _reader(self, part: TapeFile) -> "MediumReader":
        if self._current is None or self._current[0] != part:
            self.close()
            self._current = part, self._open_reader(part.medium, part.volume, part.end)
        return self._current[1]


@contextmanager
def held(library: Library, stream: Stream) -> Iterator[None]:
    """Hold the volumes of a stream during the block: nothing of them is reclaimed meanwhile."""
    with ExitStack() as stack:
        for medium, volume in dict.fromkeys((part.medium, part.volume) for part in stream.parts):
            stack.enter_context(lease.reading(library.path, medium, volume))
        yield
