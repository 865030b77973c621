"""`vtlfs status`: the library at one glance, whatever is the matter with its disks and mounts."""

import pwd
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtlfs.cli import params, show
from vtlfs.cli.show import Column
from vtlfs.errors import CatalogueBehind
from vtlfs.model import DiskRecord, Drive, Mount, format_size

if TYPE_CHECKING:
    from vtlfs.disks.probe import Probe
    from vtlfs.engine.library import Library
    from vtlfs.engine.scrub.verification import Verification
    from vtlfs.engine.tracking.repositories.library_row import Counters


@dataclass(frozen=True, slots=True)
class MountedBy:
    """A mount that the tracking database has as mounted, whether its process lives, and whose it is."""

    mount: Mount
    alive: bool
    user: str

    @property
    def host(self) -> str:
        """What its sessions are called by, unless they come over ssh."""
        return self.mount.host or self.mount.machine

    def as_json(self) -> dict[str, object]:
        """Return the mount as a JSON object."""
        return asdict(self.mount) | {"host": self.host, "user": self.user, "alive": self.alive}


@dataclass(frozen=True, slots=True)
class Status:
    """What there is to say of a library. `open_sessions` are counted by drive."""

    library: "Library"
    disks: "list[tuple[DiskRecord, Probe]]"
    drives: list[Drive]
    open_sessions: dict[int, int]
    mounts: list[MountedBy]
    counters: "Counters"
    verified: "Verification | None"
    lacks: str | None = None  # of what the disks know, where the tracking database is older than they are

    @property
    def open_total(self) -> int:
        """How many sessions are open."""
        return sum(self.open_sessions.values())

    @property
    def notes(self) -> list[str]:
        """What one should know, in a line each."""
        notes = [] if self.lacks is None else [_went_back(self.library, self.lacks)]
        notes += [
            f"disk {record.number} ({found.path}): {found.problem}" for record, found in self.disks if found.problem
        ]
        notes += [
            f"disk {record.number} ({found.path}): {record.fault} since {show.seconds(record.fault_at)};"
            " mounts write to the other disks until it works again"
            for record, found in self.disks
            if record.fault and record.fault_at and not found.problem
        ]
        hosts = Counter(mounted.host for mounted in self.mounts if mounted.alive)
        notes += [
            f"{number} live mounts have the host name {host}; mount with -o host=NAME to tell them apart"
            for host, number in hosts.items()
            if number > 1
        ]
        dead = [mounted.mount.mountpoint for mounted in self.mounts if not mounted.alive]
        recover = f"vtlfs recover {show.word(self.library.path)}"
        return notes + [f"the mount at {where} is dead; {recover} ends its sessions" for where in dead]

    def as_json(self) -> dict[str, object]:
        """Return the status as a JSON object."""
        return {
            "library": str(self.library.path),
            "uuid": self.library.config.uuid,
            "stripe_unit": self.library.config.stripe_unit,
            "disks": [_disk_document(record, found) for record, found in self.disks],
            "drives": [asdict(drive) | {"open_sessions": self._open(drive)} for drive in self.drives],
            "mounts": [mounted.as_json() for mounted in self.mounts],
            "media": self.counters.media,
            "bytes": self.counters.bytes,
            "tape_files": self.counters.tape_files,
            "sessions": {"total": self.counters.sessions, "open": self.open_total},
            "lacks": self.lacks,
            "verified": None if self.verified is None else self.verified.as_json(),
            "notes": self.notes,
        }

    def _open(self, drive: Drive) -> int:
        return self.open_sessions.get(drive.number, 0)

    def print(self) -> None:
        """Print the status for people."""
        files, size = show.count(self.counters.tape_files, "tape file"), format_size(self.counters.bytes)
        show.line(f"library   {self.library.path}")
        show.line(f"uuid      {self.library.config.uuid}")
        show.line(f"striping  {format_size(self.library.config.stripe_unit)} units over {len(self.disks)} disks")
        show.line(f"media     {self.counters.media:,} with {size} in {files}")
        show.line(f"sessions  {self.counters.sessions:,}, of which {self.open_total:,} open")
        show.line(f"verified  {'never' if self.verified is None else _verified(self.verified)}")
        show.line("")
        _disk_table(self.disks)
        show.line("")
        columns = [Column("DRIVE", figures=True), Column("LOADED"), Column("OPEN SESSIONS", figures=True)]
        show.table(columns, [(drive.number, drive.loaded, self._open(drive)) for drive in self.drives])
        show.line("")
        _mount_table(self.mounts)
        for note in self.notes:
            show.line(f"note: {note}")


@click.command(epilog=params.example("vtlfs status /srv/vtl"))
@params.library_argument
@params.json_option
def status(library: Path, as_json: bool) -> None:
    """Show a library's disks, drives and mounts. Does not wait for a disk that hangs.

    Exit status: 3 if the tracking database is older than the disks, so that it lacks some of what was acknowledged.
    """
    from vtlfs.engine.library import Library

    found = _status(Library.open(library))
    if as_json:
        show.as_json(found.as_json())
    else:
        found.print()
    if found.lacks is not None:
        click.get_current_context().exit(CatalogueBehind.exit_status)


def _status(library: "Library") -> Status:
    from vtlfs.disks.probe import probe
    from vtlfs.engine.scrub.verification import last_of_all
    from vtlfs.engine.tracking.currency import lacking

    probes = probe(library.config.uuid, library.config.disks)  # with the marks, before the database is asked
    with closing(library.tracking(read_only=True)) as tracking:
        return Status(
            library,
            _matched(tracking.disks.all(), probes),
            tracking.drives.all(),
            tracking.sessions.count_open_by_drive(),
            [_mounted_by(library, mount) for mount in tracking.mounts.live()],
            tracking.library.counters(),
            last_of_all(tracking),
            lacking(tracking.library.watermark(), [found.mark for found in probes if found.mark is not None]),
        )


def _went_back(library: "Library", lacks: str) -> str:
    rebuild = f"vtlfs rebuild {show.word(library.path)}"
    return f"the tracking database is older than the disks: it lacks {lacks}; {rebuild} takes that in"


def _matched(records: list[DiskRecord], probes: "list[Probe]") -> "list[tuple[DiskRecord, Probe]]":
    """Pair the disks with what was found: by their labels, and where there is none by their place in library.toml."""
    from vtlfs.disks.probe import Probe

    by_number = {found.number: found for found in probes if found.number is not None}
    nameless = [found for found in probes if found.number is None]
    pairs = []
    for record in records:
        if record.number in by_number:
            found = by_number[record.number]
        elif nameless:
            here = probes[record.number] if record.number < len(probes) else None
            found = here if here in nameless else nameless[0]
            nameless.remove(found)
        else:
            found = Probe(record.path, problem="no path in library.toml leads to it")
        pairs.append((record, found))
    return pairs


def _mounted_by(library: "Library", mount: Mount) -> MountedBy:
    try:
        user = pwd.getpwuid(mount.uid).pw_name
    except KeyError:
        user = str(mount.uid)
    return MountedBy(mount, library.leases.is_alive(mount.id), user)


def _verified(last: "Verification") -> str:
    found = [f"{number:,} {severity}" for severity, number in last.defects.items() if number]
    return f"{show.seconds(last.ended_at)}: {', '.join(found) or 'all was as it should be'}"


def _disk_document(record: DiskRecord, found: "Probe") -> dict[str, object]:
    return {
        "number": record.number,
        "path": found.path,
        "uuid": record.uuid,
        "free": found.free,
        "total": found.total,
        "problem": found.problem,
        "fault": record.fault,
        "fault_at": record.fault_at,
    }


def _disk_table(disks: "list[tuple[DiskRecord, Probe]]") -> None:
    columns = [Column("DISK", figures=True), Column("PATH"), Column("FREE", figures=True)]
    columns += [Column("TOTAL", figures=True), Column("STATE")]
    rows = [
        (
            record.number,
            found.path,
            show.human(found.free),
            show.human(found.total),
            found.problem or record.fault or "ok",
        )
        for record, found in disks
    ]
    show.table(columns, rows)


def _mount_table(mounts: list[MountedBy]) -> None:
    if not mounts:
        show.line("not mounted")
        return
    columns = [
        Column("HOST"),
        Column("MOUNTPOINT"),
        Column("PID", figures=True),
        Column("USER"),
        Column("SINCE", folds=False),
    ]
    columns += [Column("STATE"), Column("OPTIONS")]
    rows = []
    for mounted in mounts:
        mount = mounted.mount
        state = "alive" if mounted.alive else "dead"
        since = show.seconds(mount.mounted_at)
        rows.append((mounted.host, mount.mountpoint, mount.pid, mounted.user, since, state, mount.options or None))
    show.table(columns, rows)
