"""Copies of the tracking database in the directory of a disk. docs/format.md says where they lie.

    DISK/tracking/000000000012.db        the twelfth copy

A copy has its name only when it is whole and durable. No symbolic link is followed. May block; any thread may call.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vtlfs.disks.base import Fill
from vtlfs.disks.local.opening import kept
from vtlfs.failpoints import reached
from vtlfs.model import MIB

DIRECTORY = "tracking"
KEPT = 2  # copies on each disk
LEFT_FREE = 64 * MIB  # what a copy leaves free on a disk at least: the rest is for streams

_NAME = re.compile(r"[0-9]{12,18}\.db")
_TEMPORARY = re.compile(r"\.[0-9]{12,18}\.db\.tmp(-journal)?")


def path_of(disk: Path, number: int) -> Path:
    """Return where a copy lies on a disk."""
    return disk / DIRECTORY / f"{number:012d}.db"


def put(disk: Path, number: int, fill: Fill) -> None:
    """Keep a copy, and remove those before the last two. Raises OSError; then nothing is left of it.

    `fill(name, check_room)` writes the copy into the empty file `name`. First it calls `check_room` with the copy's
    size, which raises OSError where the remaining room is for streams.
    """
    with kept(disk, DIRECTORY, _made) as directory:
        _remove(directory, [name for name in os.listdir(directory) if _TEMPORARY.fullmatch(name)])
        name = path_of(disk, number).name
        temporary = f".{name}.tmp"
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory))
        reached("copy.begun")
        try:
            # By way of the descriptor, so that it is this directory whatever becomes of its name.
            fill(f"/proc/self/fd/{directory}/{temporary}", lambda size: _check_room(directory, size))
            _sync(temporary, directory)
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            reached("copy.named")
        except BaseException:
            _remove(directory, [temporary, f"{temporary}-journal"])
            raise
        os.fsync(directory)
        reached("copy.kept")
        _remove(directory, _names(directory)[KEPT:])
    descriptor = os.open(disk, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def numbers(disk: Path) -> list[int]:
    """Return the numbers of the copies on a disk, the newest first. Raises OSError."""
    try:
        with kept(disk, DIRECTORY) as directory:
            return [int(name.removesuffix(".db")) for name in _names(directory)]
    except FileNotFoundError:
        return []


def read(disk: Path, number: int) -> Iterator[bytes]:
    """Yield a copy's bytes, piece by piece. Raises OSError."""
    with kept(disk, DIRECTORY) as directory:
        name = path_of(disk, number).name
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        try:
            if not stat.S_ISREG(os.fstat(source).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            while data := os.read(source, MIB):
                yield data
        finally:
            os.close(source)


def _check_room(directory: int, size: int) -> None:
    free = os.fstatvfs(directory)
    if free.f_bavail * free.f_frsize - size < LEFT_FREE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _sync(name: str, directory: int) -> None:
    descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=directory)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    reached("copy.synced")


def _names(directory: int) -> list[str]:
    """Return the names of the copies in a directory, the newest first."""
    found = [name for name in os.listdir(directory) if _NAME.fullmatch(name)]
    return sorted(found, key=lambda name: int(name.removesuffix(".db")), reverse=True)


def _remove(directory: int, names: list[str]) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
            reached("copy.removed")


def _made() -> None:
    reached("copy.directory_made")
