"""What has to be so before a library is rebuilt: its disks are there, and nobody uses it."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vtlfs.config import FILE_NAME as CONFIGURATION
from vtlfs.config import Config, ConfigError
from vtlfs.disks.label import Label
from vtlfs.engine import recover
from vtlfs.engine.library import MOUNTS, Library, label_of
from vtlfs.errors import LibraryError, UsageError


def configuration_of(path: Path) -> Config | None:
    """Return what library.toml says; None where there is none."""
    if not (path / CONFIGURATION).exists():
        return None
    try:
        return Library.open(path).config
    except ConfigError as error:
        raise LibraryError(f"{error}; mend it, or move it away and a new one is made") from None


def labels(config: Config | None, given: Sequence[Path], without: Sequence[int]) -> dict[int, tuple[Path, Label]]:
    """Return the disks there are, by number. Raises UsageError, or LibraryError where they are not one library's."""
    if not given and config is None:
        raise UsageError("there is no library.toml that says where the disks are; give --disk once for each")
    found: dict[int, tuple[Path, Label]] = {}
    for disk in [Path(os.path.realpath(disk)) for disk in given or (config.disks if config else ())]:
        try:
            label = label_of(disk)
            if label is None:
                raise LibraryError(f"disk {disk}: not labelled; is the right device mounted there?")
        except LibraryError as error:
            if given or not without:
                raise LibraryError(f"{error}; without it: --without-disk N") from None
            continue
        uuid = config.uuid if config else next(iter(found.values()))[1].library if found else label.library
        if label.library != uuid:
            raise LibraryError(f"disk {disk}: belongs to another library ({label.library}, not {uuid})")
        if label.number in found:
            raise LibraryError(f"disk {disk}: is disk {label.number}, and so is {found[label.number][0]}")
        found[label.number] = (disk, label)
    if not found:
        raise LibraryError("none of the disks is there; a tracking database is rebuilt from what lies on them")
    if there := sorted(set(without) & set(found)):
        raise UsageError(f"disk {there[0]} is there ({found[there[0]][0]}), and --without-disk says that it is not")
    return found


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other rebuilds of the library out, and live mounts. Raises LibraryError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LibraryError(f"{path}: is being rebuilt by somebody else; wait for that") from None
        check_unmounted(path)
        yield
    finally:
        os.close(descriptor)


def check_unmounted(path: Path) -> None:
    """Raise LibraryError where a mount of the library lives."""
    for lock in sorted((path / MOUNTS).glob("*.lock")):
        if lock.stem.isdecimal() and recover.is_alive(path, int(lock.stem)):
            raise LibraryError(f"{path}: is mounted; unmount it everywhere before it is rebuilt")
