"""Which disk of a library lies where: labelling new disks, and finding them again by their labels.

Used by whoever makes, opens, checks, verifies, probes or rebuilds a library; nobody else reads labels. May block: a
disk that hangs keeps its caller, unless that asks in a child process (`aside`).
"""

import os
import stat
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vtlfs.disks import aside
from vtlfs.disks.base import Disk
from vtlfs.disks.local import label as labels
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.disks.local.label import Label as Label
from vtlfs.disks.local.opening import SESSIONS
from vtlfs.durable import sync_directory
from vtlfs.errors import LibraryError, UsageError
from vtlfs.failpoints import reached
from vtlfs.model import DiskRecord


class NoDisk(LibraryError):
    """No disk of the library lies at a path; `why` says what does. `label`: of what lies there, where it has one."""

    def __init__(self, path: Path, why: str, label: Label | None = None) -> None:
        super().__init__(f"disk {path}: {why}")
        self.path = path
        self.why = why
        self.label = label


@dataclass(frozen=True, slots=True)
class Place:
    """Where a disk lies, and its label."""

    path: Path
    label: Label


@dataclass(slots=True)
class Discovery:
    """The disks of library `library` that were found, by number, and why there is none at the other paths."""

    library: str
    places: dict[int, Place] = field(default_factory=dict)
    lost: list[NoDisk] = field(default_factory=list)

    def disks(self, *, check: bool = True) -> dict[int, Disk]:
        """Return the disks, by number in its order. `check`: they compare BLAKE3s on reading."""
        return {
            number: LocalDisk(number, self.places[number].path, self.library, check=check)
            for number in sorted(self.places)
        }


def discover(
    paths: Iterable[Path], library: str | None, *, writable: bool = False, passed_over: Collection[Path] = ()
) -> Discovery:
    """Look for a library's disks at these paths. `library`: its UUID; None: that of the first disk there is.

    `writable`: one that can't be written to is none. `passed_over`: paths at which nothing answers.
    """
    found = Discovery(library or "")
    for path in paths:
        try:
            if path in passed_over:
                raise NoDisk(path, aside.NO_ANSWER)
            label = disk_at(path, found.library or None, writable=writable)
        except NoDisk as error:
            found.lost.append(error)
            continue
        if label.number in found.places:
            why = f"is disk {label.number}, and so is {found.places[label.number].path}"
            found.lost.append(NoDisk(path, why, label))
        else:
            found.library = label.library
            found.places[label.number] = Place(path, label)
    return found


def look_further(
    found: Discovery, known: Iterable[DiskRecord], *, writable: bool = False, passed_over: Collection[Path] = ()
) -> None:
    """Look for the disks that were not found where the catalogue has seen them last."""
    for disk in known:
        if disk.number not in found.places:
            last = discover([Path(disk.path)], found.library, writable=writable, passed_over=passed_over)
            place = last.places.get(disk.number)
            if place is not None:
                found.places[disk.number] = place


def disk_at(path: Path, library: str | None, *, writable: bool = False) -> Label:
    """Return the label of the disk of this library, None: of any, that lies at the path. Raises NoDisk."""
    label = label_at(path)
    if label is None:
        raise NoDisk(path, "not labelled; is the right device mounted there?")
    if library not in (None, label.library):
        raise NoDisk(path, f"belongs to another library ({label.library})", label)
    if writable:
        _check_writable(path, label)
    return label


def label_at(path: Path) -> Label | None:
    """Return the label of what lies at the path, None without one. Raises NoDisk where no directory is to be had."""
    try:
        if not path.is_dir():
            raise NoDisk(path, "not a directory" if path.exists() else "no such directory")
        return labels.read(path)
    except NoDisk:
        raise
    except LibraryError as error:
        raise NoDisk(path, str(error).removeprefix(f"{path}/")) from None
    except OSError as error:
        raise NoDisk(path, error.strerror or str(error)) from None


def _check_writable(path: Path, label: Label | None) -> None:
    if not os.access(path, os.W_OK | os.X_OK):
        raise NoDisk(path, "not writable", label)


# --- without waiting for one that hangs -----------------------------------------------------------------------------


def labels_at(paths: Iterable[Path]) -> dict[Path, Label | None]:
    """Return the labels that lie at these paths; None where there is none, or no answer. For commands: it forks."""
    wanted = list(dict.fromkeys(paths))
    answers = aside.each(wanted, lambda path: (label := label_at(path)) and asdict(label))
    return {
        path: None if answer.value is None else Label(**answer.value)
        for path, answer in zip(wanted, answers, strict=True)
    }


def hanging(paths: Iterable[Path]) -> set[Path]:
    """Return those of some paths at which nothing answers. For commands: it forks."""
    wanted = list(dict.fromkeys(paths))
    answers = aside.each(wanted, lambda path: label_at(path) is None)
    return {path for path, answer in zip(wanted, answers, strict=True) if answer.hangs}


# --- new disks ------------------------------------------------------------------------------------------------------


def check_new(paths: Sequence[Path]) -> list[Path]:
    """Return the absolute paths of directories that can become disks. Raises UsageError or NoDisk where one can't."""
    if len(paths) < 2:
        raise UsageError("a library has two or more disks; give --disk once for each")
    seen: dict[tuple[int, int], Path] = {}
    absolute = []
    for path in paths:
        label = label_at(path)
        status = path.stat()
        if (status.st_dev, status.st_ino) in seen:
            raise UsageError(f"disk {path}: the same as {seen[status.st_dev, status.st_ino]}")
        if label is not None:
            raise NoDisk(path, f"belongs to another library ({label.library})", label)
        _check_writable(path, label)
        seen[status.st_dev, status.st_ino] = path
        absolute.append(_utf8(Path(os.path.realpath(path))))
    return absolute


def check_addition(path: Path, library: str) -> tuple[Path, Label | None]:
    """Return the absolute path of a directory that can become one more disk of a library, and its label.

    It has a label only where an earlier attempt was interrupted, or where it lay in the library before. Raises
    UsageError or NoDisk.
    """
    label = label_at(path)
    if label is not None and label.library != library:
        raise NoDisk(path, f"belongs to another library ({label.library})", label)
    _check_writable(path, label)
    return _utf8(Path(os.path.realpath(path))), label


def check_has_no_members(path: Path) -> None:
    """Raise NoDisk where the member files of another disk, or of one that has retired, lie."""
    if (path / SESSIONS).exists():
        raise NoDisk(path, f"has member files already ({SESSIONS}); a new disk wants a directory without any")


def free_at(path: Path) -> int:
    """Return the bytes that can be written in a directory. Raises NoDisk."""
    try:
        status = os.statvfs(path)
    except OSError as error:
        raise NoDisk(path, error.strerror or str(error)) from None
    return status.f_bavail * status.f_frsize


def _utf8(path: Path) -> Path:
    """Return the path if library.toml and the tracking database can name it, else raise UsageError."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(f"disk {str(path)!a}: its name is not UTF-8; give it another") from None
    return path


def label_new(record: DiskRecord, library: str, closed: dict[Path, int]) -> None:
    """Label a disk. If nothing else is in it, it becomes its owner's only, and its old mode is noted in `closed`."""
    path = Path(record.path)
    try:
        status = path.stat()
        is_ours = status.st_uid == os.geteuid() and all(entry.name == "lost+found" for entry in path.iterdir())
        labels.write(path, Label(library, record.uuid, record.number, record.added_at))
        if is_ours:
            closed[path] = stat.S_IMODE(status.st_mode)
            path.chmod(0o700)
            reached("init.disk_closed")
            sync_directory(path)
    except FileExistsError:
        raise NoDisk(path, "somebody else has just labelled it") from None
    except OSError as error:
        raise NoDisk(path, error.strerror or str(error)) from None


def reopen(closed: dict[Path, int]) -> None:
    """Give disks that were closed, in `label_new`, their old modes."""
    for path, mode in closed.items():
        path.chmod(mode)


def unlabel(paths: Iterable[Path], library: str) -> None:
    """Take the labels of a library off its disks. Raises LibraryError or OSError."""
    for path in paths:
        label = labels.read(path)
        if label is not None and label.library == library:
            labels.remove(path)
