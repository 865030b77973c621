"""A library as it lies on the machine: its directory, its configuration and its labelled disks.

Making one and opening one; everything that runs starts from a `Library`.
"""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from vtlfs import config as configuration
from vtlfs.config import Config
from vtlfs.disks import discovery
from vtlfs.disks import marks as high_water
from vtlfs.disks.base import Disk
from vtlfs.disks.discovery import Discovery, discover
from vtlfs.disks.marks import MarkWriter
from vtlfs.disks.missing import MissingDisk
from vtlfs.durable import sync_directory, write_file
from vtlfs.engine import lease
from vtlfs.engine.reserve import Reserve
from vtlfs.engine.tracking import currency, database
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import CatalogueBehind, DiskError, LibraryError, UsageError
from vtlfs.failpoints import reached
from vtlfs.model import DiskRecord, DiskState

log = logging.getLogger(__name__)

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

    def check_outside(self, path: Path) -> None:
        """Raise UsageError where a path, links resolved, is in the library's directory or in one of its disks."""
        real = Path(os.path.realpath(path))
        for forbidden in (self.path, *self.config.disks):
            if real.is_relative_to(os.path.realpath(forbidden)):
                raise UsageError(f"{path}: is inside the library ({forbidden}); choose a place outside")

    def tracking(self, *, read_only: bool = False, marks: MarkWriter | None = None, behind: bool = False) -> Tracking:
        """Open the tracking database. Raises LibraryError, also where it is another library's.

        For writing, it must not be older than the disks: raises CatalogueBehind. `behind`: it may be; then it is
        `frozen`. `marks` raises the disks' high-water marks at each commit; by default, as a command does.
        """
        seen = [] if read_only else high_water.read_all(self.config.disks, self.config.uuid)
        Reserve(self.path).open_with_room()
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
        """Return the disks that have not retired, in the order of their numbers, found by their labels.

        `check`: they compare BLAKE3s on reading. Disks are looked for at the paths in library.toml, and those that are
        not there at the path where they were last.

        As many may be missing, or not be writable, as `parity` makes up for, besides those that are retiring, and those
        from which a repair has moved everything, if others enough for a stripe with parity are there. A `MissingDisk`
        is in the place of each that is missing. Raises LibraryError where there are more, or one is not ours.
        """
        with closing(self.tracking(read_only=True)) as tracking:
            ever, stored = tracking.disks.ever(), tracking.disks.stored()
        found = self.discover(ever, writable=True)
        missing = [disk.number for disk in _not_retired(ever) if disk.number not in found.places]
        away = set(missing) - {disk.number for disk in ever if disk.state is DiskState.RETIRING}
        there = [disk for disk in ever if disk.state is DiskState.IN_USE and disk.number in found.places]
        if 0 < self.config.parity < len(there):
            away = {number for number in away if number in stored and stored[number].extents}
        if len(away) > self.config.parity:
            if found.lost:
                raise found.lost[0]
            raise LibraryError(f"{self.path}: no path in library.toml leads to disk {missing[0]}")
        if strange := found.places.keys() - {disk.number for disk in ever}:
            raise LibraryError(f"{self.path}: the tracking database knows of no disk {min(strange)}")
        if missing:  # one that is only not writable is read from
            found = self.discover(ever)
        return _in_place(ever, found.disks(check=check))

    def disks_to_read(self, *, check: bool = True) -> list[Disk]:
        """Return the disks as `disks` does, for reading only: however many are missing."""
        ever = self._disks_ever()
        return _in_place(ever, self.discover(ever).disks(check=check))

    def disks_that_answer(self) -> list[Disk]:
        """Return the disks as `disks_to_read` does; one that hangs is missing. For commands: it forks."""
        ever = self._disks_ever()
        hanging = discovery.hanging([*self.config.disks, *(Path(disk.path) for disk in _not_retired(ever))])
        return _in_place(ever, self.discover(ever, passed_over=hanging).disks())

    def find(self, wanted: DiskRecord, passed_over: Collection[str], *, check: bool = True) -> Disk | None:
        """Look for one disk, at the paths where no other one lies; return it, measured. May block.

        Raises LibraryError where library.toml can't be read. `passed_over`: paths of other disks.
        """
        paths = [*configuration.load(self.path).disks, Path(wanted.path)]
        found = discover([path for path in paths if str(path) not in passed_over], self.config.uuid)
        place = found.places.get(wanted.number)
        if place is None or not wanted.is_labelled(place.label.disk):
            return None
        disk = found.disks(check=check)[wanted.number]
        try:
            disk.measure()
        except DiskError:
            return None
        return disk

    def discover(
        self, ever: Sequence[DiskRecord], *, writable: bool = False, passed_over: Collection[Path] = ()
    ) -> Discovery:
        """Look for the disks where library.toml says, and then where the tracking database does. `ever`: its rows."""
        found = discover(self.config.disks, self.config.uuid, writable=writable, passed_over=passed_over)
        discovery.look_further(found, _not_retired(ever), writable=writable, passed_over=passed_over)
        return found

    def _disks_ever(self) -> list[DiskRecord]:
        with closing(self.tracking(read_only=True)) as tracking:
            return tracking.disks.ever()


def _not_retired(ever: Sequence[DiskRecord]) -> list[DiskRecord]:
    return [disk for disk in ever if disk.state is not DiskState.RETIRED]


def _in_place(ever: Sequence[DiskRecord], found: Mapping[int, Disk]) -> list[Disk]:
    """Return the disks that have not retired; a `MissingDisk` in the place of one that was not found."""
    for disk in ever:
        if disk.state is DiskState.RETIRED and disk.number in found:
            log.warning("%s: was disk %d, which has retired; it is passed over", found[disk.number].path, disk.number)
    return [found.get(disk.number) or MissingDisk(disk.number, disk.path) for disk in _not_retired(ever)]


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
                from vtlfs.engine.layout import isal  # here: most commands need none, and loading it takes time

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
