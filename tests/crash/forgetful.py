"""A file system in memory that remembers what a power cut may take from it: `python forgetful.py MOUNTPOINT LOG`.

The log has every change and every sync in order. From this log, `blackout` computes what a disk may hold when the
power is cut at any step. A write to the special file `acknowledged` adds a mark to the log. At the unmount, the log is
written to the file LOG, as a pickled list of steps.
"""

import errno
import os
import pickle
import stat
import sys
from pathlib import Path
from typing import Any

import pyfuse3
import trio
from blackout import (
    MARKS,
    ROOT,
    Link,
    Make,
    Mark,
    Mode,
    Step,
    Sync,
    Truncate,
    Write,
)

FOR_EVER = 3600.0  # nothing changes but through this mount
ROOM = 1 << 40


class Node:
    """A file or a directory as programs see it."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.content = bytearray()
        self.entries: dict[bytes, int] = {}
        self.links = 1


class Forgetful(pyfuse3.Operations):
    """The file system. A handle is the number of its inode; none is ever forgotten."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Step] = []
        self._nodes = {ROOT: Node(stat.S_IFDIR | 0o700)}
        self._marks = 0

    # --- names ------------------------------------------------------------------------------------------------------

    def _attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        node, entry = self._nodes[inode], pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.st_mode = node.mode
        entry.st_nlink = node.links
        entry.st_size = len(node.content)
        entry.st_blocks = -(-len(node.content) // 512)
        entry.st_blksize = 4096
        entry.entry_timeout = entry.attr_timeout = FOR_EVER
        return entry

    def _find(self, parent: int, name: bytes) -> int:
        try:
            return self._nodes[parent].entries[name]
        except KeyError:
            raise pyfuse3.FUSEError(errno.ENOENT) from None

    def _name(self, *links: tuple[int, bytes, int | None]) -> None:
        """Change names, all of them at the same moment."""
        for parent, name, inode in links:
            entries = self._nodes[parent].entries
            if (old := entries.pop(name, None)) is not None:
                self._nodes[old].links -= 1
            if inode is not None:
                entries[name] = inode
                self._nodes[inode].links += 1
        self.log.append(Link(links))

    def _make(self, parent: int, name: bytes, mode: int) -> int:
        if name in self._nodes[parent].entries:
            raise pyfuse3.FUSEError(errno.EEXIST)
        inode = ROOT + len(self._nodes)
        self._nodes[inode] = Node(mode)
        self._nodes[inode].links = 0
        if (parent, name) == (ROOT, MARKS):
            self._marks = inode
            self._nodes[parent].entries[name] = inode
        else:
            self.log.append(Make(inode, mode))
            self._name((parent, name, inode))
        return inode

    async def lookup(self, parent: int, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        return self._attributes(self._find(parent, name))

    async def mkdir(self, parent: int, name: bytes, mode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        return self._attributes(self._make(parent, name, stat.S_IFDIR | mode & ~ctx.umask))

    async def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        inode = self._make(parent, name, stat.S_IFREG | mode & ~ctx.umask)
        return await self.open(inode, flags, ctx), self._attributes(inode)

    async def link(self, inode: int, parent: int, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        if name in self._nodes[parent].entries:
            raise pyfuse3.FUSEError(errno.EEXIST)
        self._name((parent, name, inode))
        return self._attributes(inode)

    async def unlink(self, parent: int, name: bytes, ctx: Any) -> None:
        self._find(parent, name)
        self._name((parent, name, None))

    async def rmdir(self, parent: int, name: bytes, ctx: Any) -> None:
        if self._nodes[self._find(parent, name)].entries:
            raise pyfuse3.FUSEError(errno.ENOTEMPTY)
        self._name((parent, name, None))

    async def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int, ctx: Any) -> None:
        inode = self._find(parent, name)
        if flags:
            raise pyfuse3.FUSEError(errno.EINVAL)
        self._name((parent, name, None), (new_parent, new_name, inode))

    async def opendir(self, inode: int, ctx: Any) -> int:
        return inode

    async def readdir(self, handle: int, start: int, token: Any) -> None:
        for number, (name, inode) in enumerate(list(self._nodes[handle].entries.items())[start:], start + 1):
            if not pyfuse3.readdir_reply(token, name, self._attributes(inode), number):
                return

    async def fsyncdir(self, handle: int, only_data: bool) -> None:
        self.log.append(Sync(handle))

    # --- files ------------------------------------------------------------------------------------------------------

    async def getattr(self, inode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        return self._attributes(inode)

    async def setattr(self, inode: int, attr: Any, fields: Any, handle: int | None, ctx: Any) -> Any:
        node = self._nodes[inode]
        if fields.update_mode:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(attr.st_mode)
            self.log.append(Mode(inode, node.mode))
        if fields.update_size:
            self._truncate(inode, attr.st_size)
        return self._attributes(inode)

    def _truncate(self, inode: int, size: int) -> None:
        content = self._nodes[inode].content
        del content[size:]
        content.extend(bytes(size - len(content)))
        self.log.append(Truncate(inode, size))

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        if flags & os.O_TRUNC and self._nodes[inode].content:
            self._truncate(inode, 0)
        return pyfuse3.FileInfo(fh=inode, keep_cache=True, direct_io=inode == self._marks)

    async def read(self, handle: int, offset: int, size: int) -> bytes:
        return bytes(self._nodes[handle].content[offset : offset + size])

    async def write(self, handle: int, offset: int, data: bytes) -> int:
        if handle == self._marks:
            self.log.append(Mark(data))
            return len(data)
        content = self._nodes[handle].content
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data
        self.log.append(Write(handle, offset, data))
        return len(data)

    async def fsync(self, handle: int, only_data: bool) -> None:
        self.log.append(Sync(handle))

    async def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        status = pyfuse3.StatvfsData()
        status.f_bsize = status.f_frsize = 4096
        status.f_blocks = status.f_bfree = status.f_bavail = ROOM // 4096
        status.f_files = status.f_ffree = status.f_favail = 1 << 30
        status.f_namemax = 255
        return status

    async def flush(self, handle: int) -> None:
        """Close a descriptor, which syncs nothing."""

    async def release(self, handle: int) -> None:
        """Close a file, which syncs nothing."""

    async def releasedir(self, handle: int) -> None:
        """Close a directory."""

    async def forget(self, inodes: Any) -> None:
        """Forget nothing."""


def main(mountpoint: str, log: str) -> None:
    """Serve the file system until it is unmounted; then write the log."""
    served = Forgetful()
    pyfuse3.init(served, mountpoint, {"fsname=forgetful", "subtype=forgetful", "default_permissions"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=False)
    Path(log).write_bytes(pickle.dumps(served.log))


if __name__ == "__main__":
    main(*sys.argv[1:])
