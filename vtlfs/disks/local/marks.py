"""The file of a disk's high-water mark. `disks/marks.py` says what it is for.

    DISK/vtlfs-disk.mark

docs/format.md specifies it. Written and read by any process of the library at any time, under a lock.
"""

import errno
import fcntl
import os
import stat
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vtlfs.disks import records, values
from vtlfs.disks.local import label as labels
from vtlfs.disks.records import BLOCK
from vtlfs.durable import sync_directory
from vtlfs.errors import LibraryError, VtlfsError
from vtlfs.failpoints import reached
from vtlfs.model import MAX_SIZE, Watermark

FILE_NAME = "vtlfs-disk.mark"

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read(disk: Path, library: str) -> Watermark | None:
    """Return the mark on a disk; None where there is none of this library, or none that can be read. May block."""
    try:
        descriptor = _open(disk, os.O_RDONLY)
    except OSError:
        return None
    try:
        return _newest(os.pread(descriptor, BLOCK, 0), library)[0]
    except OSError:
        return None
    finally:
        os.close(descriptor)


def write(disk: Path, library: str, mark: Watermark, *, durable: bool = False) -> None:
    """Raise the mark on a disk, if it is lower. May block. Raises OSError, also where the disk is not that library's.

    Several processes may do so at the same time: the highest mark stays. `durable`: it survives a power cut.
    """
    try:
        descriptor = _open(disk, os.O_RDWR)
        is_new = False
    except FileNotFoundError:
        _check_label(disk, library)  # what is written would lie below the place where the disk is to be mounted
        descriptor = _open(disk, os.O_RDWR | os.O_CREAT)
        is_new = True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        known, generation = _newest(os.pread(descriptor, BLOCK, 0), library)
        if known is None or known.commits < mark.commits:
            document = {"library": library, **asdict(mark)}
            os.pwrite(descriptor, records.encode(document, generation), records.place(generation))
            reached("mark.written")
        if durable:
            os.fsync(descriptor)
            reached("mark.synced")
    finally:
        os.close(descriptor)
    if durable or is_new:
        sync_directory(disk)


def _open(disk: Path, flags: int) -> int:
    descriptor = os.open(disk / FILE_NAME, flags | _FLAGS, 0o600)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise OSError(errno.EINVAL, "another file is in the place of the disk's mark")
    return descriptor


def _check_label(disk: Path, library: str) -> None:
    try:
        label = labels.read(disk)
    except LibraryError:
        label = None
    if label is None or label.library != library:
        raise OSError(errno.ENODEV, "its label is not there; is the right device mounted?")


def _newest(block: bytes, library: str) -> tuple[Watermark | None, int]:
    """Return what a mark's block says, and the generation that the next record gets."""
    found = records.decode_all(block)
    generation = found[0][1] + 1 if found else 0
    for document, _ in found:
        with suppress(KeyError, TypeError, VtlfsError):
            if document["library"] == library:
                return _mark(document), generation
    return None, generation


def _mark(document: dict[str, Any]) -> Watermark:
    said: dict[str, Any] = {name: _number(document[name]) for name in Watermark.__slots__ if name != "latest"}
    latest = document.get("latest", "")  # marks of the first days have none
    return Watermark(**said, latest="" if latest == "" else values.time(latest))


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SIZE:
        raise TypeError
    return value
