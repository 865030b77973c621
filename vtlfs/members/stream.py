"""The bytes of a stream, read over the tape files that it consists of. In the trio loop of a mount or of a command.

`vtlfs index` and `vtlfs restore` read through it, each extent checked, from all disks at once.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

from vtlfs.engine import lease
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import NoSuchSession
from vtlfs.model import TapeFile

if TYPE_CHECKING:
    from vtlfs.engine.reading.reader import MediumReader

OpenReader: TypeAlias = "Callable[[str, int, int], MediumReader]"
"""Opens a reader of a volume's first bytes: barcode, number of the volume, how many. `Engine.medium_reader` is one."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What one program wrote: the tape files, one after the other. More than one only through a pool that spans."""

    session: int  # identifier of the first one
    parts: tuple[TapeFile, ...]

    @property
    def bytes(self) -> int:
        """Its length."""
        return sum(part.bytes for part in self.parts)

    @property
    def released_at(self) -> str:
        """When its last tape file was released."""
        return self.parts[-1].released_at

    def part_at(self, offset: int) -> TapeFile:
        """Return the tape file that has the byte at an offset of the stream, or the last one."""
        return self.parts[min(self._place(offset), len(self.parts) - 1)]

    def start_of(self, part: TapeFile) -> int:
        """Return the offset in the stream of the first byte of one of its tape files."""
        return self._starts()[self.parts.index(part)]

    def _place(self, offset: int) -> int:
        return bisect_right(self._starts(), offset) - 1

    def _starts(self) -> list[int]:
        return list(accumulate((part.bytes for part in self.parts[:-1]), initial=0))


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
