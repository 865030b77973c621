"""Leases: which mounts of a library live, and who works on a library alone.

A lease lasts as long as the process that holds it. Today it is a locked file (flock): the kernel lets go of the lock
when the process ends, however it ends, so that nobody has to guess from process numbers. Nobody outside this module
knows that. Any thread may ask.
"""

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vtlfs.durable import follow_owner
from vtlfs.errors import LibraryError
from vtlfs.failpoints import reached

DIRECTORY = "mounts"  # in the library: the leases of its mounts, and their live figures
LIVE = ".live"  # the end of the names of live figures there
_LOCK = ".lock"
_WORK = ".work"
_READING = ".reading"
_ORDINAL_DIGITS = 20
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW

log = logging.getLogger(__name__)


class Lease:
    """The lease of a mount that this process serves. `Leases.take` makes one.

    It also says up to which tape file the mount has closed its member files, so that a repair may append to them; and
    up to which their headers are durable, so that recovery knows which to look at.
    """

    def __init__(self, leases: "Leases", mount: int, descriptor: int) -> None:
        self._leases = leases
        self._mount = mount
        self._descriptor = descriptor

    def note_finished(self, ordinal: int) -> None:
        """Note that headers are finished and durable up to this tape file, of all media.

        Not synced: an older figure, or none, has recovery look at more headers than it must.
        """
        os.pwrite(self._descriptor, f"{ordinal:{_ORDINAL_DIGITS}d}\n".encode(), 0)
        reached("lease.finished_noted")

    def note_closed(self, ordinal: int) -> None:
        """Note that member files are closed up to this tape file, of all media."""
        os.pwrite(self._descriptor, f"{ordinal:{_ORDINAL_DIGITS}d}\n".encode(), _ORDINAL_DIGITS + 1)
        reached("lease.closed_noted")

    def end(self) -> None:
        """Give the lease up: the mount has ended, and nothing is left to be done after it."""
        self._leases.remove(self._mount)
        self.let_go()

    def let_go(self) -> None:
        """Hold the lease no longer, and leave it there, as when the process dies."""
        os.close(self._descriptor)


class Leases:
    """The leases of the mounts of the library in a directory."""

    def __init__(self, library: Path) -> None:
        self._directory = library / DIRECTORY

    def take(self, mount: int, ordinal: int = 0) -> Lease:
        """Take the lease that shows that this process serves the mount. `ordinal`: of the last tape file before it."""
        if not self._directory.is_dir():
            _make(self._directory)
            reached("lease.directory_made")
        descriptor = _opened(self._path(mount))
        reached("lease.made")
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits at most for somebody's `is_alive`
        lease = Lease(self, mount, descriptor)
        lease.note_finished(ordinal)
        lease.note_closed(ordinal)
        return lease

    def is_alive(self, mount: int) -> bool:
        """Tell whether a process serves the mount. A mount whose lease can't be looked at counts as alive."""
        return self._is_held(mount) is True

    def _is_held(self, mount: int) -> bool | None:
        """Tell whether a process holds a mount's lease; None where there is no lease."""
        try:
            descriptor = os.open(self._path(mount), os.O_RDONLY | os.O_NONBLOCK | _FLAGS)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("mount %d: its lease can't be looked at: %s", mount, error.strerror)
            return True
        return _is_locked_elsewhere(descriptor)

    def is_held_by(self, mount: int, pid: int) -> bool:
        """Tell whether a process of this machine holds a mount's lease. Raises psutil.Error, OSError."""
        from psutil import Process

        return str(self._path(mount)) in [file.path for file in Process(pid).open_files()]

    def needs_recovery(self, mount: int) -> bool:
        """Tell whether a mount has died and its recovery is not finished: its lease is still there."""
        return self._is_held(mount) is False

    def finished_up_to(self, mount: int) -> int:
        """Return up to which tape file a mount has durable headers; 0 where that can't be read."""
        return self._said(mount, 0)

    def closed_up_to(self, mount: int) -> int:
        """Return up to which tape file a mount has closed its member files; 0 where that can't be read."""
        return self._said(mount, _ORDINAL_DIGITS + 1)

    def _said(self, mount: int, offset: int) -> int:
        try:
            descriptor = os.open(self._path(mount), os.O_RDONLY | os.O_NONBLOCK | _FLAGS)
            try:
                said = os.pread(descriptor, _ORDINAL_DIGITS, offset).strip()
            finally:
                os.close(descriptor)
        except OSError:
            return 0
        return int(said) if said.isdigit() else 0

    def all(self) -> list[int]:
        """Return the mounts of which a lease or live figures are there; a power cut may leave either."""
        files = [path for suffix in (_LOCK, LIVE) for path in self._directory.glob(f"*{suffix}")]
        return sorted({int(path.stem) for path in files if path.stem.isdecimal()})

    def remove(self, mount: int) -> None:
        """Remove the lease of a mount that has ended, and its live figures."""
        (self._directory / f"{mount}{LIVE}").unlink(missing_ok=True)
        reached("lease.figures_removed")
        self._path(mount).unlink(missing_ok=True)
        reached("lease.removed")

    def _path(self, mount: int) -> Path:
        return self._directory / f"{mount}{_LOCK}"


@contextmanager
def work(library: Path, name: str) -> Iterator[bool]:
    """Be the only mount or command that does a kind of work, if nobody else does it; yield whether that is so.

    `repair`: changes what lies in the member files of sessions that have ended, or cuts them off after a mount died.
    """
    descriptor = _opened(_make(library / DIRECTORY) / f"{name}{_WORK}")
    try:
        yield _is_locked(descriptor)
    finally:
        os.close(descriptor)


def is_done(library: Path, name: str) -> bool:
    """Tell whether somebody does a kind of work just now. Who begins it in the very moment may be kept from it."""
    try:
        descriptor = os.open(library / DIRECTORY / f"{name}{_WORK}", os.O_RDONLY | _FLAGS)
    except OSError:
        return False
    return _is_locked_elsewhere(descriptor)


@contextmanager
def reading(library: Path, barcode: str, volume: int) -> Iterator[None]:
    """Hold a volume: nothing of it is reclaimed during the block. Where the library can't be written, it does not."""
    path = library / DIRECTORY / f"{barcode}.{volume}.{os.getpid()}.{threading.get_ident()}{_READING}"
    try:
        _make(path.parent)  # a copy of a library may lack it
        descriptor = _locked(path)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path) -> int:
    """Return the descriptor of a new locked file. `readers` of another process may remove it before it is locked."""
    while True:
        descriptor = _opened(path)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)


def readers(library: Path) -> dict[tuple[str, int], list[int]]:
    """Return the volumes that are held by `reading`, by barcode and number, and the processes that do."""
    found: dict[tuple[str, int], list[int]] = {}
    for path in (library / DIRECTORY).glob(f"*{_READING}"):
        barcode, *numbers = path.name.removesuffix(_READING).rsplit(".", 3)
        if len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
            continue
        try:
            descriptor = os.open(path, os.O_RDONLY | _FLAGS)
        except OSError:
            continue  # it has just ended
        if _is_locked_elsewhere(descriptor):
            found.setdefault((barcode, int(numbers[0])), []).append(int(numbers[1]))
        else:
            path.unlink(missing_ok=True)  # of a process that was killed
    return found


@contextmanager
def roster(library: Path) -> Iterator[bool]:
    """Be the only one who changes which disks the library has, if nobody else does; yield whether that is so."""
    directory = _make(library / DIRECTORY)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield _is_locked(descriptor)
    finally:
        os.close(descriptor)


def _make(directory: Path) -> Path:
    """Make the directory of leases where there is none, as its library's owner's; return it."""
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)
        try:
            follow_owner(descriptor, directory.parent)
        finally:
            os.close(descriptor)
    return directory


def _opened(path: Path) -> int:
    """Open the file of a lease, which is made where there is none, as the library's owner's."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
    follow_owner(descriptor, path.parent)
    return descriptor


def _is_locked_elsewhere(descriptor: int) -> bool:
    """Tell whether somebody else holds the exclusive lock of a file. Closes the descriptor."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_locked(descriptor: int) -> bool:
    """Lock a file or a directory; tell whether that was possible."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def alone(library: Path, busy: str) -> Iterator[None]:
    """Be the only one who makes, verifies or rebuilds the library. Raises LibraryError, saying why it is `busy`."""
    descriptor = os.open(library, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _is_locked(descriptor):
            raise LibraryError(f"{library}: {busy}")
        yield
    finally:
        os.close(descriptor)
