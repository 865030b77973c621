"""What the process that serves a mount keeps of whoever started it, and gives back; docs/operation.md has a table.

A mount lives longer than the shell, the lock or the file system of the one who mounts. Used by the program that mounts
and by the daemon, before there is a second thread.
"""

import ctypes
import logging
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

from vtlfs.model import GIB, format_size

# Of the environment, what a mount or a program that it starts (mount, fusermount3) goes by.
KEPT_VARIABLES = ("PATH", "LANG", "LANGUAGE", "TZ", "TZDIR", "TMPDIR", "SQLITE_TMPDIR", "LD_LIBRARY_PATH")
KEPT_PREFIXES = ("LC_", "VTLFS_")
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)  # so that they are EPIPE and EFBIG, as the mount wants them
ENV_START, ENV_END = 50, 51  # fields of /proc/PID/stat, see proc(5)

ENOUGH_DESCRIPTORS = 64 << 10
UNLIMITED = resource.RLIM_INFINITY
# Limits that a mount raises: what is enough, below which the log warns, and whether root has the hard limit raised too.
# RLIMIT_AS and RLIMIT_DATA are how one bounds the memory of a service; the others are meant for a user's programs.
LIMITS = (
    ("RLIMIT_FSIZE", UNLIMITED, 1024 * GIB, True),
    ("RLIMIT_NOFILE", ENOUGH_DESCRIPTORS, 128, True),
    ("RLIMIT_CPU", UNLIMITED, UNLIMITED, True),
    ("RLIMIT_NPROC", UNLIMITED, 64, False),
    ("RLIMIT_AS", UNLIMITED, GIB, False),
    ("RLIMIT_DATA", UNLIMITED, GIB, False),
)
IN_BYTES = ("RLIMIT_FSIZE", "RLIMIT_AS", "RLIMIT_DATA")

ALLOCATOR = "PYTHONMALLOC"

log = logging.getLogger("vtlfs")


def use_system_allocator() -> None:
    """Start the program again, as the same process, with Python's objects allocated by the C library.

    Python's own allocator gives memory back by the mebibyte, and only where no object lives in it: after ten thousand
    open files, a few small objects here and there keep 60 MiB. glibc's malloc_trim() gives back every free page (see
    `engine/heap.py`). An allocator that the environment names is respected; without glibc, nothing is done.
    """
    if ALLOCATOR in os.environ or not sys.executable or "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return
    (program, *words), environment = sys.orig_argv, {**os.environ, ALLOCATOR: "malloc"}
    if words[:1] == ["-I"]:  # which would have Python ignore that variable, too
        words[:1] = ["-P", "-s"]
        environment = {name: value for name, value in environment.items() if name[:6] != "PYTHON" or name == ALLOCATOR}
    with suppress(OSError):  # then with Python's own
        os.execve(sys.executable, [program, *words], environment)


def detach(kept: int) -> None:
    """Give back what a process in the background has of its starter: all descriptors but one, the directory, …"""
    os.chdir("/")
    os.umask(0o077)
    _default_signals()
    _close_all_but(kept)
    _forget_environment()


def listen_to_signals() -> None:
    """Have a process, also one in the foreground, be told of its children's ends, and of signals that were blocked."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _default_signals() -> None:
    """Take back what the starter had ignored, as nohup does and shells for what runs in the background."""
    for number in signal.valid_signals() - set(IGNORED_BY_PYTHON):
        if signal.getsignal(number) is signal.SIG_IGN:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)


def _close_all_but(kept: int) -> None:
    """Close all descriptors but one, and have /dev/null for the standard streams."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    highest = max(map(int, os.listdir("/proc/self/fd")))  # the limit may be millions, and have been lowered since
    os.closerange(3, kept)
    os.closerange(kept + 1, highest + 1)


def _forget_environment() -> None:
    """Keep what is needed only, also in /proc/PID/environ: the rest may be passwords, of whoever mounts."""
    kept = {name: value for name, value in os.environ.items() if _is_kept(name)}
    os.environ.clear()
    os.environ.update(kept)  # copies, elsewhere than the text that the process was started with
    with suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
        start, end = (int(fields[number - 3]) for number in (ENV_START, ENV_END))  # the first one is the third
        if 0 < start < end:
            ctypes.memset(start, 0, end - start)


def _is_kept(name: str) -> bool:
    return name in KEPT_VARIABLES or name.startswith(KEPT_PREFIXES)


def raise_limits() -> None:
    """Raise the limits that would break streams as far as that is permitted; log what is left too low, in one line."""
    low = []
    for name, enough, least, hard_too in LIMITS:
        limit = getattr(resource, name)
        _raise(limit, enough if hard_too else 0)
        soft, _ = resource.getrlimit(limit)
        if _number(soft) < _number(least):
            low.append(f"{name} {format_size(soft) if name in IN_BYTES else soft}")
    if low:
        log.warning("limits of this process that streams may meet, and that can't be raised here: %s", ", ".join(low))


def _raise(limit: int, enough: int) -> None:
    """Raise the soft limit to the hard one, and that to what is enough, where the process may do that."""
    _, hard = resource.getrlimit(limit)
    if _number(hard) < _number(enough):
        with suppress(OSError, ValueError):  # only with CAP_SYS_RESOURCE, and up to fs.nr_open
            resource.setrlimit(limit, (enough, enough))
            return
    with suppress(OSError, ValueError):  # as where a hard limit is above what the kernel takes today
        resource.setrlimit(limit, (hard, hard))


def _number(limit: int) -> float:
    return float("inf") if limit == UNLIMITED else limit
