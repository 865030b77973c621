"""What has to be so before a library is rebuilt: its disks are there, and nobody uses it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vtlfs.config import FILE_NAME as CONFIGURATION
from vtlfs.config import Config, ConfigError
from vtlfs.disks.discovery import Discovery, discover
from vtlfs.engine import lease
from vtlfs.engine.library import Library
from vtlfs.errors import LibraryError, UsageError


def configuration_of(path: Path) -> Config | None:
    """Return what library.toml says; None where there is none."""
    if not (path / CONFIGURATION).exists():
        return None
    try:
        return Library.open(path).config
    except ConfigError as error:
        raise LibraryError(f"{error}; mend it, or move it away and a new one is made") from None


def find_disks(config: Config | None, given: Sequence[Path], without: Sequence[int]) -> Discovery:
    """Return the disks that there are. Raises UsageError, or LibraryError where they are not one library's."""
    if not given and config is None:
        raise UsageError("there is no library.toml that says where the disks are; give --disk once for each")
    paths = given or (config.disks if config else ())
    found = discover((Path(os.path.realpath(path)) for path in paths), config.uuid if config else None)
    for lost in found.lost:
        if lost.label is not None:
            raise lost
        if given or not without:
            raise LibraryError(f"{lost}; without it: --without-disk N")
    if not found.places:
        raise LibraryError("none of the disks is there; a tracking database is rebuilt from what lies on them")
    if there := sorted(set(without) & set(found.places)):
        path = found.places[there[0]].path
        raise UsageError(f"disk {there[0]} is there ({path}), and --without-disk says that it is not")
    return found


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other rebuilds of the library out, live mounts, repairs and changes of disks. Raises LibraryError."""
    with ExitStack() as stack:
        stack.enter_context(lease.alone(path, "is being rebuilt by somebody else; wait for that"))
        check_unmounted(path)
        has_leases = (path / lease.DIRECTORY).is_dir()  # nothing is changed yet
        for work, what in (("repair", "it is being repaired"), ("disks", "its disks are being changed")):
            if has_leases and not stack.enter_context(lease.work(path, work)):
                raise LibraryError(f"{path}: {what}; wait for that, or stop it, before the library is rebuilt")
        yield


def check_unmounted(path: Path) -> None:
    """Raise LibraryError where a mount of the library lives."""
    leases = lease.Leases(path)
    if any(leases.is_alive(mount) for mount in leases.all()):
        raise LibraryError(f"{path}: is mounted; unmount it everywhere before it is rebuilt")
