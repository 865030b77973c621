"""A file that is there only when it is whole, and never in place of another, nor in the library itself."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vtlfs.disks.durable import sync_directory
from vtlfs.engine.library import Library
from vtlfs.errors import VtlfsError


def resolve(library: Library, name: str) -> Path:
    """Return the path of a new file. Raises VtlfsError where there is one, or where it could harm the library."""
    if not name:
        raise VtlfsError("an empty name is no file")
    path = Path(os.path.realpath(os.path.expanduser(name)))
    if os.path.lexists(path):
        raise VtlfsError(f"{path}: exists already; extract to a new file")
    if not path.parent.is_dir():
        raise VtlfsError(f"{path.parent}: no such directory")
    for forbidden in (library.path, *library.config.disks):
        if path.is_relative_to(os.path.realpath(forbidden)):
            raise VtlfsError(f"{path}: is inside the library ({forbidden}); extract to a place outside")
    return path


@contextmanager
def create(path: Path) -> Iterator[Callable[[memoryview], None]]:
    """Yield what writes to the file, which gets its name when the block has ended well; otherwise nothing is left."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def write(data: memoryview) -> None:
        while data:
            data = data[os.write(descriptor, data) :]

    try:
        yield write
        os.fsync(descriptor)
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise VtlfsError(f"{path}: exists already; extract to a new file") from None
        except OSError:  # a file system without hard links
            if os.path.lexists(path):
                raise VtlfsError(f"{path}: exists already; extract to a new file") from None
            temporary.rename(path)
        sync_directory(path.parent)
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)
