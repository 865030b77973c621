"""Open files: what a file handle reads and writes, and how the kernel's offsets map to a stream's own.

The kernel's offsets of a handle that writes: cached, and write-only, they are the stream's. Of a read-write handle the
medium as it stood comes first, `base` bytes of it, then the handle's own stream.

A file server may have several of its client's writes in the works at once, so that they come in any order. Those that
come too early are kept until what they follow has come.
"""

import os
from dataclasses import dataclass, field

from vtlfs import blame
from vtlfs.engine.reading.reader import MediumReader
from vtlfs.engine.reading.session import ReadSession
from vtlfs.engine.writing.session import WriteSession
from vtlfs.errors import CannotReopen, NotPermitted, NotSequential, VtlfsError
from vtlfs.fs.inodes import Inode
from vtlfs.model import KIB, MIB, IoMode, Opener

MAX_REORDER_BUFFER = (
    64 * MIB
)  # kept of one handle, of what came too early; of all handles, what the memory budget has room for


@dataclass(slots=True)
class TextHandle:
    """A text that was made at the look-up."""

    text: bytes

    async def read(self, offset: int, size: int) -> bytes:
        """Return the text's bytes at the offset."""
        return self.text[offset : offset + size]


@dataclass(slots=True)
class ReadHandle:
    """`size` bytes of a medium from `start`."""

    inode: Inode
    session: ReadSession
    start: int
    size: int
    cached: bool

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return the bytes at the offset; fewer only at the end."""
        wanted = min(size, self.size - offset)
        return await self.session.read(self.start + offset, wanted) if wanted > 0 else b""


@dataclass(slots=True)
class WriteHandle:
    """A write session behind the kernel's offsets."""

    inode: Inode
    session: WriteSession
    cached: bool
    append: bool
    base: int = 0
    before: MediumReader | None = None  # the medium as it stood, for a read-write handle
    sends_offsets: bool = False  # of a file server
    most_reordered: int = MAX_REORDER_BUFFER  # bytes of `reorder_buffer`
    reorder_buffer: dict[int, bytes] = field(default_factory=dict)  # what came too early, by the kernel's offset
    refused: VtlfsError | None = (
        None  # what befell the last write at the end; those after it that were sent with it too
    )

    @property
    def end(self) -> int:
        """The kernel's offset of the next byte."""
        return self.base + self.session.length

    async def write(self, offset: int, data: bytes) -> None:
        """Take in what the kernel writes. Raises NotSequential, and what the session raises."""
        if self.cached:
            await self._write_cached(offset, data)
        elif self.sends_offsets and not self.append and offset > self.end:
            self._keep(offset, data)
        else:
            await self._write_next(offset, data)
            await self._write_reordered()

    async def _write_next(self, offset: int, data: bytes) -> None:
        self.refused = None
        try:
            await self._write_at_end(offset, data)
        except VtlfsError as error:
            self.refused = error
            raise

    async def _write_at_end(self, offset: int, data: bytes) -> None:
        known = 0 if self.append else self.end - offset
        if known < 0:
            raise NotSequential(offset, self.end)
        if known:
            known = min(known, len(data))
            if await self.read(offset, known) != data[:known]:
                raise NotSequential(offset, self.end)
        if known < len(data):
            await self.session.write(self.session.length, data[known:])
        self.inode.size = max(self.inode.size, self.end)

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
        """Write what was kept for this moment. Its writer believes it written, as with pages."""
        while self.reorder_buffer and (offset := min(self.reorder_buffer)) <= self.end:
            try:
                await self._write_next(offset, self._take_reordered(offset))
            except VtlfsError as error:
                self.session.refuse(error)
                raise

    async def _write_cached(self, offset: int, data: bytes) -> None:
        """Take in pages. The writer believes them written: if they are refused, its stream is not whole any more.

        The kernel knows EIO and ENOSPC of pages only. What is neither, a limit, is left to the flush, which tells it
        as what it is.
        """
        try:
            await self.session.write(offset, data)
        except VtlfsError as error:
            self.session.refuse(error)
            if not blame.is_limit(error.errno):
                raise

    def begin_empty(self) -> None:
        """Take a truncation as what O_TRUNC is, which erases nothing: file servers send it in place of that.

        Raises NotPermitted from anybody else, and where something was written.
        """
        if not self.sends_offsets or self.session.length or self.reorder_buffer:
            raise NotPermitted("truncating a medium")
        self.close()
        self.base, self.inode.size = 0, 0

    def close(self) -> None:
        """Let go of what was loaded of the medium as it stood."""
        if self.before is not None:
            self.before.close()
            self.before = None

    async def flush(self) -> None:
        """Keep close()'s promise. Raises what the session raises, and NotSequential where the stream has a gap."""
        if self.reorder_buffer:
            self.session.refuse(self.refused or NotSequential(min(self.reorder_buffer), self.end))
        await self.session.flush(closing=True)

    async def fsync(self) -> None:
        """Make durable what has come so far. Raises NotSequential where that has a gap, which may be filled yet."""
        await self.session.fsync()
        if self.reorder_buffer:
            raise NotSequential(min(self.reorder_buffer), self.end)

    async def read(self, offset: int, size: int) -> bytes:
        """Return the bytes at the kernel's offset: the medium's, then the stream's own."""
        size = min(size, self.end - offset)
        if size <= 0:
            return b""
        first = b""
        if self.before is not None and offset < self.base:
            first = bytes(await self.before.read(offset, min(size, self.base - offset)))
        rest = size - len(first)
        own = await self.session.read(max(0, offset - self.base), rest) if rest else b""
        return first + own


LARGE_BLOCK = 256 * KIB

Handle = TextHandle | ReadHandle | WriteHandle


def check_reopening(inode: Inode) -> None:
    """Raise where one more open for writing would harm a stream that is written or read through the page cache.

    The kernel throws away that cache's unwritten pages when the same inode is opened with O_TRUNC, and sends those of
    one stream in the name of another. With io=auto only programs that do no such thing are cached. A reader would find
    its end where the inode's new length is, or zeros up to there.
    """
    if (inode.cached and inode.writing) or inode.cached_readers:
        raise CannotReopen


def goes_through_cache(io: IoMode, flags: int, inode: Inode, opener: Opener, *, risky: bool) -> bool:
    """Tell whether an open for writing is to go through the kernel's page cache.

    Only a write-only stream that begins with O_TRUNC can. With io=auto it does where that is quicker and harms nobody:
    where a program is known to write small blocks, and to write them itself. Not for one that may hand the file on to
    what it starts, which may open it again; nor where it is `risky`: little is left of the medium or a disk, and a
    program that changes tapes wants to see ENOSPC at the write itself, or a disk does not answer.
    """
    if io is IoMode.DIRECT or inode.writing > 1 or inode.readers:
        return False
    if flags & os.O_ACCMODE != os.O_WRONLY or flags & os.O_APPEND or not flags & os.O_TRUNC:
        return False
    return io is IoMode.CACHED or (opener.small_writes and not (risky or _is_large(opener)))


def read_through_cache(io: IoMode, inode: Inode, opener: Opener) -> bool:
    """Tell whether an open for reading is to go through the kernel's page cache.

    Not where a stream was written by way of the same inode, for the kernel takes its length for the inode's. With
    io=auto not where large blocks are read, which need no gathering: each byte is copied once less.
    """
    if io is IoMode.DIRECT or inode.written:
        return False
    return io is IoMode.CACHED or not _is_large(opener)


def _is_large(opener: Opener) -> bool:
    return opener.block is not None and opener.block >= LARGE_BLOCK
