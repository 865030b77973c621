"""The pyfuse3 adapter: each handler decodes a request of the kernel, calls one method, and encodes the answer.

All handlers run in the trio loop. A handler runs without interruption up to its first wait. RELEASE announces the end
of its session before that wait: so a look-up made after close() returned knows of the release.
"""

import errno
from collections.abc import Sequence

import pyfuse3
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
from vtlfs.fs.attributes import Attributes, of_disks
from vtlfs.fs.errors import to_errno
from vtlfs.fs.files import OpenFiles
from vtlfs.fs.handles import WriteHandle
from vtlfs.fs.inodes import Inodes
from vtlfs.fs.listings import Listings
from vtlfs.fs.options import MountOptions
from vtlfs.fs.rights import Permissions
from vtlfs.fs.tree import MEDIA, DriveDirectory, LoadedLink, Node, NoSuchEntry, Tree, stable_number


class Operations(pyfuse3.Operations):
    """The handlers of one mount. `getxattr` stays out: once it exists, every cached write asks for an attribute."""

    enable_writeback_cache = True
    supports_dot_lookup = False

    def __init__(self, engine: Engine, options: MountOptions) -> None:
        super().__init__()
        self._engine = engine
        permissions = Permissions(engine.library.config, options)
        self._tree = Tree(engine)
        self._inodes = Inodes(engine.memory)
        self._attributes = Attributes(permissions)
        self._listings = Listings(self._tree, self._inodes, self._attributes)
        self._files = OpenFiles(engine, options, permissions)

    def close(self) -> None:
        """Let the threads end."""
        self._files.close()

    # --- names and attributes ---------------------------------------------------------------------------------------

    @to_errno
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        """Answer with a fresh inode for a medium, so that an open() that follows has one of its own."""
        node = await self._find(parent_inode, name)
        inode = self._inodes.looked_up(node)
        return self._attributes.of(inode, inode.number)

    @to_errno
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Show a path's stable number, but the session's identifier while the inode is open for writing."""
        known = self._inodes[inode]
        shown = known.writers[0].number if known.writers else stable_number(known.node)
        return self._attributes.of(known, InodeT(shown))

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
        handle = None if fh is None else self._files.get(fh)
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
        return of_disks(self._engine.pool)

    # --- directories ------------------------------------------------------------------------------------------------

    @to_errno
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """Open a directory."""
        return self._listings.open(self._inodes[inode].node)

    @to_errno
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """List the directory behind the place `start_id`.

        What comes meanwhile may be listed or not; what is there all the time is listed once.
        """
        await self._listings.list(fh, start_id, token)

    @to_errno
    async def releasedir(self, fh: FileHandleT) -> None:
        """Close a directory."""
        self._listings.close(fh)

    # --- files ------------------------------------------------------------------------------------------------------

    @to_errno
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """Start a session."""
        return await self._files.open(self._inodes[inode], flags, ctx)

    @to_errno
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Return bytes; fewer than asked for only at the end."""
        return await self._files[fh].read(off, size)  # type: ignore[return-value]  # pyfuse3 takes any buffer

    @to_errno
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        """Take in bytes: all, or none and an error."""
        await self._files.write(fh, off, buf)
        return len(buf)

    async def drain(self) -> None:
        """Return when all writes are answered, and none has come for a moment."""
        await self._files.drain()

    @to_errno
    async def flush(self, fh: FileHandleT) -> None:
        """Keep close()'s promise. It comes at every close() of a copy of the descriptor, so the session goes on."""
        handle = self._files[fh]
        if isinstance(handle, WriteHandle):
            await handle.flush()

    @to_errno
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        """Make durable what has come so far."""
        handle = self._files[fh]
        if isinstance(handle, WriteHandle):
            await handle.fsync()

    @to_errno
    async def release(self, fh: FileHandleT) -> None:
        """End the session. Nobody hears of an error here; what close() was promised is durable already."""
        await self._files.release(fh)

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
        raise NotPermitted("deleting a file or directory")

    @to_errno
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        """Refuse."""
        raise NotPermitted("deleting a file or directory")

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
        raise NotPermitted("renaming a file or directory")

    @to_errno
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """Refuse."""
        raise NotPermitted("making a link")

    @to_errno
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """Refuse: `vtlfs load` sets the links that there are."""
        raise NotPermitted("making a link")

    # --- plumbing ---------------------------------------------------------------------------------------------------

    async def _find(self, parent: InodeT, name: FileNameT) -> Node:
        try:
            return await self._tree.look_up(self._inodes[parent].node, name.decode("utf-8"))
        except (NoSuchEntry, UnicodeDecodeError):
            raise FUSEError(errno.ENOENT) from None

    def _no_new_name(self, parent: InodeT) -> Exception:
        node = self._inodes[parent].node
        if isinstance(node, DriveDirectory) or node == MEDIA:
            return FUSEError(errno.ENOENT)
        return NotPermitted("making a file")
