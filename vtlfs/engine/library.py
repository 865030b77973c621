"""A library as it lies on the machine: its directory, its configuration and its labelled disks.

Making one and opening one; everything that runs starts from a `Library`.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from vtlfs import config as configuration
from vtlfs.config import Config
from vtlfs.disks import discovery
from vtlfs.disks import marks as high_water
from vtlfs.disks.base import Disk
from vtlfs.disks.discovery import discover
from vtlfs.disks.marks import MarkWriter
from vtlfs.disks.missing import MissingDisk
from vtlfs.durable import sync_directory, write_file
from vtlfs.engine import lease
from vtlfs.engine.layout import isal
from vtlfs.engine.tracking import currency, database
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import CatalogueBehind, LibraryError, UsageError
from vtlfs.failpoints import reached
from vtlfs.model import DiskRecord

_TEMPORARY = f".{configuration.UNFINISHED}.*.tmp"


@dataclass(frozen=True, slots=True)
class Library:
    """An existing library: where it is and what its configuration says."""

    path: Path
    config: Config

    @classmethod
    def open(cls, path: Path) -> "Library":
        """Open the library in this directory. Raises LibraryError."""
        path = Path(os.path.abspath(path))
        return cls(path, configuration.load(path))

    @property
    def leases(self) -> lease.Leases:
        """The leases of its mounts."""
        return lease.Leases(self.path)

    def tracking(self, *, read_only: bool = False, marks: MarkWriter | None = None, behind: bool = False) -> Tracking:
        """Open the tracking database. Raises LibraryError, also where it is another library's.

        For writing, it must not be older than the disks: raises CatalogueBehind. `behind`: it may be; then it is
        `frozen`. `marks` raises the disks' high-water marks at each commit; by default, as a command does.
        """
        seen = [] if read_only else high_water.read_all(self.config.disks, self.config.uuid)
        opened = Tracking(self.path, read_only=read_only)
        try:
            uuid = opened.library.uuid()
            if uuid != self.config.uuid:
                raise LibraryError(f"{self.path}: library.toml says {self.config.uuid}, tracking.db says {uuid}")
            if read_only:
                return opened
            lacks = currency.lacking(opened.library.watermark(), seen)
            if lacks is not None and not behind:
                raise CatalogueBehind(str(self.path / database.FILE_NAME), lacks)
            opened.frozen = lacks is not None
            if opened.frozen:
                with opened.transaction():
                    opened.library.skip_sessions(max(mark.next_session for mark in seen))
            else:
                writer = marks or high_water.MarkChildren(self.config.disks, self.config.uuid)
                opened.on_commit = writer.advance
        except BaseException:
            opened.close()
            raise
        return opened

    def disks(self, *, check: bool = True) -> list[Disk]:
        """Return the disks by number, found by their labels; `check`: they compare BLAKE3s on reading.

        As many may be missing, or not be writable, as `parity` makes up for; a `MissingDisk` is in the place of each
        that is missing. Raises LibraryError where there are more, or one is not ours.
        """
        found = discover(self.config.disks, self.config.uuid, writable=True)
        known = self._known_disks()
        missing = [disk.number for disk in known if disk.number not in found.places]
        if len(missing) > self.config.parity:
            if found.lost:
                raise found.lost[0]
            raise LibraryError(f"{self.path}: no path in library.toml leads to disk {missing[0]}")
        if strange := found.places.keys() - {disk.number for disk in known}:
            raise LibraryError(f"{self.path}: the tracking database knows of no disk {min(strange)}")
        if missing:  # one that is only not writable is read from
            found = discover(self.config.disks, self.config.uuid)
        return _in_place(known, found.disks(check=check))

    def disks_to_read(self, *, check: bool = True) -> list[Disk]:
        """Return the disks by number, for reading only; a `MissingDisk` in the place of one that is missing."""
        found = discover(self.config.disks, self.config.uuid).disks(check=check)
        return _in_place(self._known_disks(), found)

    def _known_disks(self) -> list[DiskRecord]:
        with closing(self.tracking(read_only=True)) as tracking:
            return tracking.disks.all()


def _in_place(known: Sequence[DiskRecord], found: Mapping[int, Disk]) -> list[Disk]:
    """Return the disks that are known, by number; a `MissingDisk` in the place of one that was not found."""
    return [found.get(disk.number) or MissingDisk(disk.number, disk.path) for disk in known]


def create(
    path: Path, disks: list[Path], *, drives: int, stripe_unit: int, at: str, parity: int = 0, snapshots: bool = False
) -> Library:
    """Make a library in a new or empty directory on two or more disks. `at` is the time.

    `snapshots`: its library.toml has mounts take snapshots, and thin them out.

    Raises UsageError or LibraryError; then nothing has changed.
    """
    configuration.check_drives(drives)
    configuration.check_stripe_unit(stripe_unit)
    path = Path(os.path.abspath(path))
    is_new = False
    try:
        is_new = not _check_directory(path)
        if is_new:
            path.mkdir(mode=0o700)
            reached("init.directory_made")
        with lease.alone(path, "somebody else is making a library here; wait for that"):
            _undo(path)
            config = Config(
                str(uuid4()),
                tuple(discovery.check_new(disks)),
                drives,
                stripe_unit,
                configuration.check_parity(parity),
                snapshot_every=configuration.NEW_EVERY if snapshots else None,
                snapshot_keep=configuration.NEW_KEEP if snapshots else {},
            )
            if parity >= len(config.disks):
                raise UsageError(f"parity {parity} needs {parity + 1} disks or more")
            if parity:
                isal.check()
            if Path(os.path.realpath(path)) in config.disks:
                raise UsageError(f"{path}: the library's directory can't be one of its disks; give it one of its own")
            _make(path, config, at)
    except BaseException as error:
        if is_new:
            with suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError):
            raise LibraryError(f"{path}: {error.strerror}") from error
        raise
    return Library(path, config)


def _make(path: Path, config: Config, at: str) -> None:
    """Make the library: write its configuration under a temporary name first, and rename it to library.toml last.

    So a library that a crash left unfinished can be told from a finished one, and be undone.
    """
    records = [DiskRecord(number, str(uuid4()), str(disk), at) for number, disk in enumerate(config.disks)]
    closed: dict[Path, int] = {}
    old_mask = os.umask(0o077)
    try:
        write_file(path / configuration.UNFINISHED, configuration.render(config).encode())
        sync_directory(path.parent)  # labels are to be found by what this says, whatever happens
        reached("init.announced")
        for record in records:
            discovery.label_new(record, config.uuid, closed)
        reached("init.labelled")
        (path / lease.DIRECTORY).mkdir()
        reached("init.locks_made")
        database.create(path, config.uuid, records, config.drives, at)
        path.chmod(0o700)
        sync_directory(path)
        (path / configuration.UNFINISHED).rename(path / configuration.FILE_NAME)
        reached("init.named")
        sync_directory(path)
    except BaseException:
        discovery.reopen(closed)
        _undo(path)
        raise
    finally:
        os.umask(old_mask)


def _undo(path: Path) -> None:
    """Take away what there is of a library that was not finished: its labels, and then its files."""
    if (path / configuration.UNFINISHED).exists():
        unfinished = configuration.load(path, configuration.UNFINISHED)
        discovery.unlabel(unfinished.disks, unfinished.uuid)
        if (path / lease.DIRECTORY).is_dir():
            (path / lease.DIRECTORY).rmdir()
        for suffix in ("-wal", "-shm", ""):
            (path / (database.FILE_NAME + suffix)).unlink(missing_ok=True)
            reached("init.emptied")
        sync_directory(path)
        (path / configuration.UNFINISHED).unlink()  # last, for without it nobody knows what the others are
    for left in path.glob(_TEMPORARY):
        left.unlink()


def _check_directory(path: Path) -> bool:
    """Tell whether the directory exists. Raises LibraryError unless it is new, empty or unfinished."""
    is_unfinished = (path / configuration.UNFINISHED).exists()
    if (path / configuration.FILE_NAME).exists() or ((path / database.FILE_NAME).exists() and not is_unfinished):
        raise LibraryError(f"{path}: there is a library here already")
    if not path.exists() and not path.is_symlink():
        if not path.parent.is_dir():
            raise LibraryError(f"{path}: {path.parent} is not a directory")
        return False
    if not path.is_dir():
        raise LibraryError(f"{path}: not a directory")
    if not is_unfinished and not _is_empty(path):
        raise LibraryError(f"{path}: not empty; a library wants a directory of its own")
    return True


def _is_empty(directory: Path) -> bool:
    return all(entry.name == "lost+found" or entry.match(_TEMPORARY) for entry in directory.iterdir())
