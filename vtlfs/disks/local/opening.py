"""Opening what lies on a disk, whatever may have been put in its place.

A symbolic link is never followed, neither in the place of the file nor of a directory above it on the disk. A FIFO or
a device is not waited for.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vtlfs.disks.contents import SESSIONS_PER_GROUP

SESSIONS = "sessions"
MAX_SMALL = 1 << 16  # bytes of a small file
GONE = frozenset({errno.ENOENT, errno.ENOTDIR})

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAFile(Exception):
    """Something that is no regular file is in the place of a member file; the message says what."""


def member_path(disk: Path, session: int) -> Path:
    """Return where a session's member file lies on a disk."""
    return disk / SESSIONS / f"{session // SESSIONS_PER_GROUP:06d}" / f"{session:012d}.member"


def read_small(file: Path, *, follow: bool = False, most: int = MAX_SMALL) -> bytes:
    """Return what is in a small file. `follow`: a symbolic link may lead to it. Raises OSError or NotAFile."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        descriptor = os.open(file, flags if follow else flags | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise NotAFile("a symbolic link is in its place") from None
        raise
    with open(descriptor, "rb") as opened:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise NotAFile(f"{_KINDS.get(stat.S_IFMT(mode), 'something else')} is in its place")
        content = opened.read(most + 1)
    if len(content) > most:
        raise NotAFile(f"it has more than {most} bytes")
    return content


@contextmanager
def opened(disk: Path, session: int, flags: int = 0) -> Iterator[int]:
    """Open a session's member file for reading; `flags` are added. Raises OSError or NotAFile."""
    path = member_path(disk, session)
    with entered(disk, path.parent.parent.name, path.parent.name) as directory:
        mode = os.stat(path.name, dir_fd=directory, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode):
            raise NotAFile(f"{_KINDS.get(stat.S_IFMT(mode), 'something else')} is in its place")
        descriptor = os.open(
            path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags, dir_fd=directory
        )
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # it was exchanged in between
            raise NotAFile("something else is in its place")
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def kept(disk: Path, name: str, made: Callable[[], object] | None = None) -> Iterator[int]:
    """Open a directory of the disk for what is kept there; it must not be a symbolic link. Raises OSError.

    `made`: the directory is made where there is none, and then this is called.
    """
    root = os.open(disk, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if made is not None:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=root)
                made()
        directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    finally:
        os.close(root)
    try:
        yield directory
    finally:
        os.close(directory)


@contextmanager
def entered(disk: Path, *names: str, flags: int = os.O_PATH) -> Iterator[int]:
    """Open a directory of the disk. Raises OSError; NotAFile where a symbolic link leads on."""
    flags |= os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(disk, flags)
    try:
        for name in names:
            try:
                inner = os.open(name, flags | os.O_NOFOLLOW, dir_fd=descriptor)
            except NotADirectoryError:
                if stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                    raise NotAFile(f"a symbolic link is in the place of the directory {name}") from None
                raise
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)
