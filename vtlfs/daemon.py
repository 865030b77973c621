"""The process that serves a mount, from the checks before it to the clean-up after it; and unmounting."""

import ctypes
import errno
import logging
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which

import pyfuse3
import trio

from vtlfs.engine.engine import running
from vtlfs.engine.library import LOG, Library
from vtlfs.engine.recover import is_alive
from vtlfs.errors import MountError, VtlfsError
from vtlfs.fs.operations import Operations
from vtlfs.fs.options import MountOptions, parse
from vtlfs.model import KIB, MIB, Mount, SyncMode, utc_now
from vtlfs.snap import schedule

FUSE_DEVICE = "/dev/fuse"
FILE_SYSTEM_TYPE = "fuse.vtlfs"
MAX_HANDLERS = 600  # requests in the works at once; more than the kernel's background requests, see `_tune`
BACKGROUND_REQUESTS = 512
READ_AHEAD_BYTES = MIB
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h
SWITCH_SECONDS = 0.00005
UNMOUNT_SECONDS = 60.0

log = logging.getLogger("vtlfs")


def mount(library: Path, mountpoint: Path, options: str, foreground: bool) -> None:
    """Mount the library. Returns when the mount is usable; in the foreground, when it has ended.

    Raises VtlfsError with the reason where it can't be mounted.
    """
    logging.basicConfig(format="vtlfs: %(levelname)s: %(message)s", level=logging.INFO)
    wanted = parse(options)
    opened = Library.open(library)
    opened.tracking(read_only=True).close()
    opened.disks()
    mountpoint = Path(os.path.realpath(mountpoint))
    _check_fuse(mountpoint, wanted)
    _check_mountpoint(mountpoint)
    if foreground:
        _serve(opened, mountpoint, wanted, lambda: None)
    else:
        _serve_in_background(opened, mountpoint, wanted)


# --- checks ---------------------------------------------------------------------------------------------------------


def _check_fuse(mountpoint: Path, options: MountOptions) -> None:
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR))
    except FileNotFoundError:
        raise MountError(f"no {FUSE_DEVICE}: load the kernel's module with `modprobe fuse`") from None
    except OSError as error:
        raise MountError(f"{FUSE_DEVICE}: {error.strerror}") from None
    if os.geteuid() == 0:
        return
    if which("fusermount3") is None:
        raise MountError("fusermount3 is missing, which mounts for users other than root; install fuse3")
    if options.allow_other and "user_allow_other" not in _fuse_configuration():
        raise MountError("allow_other is root's, unless /etc/fuse.conf has the line user_allow_other")
    if mountpoint.is_dir() and not os.access(mountpoint, os.W_OK):
        raise MountError(f"{mountpoint}: not enough rights to mount here: it must be writable by you")


def _fuse_configuration() -> list[str]:
    try:
        return [line.strip() for line in Path("/etc/fuse.conf").read_text().splitlines()]
    except OSError:
        return []


def _check_mountpoint(mountpoint: Path) -> None:
    """Raise MountError unless the mount point is an empty directory. A dead vtlfs that is mounted there goes first."""
    try:
        status = mountpoint.stat()
        os.statvfs(mountpoint)  # for the kernel still answers stat() for a while for one that is dead
    except OSError as error:
        if error.errno != errno.ENOTCONN or _mounted_at(mountpoint) is None:
            raise MountError(f"{mountpoint}: {error.strerror}") from None
        log.warning("%s: the mount here is dead; unmounting it", mountpoint)
        _run_umount(mountpoint, lazy=True)
        status = mountpoint.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise MountError(f"{mountpoint}: not a directory")
    if (source := _mounted_at(mountpoint)) is not None:
        raise MountError(f"{mountpoint}: {source} is mounted here already; `vtlfs umount` it, or mount elsewhere")
    if os.path.ismount(mountpoint):
        raise MountError(f"{mountpoint}: in use, another file system is mounted here")
    try:
        if any(mountpoint.iterdir()):
            raise MountError(f"{mountpoint}: not empty")
    except OSError as error:
        raise MountError(f"{mountpoint}: {error.strerror}") from None


def _mounted_at(mountpoint: Path) -> str | None:
    """Return the source of the vtlfs that is mounted there, the last one on top; None without one.

    Reads the kernel's table and touches no mount, for a dead one answers nothing.
    """
    found = None
    for line in os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).split("\n"):
        fields, _, rest = line.partition(" - ")
        kind, source = rest.split(" ")[:2] if rest else ("", "")
        if kind == FILE_SYSTEM_TYPE and _unescape(fields.split(" ")[4]) == str(mountpoint):
            found = _unescape(source)
    return found


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), field)


# --- serving --------------------------------------------------------------------------------------------------------


def _serve_in_background(library: Library, mountpoint: Path, options: MountOptions) -> None:
    """Serve from a process of its own, and return when that says that the mount is usable."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        status = 1
        try:
            os.close(reading)
            _detach(library)
            _serve(library, mountpoint, options, lambda: os.close(writing))
            status = 0
        except VtlfsError as error:
            with suppress(OSError):  # the pipe is closed once the mount was usable
                os.write(writing, str(error).encode("utf-8", "surrogateescape"))
            log.error("%s", error)
        except BaseException:
            with suppress(OSError):
                os.write(writing, f"failed; {library.path / LOG} says why".encode())
            log.exception("failed")
        finally:
            logging.shutdown()
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as pipe:
        reason = pipe.read().decode("utf-8", "surrogateescape")
    if reason:
        os.waitpid(child, 0)
        raise MountError(reason)


def _detach(library: Library) -> None:
    """Leave the terminal and the session of the one who mounts; log to a file of the library."""
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    handler = logging.FileHandler(library.path / LOG)
    os.chmod(library.path / LOG, 0o600)
    handler.setFormatter(logging.Formatter(f"%(asctime)s vtlfs[{os.getpid()}]: %(levelname)s: %(message)s"))
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger().setLevel(logging.INFO)


def _serve(library: Library, mountpoint: Path, options: MountOptions, usable: Callable[[], None]) -> None:
    """Mount, serve until unmounted or told to stop, and clean up."""
    sys.setswitchinterval(SWITCH_SECONDS)
    _keep_freed_memory()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        trio.run(_run, library, mountpoint, options, usable)
    except BaseExceptionGroup as group:
        known = group.subgroup(VtlfsError)
        if known is None:
            raise
        raise _first(known) from None


def _keep_freed_memory() -> None:
    """Have malloc keep what is freed. Each request's buffer would else be mapped, faulted in and unmapped anew.

    That is a third of the time of a large write. Other C libraries than glibc are left as they are.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 32 * MIB)
        mallopt(M_TRIM_THRESHOLD, 128 * MIB)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _run(library: Library, mountpoint: Path, options: MountOptions, usable: Callable[[], None]) -> None:
    record = Mount(
        id=0,
        host=options.host,
        machine=socket.gethostname(),
        pid=os.getpid(),
        uid=os.getuid(),
        mountpoint=str(mountpoint),
        options=options.text,
        state="mounted",
        mounted_at=utc_now(),
        unmounted_at=None,
    )
    async with running(library, record, durable_close=options.sync is SyncMode.CLOSE) as engine:
        operations = Operations(engine, options)
        with _errors_of_libfuse(mountpoint):
            pyfuse3.init(operations, str(mountpoint), _fuse_options(library, options))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop_on_signals)
                nursery.start_soon(schedule.run, engine)
                nursery.start_soon(_announce, library, mountpoint, engine.mount, usable)
                await pyfuse3.main(max_tasks=MAX_HANDLERS)
                nursery.cancel_scope.cancel()
        finally:
            pyfuse3.close(unmount=True)
        log.info("%s: unmounted (mount %d)", mountpoint, engine.mount.id)


async def _announce(library: Library, mountpoint: Path, mount: Mount, usable: Callable[[], None]) -> None:
    """Tell whoever waits that the mount is usable, when it has answered for the first time."""
    status = await trio.to_thread.run_sync(os.stat, mountpoint, abandon_on_cancel=True)
    await trio.to_thread.run_sync(_tune, status.st_dev)
    host = mount.host or mount.machine
    log.info("%s: %s is mounted (mount %d, host %s)", mountpoint, library.path, mount.id, host)
    usable()


async def _stop_on_signals() -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            log.info("stopped by %s", signal.Signals(number).name)
            pyfuse3.terminate()


class _FileSystemText(str):
    """Text whose bytes are those of a path. pyfuse3 asks for ASCII, and would refuse any other path."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return os.fsencode(str(self))


def _fuse_options(library: Library, options: MountOptions) -> set[str]:
    source = str(library.path).replace("\\", "\\\\").replace(",", "\\,")
    chosen = {"default_permissions", _FileSystemText(f"fsname={source}"), "subtype=vtlfs", *options.passed_on}
    return chosen | ({"allow_other"} if options.allow_other else set())


@contextmanager
def _errors_of_libfuse(mountpoint: Path) -> Iterator[None]:
    """Turn what libfuse prints about a mount that failed into the error's message."""
    saved = os.dup(2)
    captured = os.memfd_create("libfuse")
    os.dup2(captured, 2)
    try:
        yield
    except RuntimeError:
        said = os.pread(captured, 4096, 0).decode("utf-8", "replace").strip().replace("\n", "; ")
        raise MountError(f"{mountpoint}: {said or 'the kernel refused to mount'}") from None
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(captured)


def _tune(device: int) -> None:
    """Raise the kernel's limits for this mount: read-ahead, and requests that it sends without waiting.

    Needs root, and works without: a slow disk then holds back more, and reading is slower. Whatever is not there is
    left as it is.
    """
    major, minor = os.major(device), os.minor(device)
    read_ahead = Path(f"/sys/class/bdi/{major}:{minor}/read_ahead_kb")
    connections = Path("/sys/fs/fuse/connections")
    if os.geteuid() == 0 and connections.is_dir() and not any(connections.iterdir()):
        subprocess.run(["mount", "-t", "fusectl", "fusectl", connections], check=False, capture_output=True)
    for path, value in (
        (read_ahead, READ_AHEAD_BYTES // KIB),
        (connections / str(minor) / "max_background", BACKGROUND_REQUESTS),
        (connections / str(minor) / "congestion_threshold", BACKGROUND_REQUESTS * 3 // 4),
    ):
        try:
            path.write_text(f"{value}\n")
        except OSError as error:
            log.debug("%s: %s", path, error.strerror)


# --- unmounting -----------------------------------------------------------------------------------------------------


def unmount(mountpoint: Path) -> None:
    """Unmount, and return when everything is written and the serving process has ended.

    Raises MountError; of a mount that is in use it says who holds it.
    """
    mountpoint = Path(os.path.realpath(mountpoint))
    source = _mounted_at(mountpoint)
    if source is None:
        raise MountError(f"{mountpoint}: no vtlfs is mounted here")
    serving = _serving(Path(source), mountpoint)
    _run_umount(mountpoint, lazy=False)
    deadline = time.monotonic() + UNMOUNT_SECONDS
    while any(is_alive(Path(source), mount.id) for mount in serving):
        if time.monotonic() > deadline:
            raise MountError(f"{mountpoint}: unmounted, but process {serving[0].pid} has not finished writing yet")
        time.sleep(0.02)


def _serving(library: Path, mountpoint: Path) -> list[Mount]:
    """Return the live mounts of the library at the mount point; none where the library is not to be had."""
    try:
        tracking = Library.open(library).tracking(read_only=True)
    except VtlfsError:
        return []
    try:
        return [mount for mount in tracking.mounts() if mount.mountpoint == str(mountpoint)]
    finally:
        tracking.close()


def _run_umount(mountpoint: Path, *, lazy: bool) -> None:
    flags = ["-l" if os.geteuid() == 0 else "-z"] if lazy else []
    program = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    done = subprocess.run([*program, *flags, "--", mountpoint], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    holders = _holders(mountpoint)
    if holders:
        raise MountError(f"{mountpoint}: in use by {', '.join(holders)}")
    raise MountError(done.stderr.strip().replace("\n", "; ") or f"{mountpoint}: {program[0]} failed")


def _holders(mountpoint: Path) -> list[str]:
    """Return the processes that hold the mount: with an open file, as their directory or as their program."""
    found = []
    for process in sorted(
        (entry for entry in Path("/proc").iterdir() if entry.name.isdecimal()), key=lambda p: int(p.name)
    ):
        links = [process / "cwd", process / "root", process / "exe"]
        with suppress(OSError):
            links += (process / "fd").iterdir()
        for link in links:
            with suppress(OSError):
                target = os.readlink(link)
                if target == str(mountpoint) or target.startswith(f"{mountpoint}/"):
                    found.append(f"{(process / 'comm').read_text().strip()} (pid {process.name})")
                    break
    return found
