"""The pyfuse3 adapter: each handler decodes a request of the kernel, calls one method, and encodes the answer.

All handlers run in the trio loop, each without interruption up to its first `await`. The handler of RELEASE notes the
end of its session before that `await`, so a look-up that is made after close() returned waits for the release.
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
from vtlfs.fs.attributes import LONGEST_NAME, Attributes, changes, of_disks
from vtlfs.fs.errors import to_errno
from vtlfs.fs.files import OpenFiles
from vtlfs.fs.handles import WriteHandle
from vtlfs.fs.inodes import Inodes
from vtlfs.fs.listings import Listings
from vtlfs.fs.nodes import MEDIA, POOLS, DriveDirectory, LoadedLink, Node, SnapshotLink, stable_number
from vtlfs.fs.options import MountOptions
from vtlfs.fs.requests import Requests
from vtlfs.fs.rights import Permissions
from vtlfs.fs.tree import NoSuchEntry, Tree


class Operations(pyfuse3.Operations):
    """The handlers of one mount. `getxattr` is left out, since the kernel would call it on every cached write."""

    enable_writeback_cache = True
    supports_dot_lookup = False

    def __init__(self, engine: Engine, options: MountOptions) -> None:
        super().__init__()
        self.requests = Requests()
        self._engine = engine
        permissions = Permissions(engine.library.config, options)
        self._tree = Tree(engine)
        self._inodes = Inodes(engine.memory)
        self._attributes = Attributes(permissions)
        self._listings = Listings(self._tree, self._inodes, self._attributes)
        self._files = OpenFiles(engine, options, permissions)

    def close(self) -> None:
        """End the threads."""
        self._files.close()

    # --- names and attributes -----------------------------------------------------------------------------------------

    @to_errno
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        """Answer with the inode of a name; for a medium a fresh one, so that each open() has an inode of its own."""
        node = await self._find(parent_inode, name)
        inode = self._inodes.looked_up(node)
        return self._attributes.of(inode, inode.number)

    @to_errno
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Show a node's stable number; while the inode is open for writing, the session's identifier."""
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
        """Accept what is so already, and what `WriteHandle.truncate` takes; refuse every other change.

        The kernel keeps the times of a file that is written through the page cache, and sends them at the close(), with
        a handle. A program's own utimens() and chown() come without one, even if made by a descriptor.
        """
        handle = None if fh is None else self._files.get(fh)
        if fields.update_size and isinstance(handle, WriteHandle):
            await handle.truncate(attr.st_size)
            return await self.getattr(inode, ctx)
        now = await self.getattr(inode, ctx)
        times = {now.st_mtime_ns, self._attributes.mtime_of(self._inodes[inode].node)}
        resizes_gathered = fields.update_size and self._inodes[inode].cached  # only the kernel knows the length
        if resizes_gathered or changes(now, attr, fields, None if fh is not None or fields.update_size else times):
            raise NotPermitted("changing a file's attributes")
        return now

    @to_errno
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        """Return the target of a symbolic link: the barcode of a loaded medium, or the number of a snapshot."""
        node = self._inodes[inode].node
        if not isinstance(node, LoadedLink | SnapshotLink):
            raise FUSEError(errno.EINVAL)
        return FileNameT(node.target.encode())

    @to_errno
    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Drop inodes that the kernel has dropped."""
        for number, lookups in inode_list:
            self._inodes.forget(number, lookups)

    @to_errno
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Tell the size of all disks together, as it was when they last answered."""
        return of_disks(self._engine.pool, self._engine.library.config.parity)

    # --- directories --------------------------------------------------------------------------------------------------

    @to_errno
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """Open a directory."""
        return self._listings.open(self._inodes[inode].node)

    @to_errno
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """List the entries after the place `start_id`.

        Entries that are added while the directory is open may be listed or not; all others are listed once.
        """
        await self._listings.list(fh, start_id, token)

    @to_errno
    async def releasedir(self, fh: FileHandleT) -> None:
        """Close a directory."""
        self._listings.close(fh)

    # --- files --------------------------------------------------------------------------------------------------------

    @to_errno
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """Start a session."""
        return await self._files.open(self._inodes[inode], flags, ctx)

    @to_errno
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Return `size` bytes; fewer only at the end."""
        return await self._files[fh].read(off, size)  # type: ignore[return-value]  # pyfuse3 takes any buffer

    @to_errno
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        """Take in all bytes; if that fails, take none and raise."""
        await self._files.write(fh, off, buf)
        return len(buf)

    async def drain(self) -> None:
        """Return when all writes are answered, and no write has come for a moment."""
        await self._files.drain()

    @to_errno
    async def flush(self, fh: FileHandleT) -> None:
        """Make a close() durable. The session goes on: FLUSH comes at the close() of every copy of the descriptor."""
        handle = self._files[fh]
        if isinstance(handle, WriteHandle):
            await handle.flush()

    @to_errno
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        """Make the bytes that have come durable."""
        handle = self._files[fh]
        if isinstance(handle, WriteHandle):
            await handle.fsync()

    @to_errno
    async def release(self, fh: FileHandleT) -> None:
        """End the session. The kernel ignores errors of RELEASE; close() has returned, and its bytes are durable."""
        await self._files.release(fh)

    # --- changes that a tape library refuses --------------------------------------------------------------------------

    @to_errno
    async def create(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Refuse: only `vtlfs media add` adds media. In a directory of media, an unknown name is ENOENT."""
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
        """Refuse: only `vtlfs load` and `vtlfs unload` change the links `loaded`."""
        raise NotPermitted("making a link")

    # --- plumbing -----------------------------------------------------------------------------------------------------

    async def _find(self, parent: InodeT, name: FileNameT) -> Node:
        if len(name) > LONGEST_NAME:
            raise FUSEError(errno.ENAMETOOLONG)
        try:
            return await self._tree.look_up(self._inodes[parent].node, name.decode("utf-8"))
        except (NoSuchEntry, UnicodeDecodeError):
            raise FUSEError(errno.ENOENT) from None

    def _no_new_name(self, parent: InodeT) -> Exception:
        node = self._inodes[parent].node
        if isinstance(node, DriveDirectory) or node in (MEDIA, POOLS):
            return FUSEError(errno.ENOENT)
        return NotPermitted("making a file")
