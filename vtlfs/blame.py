"""Whose fault an errno is: one table for placement, the disks, copies, the tracking database and the log.

A limit of this process or of the machine holds on every disk. So it fails the stream or the open() that meets it, no
disk is avoided for it, and the log tells it once. An errno that the table lacks is the fault of the disk: EIO, EROFS,
ENODEV, and also EPERM and EACCES, which a directory gives that may not be written. A seccomp filter gives the same
EPERM, which can't be told apart.
"""

import errno
import os
import resource
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from pathlib import Path

HANGS = "it does not answer"  # what is recorded as the fault of a disk that hangs
NEARLY = 1 << 16  # bytes; a database file this close to RLIMIT_FSIZE may be too large after SQLite's next write


class Fault(Enum):
    """Whose fault an errno is."""

    DISK = "disk"  # another disk may work
    FULL = "full"  # the disk is full, which is no alarm; another disk may have room
    PROCESS = "process"  # a limit of this process
    MACHINE = "machine"  # a limit of the machine, or of the process's cgroup
    LIBRARY = "library"  # the operation is wrong, or was cancelled; it would fail on any disk


_FAULTS = {
    errno.ENOSPC: Fault.FULL,
    errno.EDQUOT: Fault.FULL,
    errno.EFBIG: Fault.PROCESS,  # RLIMIT_FSIZE; or the largest file of a file system
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
    """Tell whether the operation may succeed on another disk."""
    return fault_of(code) in (Fault.DISK, Fault.FULL)


def means_full(fault: str | None) -> bool:
    """Tell whether the fault that is recorded of a disk says that it is full."""
    return fault in [os.strerror(code) for code, whose in _FAULTS.items() if whose is Fault.FULL]


def is_limit(code: int) -> bool:
    """Tell whether an errno is a limit of this process or of the machine."""
    return fault_of(code) in (Fault.PROCESS, Fault.MACHINE)


def explained(code: int) -> str:
    """Return a text about the limit behind an errno: its value, and where to raise it."""
    if code not in _LIMITS:
        return "a limit of this machine, no fault of a disk; give the machine or its cgroup more memory or files"
    limit, name, where = _LIMITS[code]
    soft, _ = resource.getrlimit(limit)
    now = "unlimited" if soft == resource.RLIM_INFINITY else soft
    return f"a limit of this process, no fault of a disk: {name} is {now}; raise it ({where}) and mount again"


def meets_file_limit(files: Iterable[Path]) -> bool:
    """Tell whether RLIMIT_FSIZE keeps a file from growing, which SQLite reports as an error of the device."""
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if soft == resource.RLIM_INFINITY:
        return False
    sizes = [0]
    for file in files:
        with suppress(OSError):
            sizes.append(file.stat().st_size)
    return max(sizes) + NEARLY > soft
