"""Looking at a library's disks without waiting for one that hangs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import stat, statvfs
from pathlib import Path
from typing import Any

from vtlfs.disks import aside
from vtlfs.disks.discovery import NoDisk, disk_at
from vtlfs.disks.local import marks
from vtlfs.model import Watermark


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found at a disk's path. Sizes are bytes; None where they can't be had, and `problem` says why.

    `number` is that of the disk's label, None without one of this library. `mark` is the disk's high-water mark, None
    without one. `device` is what the disk lies on, as stat() tells.
    """

    path: str
    number: int | None = None
    free: int | None = None
    total: int | None = None
    problem: str | None = None
    mark: Watermark | None = None
    device: int | None = None


def probe(library: str, paths: Sequence[Path], seconds: float = aside.SECONDS) -> list[Probe]:
    """Look at the disks at these paths, in their order, for so long; `library` is the UUID that is theirs."""
    answers = aside.each(paths, lambda path: asdict(_look(library, path)), seconds)
    return [
        Probe(str(path), problem=answer.problem) if answer.problem else _probe(answer.value)
        for path, answer in zip(paths, answers, strict=True)
    ]


def _probe(said: dict[str, Any]) -> Probe:
    mark = said["mark"]
    return Probe(**said | {"mark": None if mark is None else Watermark(**mark)})


def _look(library: str, path: Path) -> Probe:
    """Look at one disk; in a child process."""
    problem = None
    try:
        label = disk_at(path, library, writable=True)
    except NoDisk as error:
        if error.label is None or error.label.library != library:
            return Probe(str(path), problem=error.why)
        label, problem = error.label, error.why
    try:
        status, device = statvfs(path), stat(path).st_dev
    except OSError as error:
        return Probe(str(path), problem=error.strerror)
    free, total = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    return Probe(str(path), label.number, free, total, problem, marks.read(path, library), device)
