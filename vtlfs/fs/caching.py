"""Which open files go through the kernel's page cache, and which opens would harm one that does. Pure.

Used by `OpenFiles` at each open(). The page cache gathers small writes into large requests, so a program that writes
blocks of 10 KiB is several times as fast. But the kernel keeps one page cache for an inode, however many handles the
inode has. A program that opens its own output once more, by /dev/stdout or /dev/fd/N, makes no look-up, and so would
get a second handle of the same inode.
"""

import os

from vtlfs.errors import CannotReopen
from vtlfs.fs.attributes import size_of
from vtlfs.fs.inodes import Inode
from vtlfs.model import KIB, IoMode, Opener

LARGE_BLOCK = 256 * KIB


def check_reopening(inode: Inode, *, writing: bool) -> None:
    """Raise CannotReopen if one more open, by the same inode, would harm a stream that uses the page cache.

    A stream that is written through the page cache is alone on its inode. On an open with O_TRUNC that succeeds, the
    kernel discards the inode's unwritten pages; without O_TRUNC, it sends pages of one stream with the handle of
    another. A reader that maps the file into its memory makes the kernel read pages of the medium, which it then takes
    for pages of the stream. After an open that fails, it does none of that.

    Opening a file for writing that is read through the page cache would give the reader the inode's new length: its
    file would seem shortened, or extended by zeros.
    """
    if inode.cached and inode.writing:
        raise CannotReopen(
            "the page cache gathers what is written to this open file, so it can't be opened once more",
            "write by the descriptor that there is, read the medium by its path, or mount with reopen=allow",
        )
    if writing and inode.cached_readers:
        raise CannotReopen(
            "this file is open for reading through the page cache, so the descriptor can't be opened for writing",
            "open the medium by its path, or mount with io=direct",
        )


def goes_through_cache(io: IoMode, flags: int, inode: Inode, opener: Opener, *, risky: bool, reopen: bool) -> bool:
    """Tell whether a file opened for writing uses the kernel's page cache.

    Only a write-only stream can whose first offset the kernel knows: it begins with O_TRUNC, or appends. With io=auto
    it does if a shell opens the file, in which nobody can seek then, or a program that is known to write small blocks.
    Any other may seek back, or over holes, and hears of that at the write() only if the stream is direct. Nor does it
    if the program writes large blocks, is a file server, changes media, or asks for O_DIRECT; or if the stream is
    `risky`: if the medium or a disk has little room, a program needs ENOSPC from the write() itself, and a disk that
    hangs would hold up the page cache.

    `reopen`: the mount lets a program open its own output once more, which only a direct stream survives. Then only
    programs are cached that are known to write small blocks, and to write them themselves: shells hand the file to
    children, and a child may open it again.
    """
    if io is IoMode.DIRECT or inode.writing > 1 or inode.readers:
        return False
    if flags & os.O_ACCMODE != os.O_WRONLY or first_offset(flags, inode) is None:
        return False
    if io is IoMode.CACHED:
        return True
    if risky or _is_large(opener) or flags & os.O_DIRECT:
        return False
    if opener.sends_offsets or opener.changes_media:
        return False
    return opener.small_writes or (opener.streams_only and not reopen)


def first_offset(flags: int, inode: Inode) -> int | None:
    """Return the kernel's offset of the first byte that a cached stream would have; None if it may be any.

    The kernel keeps the length that the look-up told until something is written. Where a stream begins within that
    length, the kernel would read the file's bytes and write them back as the stream's. And a program that sends neither
    flag may go on with an ftruncate() to the length that there is, which of a cached stream only the kernel knows.
    """
    if flags & os.O_TRUNC:
        return 0
    return size_of(inode.node) if flags & os.O_APPEND and not inode.written else None


def read_through_cache(io: IoMode, inode: Inode, opener: Opener) -> bool:
    """Tell whether a file opened for reading uses the kernel's page cache.

    Not after a stream was written by the same inode, whose length the kernel takes from that stream. With io=auto, not
    for a program that reads large blocks: it needs no read-ahead, and is spared a copy of each byte.
    """
    if io is IoMode.DIRECT or inode.written:
        return False
    return io is IoMode.CACHED or not _is_large(opener)


def _is_large(opener: Opener) -> bool:
    return opener.block is not None and opener.block >= LARGE_BLOCK
