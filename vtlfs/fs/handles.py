"""Handles of open files, which map the kernel's offsets to those of a session. Used in the trio loop of a mount.

For a write-only handle, the kernel's offsets are those of the stream; or the medium comes first, where the program went
to its end before it wrote. For a read-write handle, the medium as it stood at the open() comes first, `base` bytes of
it, and the handle's own stream follows.

A file server may send several writes of its client at once, so they arrive in any order. Writes that arrive too early
wait in the reorder buffer until the bytes before them have come.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from vtlfs import blame
from vtlfs.engine.pool_streams import PoolStream
from vtlfs.engine.reading.reader import MediumReader
from vtlfs.engine.reading.session import ReadSession
from vtlfs.engine.writing.session import WriteSession
from vtlfs.errors import NotPermitted, NotSequential, VtlfsError
from vtlfs.fs.inodes import Inode
from vtlfs.model import MIB, Opener

log = logging.getLogger(__name__)

MAX_HOLE = 1 << 40  # bytes: a program that seeks farther ahead is taken to be wrong
ZEROS = bytes(MIB)
MAX_REORDER_BUFFER = 64 * MIB  # of one handle; the memory budget limits the sum of all handles


@dataclass(slots=True)
class TextHandle:
    """An open file in /sessions: its text, which was made at the look-up."""

    text: bytes

    async def read(self, offset: int, size: int) -> bytes:
        """Return the text's bytes at the offset."""
        return self.text[offset : offset + size]


@dataclass(slots=True)
class ReadHandle:
    """An open file that reads `size` bytes of a medium from the offset `start`."""

    inode: Inode
    session: ReadSession
    start: int
    size: int
    cached: bool

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return `size` bytes at the offset; fewer only at the end of the file."""
        wanted = min(size, self.size - offset)
        return await self.session.read(self.start + offset, wanted) if wanted > 0 else b""


@dataclass(slots=True)
class PoolFileHandle:
    """An open file that reads a stream of a pool: the tape files of its parts, one behind the other."""

    parts: list[ReadHandle]

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return `size` bytes at the offset; fewer only at the end of the stream."""
        pieces = []
        for part in self.parts:
            if size and offset < part.size:
                pieces.append(await part.read(offset, size))
                size -= len(pieces[-1])
                offset += len(pieces[-1])
            offset -= part.size
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@dataclass(slots=True)
class WriteHandle:
    """An open file that writes: maps the kernel's offsets to those of a write session."""

    inode: Inode
    session: WriteSession | PoolStream
    cached: bool
    append: bool
    base: int = 0
    before: MediumReader | None = None  # for a read-write handle: reads the medium as it stood at the open()
    sends_offsets: bool = False  # the opener is a file server
    most_reordered: int = MAX_REORDER_BUFFER  # the most bytes in `reorder_buffer`
    reorder_buffer: dict[int, bytes] = field(default_factory=dict)  # writes that came too early, by the kernel's offset
    begin_volume: Callable[[str], Awaitable[None]] | None = None  # erases a medium whose rule lets programs do so
    program: str = ""  # of the opener
    opener: Opener | None = None  # until the first write, at which the program that writes is noted
    other_start: int = 0  # for a write-only handle: the medium's end, where its first write may be instead of at 0
    fills_holes: bool = False  # bytes over which the program seeks forward become zeros
    told: bool = False  # a refusal to begin the medium anew was logged
    refused: VtlfsError | None = None  # of the last write at the end; early writes sent along with it fail likewise

    @property
    def end(self) -> int:
        """The kernel's offset of the stream's next byte."""
        return self.base + self.session.length

    async def write(self, offset: int, data: bytes) -> None:
        """Take in bytes at the kernel's offset. Raises NotSequential, and what the session raises."""
        if self.cached:
            await self._write_cached(offset, data)
        elif self.sends_offsets and not self.append and offset > self.end:
            self._keep(offset, data)
        else:
            await self._write_next(offset, data)
            await self._write_reordered()
        if not self.cached:
            self.inode.size = max(self.inode.size, offset + len(data))

    async def _write_next(self, offset: int, data: bytes) -> None:
        self.refused = None
        try:
            await self._write_at_end(offset, data)
        except VtlfsError as error:
            self.refused = error
            raise

    async def _write_at_end(self, offset: int, data: bytes) -> None:
        if self.append or not data:
            await self.session.write(self.session.length, data)
            return
        if self.other_start and not self.session.length:  # a write before this one may have been refused
            self.base = offset if offset == self.other_start else 0
            self.fills_holes = bool(self.base)
        if offset == 0 and self.base and not self.session.length and self.begin_volume is not None:
            await self._begin_anew("a write at the medium's beginning")
        if offset > self.end:
            await self._fill_hole(offset, len(data))
        seen = min(max(0, self.base - offset), len(data))  # bytes on the medium, which never change
        if seen and (self.before is None or await self.read(offset, seen) != data[:seen]):  # None: it can't read them
            self._tell_how("overwrite")
            raise NotSequential(offset, self.end)
        if seen < len(data):
            await self.session.write(offset + seen - self.base, data[seen:])

    async def _fill_hole(self, offset: int, size: int) -> None:
        """Write zeros up to an offset beyond the end, at which `size` bytes follow.

        A file that the stream is read as has zeros there. Raises NotSequential where the program can mean something
        else, such as the end of what another handle of the inode has written; and MediumFull, before a zero is written.
        """
        if not self.fills_holes or self.inode.size > self.end or offset - self.end > MAX_HOLE:
            raise NotSequential(offset, self.end)
        await self.session.reserve(offset + size - self.base)
        while (size := min(offset - self.end, MIB)) > 0:
            await self.session.write(self.session.length, ZEROS[:size])

    def _keep(self, offset: int, data: bytes) -> None:
        if self.refused:
            raise self.refused
        is_much = len(data) + sum(map(len, self.reorder_buffer.values())) > self.most_reordered
        if is_much or not self.session.account.hold_reordered(len(data)):
            raise NotSequential(offset, self.end)
        self._take_reordered(offset)
        self.reorder_buffer[offset] = data

    def _take_reordered(self, offset: int) -> bytes:
        data = self.reorder_buffer.pop(offset, b"")
        self.session.account.drop_reordered(len(data))
        return data

    async def _write_reordered(self) -> None:
        """Write the buffered bytes that follow the stream's end. An error fails the stream: write() has returned."""
        while self.reorder_buffer and (offset := min(self.reorder_buffer)) <= self.end:
            try:
                await self._write_next(offset, self._take_reordered(offset))
            except VtlfsError as error:
                self.session.refuse(error)
                raise

    async def _write_cached(self, offset: int, data: bytes) -> None:
        """Take in pages of the page cache. An error fails the stream, since the program's write() has returned.

        The kernel reports only EIO and ENOSPC of pages. So the errnos of limits, and ESPIPE, are not raised here; the
        flush raises them.
        """
        known = min(max(0, self.base - offset), len(data))  # where a stream appends within a page
        try:
            await self.session.write(max(0, offset - self.base), data[known:])
        except VtlfsError as error:
            self.session.refuse(error)
            if not blame.is_limit(error.errno) and not isinstance(error, NotSequential):
                raise

    async def truncate(self, size: int) -> None:
        """Answer an ftruncate() as docs/programs.md tells; afterwards the inode has this size.

        With `on_truncate = "erase"`, ftruncate(0) erases the medium. The length that there is can always be set, and a
        stream of a write-only handle can be extended by zeros. Raises NotPermitted for all else, and what
        `begin_volume` and a write raise.
        """
        if size == 0 and self.begin_volume is not None:
            await self._begin_anew("ftruncate")
        elif size == 0 and self.sends_offsets and not self.session.length and not self.reorder_buffer:
            self._begin_empty()  # this is how a file server sends an O_TRUNC, which erases nothing
        elif self.fills_holes and not self.cached and self.session.length > 0 and size > self.end:
            await self._fill_hole(size, 0)  # this is how cp ends a sparse file
        elif not self._has_size(size):
            if size == 0:
                self._tell_how("truncate")
            raise NotPermitted("truncating a medium")
        self.inode.size = size

    def _tell_how(self, what: str) -> None:
        """Log, once for each handle, why the medium can't be begun anew."""
        if self.begin_volume is None and not self.told and isinstance(self.session, WriteSession):
            self.told = True
            log.info(
                "session %d: refusing %s to %s medium %s; to let programs begin it anew, set"
                ' on_truncate = "erase" for it in library.toml',
                *(self.session.number, self.program, what, self.session.medium.barcode),
            )

    def _has_size(self, size: int) -> bool:
        """Tell whether the file has this size for the program.

        The kernel has the size of a file that is written through the page cache; after an fsync() it is the stream's.
        """
        return 0 < self.session.length == size - self.base if self.cached else size == self.inode.size

    async def _begin_anew(self, by: str) -> None:
        assert self.begin_volume is not None
        if self.reorder_buffer:
            raise NotPermitted("truncating a medium while writes to it are out of order")
        await self.begin_volume(by)
        self._begin_empty()

    def _begin_empty(self) -> None:
        self.close()
        self.base, self.other_start, self.inode.size = 0, 0, 0

    def close(self) -> None:
        """Let go of the extents that were loaded to read the medium as it stood."""
        if self.before is not None:
            self.before.close()
            self.before = None

    async def flush(self) -> None:
        """Make a close() durable. Raises what the session raises, and NotSequential if the stream has a gap."""
        if self.reorder_buffer:
            self.session.refuse(self.refused or NotSequential(min(self.reorder_buffer), self.end))
        length = self.session.length
        await self.session.flush(closing=True)
        self._check_whole(length)

    async def fsync(self) -> None:
        """Make durable all bytes up to the first gap. Raises NotSequential if there is one; it may still be filled."""
        length = self.session.length
        await self.session.fsync()
        self._check_whole(length)
        if self.reorder_buffer:
            raise NotSequential(min(self.reorder_buffer), self.end)

    def _check_whole(self, length: int) -> None:
        """Raise NotSequential if a program has left a hole in the page cache: only the bytes before it are durable."""
        if self.cached and (self.fills_holes or self.sends_offsets) and self.session.recorded < length:
            raise NotSequential(length, self.session.recorded)

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes at the kernel's offset: first those of the medium as it stood, then those of the stream."""
        size = min(size, self.end - offset)
        if size <= 0:
            return b""
        first = b""
        if offset < self.base:
            there = min(size, self.base - offset)
            # A write-only handle that appends can't be read; the kernel fills up the page in which the stream begins.
            first = bytes(there) if self.before is None else bytes(await self.before.read(offset, there))
        rest = size - len(first)
        own = await self.session.read(max(0, offset - self.base), rest) if rest else b""
        return first + own


Handle = TextHandle | ReadHandle | PoolFileHandle | WriteHandle
