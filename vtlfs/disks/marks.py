"""High-water marks: on each disk, how far the tracking database had come when it last acknowledged something.

A tracking database that went back (replaced by an older one, or with the end of its write-ahead log lost) looks sound:
SQLite silently drops the log behind a damaged frame. The marks show its age. A mark is written after each durable
commit, and before anybody is told of it. It is not synced: a process that is killed leaves it to the kernel. A power
cut may leave an older mark, never one that tells of more than there was, for the commit was synced before.
`local/marks.py` has the file.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Protocol

from vtlfs.disks import aside
from vtlfs.disks.base import Disk
from vtlfs.disks.local import marks as files
from vtlfs.errors import VtlfsError
from vtlfs.model import Watermark

PATIENCE_SECONDS = 0.5  # for which a commit waits for the first disk to take its mark
END_SECONDS = 2.0  # for which the end of a mount waits for the disks to take the last one


def read_all(disks: Sequence[Path], library: str) -> list[Watermark]:
    """Return the marks on those disks that answer and have one."""
    answers = aside.each(disks, lambda disk: (mark := files.read(disk, library)) and asdict(mark))
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
                files.write(disk, self._library, mark, durable=True)

        with suppress(OSError):  # no process can be started, or no pipe be made
            aside.each(self._disks, one)


class MarkThreads:
    """The marks of a mount, which commits all the time: a thread for each disk writes the latest one there is.

    A commit waits for the first disk only, and for none that has failed or hangs. The threads are daemons, and begin
    with the first mark. Disks come and go.
    """

    def __init__(self, disks: Sequence[Disk]) -> None:
        self._disks = {disk.number: disk for disk in disks}
        self._changed = threading.Condition()
        self._wanted: Watermark | None = None
        # By the disk's number: commits of the last mark that was written there, or failed.
        self._tried = dict.fromkeys(self._disks, 0)
        self._unresponsive: set[int] = set()  # disks that a commit has waited for in vain, until they answer
        self._written = 0  # commits of the highest mark that a disk has
        self._threads: dict[int, threading.Thread] = {}
        self._is_closing = False

    def take(self, disk: Disk) -> None:
        """Write marks also to a disk that is new, or was found again in another place."""
        with self._changed:
            self._disks[disk.number] = disk
            self._tried[disk.number] = 0
            if self._threads:
                self._start_threads()
            self._changed.notify_all()

    def leave(self, number: int) -> None:
        """Write no marks any more to a disk that has left the library."""
        with self._changed:
            for known in (self._disks, self._tried):
                known.pop(number, None)
            self._unresponsive.discard(number)
            self._changed.notify_all()

    def advance(self, mark: Watermark) -> None:
        """Raise the marks."""
        with self._changed:
            if self._wanted is not None and self._wanted.commits >= mark.commits:
                return
            self._wanted = mark
            if not self._threads:
                self._start_threads()
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._is_taken(mark.commits), PATIENCE_SECONDS):
                self._unresponsive.update(disk for disk, tried in self._tried.items() if tried < mark.commits)

    def _start_threads(self) -> None:
        """Start a thread for each disk that has none."""
        with suppress(RuntimeError):  # no thread can be started: a limit of the process
            for number in self._disks.keys() - self._threads.keys():
                thread = threading.Thread(target=self._work, args=(number,), name=f"mark.{number}", daemon=True)
                self._threads[number] = thread
                thread.start()

    def close(self) -> None:
        """Have the threads sync the last mark and end; wait for those whose disks answer."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        deadline = monotonic() + END_SECONDS
        for thread in self._threads.values():
            if thread.ident is not None:
                thread.join(max(0.0, deadline - monotonic()))

    def _is_taken(self, commits: int) -> bool:
        """Tell whether a disk has the mark, or every disk has failed to take it or does not respond."""
        return self._written >= commits or all(
            tried >= commits or disk in self._unresponsive for disk, tried in self._tried.items()
        )

    def _work(self, number: int) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing or self._is_outdated(number))
                mark, is_last, disk = self._wanted, self._is_closing, self._disks.get(number)
            if mark is None or disk is None:
                return
            is_written = True
            try:
                disk.raise_mark(mark, durable=is_last)
            except VtlfsError:  # the disk's own trouble, of which its probes tell
                is_written = False
            with self._changed:
                if self._disks.get(number) is disk:
                    self._tried[number] = mark.commits
                self._unresponsive.discard(number)
                if is_written:
                    self._written = max(self._written, mark.commits)
                self._changed.notify_all()
            if is_last:
                return

    def _is_outdated(self, disk: int) -> bool:
        """Tell whether a disk lacks the last mark, or has left."""
        return disk not in self._disks or (self._wanted is not None and self._tried[disk] < self._wanted.commits)
