"""The file to which the UI extracts. It appears only when it is complete, replaces no file, and is outside the library.

The extract dialog checks the name with `resolve`, in the event loop; its worker thread writes within `create`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vtlfs.durable import sync_directory
from vtlfs.engine.library import Library
from vtlfs.errors import VtlfsError


def resolve(library: Library, name: str) -> Path:
    """Return the path of a new file. Raises VtlfsError if the file exists, or if it would be inside the library."""
    if not name:
        raise VtlfsError("enter the name of a new file")
    path = Path(os.path.realpath(os.path.expanduser(name)))
    if os.path.lexists(path):
        raise _exists(path)
    if not path.parent.is_dir():
        raise VtlfsError(f"{path.parent}: no such directory")
    library.check_outside(path)
    return path


def resolve_directory(library: Library, name: str) -> Path:
    """Return the path of a directory. Raises VtlfsError if there is none, or if it is inside the library."""
    if not name:
        raise VtlfsError("enter the name of a directory")
    path = Path(os.path.realpath(os.path.expanduser(name)))
    if not path.is_dir():
        raise VtlfsError(f"{path}: no such directory")
    library.check_outside(path)
    return path


@contextmanager
def create(path: Path) -> Iterator[Callable[[memoryview], None]]:
    """Yield a function that appends to a temporary file, which gets its name if the block ends without an error.

    After an error nothing is left. Raises VtlfsError if another file has taken the name in the meantime.
    """
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
            raise _exists(path) from None
        except OSError:  # a file system without hard links
            if os.path.lexists(path):
                raise _exists(path) from None
            temporary.rename(path)
        sync_directory(path.parent)
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)


def _exists(path: Path) -> VtlfsError:
    return VtlfsError(f"{path}: exists already; extract to a new file")
