"""Open files of a mount: opens sessions, keeps their handles, ends them. Used in the trio loop of a mount."""

import errno
import logging
import os
import socket
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import count

import pyfuse3
import trio
from pyfuse3 import FileHandleT, FileInfo, FUSEError, RequestContext

from vtlfs.engine.engine import Engine
from vtlfs.engine.media.changer import ELEMENTS
from vtlfs.engine.media.truncation import Anew
from vtlfs.engine.pool_streams import PoolStream, open_stream
from vtlfs.engine.writing.session import WriteSession
from vtlfs.errors import CannotReopen, NotPermitted
from vtlfs.fs import writers
from vtlfs.fs.attributes import size_of
from vtlfs.fs.caching import check_reopening, first_offset, goes_through_cache, read_through_cache
from vtlfs.fs.changer import ChangerHandle
from vtlfs.fs.handles import (
    Handle,
    PoolFileHandle,
    ReadHandle,
    TextHandle,
    WriteHandle,
)
from vtlfs.fs.inodes import Inode
from vtlfs.fs.nodes import (
    ChangerNode,
    MediumNode,
    Node,
    PastMediumNode,
    PoolFileNode,
    PoolNode,
    SessionNode,
    TapeFileNode,
)
from vtlfs.fs.openers import SHELLS, Caller, Openers, means_anew
from vtlfs.fs.options import MountOptions
from vtlfs.fs.rights import Permissions
from vtlfs.model import Medium, Opener
from vtlfs.permissions import READ, WRITE, Rights
from vtlfs.rules import OnTruncate, rule_for

log = logging.getLogger(__name__)

QUIET_SECONDS = 0.05


class OpenFiles:
    """The open files by handle."""

    def __init__(self, engine: Engine, options: MountOptions, permissions: Permissions) -> None:
        self._engine = engine
        self._options = options
        self._permissions = permissions
        self._openers = Openers(options.host, socket.gethostname())
        self._handles: dict[int, Handle | ChangerHandle] = {}
        self._numbers = count(1)
        self._writes = 0  # requests to write, since the mount began
        self._writing = 0  # requests to write that are not answered yet

    def __len__(self) -> int:
        return len(self._handles)

    def __getitem__(self, number: FileHandleT) -> Handle | ChangerHandle:
        return self._handles[number]

    def get(self, number: FileHandleT) -> Handle | ChangerHandle | None:
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
            case MediumNode() | PoolNode() if writing:
                return await self._open_writer(known, known.node, flags, ctx)
            case MediumNode(medium, drive):  # read again, since an O_PATH look-up may be long ago
                medium = await self._engine.wait_visible(medium.barcode)
                return await self._open_reader(known, medium, 0, medium.bytes, drive, ctx)
            case PastMediumNode(_, medium) if not writing:
                return await self._open_reader(known, medium, 0, medium.bytes, None, ctx)
            case TapeFileNode(medium, tape_file) if not writing:
                start, size = tape_file.start, tape_file.bytes
                return await self._open_reader(known, medium, start, size, None, ctx)
            case PoolNode(_, _, None):
                check_reopening(known, writing=False)
                known.readers += 1  # for good: should this inode be opened for writing, too, that stream goes direct
                return FileInfo(fh=self._add(TextHandle(b"")), direct_io=True)
            case PoolNode(_, _, Medium() as medium):
                _check_rights(self._permissions.by_any_drive(medium.barcode), READ, ctx)
                return await self._open_reader(known, medium, 0, medium.bytes, None, ctx)
            case PoolFileNode() if not writing:
                return await self._open_pool_file(known, known.node, ctx)
            case ChangerNode():
                return await self._open_changer(ctx)
            case SessionNode(_, text) if not writing:
                return FileInfo(fh=self._add(TextHandle(text)), direct_io=True)
        raise NotPermitted("writing to a file that is no medium")

    async def _open_reader(
        self, inode: Inode, medium: Medium, start: int, size: int, drive: int | None, ctx: RequestContext
    ) -> FileInfo:
        opener = await self._identify(ctx, writing=False)
        self._check_reopening(inode, opener, writing=False)
        inode.readers += 1  # from now on, a writer of this inode goes direct
        try:
            number = await self._drive_for(medium.barcode) if drive is None else drive
            session = await self._engine.open_reader(medium.barcode, medium.volume, start + size, number, opener)
        except BaseException:
            inode.readers -= 1
            raise
        # The kernel caches no bytes beyond the inode's length, which is that of the look-up; and an open() without a
        # look-up, by a descriptor of a file that is open, shares the pages of that file, which are of its volume.
        cached = self._is_as_looked_up(inode, medium, size) and read_through_cache(self._options.io, inode, opener)
        inode.cached_readers += cached
        handle = self._add(ReadHandle(inode, session, start, size, cached))
        # These nodes never change and keep their inode number, so pages that the kernel has cached stay right.
        keep = isinstance(inode.node, TapeFileNode | PastMediumNode)
        return FileInfo(fh=handle, direct_io=not cached, keep_cache=keep and cached)

    @staticmethod
    def _is_as_looked_up(inode: Inode, medium: Medium, size: int) -> bool:
        node = inode.node
        return size == size_of(node) and (not isinstance(node, MediumNode) or node.medium.volume == medium.volume)

    async def _open_pool_file(self, inode: Inode, node: PoolFileNode, ctx: RequestContext) -> FileInfo:
        """Start a session for each part of a pool's stream."""
        parts = node.file.parts
        for part in parts:
            _check_rights(self._permissions.medium(part.medium), READ, ctx)
        opener = await self._identify(ctx, writing=False)
        cached = read_through_cache(self._options.io, inode, opener)
        handle = PoolFileHandle([])
        try:
            for part in parts:
                drive = await self._drive_for(part.medium)
                session = await self._engine.open_reader(part.medium, part.volume, part.end, drive, opener)
                inode.readers += 1
                inode.cached_readers += cached
                handle.parts.append(ReadHandle(inode, session, part.start, part.bytes, cached))
        except BaseException:
            self._close_readers(handle.parts)
            raise
        return FileInfo(fh=self._add(handle), direct_io=not cached, keep_cache=cached)

    async def _open_changer(self, ctx: RequestContext) -> FileInfo:
        """Open the changer; what is where can be read at once, before a request."""
        handle = ChangerHandle(self._engine, await self._identify(ctx, writing=False))
        await handle.ask(bytes(ELEMENTS))
        return FileInfo(fh=self._add(handle), direct_io=True)

    async def _open_writer(
        self, inode: Inode, node: MediumNode | PoolNode, flags: int, ctx: RequestContext
    ) -> FileInfo:
        opener = await self._identify(ctx, writing=True)
        self._check_reopening(inode, opener, writing=True)
        inode.writing += 1
        io, reopen, risky = self._options.io, self._options.reopen, self._is_risky(node)
        cached = not self._spans(node) and goes_through_cache(io, flags, inode, opener, risky=risky, reopen=reopen)
        begins_at = first_offset(flags, inode) if cached else None
        inode.written, inode.cached = True, inode.cached or cached
        truncated = bool(flags & os.O_TRUNC)
        length = 0 if truncated else max(inode.size, size_of(node))  # that the kernel has for the file
        erases = isinstance(node, MediumNode) and self._erases(node.medium.barcode)
        session: WriteSession | PoolStream
        try:
            if isinstance(node, MediumNode):
                barcode = node.medium.barcode
                drive = await self._drive_for(barcode) if node.drive is None else node.drive
                session = await self._engine.open_writer(
                    barcode, drive, opener, anew=self._anew(barcode, opener, flags)
                )
            else:
                if opener.overwrites:
                    log.info("refusing %s to overwrite pool %s, which appends", opener.program, node.name)
                    raise NotPermitted("overwriting a pool, of which programs read one medium")
                wanted = READ | WRITE if flags & os.O_ACCMODE == os.O_RDWR else WRITE
                gate = partial(self._drive_of_pool, node, wanted, ctx)
                session = await open_stream(self._engine, node.name, opener, gate)
        except BaseException:
            self._end_writing(inode)
            raise
        if cached:
            session.note_page_cache()
        inode.writers.append(session)
        medium = node.medium
        if medium is None or (medium.barcode, medium.volume) != (session.medium.barcode, session.medium.volume):
            medium = session.medium  # the medium was erased since the look-up, or the pool is on another one
            inode.node = replace(node, medium=medium)
        inode.size = 0 if truncated else max(inode.size, medium.bytes)
        handle = WriteHandle(inode, session, cached, append=bool(flags & os.O_APPEND))
        write_only = flags & os.O_ACCMODE == os.O_WRONLY
        handle.base = begins_at or 0
        if not write_only and not truncated:
            handle.base = medium.bytes
            handle.before = self._engine.medium_reader(medium.barcode, medium.volume, medium.bytes)
        handle.sends_offsets = opener.sends_offsets
        if write_only and not opener.sends_offsets and not opener.streams_only:
            handle.other_start, handle.fills_holes = length, not length
        if erases and isinstance(session, WriteSession):
            handle.begin_volume = partial(self._engine.begin_volume, session)
        handle.program = opener.program
        handle.opener = None if opener.small_writes else opener  # such a program writes itself
        return FileInfo(fh=self._add(handle), direct_io=not cached, nonseekable=write_only and opener.streams_only)

    async def write(self, number: FileHandleT, offset: int, data: bytes) -> None:
        """Take in all bytes; if that fails, take none and raise."""
        handle = self._handles[number]
        if isinstance(handle, ChangerHandle):
            await handle.ask(data)
            return
        if not isinstance(handle, WriteHandle):
            raise FUSEError(errno.EBADF)
        self._writes += 1
        self._writing += 1
        try:
            if handle.opener is not None:
                await self._note_writer(handle, handle.opener)
            await handle.write(offset, data)
        finally:
            self._writing -= 1

    async def _note_writer(self, handle: WriteHandle, opener: Opener) -> None:
        """Note which program writes, at the first write, where it is not the one that opened the file."""
        handle.opener = None
        program = writers.has_become(opener.pid, opener.program)
        if program is None and opener.program in SHELLS:
            program = await self._openers.look(partial(writers.writing_child, opener.pid, _name(handle.inode.node)))
        if program is not None:
            handle.program = program
            handle.session.note_program(program)

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
                if isinstance(handle.session, PoolStream):
                    await handle.session.release()
                else:
                    await self._engine.release_writer(handle.session)
            case ReadHandle():
                self._close_readers([handle])
            case PoolFileHandle(parts):
                self._close_readers(parts)

    async def _identify(self, ctx: RequestContext, *, writing: bool) -> Opener:
        return await self._openers.identify(Caller(ctx.pid, ctx.uid, ctx.gid, writing))

    @staticmethod
    def _check_reopening(inode: Inode, opener: Opener, *, writing: bool) -> None:
        """Raise CannotReopen, and log that once for each inode, if one more open would harm a stream."""
        try:
            check_reopening(inode, writing=writing)
        except CannotReopen as refusal:
            if not inode.told:
                inode.told = True
                of = ", ".join(f"session {session.number}" for session in inode.writers) or "an open file"
                log.info("refusing to open %s again for %s, process %d: %s", of, opener.program, opener.pid, refusal)
            raise

    @staticmethod
    def _end_writing(inode: Inode) -> None:
        inode.writing -= 1
        inode.cached = inode.cached and inode.writing > 0

    def _close_readers(self, handles: Iterable[ReadHandle]) -> None:
        for handle in handles:
            handle.inode.readers -= 1
            handle.inode.cached_readers -= handle.cached
            self._engine.release_reader(handle.session)

    def _spans(self, node: MediumNode | PoolNode) -> bool:
        """Tell whether a stream may go on on another medium.

        Then it bypasses the page cache, which sends pages in any order and tells of a full medium when it is too late.
        """
        return isinstance(node, PoolNode) and self._engine.library.config.pools[node.name].span

    def _erases(self, barcode: str) -> bool:
        """Tell whether a program that truncates the medium begins a new volume."""
        return rule_for(self._engine.library.config.media, barcode).on_truncate is OnTruncate.ERASE

    def _anew(self, barcode: str, opener: Opener, flags: int) -> Anew | None:
        """Return what an open() that begins a medium anew means for it; None where its stream is appended."""
        rule = rule_for(self._engine.library.config.media, barcode).on_truncate
        if not means_anew(opener, flags) or (rule is OnTruncate.APPEND and not opener.overwrites):
            return None
        return Anew("O_TRUNC" if flags & os.O_TRUNC else "open", rule)

    def _is_risky(self, node: MediumNode | PoolNode) -> bool:
        """Tell whether a stream should bypass the page cache: medium or disks have little room, or a disk hangs.

        Also if it takes a pool to another medium, of which nobody has asked how much room it has.
        """
        medium, pool, little = node.medium, self._engine.pool, self._engine.library.config.low_space
        if medium is None or (isinstance(node, PoolNode) and medium.barcode != node.target):
            return True
        left = medium.left
        return pool.stalled or pool.free_to_stripe < little or (left is not None and left < little)

    async def _drive_for(self, barcode: str) -> int:
        """Return the drive for an open() through /media, which names none. The kernel has checked the rights."""
        return await self._engine.least_busy_drive(self._permissions.drives_for(barcode))

    async def _drive_of_pool(self, node: PoolNode, wanted: int, ctx: RequestContext, barcode: str) -> int:
        """Return the drive by which a stream of a pool goes to a medium, if the opener may write to that medium.

        The kernel has checked the rights that the node showed, which are mostly the same.
        """
        rights = self._permissions.by_any_drive(barcode)
        if rights != self._permissions.of(node):
            _check_rights(rights, wanted, ctx)
        return await self._drive_for(barcode)

    def _add(self, handle: Handle | ChangerHandle) -> FileHandleT:
        number = FileHandleT(next(self._numbers))
        self._handles[number] = handle
        return number


def _name(node: Node) -> str:
    """Return the name in the mounted tree of a medium or a pool."""
    return node.name if isinstance(node, PoolNode) else node.medium.barcode if isinstance(node, MediumNode) else ""


def _check_rights(rights: Rights, wanted: int, ctx: RequestContext) -> None:
    """Raise EACCES unless the opener may use a medium to which a pool has led; root may."""
    if ctx.uid == 0:
        return
    try:
        groups = frozenset((ctx.gid, *pyfuse3.get_sup_groups(ctx.pid)))
    except OSError:  # the process has ended
        groups = frozenset((ctx.gid,))
    if rights.of(ctx.uid, groups) & wanted != wanted:
        raise FUSEError(errno.EACCES)
