"""The pyfuse3 adapter: each handler decodes what the kernel asks, calls the engine once and encodes the answer.

All handlers run in the trio loop. A handler runs without interruption up to its first wait, and what a RELEASE begins
it begins before that: so a look-up made after close() returned finds the release begun.
"""

import errno
import os
import socket
import stat
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import pyfuse3
import trio
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from vtlfs.engine.engine import Engine
from vtlfs.errors import NotPermitted
from vtlfs.fs.errors import to_errno
from vtlfs.fs.handles import (
    Handle,
    ReadHandle,
    TextHandle,
    WriteHandle,
    check_reopening,
    goes_through_cache,
    read_through_cache,
)
from vtlfs.fs.inodes import Inode, Inodes
from vtlfs.fs.openers import Caller, Openers
from vtlfs.fs.options import MountOptions
from vtlfs.fs.rights import Permissions
from vtlfs.fs.tree import (
    MEDIA,
    DriveDirectory,
    Entry,
    FilesDirectory,
    LoadedLink,
    MediumNode,
    Node,
    NoSuchEntry,
    PastMediumNode,
    SessionNode,
    SnapshotDirectory,
    TapeFileNode,
    Tree,
    mtime_ns,
    stable_number,
)
from vtlfs.model import Opener

LONG = 1e6  # seconds for which the kernel may believe what will not change
BLOCK = 4096
QUIET_SECONDS = 0.05


@dataclass(slots=True)
class _Listing:
    """A directory that is open: what was read of it and not listed yet, and the place of the last that was listed."""

    node: Node
    place: int = 0
    ahead: deque[Entry] = field(default_factory=deque)


class Operations(pyfuse3.Operations):
    """The handlers of one mount. `getxattr` stays out: once it exists, every cached write asks for an attribute."""

    enable_writeback_cache = True
    supports_dot_lookup = False

    def __init__(self, engine: Engine, options: MountOptions) -> None:
        super().__init__()
        self._engine = engine
        self._options = options
        self._tree = Tree(engine)
        self._inodes = Inodes(engine.memory)
        self._handles: dict[int, Handle] = {}
        self._listings: dict[int, _Listing] = {}
        self._numbers = count(1)
        self._writes = 0  # that have come
        self._writing = 0  # of these, in the works
        self._mounted_at = time.time_ns()
        self._openers = Openers(options.host, socket.gethostname())
        self._permissions = Permissions(engine.library.config, options)

    def close(self) -> None:
        """Let the threads end."""
        self._openers.close()

    # --- names and attributes ---------------------------------------------------------------------------------------

    @to_errno
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        """Answer with a fresh inode for a medium, so that an open() that follows has one of its own."""
        node = await self._find(parent_inode, name)
        inode = self._inodes.looked_up(node)
        return self._attributes(inode, inode.number)

    @to_errno
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Show a path's stable number, but the session's identifier while the inode is open for writing."""
        known = self._inodes[inode]
        shown = known.writers[0].number if known.writers else stable_number(known.node)
        return self._attributes(known, InodeT(shown))

    @to_errno
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Refuse, but for the times that the kernel itself keeps of what is written, and sends when it is closed."""
        handle = None if fh is None else self._handles.get(fh)
        if fields.update_size and attr.st_size == 0 and isinstance(handle, WriteHandle):
            handle.begin_empty()
            return await self.getattr(inode, ctx)
        changes = fields.update_size or fields.update_mode or fields.update_uid or fields.update_gid
        if changes or fields.update_atime or not self._inodes[inode].written:
            raise NotPermitted("changing a file's attributes")
        return await self.getattr(inode, ctx)

    @to_errno
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        """Name the medium that is loaded."""
        node = self._inodes[inode].node
        if not isinstance(node, LoadedLink):
            raise FUSEError(errno.EINVAL)
        return FileNameT(node.target.encode())

    @to_errno
    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Drop what the kernel has dropped."""
        for number, lookups in inode_list:
            self._inodes.forget(number, lookups)

    @to_errno
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Tell the size of all disks together, as it was when they last answered."""
        data = StatvfsData()
        pool = self._engine.pool
        data.f_bsize = data.f_frsize = BLOCK
        data.f_blocks = pool.total // BLOCK
        data.f_bfree = pool.free // BLOCK
        data.f_bavail = pool.available // BLOCK
        data.f_files = data.f_ffree = data.f_favail = 0
        data.f_namemax = 255
        return data

    # --- directories ------------------------------------------------------------------------------------------------

    @to_errno
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """Open a directory."""
        number = next(self._numbers)
        self._listings[number] = _Listing(self._inodes[inode].node)
        return FileHandleT(number)

    @to_errno
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """List the directory behind the place `start_id`.

        What comes meanwhile may be listed or not; what is there all the time is listed once.
        """
        listing = self._listings[fh]
        if start_id == 0 or start_id != listing.place:  # the beginning, or rewinddir() or seekdir()
            listing.place = start_id
            listing.ahead.clear()
        while True:
            if not listing.ahead:
                listing.ahead.extend(await self._tree.entries(listing.node, listing.place))
            if not listing.ahead:
                return
            place, name, node = listing.ahead[0]
            inode = self._inodes.listed(node)
            attributes = self._attributes(inode, inode.number)
            if not pyfuse3.readdir_reply(token, FileNameT(name.encode()), attributes, place):
                self._inodes.forget(inode.number, 1)
                return
            listing.place = place
            listing.ahead.popleft()

    @to_errno
    async def releasedir(self, fh: FileHandleT) -> None:
        """Close a directory."""
        del self._listings[fh]

    # --- files ------------------------------------------------------------------------------------------------------

    @to_errno
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """Start a session."""
        known = self._inodes[inode]
        writing = flags & os.O_ACCMODE != os.O_RDONLY
        if flags & os.O_TRUNC and not writing:
            raise NotPermitted("truncating")
        match known.node:
            case MediumNode() if writing:
                return await self._open_writer(known, known.node, flags, ctx)
            case MediumNode(medium, drive):  # which may have been looked up long ago, with O_PATH
                medium = await self._engine.wait_visible(medium.barcode)
                return await self._open_reader(known, medium.barcode, 0, medium.bytes, drive, ctx)
            case PastMediumNode(_, medium) if not writing:
                return await self._open_reader(known, medium.barcode, 0, medium.bytes, None, ctx)
            case TapeFileNode(medium, tape_file) if not writing:
                start, size = tape_file.start, tape_file.bytes
                return await self._open_reader(known, medium.barcode, start, size, None, ctx)
            case SessionNode(_, text) if not writing:
                return FileInfo(fh=self._add(TextHandle(text)), direct_io=True)
        raise NotPermitted("writing here")

    async def _open_reader(
        self, inode: Inode, barcode: str, start: int, size: int, drive: int | None, ctx: RequestContext
    ) -> FileInfo:
        opener = await self._identify(ctx, writing=False)
        number = await self._drive_for(barcode) if drive is None else drive
        session = await self._engine.open_reader(barcode, start + size, number, opener)
        # What the kernel takes for the inode's length is that of the look-up, and it reads no further into its cache.
        cached = size == _size(inode.node) and read_through_cache(self._options.io, inode, opener)
        inode.readers += 1
        inode.cached_readers += cached
        handle = self._add(ReadHandle(inode, session, start, size, cached))
        # These never change, and have always the same inode: what the kernel has of them stays right.
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

    @to_errno
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Return bytes; fewer than asked for only at the end."""
        return await self._handles[fh].read(off, size)  # type: ignore[return-value]  # pyfuse3 takes any buffer

    @to_errno
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        """Take in bytes: all, or none and an error."""
        handle = self._handles[fh]
        if not isinstance(handle, WriteHandle):
            raise FUSEError(errno.EBADF)
        self._writes += 1
        self._writing += 1
        try:
            await handle.write(off, buf)
        finally:
            self._writing -= 1
        return len(buf)

    async def drain(self) -> None:
        """Return when no write is in the works and none has come for a moment."""
        seen = -1
        while self._writing or self._writes != seen:
            seen = self._writes
            await trio.sleep(QUIET_SECONDS)

    @to_errno
    async def flush(self, fh: FileHandleT) -> None:
        """Keep close()'s promise. It comes at every close() of a copy of the descriptor, so the session goes on."""
        handle = self._handles[fh]
        if isinstance(handle, WriteHandle):
            await handle.flush()

    @to_errno
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        """Make durable what has come so far."""
        handle = self._handles[fh]
        if isinstance(handle, WriteHandle):
            await handle.fsync()

    @to_errno
    async def release(self, fh: FileHandleT) -> None:
        """End the session. Nobody hears of an error here; what close() was promised is durable already."""
        handle = self._handles.pop(fh)
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

    # --- what a tape library never does -----------------------------------------------------------------------------

    @to_errno
    async def create(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Refuse: media come from `vtlfs media add`. Where media are, a name that is none does not exist."""
        raise self._no_new_name(parent_inode)

    @to_errno
    async def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """Refuse."""
        raise self._no_new_name(parent_inode)

    @to_errno
    async def mkdir(self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext) -> EntryAttributes:
        """Refuse."""
        raise NotPermitted("making a directory")

    @to_errno
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        """Refuse."""
        raise NotPermitted("deleting")

    @to_errno
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        """Refuse."""
        raise NotPermitted("deleting")

    @to_errno
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        """Refuse."""
        raise NotPermitted("renaming")

    @to_errno
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """Refuse."""
        raise NotPermitted("linking")

    @to_errno
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """Refuse: `vtlfs load` sets the links that there are."""
        raise NotPermitted("linking")

    # --- plumbing ---------------------------------------------------------------------------------------------------

    async def _find(self, parent: InodeT, name: FileNameT) -> Node:
        try:
            return await self._tree.look_up(self._inodes[parent].node, name.decode("utf-8"))
        except (NoSuchEntry, UnicodeDecodeError):
            raise FUSEError(errno.ENOENT) from None

    async def _identify(self, ctx: RequestContext, *, writing: bool) -> Opener:
        return await self._openers.identify(Caller(ctx.pid, ctx.uid, ctx.gid, writing))

    @staticmethod
    def _end_writing(inode: Inode) -> None:
        inode.writing -= 1
        inode.cached = inode.cached and inode.writing > 0

    def _is_risky(self, node: MediumNode) -> bool:
        """Tell whether a stream should not be cached: little is left, or a disk does not answer."""
        left, pool, little = node.medium.left, self._engine.pool, self._engine.library.config.low_space
        return pool.stalled or pool.left < little or (left is not None and left < little)

    def _no_new_name(self, parent: InodeT) -> Exception:
        node = self._inodes[parent].node
        if isinstance(node, DriveDirectory) or node == MEDIA:
            return FUSEError(errno.ENOENT)
        return NotPermitted("making a file")

    async def _drive_for(self, barcode: str) -> int:
        """Return the drive for an open that names none. The kernel has let in whoever asks."""
        return await self._engine.least_busy_drive(self._permissions.drives_for(barcode))

    def _add(self, handle: Handle) -> FileHandleT:
        number = FileHandleT(next(self._numbers))
        self._handles[number] = handle
        return number

    def _attributes(self, inode: Inode, shown: InodeT) -> EntryAttributes:
        """Return what stat() shows of the inode, under the number `shown`."""
        node, entry = inode.node, EntryAttributes()
        is_open = bool(inode.writers or inode.readers)
        entry.st_ino = shown
        entry.entry_timeout, entry.attr_timeout = _timeouts(node, is_open=is_open)
        rights = self._permissions.of(node)
        entry.st_uid, entry.st_gid = rights.owner, rights.group
        entry.st_mode = ModeT(_type(node) | (0o777 if isinstance(node, LoadedLink) else rights.mode))
        entry.st_nlink = 2 if stat.S_ISDIR(entry.st_mode) else 1
        entry.st_size = inode.size if inode.writers else _size(node)
        entry.st_blksize = BLOCK if stat.S_ISDIR(entry.st_mode) else 1 << 20
        entry.st_blocks = -(-entry.st_size // 512)
        mtime = time.time_ns() if inode.writers else mtime_ns(node, self._mounted_at)
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = mtime
        return entry


def _type(node: Node) -> int:
    match node:
        case MediumNode() | TapeFileNode() | SessionNode() | PastMediumNode():
            return stat.S_IFREG
        case LoadedLink():
            return stat.S_IFLNK
        case _:
            return stat.S_IFDIR


def _timeouts(node: Node, *, is_open: bool) -> tuple[float, float]:
    """Return for how long the kernel may believe the name and the attributes, in seconds."""
    match node:
        case MediumNode():  # each open() has to ask for an inode of its own, and fstat() for what it opened
            return 0, LONG if is_open else 0
        case TapeFileNode() | PastMediumNode():
            return LONG, LONG
        case SnapshotDirectory(_, ""):  # may be pruned
            return 0, LONG
        case SessionNode() | LoadedLink() | FilesDirectory():
            return 0, 0
        case _:
            return LONG, 1


def _size(node: Node) -> int:
    match node:
        case MediumNode(medium) | PastMediumNode(_, medium):
            return medium.bytes
        case TapeFileNode(_, tape_file):
            return tape_file.bytes
        case SessionNode(_, text):
            return len(text)
        case LoadedLink(_, target):
            return len(target)
        case _:
            return 0
