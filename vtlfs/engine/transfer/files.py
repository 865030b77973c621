"""Files of an exported medium that somebody else may have changed: opened without following links. May block."""

import os
import stat
from pathlib import Path

from blake3 import blake3

from vtlfs.engine.transfer.manifest import BadExport
from vtlfs.errors import VtlfsError
from vtlfs.model import MIB, Digest

PIECE = MIB
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class FileError(VtlfsError):
    """A file of an export can't be read or written; the stored data is unharmed."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path}: {error.strerror}; mend that, and run the command again: it goes on from there")
        self.errno = error.errno or self.errno


def open_to_read(path: Path, size: int | None = None) -> int:
    """Return a descriptor of a regular file. `size`: that it must have. Raises BadExport, FileError."""
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise BadExport(str(path), "is missing") from None
    except OSError as error:
        if path.is_symlink():
            raise BadExport(str(path), "is a symbolic link") from None
        raise FileError(path, error) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadExport(str(path), "is no regular file")
        if size is not None and status.st_size != size:
            raise BadExport(str(path), f"has {status.st_size} bytes instead of {size}")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_small(path: Path, most: int) -> bytes:
    """Return what is in a file of at most `most` bytes. Raises BadExport, FileError."""
    descriptor = open_to_read(path)
    try:
        with os.fdopen(descriptor, "rb") as file:
            text = file.read(most + 1)
    except OSError as error:
        raise FileError(path, error) from None
    if len(text) > most:
        raise BadExport(str(path), f"has more than {most} bytes")
    return text


def is_whole(path: Path, size: int, digest: Digest) -> bool:
    """Tell whether a file is there with this size and this BLAKE3. Raises FileError."""
    try:
        descriptor = open_to_read(path, size)
    except BadExport:
        return False
    found = blake3()
    try:
        while piece := os.read(descriptor, PIECE):
            found.update(piece)
    except OSError as error:
        raise FileError(path, error) from None
    finally:
        os.close(descriptor)
    return found.digest() == digest
