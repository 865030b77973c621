"""The attributes that stat() and statfs() show of the mounted tree. Used in the trio loop of a mount."""

import stat
import time

from pyfuse3 import EntryAttributes, InodeT, ModeT, SetattrFields, StatvfsData

from vtlfs.disks.pool import DiskPool
from vtlfs.engine.layout.dealer import Candidate
from vtlfs.engine.layout.room import room
from vtlfs.fs.inodes import Inode
from vtlfs.fs.nodes import (
    ChangerNode,
    FilesDirectory,
    LoadedLink,
    MediumNode,
    Node,
    PastMediumNode,
    PoolFileNode,
    PoolNode,
    SessionNode,
    SnapshotDirectory,
    SnapshotLink,
    TapeFileNode,
    mtime_ns,
)
from vtlfs.fs.rights import Permissions

LONG = 1e6  # seconds for which the kernel may cache names and attributes that will not change
BLOCK = 4096
LONGEST_NAME = 255  # bytes; the kernel sends longer names, too


class Attributes:
    """Describes the inodes of one mount."""

    def __init__(self, permissions: Permissions) -> None:
        self._permissions = permissions
        self._mounted_at = time.time_ns()

    def of(self, inode: Inode, shown: InodeT) -> EntryAttributes:
        """Return the attributes that stat() shows of an inode, with the inode number `shown`."""
        node, entry = inode.node, EntryAttributes()
        is_open = bool(inode.writers or inode.readers)
        entry.st_ino = shown
        entry.entry_timeout, entry.attr_timeout = _timeouts(node, is_open=is_open)
        rights = self._permissions.of(node)
        entry.st_uid, entry.st_gid = rights.owner, rights.group
        entry.st_mode = ModeT(_type(node) | (0o777 if isinstance(node, LoadedLink | SnapshotLink) else rights.mode))
        entry.st_nlink = 2 if stat.S_ISDIR(entry.st_mode) else 1
        entry.st_size = inode.size if inode.writers else size_of(node)
        entry.st_blksize = BLOCK if stat.S_ISDIR(entry.st_mode) else 1 << 20
        entry.st_blocks = -(-entry.st_size // 512)
        mtime = time.time_ns() if inode.writers else self.mtime_of(node)
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = mtime
        return entry

    def mtime_of(self, node: Node) -> int:
        """Return when a node last changed, in nanoseconds since 1970, as far as it is not open for writing."""
        return mtime_ns(node, self._mounted_at)


def changes(now: EntryAttributes, wanted: EntryAttributes, fields: SetattrFields, times: set[int] | None) -> bool:
    """Tell whether attributes that a program sets differ from those that there are.

    `times`: those that the file has, in nanoseconds; None: times don't count.
    """
    return (
        (fields.update_size and wanted.st_size != now.st_size)
        or (fields.update_mode and stat.S_IMODE(wanted.st_mode) != stat.S_IMODE(now.st_mode))
        or (fields.update_uid and wanted.st_uid != now.st_uid)
        or (fields.update_gid and wanted.st_gid != now.st_gid)
        or (times is not None and fields.update_atime and wanted.st_atime_ns not in times)
        or (times is not None and fields.update_mtime and wanted.st_mtime_ns not in times)
    )


def of_disks(pool: DiskPool, parity: int) -> StatvfsData:
    """Return what statfs() shows: the data that the disks take with this parity, and what still fits of it.

    What file systems of the disks reserve for root is free and not available, as in their own statfs().

    Sizes are those that the disks had when they last answered. A disk that can't be used takes nothing new; one that
    has not answered since the mount began has no size.
    """
    known = [(pooled, pooled.disk) for pooled in pool.disks if pooled.disk.total]
    total = room([Candidate(disk.number, disk.device, disk.total) for _, disk in known], parity)
    if not total:  # too few disks for a stripe: it is full, and has a size all the same, or df leaves it out
        total = sum({disk.device: disk.total for _, disk in known}.values())
    usable = [disk for pooled, disk in known if pooled.usable]
    available = room([Candidate(disk.number, disk.device, disk.free) for disk in usable], parity)
    free = room([Candidate(disk.number, disk.device, disk.free + disk.reserved) for disk in usable], parity)
    data = StatvfsData()
    data.f_bsize = data.f_frsize = BLOCK
    data.f_blocks = total // BLOCK
    data.f_bfree = min(free, total) // BLOCK
    data.f_bavail = min(available, free, total) // BLOCK
    data.f_files = data.f_ffree = data.f_favail = 0
    data.f_namemax = LONGEST_NAME
    return data


def _type(node: Node) -> int:
    match node:
        case MediumNode() | TapeFileNode() | SessionNode() | PastMediumNode() | PoolNode() | PoolFileNode():
            return stat.S_IFREG
        case ChangerNode():
            return stat.S_IFREG
        case LoadedLink() | SnapshotLink():
            return stat.S_IFLNK
        case _:
            return stat.S_IFDIR


def _timeouts(node: Node, *, is_open: bool) -> tuple[float, float]:
    """Return for how many seconds the kernel may cache the name, and the attributes."""
    match node:
        case MediumNode() | PoolNode():  # uncached, so that each open() looks the name up and gets an inode of its own
            return 0, LONG if is_open else 0
        case TapeFileNode() | PastMediumNode():
            return LONG, LONG
        case SnapshotDirectory(_, "") | PoolFileNode():  # may be pruned, or a medium of it erased
            return 0, LONG
        case SessionNode() | LoadedLink() | SnapshotLink() | FilesDirectory():
            return 0, 0
        case _:
            return LONG, 1


def size_of(node: Node) -> int:
    """Return the length that stat() shows of a node that is not open for writing."""
    match node:
        case MediumNode(medium) | PastMediumNode(_, medium):
            return medium.bytes
        case TapeFileNode(_, tape_file):
            return tape_file.bytes
        case SessionNode(_, text):
            return len(text)
        case PoolNode(_, _, medium):
            return 0 if medium is None else medium.bytes
        case PoolFileNode(file):
            return file.bytes
        case LoadedLink() | SnapshotLink():
            return len(node.target)
        case _:
            return 0
