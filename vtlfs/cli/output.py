"""The output of `vtlfs extract`: standard output, a pipe or device, or a file that appears only when it is complete."""

import errno
import os
import select
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from vtlfs.durable import sync_directory
from vtlfs.errors import UsageError, VtlfsError
from vtlfs.mount_table import FILE_SYSTEM_TYPE, table

STANDARD_OUTPUT = "standard output"


class OutputError(VtlfsError):
    """The output can't be written. The stored data is unharmed."""

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(f"{name}: {error.strerror}")


class Output:
    """An open descriptor for the output. `name`: how messages call it."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self.name = name

    def write(self, data: memoryview) -> None:
        """Write all bytes. Raises OutputError; BrokenPipeError if the reader of standard output has closed it."""
        try:
            while data:
                try:
                    data = data[os.write(self.descriptor, data) :]
                except BlockingIOError:
                    select.select([], [self.descriptor], [])
        except OSError as error:
            if error.errno == errno.EPIPE and self.name == STANDARD_OUTPUT:
                raise
            raise OutputError(self.name, error) from error


@contextmanager
def open_output(target: str | None) -> Iterator[Output]:
    """Open the target: standard output for None and `-`, else the file of this name.

    A regular file is written under a temporary name, and renamed to `target` when the block ends without an exception.
    After an exception the temporary file is removed, and an older file `target` stays as it is. A medium of a mounted
    library gets a further tape file. Raises UsageError or OutputError.
    """
    if target is None or target == "-":
        yield _standard_output(asked_for=target is not None)
        return
    if not target:
        raise UsageError("the name of the output is empty; give -o FILE")
    path = Path(os.path.realpath(target))
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise OutputError(target, error) from None
    if mode is None or (stat.S_ISREG(mode) and not _is_on_tape(path)):
        with _whole(path, target, mode) as output:
            yield output
    else:
        with _as_it_is(Path(target), target) as output:
            yield output


def _is_on_tape(path: Path) -> bool:
    """Tell whether a file is of a mounted library, where nothing can be made or renamed."""
    device = os.stat(path).st_dev
    of_libraries = {entry.device for entry in table() if entry.kind == FILE_SYSTEM_TYPE}
    return f"{os.major(device)}:{os.minor(device)}" in of_libraries


def _standard_output(asked_for: bool) -> Output:
    if sys.stdout is None:
        raise UsageError(f"{STANDARD_OUTPUT} is closed; give -o FILE")
    if sys.stdout.isatty() and not asked_for:
        raise UsageError(f"{STANDARD_OUTPUT} is a terminal; give -o FILE, or `-o -` to write to the terminal anyway")
    return Output(sys.stdout.fileno(), STANDARD_OUTPUT)


@contextmanager
def _as_it_is(path: Path, name: str) -> Iterator[Output]:
    """Open a pipe, a device or a medium."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise OutputError(name, error) from None
    try:
        yield Output(descriptor, name)
    finally:
        try:
            os.close(descriptor)  # of a medium, this makes the stream durable
        except OSError as error:
            raise OutputError(name, error) from None


@contextmanager
def _whole(path: Path, name: str, mode: int | None) -> Iterator[Output]:
    """Open a temporary file that replaces `path` at the end. `mode`: that of the file at `path`, None without one."""
    temporary = path.with_name(f".vtlfs-extract.{os.getpid()}.tmp")
    try:
        if mode is not None and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o666 if mode is None else 0o600)
    except OSError as error:
        raise OutputError(name, error) from None
    with _removed_when_killed(temporary):
        try:
            yield Output(descriptor, name)
            _finish(descriptor, temporary, path, name, mode)
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)


def _finish(descriptor: int, temporary: Path, path: Path, name: str, mode: int | None) -> None:
    """Make the temporary file durable, and then rename it to `path`."""
    try:
        if mode is not None:
            os.fchmod(descriptor, stat.S_IMODE(mode))
        os.fsync(descriptor)
        temporary.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise OutputError(name, error) from None


@contextmanager
def _removed_when_killed(temporary: Path) -> Iterator[None]:
    """Remove the temporary file when a signal ends the program."""

    def end(number: int, _: FrameType | None) -> None:
        temporary.unlink(missing_ok=True)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
