"""The process that serves a mount: its start, the trio loop, and its end.

`mount` is called by the commands. The serving process runs the trio loop in its main thread.
"""

import ctypes
import io
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pyfuse3
import trio

from vtlfs import logs, mount_table, mounts, own_mount, process
from vtlfs.care import care_job, notify_job
from vtlfs.engine.assembly import running
from vtlfs.engine.backup import copying
from vtlfs.engine.engine import Engine
from vtlfs.engine.library import Library
from vtlfs.engine.reclaim import job as reclaiming
from vtlfs.engine.repair import job as repairing
from vtlfs.errors import MountError, VtlfsError, first_of
from vtlfs.fs.operations import Operations
from vtlfs.fs.options import MountOptions, parse
from vtlfs.members import job as indexing
from vtlfs.model import KIB, MIB, Mount, SyncMode, utc_now
from vtlfs.snap import schedule

if TYPE_CHECKING:
    from vtlfs.metrics.server import Endpoint

MAX_HANDLERS = 600  # requests that are handled at once; more than the kernel's background requests, see `_tune`
BACKGROUND_REQUESTS = 512
READ_AHEAD_BYTES = MIB
DIRTY_BYTES = 16 * MIB  # of dirty pages: a request that waits for memory takes twice its bytes
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # from malloc.h
SWITCH_SECONDS = 0.001
DRAIN_SECONDS = 3.0  # the longest wait for the kernel's cached pages when the mount is told to stop
USABLE = "usable"
IN_BACKGROUND = tuple(
    job.run for job in (schedule, copying, repairing, reclaiming, indexing, notify_job, care_job)
)  # what a mount does by itself, beside serving

log = logging.getLogger("vtlfs")


def mount(library: Path, mountpoint: Path, options: str, foreground: bool) -> None:
    """Mount the library. Returns when the mount is usable; in the foreground, when the mount has ended.

    Raises VtlfsError if the library can't be mounted.
    """
    process.listen_to_signals()
    wanted = parse(options)
    logs.to_standard_error(wanted.log)
    opened, mountpoint = mounts.prepare(library, mountpoint, wanted)
    if foreground:
        _serve_in_foreground(opened, mountpoint, wanted)
    else:
        _serve_in_background(opened, mountpoint, wanted)


def _serve_in_foreground(library: Library, mountpoint: Path, options: MountOptions) -> None:
    """Serve; log an unexpected error with its traceback, since the journal of a service is all that is left of it."""
    try:
        _serve(library, mountpoint, options, lambda: None)
    except VtlfsError:
        raise
    except Exception:
        log.exception("%s: serving the mount failed unexpectedly", mountpoint)
        raise


def _serve_in_background(library: Library, mountpoint: Path, options: MountOptions) -> None:
    """Fork a serving process, and return when it reports that the mount is usable. Raises MountError."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        status = 1
        try:
            os.close(reading)
            with open(writing, "wb", buffering=0) as waiting:
                process.detach(writing)
                _serve_and_log(library, mountpoint, options, waiting)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as pipe:
        reason = pipe.read().decode("utf-8", "surrogateescape")
    if reason != USABLE:
        os.waitpid(child, 0)
        raise MountError(reason or f"{mountpoint}: the serving process died; {logs.where(library.path)} may say why")


def _serve_and_log(library: Library, mountpoint: Path, options: MountOptions, waiting: io.FileIO) -> None:
    """Serve; write an error to the log, and until the mount is usable also to `waiting`, the pipe to the command."""

    def tell(reason: str) -> None:
        if not waiting.closed:
            waiting.write(reason.encode("utf-8", "surrogateescape"))
            waiting.close()

    def usable() -> None:
        os.setsid()  # not before: autofs, and so systemd's automount, recognises the mounting process by its group
        tell(USABLE)

    with logs.in_background(library.path, options.log):
        try:
            _serve(library, mountpoint, options, usable)
        except VtlfsError as error:
            log.error("%s", error)
            tell(str(error))
            raise
        except BaseException:
            log.exception("%s: serving the mount failed unexpectedly", mountpoint)
            tell(f"{mountpoint}: serving the mount failed unexpectedly; {logs.where(library.path)} says why")
            raise


def _serve(library: Library, mountpoint: Path, options: MountOptions, usable: Callable[[], None]) -> None:
    """Mount, serve until unmounted or told to stop, and clean up."""
    sys.setswitchinterval(SWITCH_SECONDS)
    _keep_freed_memory()
    process.raise_limits()
    try:
        with _metrics(options) as endpoint:
            trio.run(_run, library, mountpoint, options, usable, endpoint)
    except BaseExceptionGroup as group:
        known = group.subgroup(VtlfsError)
        if known is None:
            raise
        raise first_of(known) from None


@contextmanager
def _metrics(options: MountOptions) -> "Iterator[Endpoint | None]":
    """Listen for Prometheus, if that is wanted: before the mount begins, for the port may be taken."""
    if options.metrics is None:
        yield None
        return
    from vtlfs.metrics.server import listening  # here: loading prometheus_client takes time and memory

    with listening(options.metrics) as endpoint:
        yield endpoint


def _keep_freed_memory() -> None:
    """Make malloc keep freed memory. Otherwise the buffer of each request is mapped, faulted in and unmapped again.

    That would take a third of the time of a large write. At rest, `engine/tasks/heap.py` gives the memory back. For
    that, all threads share one arena: malloc_trim() does not trim the ends of other arenas, and the interpreter's lock
    lets only one thread at a time allocate in any case. With another C library than glibc, nothing is done.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 32 * MIB)
        mallopt(M_TRIM_THRESHOLD, 128 * MIB)
        mallopt(M_ARENA_MAX, 1)


async def _run(
    library: Library,
    mountpoint: Path,
    options: MountOptions,
    usable: Callable[[], None],
    endpoint: "Endpoint | None",
) -> None:
    disks = library.disks_to_read(check=options.check) if options.read_only else None
    durable = options.sync is SyncMode.CLOSE
    async with running(
        library,
        _record(mountpoint, options),
        durable_close=durable,
        disks=disks,
        check=options.check,
        at_end=copying.at_end,
        behind=options.read_only,
    ) as engine:
        operations = Operations(engine, options)
        if endpoint is not None:
            endpoint.attach(engine, operations.requests)
            log.info("mount %d: metrics are served at %s", engine.mount.id, endpoint.url)
        with _errors_of_libfuse(mountpoint):
            pyfuse3.init(operations, str(mountpoint), _fuse_options(library, options))
        mounted = mount_table.entry_at(mountpoint)
        stop = _Stop(engine, operations, mounted)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stop.on_signals, nursery)
                if not engine.is_behind:  # a copy of a database that went back would count as the newest
                    for job in IN_BACKGROUND:
                        nursery.start_soon(job, engine)
                nursery.start_soon(_announce, library, mounted, mountpoint, engine.mount, usable)
                await pyfuse3.main(max_tasks=MAX_HANDLERS)
                nursery.cancel_scope.cancel()
        finally:
            # Another vtlfs may be mounted there by now, if this one was unmounted lazily.
            is_there = mount_table.entry_at(mountpoint) == mounted
            if stop.told and not is_there and (elsewhere := stop.path()) is not None:
                try:
                    mounts.unmount(elsewhere, lazy=True)
                except MountError as error:
                    log.error("%s", error)
            pyfuse3.close(unmount=is_there)
            operations.close()
        log.info("%s: unmounted (mount %d)", mountpoint, engine.mount.id)


def _record(mountpoint: Path, options: MountOptions) -> Mount:
    """Return what is recorded of the mount, which has no number yet."""
    return Mount(
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


async def _announce(
    library: Library, mounted: mount_table.Entry | None, mountpoint: Path, mount: Mount, usable: Callable[[], None]
) -> None:
    """Call `usable` and log the mount, when it has answered its first request. Raises MountError if it answers none."""
    try:
        await own_mount.ask(mountpoint)
    except own_mount.CannotAsk as error:  # it serves all the same
        log.warning("mount %d: nobody could ask whether it answers: %s", mount.id, error)
    except OSError as error:
        raise MountError(f"{mountpoint}: the mount does not answer: {error}") from None
    if mounted is not None:
        await trio.to_thread.run_sync(_tune, mounted.device)
    host = mount.host or mount.machine
    log.info("%s: %s is mounted (mount %d, host %s)", mountpoint, library.path, mount.id, host)
    usable()


class _Stop:
    """The end of a mount that a signal stops. `told`: a signal has come."""

    def __init__(self, engine: Engine, operations: Operations, mounted: mount_table.Entry | None) -> None:
        self.told = False
        self._engine = engine
        self._operations = operations
        self._mounted = mounted

    async def on_signals(self, nursery: trio.Nursery) -> None:
        """Stop in order at the first signal, at once at the second.

        SIGHUP is left out if it is ignored: a mount in the foreground, started by nohup, outlives its terminal.
        """
        hears = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            hears.remove(signal.SIGHUP)
        with trio.open_signal_receiver(*hears) as signals:
            async for number in signals:
                log.info("mount %d: stopped by %s", self._engine.mount.id, signal.Signals(number).name)
                if self.told:
                    pyfuse3.terminate()
                else:
                    self.told = True
                    nursery.start_soon(self._stop)

    async def _stop(self) -> None:
        """End the mount when the kernel has sent its cached pages, after DRAIN_SECONDS at the latest.

        pyfuse3 waits for the answers to all requests. If a request waits for a disk that hangs, the other streams are
        ended all the same.
        """
        with trio.move_on_after(DRAIN_SECONDS):
            await self._sync_file_system()
            await self._operations.drain()
        pyfuse3.terminate()
        await trio.sleep(DRAIN_SECONDS)
        await self._engine.abort()

    def path(self) -> Path | None:
        """Return the current mount point; None if the file system is mounted nowhere any more."""
        return None if self._mounted is None else mount_table.path_of(self._mounted)

    async def _sync_file_system(self) -> None:
        """Make the kernel send its unwritten pages, if the file system is still mounted."""
        try:
            if (mountpoint := self.path()) is not None:
                await own_mount.sync(mountpoint)
        except OSError as error:
            log.warning("mount %d: bytes in the kernel's page cache may be lost: %s", self._engine.mount.id, error)


class _FileSystemText(str):
    """A text that encodes to the bytes of a path. pyfuse3 encodes options to ASCII, which fails for other paths."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return os.fsencode(str(self))


def _fuse_options(library: Library, options: MountOptions) -> set[str]:
    source = os.path.realpath(library.path).replace("\\", "\\\\").replace(",", "\\,")
    chosen = {"default_permissions", _FileSystemText(f"fsname={source}"), "subtype=vtlfs", *options.passed_on}
    return chosen | ({"allow_other"} if options.allow_other else set())


@contextmanager
def _errors_of_libfuse(mountpoint: Path) -> Iterator[None]:
    """Turn the messages that libfuse prints about a failed mount into a MountError."""
    saved = os.dup(2)
    captured = os.memfd_create("libfuse")
    os.dup2(captured, 2)
    try:
        yield
    except RuntimeError:
        said = os.pread(captured, 4096, 0).decode("utf-8", "replace").strip().replace("\n", "; ")
        raise MountError(f"{mountpoint}: {said or 'the kernel refused to mount; dmesg may say why'}") from None
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(captured)


def _tune(device: str) -> None:
    """Set the kernel's limits for this mount: read-ahead, requests that it sends without waiting, and dirty pages.

    `device`: MAJOR:MINOR. Needs root, and works without: a slow disk then holds back more, reading is slower, and many
    streams take more memory. Whatever is not there is left as it is; `max_bytes` is there from Linux 6.2 on.
    """
    minor = device.partition(":")[2]
    bdi = Path("/sys/class/bdi") / device
    connections = Path("/sys/fs/fuse/connections")
    if os.geteuid() == 0 and connections.is_dir() and not any(connections.iterdir()):
        subprocess.run(["mount", "-t", "fusectl", "fusectl", connections], check=False, capture_output=True)
    for path, value in (
        (bdi / "read_ahead_kb", READ_AHEAD_BYTES // KIB),
        (bdi / "max_bytes", DIRTY_BYTES),
        (connections / minor / "max_background", BACKGROUND_REQUESTS),
        (connections / minor / "congestion_threshold", BACKGROUND_REQUESTS * 3 // 4),
    ):
        try:
            path.write_text(f"{value}\n")
        except OSError as error:
            log.debug("%s: %s", path, error.strerror)
