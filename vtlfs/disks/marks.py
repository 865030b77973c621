"""High-water marks: on each disk, how far the tracking database had come when it last acknowledged something.

    DISK/vtlfs-disk.mark

A tracking database that went back (an older one was put in its place; its write-ahead log lost its end) is in order by
itself: SQLite drops what follows a damage without a word. The disks know better. A mark is written after each durable
commit, and before anybody is told of it. It is not synced: a process that is killed leaves it to the kernel. A power
cut may leave an older mark, never one that tells of more than there was, for the commit was synced before.
docs/format.md specifies the file.
"""

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from vtlfs.disks import aside, records
from vtlfs.disks import label as labels
from vtlfs.disks.durable import sync_directory
from vtlfs.disks.records import BLOCK
from vtlfs.errors import LibraryError
from vtlfs.failpoints import reached
from vtlfs.model import MAX_SIZE, Watermark

FILE_NAME = "vtlfs-disk.mark"
PATIENCE_SECONDS = 0.5  # for which a commit waits for the first disk to take its mark
END_SECONDS = 2.0  # for which the end of a mount waits for the disks to take the last one

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


# --- the file -------------------------------------------------------------------------------------------------------


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
        with suppress(KeyError, TypeError):
            if document["library"] == library:
                return Watermark(*(_number(document[name]) for name in Watermark.__slots__)), generation
    return None, generation


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SIZE:
        raise TypeError
    return value


# --- all disks of a library -----------------------------------------------------------------------------------------


def read_all(disks: Sequence[Path], library: str) -> list[Watermark]:
    """Return the marks on those disks that answer and have one."""
    answers = aside.each(disks, lambda disk: (mark := read(disk, library)) and asdict(mark))
    return [Watermark(**answer.value) for answer in answers if answer.value is not None]


class MarkWriter(Protocol):
    """Raises the marks of all disks of a library."""

    def advance(self, mark: Watermark) -> None:
        """Raise the marks. Returns when one disk has taken it, or none does so soon. Any thread may call it.

        The commit is made, so what fails here is no error of its own: the next mark makes up for it.
        """


class MarkChildren:
    """The marks of a command, which commits once or twice: written by child processes, durably."""

    def __init__(self, disks: Sequence[Path], library: str) -> None:
        self._disks = disks
        self._library = library

    def advance(self, mark: Watermark) -> None:
        """Raise the marks, and wait for all disks that answer soon: the command ends next."""

        def one(disk: Path) -> None:
            with suppress(OSError):  # a disk that fails has no mark; the others have
                write(disk, self._library, mark, durable=True)

        with suppress(OSError):  # no process can be started, or no pipe be made
            aside.each(self._disks, one)


class MarkThreads:
    """The marks of a mount, which commits all the time: a thread for each disk writes the latest one there is.

    A commit waits for the first disk only, and for none that has failed or hangs. The threads are daemons, and begin
    with the first mark.
    """

    def __init__(self, disks: Sequence[Path], library: str) -> None:
        self._library = library
        self._changed = threading.Condition()
        self._wanted: Watermark | None = None
        self._tried = dict.fromkeys(disks, 0)  # by disk: commits of the last mark that was written there, or failed
        self._late: set[Path] = set()  # disks that a commit has waited for in vain, until they answer
        self._written = 0  # commits of the highest mark that a disk has
        self._threads: list[threading.Thread] = []
        self._is_closing = False

    def advance(self, mark: Watermark) -> None:
        """Raise the marks."""
        with self._changed:
            if self._wanted is not None and self._wanted.commits >= mark.commits:
                return
            self._wanted = mark
            if not self._threads:
                self._threads = [
                    threading.Thread(target=self._work, args=(disk,), name=f"mark.{number}", daemon=True)
                    for number, disk in enumerate(self._tried)
                ]
                with suppress(RuntimeError):  # no thread can be started: a limit of the process
                    for thread in self._threads:
                        thread.start()
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._is_taken(mark.commits), PATIENCE_SECONDS):
                self._late.update(disk for disk, tried in self._tried.items() if tried < mark.commits)

    def close(self) -> None:
        """Have the threads sync the last mark and end; wait for those whose disks answer."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        deadline = monotonic() + END_SECONDS
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - monotonic()))

    def _is_taken(self, commits: int) -> bool:
        """Tell whether a disk has the mark, or every disk has failed to take it or is late anyhow."""
        return self._written >= commits or all(
            tried >= commits or disk in self._late for disk, tried in self._tried.items()
        )

    def _work(self, disk: Path) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing or self._is_behind(disk))
                mark, is_last = self._wanted, self._is_closing
            if mark is None:
                return
            is_written = True
            try:
                write(disk, self._library, mark, durable=is_last)
            except OSError:  # the disk's own trouble, of which its probes tell
                is_written = False
            with self._changed:
                self._tried[disk] = mark.commits
                self._late.discard(disk)
                if is_written:
                    self._written = max(self._written, mark.commits)
                self._changed.notify_all()
            if is_last:
                return

    def _is_behind(self, disk: Path) -> bool:
        return self._wanted is not None and self._tried[disk] < self._wanted.commits
