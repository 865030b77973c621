"""A minimal file system in pyfuse3: the bound of what vtlfs can reach with many short streams.

python -m benchmarks.least MOUNTPOINT DIRECTORY    and --nothing, to write and sync nothing at all

Like vtlfs, it gives each open() an inode of its own, answers the kernel's requests for that inode, and syncs the
stream's file, that file's directory, and a log. It does not check, hash, stripe or track, can't read, and has no
threads, so that no time is lost by waking one.
"""

import argparse
import os
import stat
from collections.abc import Sequence
from itertools import count, cycle
from pathlib import Path

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FileNameT, FlagT, InodeT, RequestContext, SetattrFields

PAGE = 4096  # of the log
LOG_BYTES = 1000 * PAGE  # the log is overwritten page by page, in a circle, like SQLite's write-ahead log
LONG = 1e6  # seconds


class Least(pyfuse3.Operations):
    """See the module. Every name in the only directory is a file."""

    enable_writeback_cache = True
    supports_dot_lookup = False

    def __init__(self, directory: Path, *, nothing: bool) -> None:
        super().__init__()
        self._nothing = nothing
        self._within = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self._log = os.open(directory / "log", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(self._log, bytes(LOG_BYTES))
        os.fsync(self._log)
        self._pages = cycle(range(0, LOG_BYTES, PAGE))
        self._fresh = count(pyfuse3.ROOT_INODE + 1)
        self._written: dict[int, list[bytes]] = {}  # unsynced bytes of open streams, by inode
        self._files: dict[int, int] = {}  # descriptors of streams that were synced, by inode

    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        """Answer with a fresh inode."""
        return self._attributes(InodeT(next(self._fresh)))

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Answer with the same attributes as `lookup`."""
        return self._attributes(inode)

    async def setattr(
        self, inode: InodeT, attr: EntryAttributes, fields: SetattrFields, fh: FileHandleT | None, ctx: RequestContext
    ) -> EntryAttributes:
        """Change nothing."""
        return self._attributes(inode)

    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """Begin a stream."""
        self._written[inode] = []
        return FileInfo(fh=FileHandleT(inode), direct_io=True, nonseekable=True)

    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        """Keep the bytes."""
        self._written[fh].append(buf)
        return len(buf)

    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        """Write the bytes, and make them durable."""
        if self._nothing:
            return
        if fh not in self._files:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._files[fh] = os.open(f"{fh}", flags, 0o600, dir_fd=self._within)
        os.writev(self._files[fh], self._written[fh])
        self._written[fh] = []
        os.fsync(self._files[fh])
        os.fsync(self._within)
        os.pwrite(self._log, PAGE * b"\1", next(self._pages))
        os.fdatasync(self._log)

    async def flush(self, fh: FileHandleT) -> None:
        """Sync the unsynced bytes, if there are any."""
        if self._written[fh]:
            await self.fsync(fh, True)

    async def release(self, fh: FileHandleT) -> None:
        """End the stream."""
        del self._written[fh]
        if fh in self._files:
            os.close(self._files.pop(fh))

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Do nothing, because nothing is kept by inode after the release."""

    def _attributes(self, inode: InodeT) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino, entry.st_nlink = inode, 1
        entry.st_mode = pyfuse3.ModeT(stat.S_IFDIR | 0o755 if inode == pyfuse3.ROOT_INODE else stat.S_IFREG | 0o644)
        entry.entry_timeout, entry.attr_timeout = 0, LONG if inode in self._written else 0
        return entry


def main() -> None:
    """Mount the file system, and serve until it is unmounted."""
    parser = argparse.ArgumentParser(prog="benchmarks.least", description=__doc__)
    parser.add_argument("mountpoint")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--nothing", action="store_true", help="write and sync nothing")
    words = parser.parse_args()
    least = Least(words.directory, nothing=words.nothing)
    pyfuse3.init(least, words.mountpoint, {"fsname=least", "default_permissions"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main()
