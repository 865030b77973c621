"""Open files of a mount: opens sessions, keeps their handles, ends them. Used in the trio loop of a mount."""

import errno
import os
import socket
from itertools import count

import trio
from pyfuse3 import FileHandleT, FileInfo, FUSEError, RequestContext

from vtlfs.engine.engine import Engine
from vtlfs.errors import NotPermitted
from vtlfs.fs.attributes import size_of
from vtlfs.fs.handles import (
    Handle,
    ReadHandle,
    TextHandle,
    WriteHandle,
    check_reopening,
    goes_through_cache,
    read_through_cache,
)
from vtlfs.fs.inodes import Inode
from vtlfs.fs.nodes import MediumNode, PastMediumNode, SessionNode, TapeFileNode
from vtlfs.fs.openers import Caller, Openers
from vtlfs.fs.options import MountOptions
from vtlfs.fs.rights import Permissions
from vtlfs.model import Opener

QUIET_SECONDS = 0.05


class OpenFiles:
    """The open files by handle."""

    def __init__(self, engine: Engine, options: MountOptions, permissions: Permissions) -> None:
        self._engine = engine
        self._options = options
        self._permissions = permissions
        self._openers = Openers(options.host, socket.gethostname())
        self._handles: dict[int, Handle] = {}
        self._numbers = count(1)
        self._writes = 0  # requests to write, since the mount began
        self._writing = 0  # requests to write that are not answered yet

    def __len__(self) -> int:
        return len(self._handles)

    def __getitem__(self, number: FileHandleT) -> Handle:
        return self._handles[number]

    def get(self, number: FileHandleT) -> Handle | None:
        """Return an open file; None where it is closed."""
        return self._handles.get(number)

    def close(self) -> None:
        """End the threads."""
        self._openers.close()

    async def open(self, known: Inode, flags: int, ctx: RequestContext) -> FileInfo:
        """Start a session for a medium or a tape file; for a file in /sessions, serve its text."""
        writing = flags & os.O_ACCMODE != os.O_RDONLY
        if flags & os.O_TRUNC and not writing:
            raise NotPermitted("truncating a medium")
        match known.node:
            case MediumNode() if writing:
                return await self._open_writer(known, known.node, flags, ctx)
            case MediumNode(medium, drive):  # read again, since an O_PATH look-up may be long ago
                medium = await self._engine.wait_visible(medium.barcode)
                return await self._open_reader(known, medium.barcode, 0, medium.bytes, drive, ctx)
            case PastMediumNode(_, medium) if not writing:
                return await self._open_reader(known, medium.barcode, 0, medium.bytes, None, ctx)
            case TapeFileNode(medium, tape_file) if not writing:
                start, size = tape_file.start, tape_file.bytes
                return await self._open_reader(known, medium.barcode, start, size, None, ctx)
            case SessionNode(_, text) if not writing:
                return FileInfo(fh=self._add(TextHandle(text)), direct_io=True)
        raise NotPermitted("writing to a file that is no medium")

    async def _open_reader(
        self, inode: Inode, barcode: str, start: int, size: int, drive: int | None, ctx: RequestContext
    ) -> FileInfo:
        opener = await self._identify(ctx, writing=False)
        number = await self._drive_for(barcode) if drive is None else drive
        session = await self._engine.open_reader(barcode, start + size, number, opener)
        # The kernel caches no bytes beyond the inode's length, which is that of the look-up.
        cached = size == size_of(inode.node) and read_through_cache(self._options.io, inode, opener)
        inode.readers += 1
        inode.cached_readers += cached
        handle = self._add(ReadHandle(inode, session, start, size, cached))
        # These nodes never change and keep their inode number, so pages that the kernel has cached stay right.
        keep = isinstance(inode.node, TapeFileNode | PastMediumNode)
        return FileInfo(fh=handle, direct_io=not cached, keep_cache=keep and cached)

    async def _open_writer(self, inode: Inode, node: MediumNode, flags: int, ctx: RequestContext) -> FileInfo:
        check_reopening(inode)
        opener = await self._identify(ctx, writing=True)
        check_reopening(inode)
        inode.writing += 1
        cached = goes_through_cache(self._options.io, flags, inode, opener, risky=self._is_risky(node))
        inode.written, inode.cached = True, inode.cached or cached
        barcode, size = node.medium.barcode, node.medium.bytes
        truncated = bool(flags & os.O_TRUNC)
        try:
            drive = await self._drive_for(barcode) if node.drive is None else node.drive
            session = await self._engine.open_writer(barcode, drive, opener)
        except BaseException:
            self._end_writing(inode)
            raise
        inode.writers.append(session)
        inode.size = 0 if truncated else max(inode.size, size)
        handle = WriteHandle(inode, session, cached, append=bool(flags & os.O_APPEND))
        write_only = flags & os.O_ACCMODE == os.O_WRONLY
        if not write_only and not truncated:
            handle.base, handle.before = size, self._engine.medium_reader(barcode, size)
        handle.sends_offsets = opener.sends_offsets
        return FileInfo(fh=self._add(handle), direct_io=not cached, nonseekable=write_only and not opener.sends_offsets)

    async def write(self, number: FileHandleT, offset: int, data: bytes) -> None:
        """Take in all bytes; if that fails, take none and raise."""
        handle = self._handles[number]
        if not isinstance(handle, WriteHandle):
            raise FUSEError(errno.EBADF)
        self._writes += 1
        self._writing += 1
        try:
            await handle.write(offset, data)
        finally:
            self._writing -= 1

    async def drain(self) -> None:
        """Return when all writes are answered, and no write has come for QUIET_SECONDS."""
        seen = -1
        while self._writing or self._writes != seen:
            seen = self._writes
            await trio.sleep(QUIET_SECONDS)

    async def release(self, number: FileHandleT) -> None:
        """End the session. The release begins before the first `await`, so that every later look-up waits for it."""
        handle = self._handles.pop(number)
        match handle:
            case WriteHandle():
                handle.close()
                handle.inode.writers.remove(handle.session)
                self._end_writing(handle.inode)
                await self._engine.release_writer(handle.session)
            case ReadHandle():
                handle.inode.readers -= 1
                handle.inode.cached_readers -= handle.cached
                self._engine.release_reader(handle.session)

    async def _identify(self, ctx: RequestContext, *, writing: bool) -> Opener:
        return await self._openers.identify(Caller(ctx.pid, ctx.uid, ctx.gid, writing))

    @staticmethod
    def _end_writing(inode: Inode) -> None:
        inode.writing -= 1
        inode.cached = inode.cached and inode.writing > 0

    def _is_risky(self, node: MediumNode) -> bool:
        """Tell whether a stream should bypass the page cache: medium or disks have little room, or a disk hangs."""
        left, pool, little = node.medium.left, self._engine.pool, self._engine.library.config.low_space
        return pool.stalled or pool.free_to_stripe < little or (left is not None and left < little)

    async def _drive_for(self, barcode: str) -> int:
        """Return the drive for an open() through /media, which names none. The kernel has checked the rights."""
        return await self._engine.least_busy_drive(self._permissions.drives_for(barcode))

    def _add(self, handle: Handle) -> FileHandleT:
        number = FileHandleT(next(self._numbers))
        self._handles[number] = handle
        return number
