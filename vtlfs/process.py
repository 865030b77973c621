"""What the serving process of a mount inherits from its starter: it keeps some, and drops the rest.

docs/operation.md has a table. A mount outlives the shell of its starter, so it must hold none of the starter's files,
locks or directories. Used by the program that mounts and by the daemon, before there is a second thread.
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

# The environment variables that a mount, or a program that it starts (mount, fusermount3), uses.
KEPT_VARIABLES = ("PATH", "LANG", "LANGUAGE", "TZ", "TZDIR", "TMPDIR", "SQLITE_TMPDIR", "LD_LIBRARY_PATH")
KEPT_PREFIXES = ("LC_", "VTLFS_")
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)  # ignored, so that system calls fail with EPIPE and EFBIG
ENV_START, ENV_END = 50, 51  # fields of /proc/PID/stat, see proc(5)

ENOUGH_DESCRIPTORS = 64 << 10
UNLIMITED = resource.RLIM_INFINITY
# Limits that a mount raises: the value that is enough, the value below which it warns, and whether root raises the hard
# limit, too. The hard limits of RLIMIT_AS and RLIMIT_DATA stay, since administrators bound a service's memory by them.
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

    Python's own allocator gives memory back by the mebibyte, and only a mebibyte without any object: after ten thousand
    open files, scattered small objects keep 60 MiB. glibc's malloc_trim() gives back every free page (see
    `engine/tasks/heap.py`). If the environment names an allocator, or without glibc, nothing is done.
    """
    if ALLOCATOR in os.environ or not sys.executable or "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return
    (program, *words), environment = sys.orig_argv, {**os.environ, ALLOCATOR: "malloc"}
    if words[:1] == ["-I"]:  # -I would make Python ignore PYTHONMALLOC, too
        words[:1] = ["-P", "-s"]
        environment = {name: value for name, value in environment.items() if name[:6] != "PYTHON" or name == ALLOCATOR}
    with suppress(OSError):  # then the program goes on with Python's allocator
        os.execve(sys.executable, [program, *words], environment)


def detach(kept: int) -> None:
    """Drop what a background process has inherited: descriptors but `kept`, directory, ignored signals, environment."""
    os.chdir("/")
    os.umask(0o077)
    _default_signals()
    _close_all_but(kept)
    _forget_environment()


def listen_to_signals() -> None:
    """Unblock all signals, and let the process wait for its children; also needed by a mount in the foreground."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _default_signals() -> None:
    """Restore signals that the starter ignored, as nohup does, and shells do for background processes."""
    for number in signal.valid_signals() - set(IGNORED_BY_PYTHON):
        if signal.getsignal(number) is signal.SIG_IGN:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)


def _close_all_but(kept: int) -> None:
    """Close all descriptors but one, and open /dev/null as the standard streams."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    highest = max(map(int, os.listdir("/proc/self/fd")))  # the limit may be millions, or lower than open descriptors
    os.closerange(3, kept)
    os.closerange(kept + 1, highest + 1)


def _forget_environment() -> None:
    """Drop all other variables, also from /proc/PID/environ: they may hold passwords of the user who mounts."""
    kept = {name: value for name, value in os.environ.items() if _is_kept(name)}
    os.environ.clear()
    os.environ.update(kept)  # copies outside the memory that /proc/PID/environ shows
    with suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
        start, end = (int(fields[number - 3]) for number in (ENV_START, ENV_END))  # fields[0] is the third field
        if 0 < start < end:
            ctypes.memset(start, 0, end - start)


def _is_kept(name: str) -> bool:
    return name in KEPT_VARIABLES or name.startswith(KEPT_PREFIXES)


def raise_limits() -> None:
    """Raise limits that could break streams, as far as permitted; log those that stay too low, in one line."""
    low = []
    for name, enough, least, hard_too in LIMITS:
        limit = getattr(resource, name)
        _raise(limit, enough if hard_too else 0)
        soft, _ = resource.getrlimit(limit)
        if _number(soft) < _number(least):
            low.append(f"{name} {format_size(soft) if name in IN_BYTES else soft}")
    if low:
        log.warning("limits of this process are low for many streams; raise them and mount again: %s", ", ".join(low))


def _raise(limit: int, enough: int) -> None:
    """Raise the soft limit to the hard limit, and the hard limit to `enough`, as far as the process may."""
    _, hard = resource.getrlimit(limit)
    if _number(hard) < _number(enough):
        with suppress(OSError, ValueError):  # only with CAP_SYS_RESOURCE, and up to fs.nr_open
            resource.setrlimit(limit, (enough, enough))
            return
    with suppress(OSError, ValueError):  # the hard limit may be above fs.nr_open, which was lowered since
        resource.setrlimit(limit, (hard, hard))


def _number(limit: int) -> float:
    return float("inf") if limit == UNLIMITED else limit
