"""`vtlfs status`: the library at one glance, whatever is the matter with its disks and mounts."""

from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vtlfs.cli import params, show
from vtlfs.cli.show import Column
from vtlfs.model import DiskRecord, DiskState, Drive, format_size, utc_now

if TYPE_CHECKING:
    from vtlfs.engine.condition import Condition, DiskFacts, Facts
    from vtlfs.engine.library import Library
    from vtlfs.engine.scrub.verification import Verification
    from vtlfs.engine.tracking.repositories.library_row import Counters
    from vtlfs.members.finding import Summary
    from vtlfs.report.looking import CareOf, Look, MountedBy


@dataclass(frozen=True, slots=True)
class Status:
    """What there is to say of a library. `open_sessions` are counted by drive.

    `computed`: extents that the live mounts have computed for readers, by disk. `on_media`: bytes and tape files.
    """

    seen: "Look"
    drives: list[Drive]
    open_sessions: dict[int, int]
    counters: "Counters"
    on_media: tuple[int, int]
    verified: "Verification | None"
    computed: Counter[int]
    index: "Summary"
    care: "dict[str, CareOf]"

    @property
    def library(self) -> "Library":
        """The library."""
        return self.seen.library

    @property
    def facts(self) -> "Facts":
        """What is known of it."""
        return self.seen.facts

    @property
    def open_total(self) -> int:
        """How many sessions are open."""
        return sum(self.open_sessions.values())

    @property
    def condition(self) -> "Condition":
        """How the library is."""
        return self.facts.condition

    @property
    def notes(self) -> list[str]:
        """What one should know, though it is no trouble, in a line each."""
        from vtlfs.engine.condition import sharing

        devices = {
            f"disk {number}": found.device for number, found in self.seen.probes.items() if found.device is not None
        }
        notes = sharing(devices, self.library.config.parity)
        hosts = Counter(mounted.host for mounted in self.seen.mounts if mounted.alive)
        notes += [f"pool {pool.name} is at its end: {pool.end}" for pool in self.seen.pools if pool.end is not None]
        return notes + [
            f"{number} live mounts have the host name {host}; mount with -o host=NAME to tell them apart"
            for host, number in hosts.items()
            if number > 1
        ]

    def as_json(self) -> dict[str, object]:
        """Return the status as a JSON object."""
        facts, config = self.facts, self.library.config
        repair = None if facts.repair is None else facts.repair.as_json() | {"is_running": facts.is_repairing}
        return {
            "library": str(self.library.path),
            "uuid": config.uuid,
            "condition": str(self.condition),
            "troubles": [trouble.as_json() for trouble in facts.troubles],
            "notes": self.notes,
            "stripe_unit": config.stripe_unit,
            "parity": config.parity,
            "space": self.seen.space,
            "use": self.seen.use.as_json(),
            "disks": [self._disk_document(disk) for disk in facts.disks],
            "degraded": [asdict(row) for row in facts.degraded],
            "damaged": None if facts.damaged is None else asdict(facts.damaged),
            "computed": facts.computed,
            "repair": repair,
            "drives": [asdict(drive) | {"open_sessions": self._open(drive)} for drive in self.drives],
            "mounts": [mounted.as_json() for mounted in self.seen.mounts],
            "pools": [pool.as_json() for pool in self.seen.pools],
            "media": self.counters.media,
            "bytes": self.on_media[0],
            "tape_files": self.on_media[1],
            "sessions": {"total": self.counters.sessions, "open": self.open_total},
            "index": asdict(self.index),
            "lacks": facts.lacks,
            "care": {name: one.as_json() for name, one in self.care.items()},
            "verified": None if self.verified is None else self.verified.as_json(),
        }

    def _open(self, drive: Drive) -> int:
        return self.open_sessions.get(drive.number, 0)

    def _disk_document(self, disk: "DiskFacts") -> dict[str, object]:
        record, found = disk.record, self.seen.probes[disk.record.number]
        return {
            "number": record.number,
            "path": found.path,
            "uuid": record.uuid,
            "free": found.free,
            "total": found.total,
            "device": found.device,
            "problem": found.problem,
            "fault": record.fault,
            "fault_at": record.fault_at,
            "state": record.state,
            "state_at": record.state_at,
            "successor": record.successor,
            "stored": asdict(disk.stored),
            "computed_extents": self.computed[record.number],
        }

    def print(self) -> None:
        """Print the status for people."""
        size, files = format_size(self.on_media[0]), show.count(self.on_media[1], "tape file")
        config, facts, space = self.library.config, self.facts, self.seen.space
        show.line(f"library   {self.library.path}")
        show.line(f"uuid      {config.uuid}")
        show.line(f"condition {self.condition}")
        over = f"{format_size(config.stripe_unit)} units over {len(facts.disks)} disks, parity {config.parity}"
        show.line(f"striping  {over}")
        free, total = format_size(space["free"]), format_size(space["total"])
        show.line(f"space     {free} free of {total}; {format_size(space['available'])} of data still fit")
        for text in self.seen.use.lines:
            show.line(text)
        show.line(f"media     {self.counters.media:,} with {size} in {files}")
        show.line(f"sessions  {self.counters.sessions:,}, of which {self.open_total:,} open")
        show.line(f"indexed   {self.index.in_words()}")
        show.line(f"verified  {'never' if self.verified is None else _verified(self.verified)}")
        for name, one in self.care.items():
            show.line(f"{name:<9} {one.in_words(utc_now())}")
        if (line := facts.repair_line) is not None:
            show.line(f"repair    {line}")
        if computed := self.computed.total():
            show.line(f"computed  {show.count(computed, 'extent')} for readers, since the live mounts began")
        show.line("")
        self._print_disks()
        show.line("")
        columns = [Column("DRIVE", figures=True), Column("LOADED"), Column("OPEN SESSIONS", figures=True)]
        show.table(columns, [(drive.number, drive.loaded, self._open(drive)) for drive in self.drives])
        show.line("")
        if self.seen.pools:
            self._print_pools()
            show.line("")
        _mount_table(self.seen.mounts)
        for trouble in facts.troubles:
            show.line(f"{trouble.condition}: {trouble.what}")
            show.line(f"    {trouble.advice}")
        for note in self.notes:
            show.line(f"note: {note}")

    def _print_pools(self) -> None:
        columns = [Column("POOL"), Column("MEDIA", figures=True), Column("ON"), Column("LEFT", figures=True)]
        rows = []
        for pool in self.seen.pools:
            barcode, left = (None, None) if pool.medium is None else (pool.medium.barcode, pool.medium.left)
            following = "none: the pool is at its end" if pool.end is not None else None
            if pool.coming is not None:
                following = f"{pool.coming.barcode}: {pool.coming.why}"
            rows.append((pool.name, len(pool.roles), barcode, "full" if pool.is_full else show.human(left), following))
        show.table([*columns, Column("NEXT")], rows)

    def _print_disks(self) -> None:
        columns = [Column("DISK", figures=True), Column("PATH"), Column("FREE", figures=True)]
        columns += [Column("TOTAL", figures=True), Column("STORED", figures=True), Column("STATE"), Column("HEALTH")]
        rows = []
        for disk in self.facts.disks:
            record, found = disk.record, self.seen.probes[disk.record.number]
            sizes = (show.human(found.free), show.human(found.total), format_size(disk.stored.bytes))
            rows.append((record.number, found.path, *sizes, _state(record), found.problem or record.fault or "ok"))
        show.table(columns, rows)


@click.command(epilog=params.example("vtlfs status /srv/vtl"))
@params.library_argument
@params.json_option
def status(library: Path, as_json: bool) -> None:
    """Show a library's disks, drives and mounts, what is wrong and what to do. Does not wait for a disk that hangs.

    Exit status: 0 if the library is fine; 4 if it is degraded: it can be read and written, but something wants to be
    done; 3 if it has failed: some bytes can't be read, or no stream can be written, or the tracking database is older
    than the disks.
    """
    from vtlfs.engine.library import Library

    found = _look(Library.open(library))
    if as_json:
        show.as_json(found.as_json())
    else:
        found.print()
    click.get_current_context().exit(found.condition.status)


def _look(library: "Library") -> Status:
    """Return what there is to say of a library, whose disks are looked at. Raises LibraryError, TrackingError."""
    from vtlfs.engine.scrub.verification import last_of_all
    from vtlfs.members.finding import summary
    from vtlfs.report import looking

    probes = looking.probe_disks(library)
    with closing(library.tracking(read_only=True)) as tracking:
        seen = looking.examine(library, tracking, probes, utc_now())
        return Status(
            seen,
            tracking.drives.all(),
            tracking.sessions.count_open_by_drive(),
            tracking.library.counters(),
            tracking.media.totals(),
            last_of_all(tracking),
            _computed(library, seen.mounts),
            summary(library, tracking),
            looking.care_of(library, tracking),
        )


def _computed(library: "Library", mounts: "list[MountedBy]") -> Counter[int]:
    """Return how many extents of each disk the live mounts have computed for readers."""
    from vtlfs.engine import live

    found: Counter[int] = Counter()
    for mounted in mounts:
        if mounted.alive and (figures := live.read(library.path, mounted.mount.id)) is not None:
            found.update(figures.computed)
    return found


def _verified(last: "Verification") -> str:
    return f"{show.seconds(last.ended_at)}: {last.in_words}"


def _state(record: DiskRecord) -> str:
    if record.state is DiskState.RETIRING and record.successor is not None:
        return f"{record.state}, for disk {record.successor}"
    return record.state


def _mount_table(mounts: "list[MountedBy]") -> None:
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
