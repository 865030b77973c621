"""Whose fault an errno is: the one table that placement, the disks, copies, the tracking database and the log go by.

A limit of this process or of the machine would be met on any disk: it ends the stream or the open() that meets it, no
disk is avoided for it, and the log tells it once. Everything that the table does not name is the disk's own fault: EIO,
EROFS, ENODEV, and EPERM and EACCES too, for a directory that lets nothing in (a seccomp filter gives the same EPERM and
can't be told from that).
"""

import errno
import resource
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from pathlib import Path

NEARLY = 1 << 16  # bytes below RLIMIT_FSIZE at which the next write of SQLite may be the one that does not fit


class Fault(Enum):
    """Whose fault it is."""

    DISK = "disk"  # another disk may do
    FULL = "full"  # the disk's too, and nothing to be alarmed about
    PROCESS = "process"  # a limit of this process
    MACHINE = "machine"  # a limit of the machine, or of the process's cgroup
    LIBRARY = "library"  # what was asked for is wrong, or was cancelled, on whatever disk


_FAULTS = {
    errno.ENOSPC: Fault.FULL,
    errno.EDQUOT: Fault.FULL,
    errno.EFBIG: Fault.PROCESS,  # RLIMIT_FSIZE; or the most that a file system takes in one file
    errno.EMFILE: Fault.PROCESS,  # RLIMIT_NOFILE
    errno.EAGAIN: Fault.PROCESS,  # RLIMIT_NPROC, or the pids of a cgroup: no thread can be started
    errno.ENFILE: Fault.MACHINE,  # fs.file-max
    errno.ENOMEM: Fault.MACHINE,  # memory; RLIMIT_AS and RLIMIT_DATA too
    errno.ENOBUFS: Fault.MACHINE,
    errno.EEXIST: Fault.LIBRARY,  # a member file that exists is never written
    errno.E2BIG: Fault.LIBRARY,
    errno.EINTR: Fault.LIBRARY,
    errno.ECANCELED: Fault.LIBRARY,
}
_LIMITS = {
    errno.EFBIG: (resource.RLIMIT_FSIZE, "RLIMIT_FSIZE", "ulimit -f, LimitFSIZE="),
    errno.EMFILE: (resource.RLIMIT_NOFILE, "RLIMIT_NOFILE", "ulimit -n, LimitNOFILE="),
    errno.EAGAIN: (resource.RLIMIT_NPROC, "RLIMIT_NPROC", "ulimit -u, LimitNPROC=, TasksMax="),
}


def fault_of(code: int) -> Fault:
    """Return whose fault an errno is."""
    return _FAULTS.get(code, Fault.DISK)


def is_disks(code: int) -> bool:
    """Tell whether another disk may do what this one did not."""
    return fault_of(code) in (Fault.DISK, Fault.FULL)


def is_limit(code: int) -> bool:
    """Tell whether an errno is a limit of this process or of the machine."""
    return fault_of(code) in (Fault.PROCESS, Fault.MACHINE)


def explained(code: int) -> str:
    """Return what there is to know of a limit, and where it is raised."""
    if code not in _LIMITS:
        return "a limit of this machine, no fault of a disk"
    limit, name, where = _LIMITS[code]
    soft, _ = resource.getrlimit(limit)
    now = "unlimited" if soft == resource.RLIM_INFINITY else soft
    return f"a limit of this process, no fault of a disk: {name} is {now}; raise it ({where}) and mount again"


def meets_file_limit(files: Iterable[Path]) -> bool:
    """Tell whether one of the files can't grow for RLIMIT_FSIZE: SQLite tells that as an error of the device."""
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if soft == resource.RLIM_INFINITY:
        return False
    sizes = [0]
    for file in files:
        with suppress(OSError):
            sizes.append(file.stat().st_size)
    return max(sizes) + NEARLY > soft
