"""The panes of drives, media and disks: tables short enough to be loaded whole."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, NamedTuple

from textual.app import ComposeResult
from textual.widgets import Static

from vtlfs.engine.media.pools import PoolState, state_of
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.disks import Stored
from vtlfs.model import DiskRecord, DiskState, Drive, Medium, Volume, utc_now
from vtlfs.tui import format as fmt
from vtlfs.tui.medium_details import short_condition
from vtlfs.tui.panes.pane import Pane
from vtlfs.tui.source import NOW, Source
from vtlfs.tui.widgets.table import Column, Table

PROBE_SECONDS = 10.0  # between two probes of the disks
PROBE_TIMEOUT = 15.0
RECORDED = "as recorded"  # the health of a disk that was not probed


@dataclass(frozen=True, slots=True)
class DriveRow:
    """A drive and how many sessions are open on it."""

    drive: Drive
    open_sessions: int


@dataclass(frozen=True, slots=True)
class MediumRow:
    """A medium, its current volume, and whether it is under a legal hold. `now`: by which its retention is told."""

    medium: Medium
    volume: Volume
    is_held: bool
    now: str

    @property
    def condition(self) -> str:
        """What keeps it from being written, or else from being erased."""
        return short_condition(self.medium, self.is_held)

    @property
    def retained(self) -> str:
        """The day on which its retention ends."""
        retention = self.volume.retention
        return "-" if retention is None else "for ever" if retention.until is None else retention.until[:10]

    @property
    def is_expired(self) -> bool:
        """Tell whether its retention has ended."""
        retention = self.volume.retention
        return retention is not None and retention.until is not None and retention.until <= self.now


@dataclass(frozen=True, slots=True)
class DiskRow:
    """A disk, its health (`ok`, a problem, or `RECORDED`), and what lies on it, None in a snapshot."""

    disk: DiskRecord
    health: str
    stored: Stored | None = None

    @property
    def condition(self) -> str:
        """The health, and the state of a disk that is to leave the library."""
        return self.health if self.disk.state is DiskState.IN_USE else f"{self.disk.state}, {self.health}"

    @property
    def used(self) -> int | None:
        """Bytes in use on the whole file system."""
        return None if self.disk.free is None or self.disk.total is None else self.disk.total - self.disk.free


class Drives(Pane):
    """The drives."""

    NAME = "drives"
    LABEL = "Drives"
    COLUMNS: ClassVar[list[Column[DriveRow]]] = [
        Column("DRIVE", 6, lambda r: str(r.drive.number), right=True),
        Column("LOADED", 0, lambda r: fmt.printable(r.drive.loaded)),
        Column("SINCE", 20, lambda r: fmt.time(r.drive.loaded_at)),
        Column("OPEN SESSIONS", 14, lambda r: str(r.open_sessions), right=True),
    ]

    def compose(self) -> ComposeResult:
        """Yield the table."""
        yield Table(self.COLUMNS, key=lambda row: row.drive.number)

    def load(self, tracking: Tracking, source: Source, state: int | None) -> Callable[[], None]:
        """Load all drives."""
        open_sessions = tracking.sessions.count_open_by_drive()
        rows = [DriveRow(drive, open_sessions.get(drive.number, 0)) for drive in tracking.drives.all()]
        return lambda: self.query_one(Table).show(rows)


class Media(Pane):
    """The media, and now, not in a snapshot, a line for each pool of `library.toml`."""

    DEFAULT_CSS = """
    Media #pools { height: auto; max-height: 8; padding: 0 1; display: none; overflow-y: auto; }
    """

    NAME = "media"
    LABEL = "Media"
    COLUMNS: ClassVar[list[Column[MediumRow]]] = [
        Column("MEDIUM", 0, lambda r: r.medium.barcode),
        Column("VOLUME", 6, lambda r: str(r.medium.volume), right=True, wide=True),
        Column("FILES", 6, lambda r: f"{r.medium.tape_files:,}", right=True),
        Column("BYTES", 9, lambda r: fmt.size(r.medium.bytes), right=True),
        Column("CAPACITY", 9, lambda r: fmt.size(r.medium.capacity), right=True, wide=True),
        Column("FILL", 15, lambda r: fmt.bar(r.medium.bytes, r.medium.capacity)),
        Column("STATE", 9, lambda r: r.condition, style=lambda r: "" if r.condition == "in use" else "warn"),
        Column("RETAINED", 10, lambda r: r.retained, style=lambda r: "dim" if r.is_expired else ""),
        Column("WRITTEN", 10, lambda r: (r.medium.written_at or "-")[:10]),
    ]

    def compose(self) -> ComposeResult:
        """Yield the table, and the lines of the pools."""
        yield Table(self.COLUMNS, key=lambda row: row.medium.barcode)
        yield Static("", id="pools", markup=False)

    def load(self, tracking: Tracking, source: Source, state: int | None) -> Callable[[], None]:
        """Load all media."""
        volumes, now = tracking.volumes.current(), tracking.volumes.now(utc_now())
        held = {hold.medium for hold in tracking.volumes.holds()}
        rows = [
            MediumRow(medium, volumes[medium.barcode], medium.barcode in held, now) for medium in tracking.media.all()
        ]
        rules = source.library.config.pools if source.library is not None and state is NOW else {}
        pools = "\n".join(pool_line(state_of(tracking, name, rule, utc_now())) for name, rule in rules.items())

        def show() -> None:
            self.query_one(Table).show(rows)
            lines = self.query_one("#pools", Static)
            lines.display = bool(pools)
            lines.update(pools)

        return show


def pool_line(pool: PoolState) -> str:
    """Return where a pool is, and which medium comes next."""
    where = "on no medium yet"
    if pool.medium is not None:
        left = "full" if pool.is_full else f"{fmt.size(pool.medium.left)} left" if pool.medium.capacity else "no limit"
        where = f"on {pool.medium.barcode}, {left}"
    coming = "at its end" if pool.coming is None else f"then {pool.coming.barcode}: {pool.coming.why}"
    return f"pool {pool.name}: {where}; {coming}" if pool.end is None else f"pool {pool.name}: {where}; {pool.end}"


class Probe(NamedTuple):
    """What a probe has found of a disk."""

    total: int | None
    free: int | None
    health: str


class Disks(Pane):
    """The disks, and for what their room is used. Now, they are probed; in a snapshot, they are shown as recorded."""

    DEFAULT_CSS = """
    Disks #space { height: auto; padding: 0 1; display: none; }
    """

    NAME = "disks"
    LABEL = "Disks"
    COLUMNS: ClassVar[list[Column[DiskRow]]] = [
        Column("DISK", 4, lambda r: str(r.disk.number), right=True),
        Column("PATH", 0, lambda r: fmt.printable(r.disk.path)),
        Column("FREE", 9, lambda r: fmt.size(r.disk.free), right=True),
        Column("TOTAL", 9, lambda r: fmt.size(r.disk.total), right=True),
        Column("FILL", 15, lambda r: fmt.bar(r.used, r.disk.total)),
        Column("HEALTH", 14, lambda r: fmt.printable(r.condition), style=lambda r: _health_style(r.condition)),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._probes: dict[int, Probe] = {}
        self._space = ""
        self._last_probe = float("-inf")  # monotonic

    def compose(self) -> ComposeResult:
        """Yield the table, and a line on the room."""
        yield Table(self.COLUMNS, key=lambda row: row.disk.number)
        yield Static("", id="space", markup=False)

    def load(self, tracking: Tracking, source: Source, state: int | None) -> Callable[[], None]:
        """Load the disks. Now, probe them too, if the last probe is old enough."""
        is_now = state is NOW and not source.is_export
        probes, space, last_probe = self._probes, self._space, self._last_probe
        if is_now and monotonic() - last_probe > PROBE_SECONDS:
            probes, space = probe_disks(source.path)
            last_probe = monotonic()
        stored = tracking.disks.stored() if is_now else {}
        rows = []
        for disk in tracking.disks.all():
            total, free, health = probes.get(disk.number, Probe(disk.total, disk.free, RECORDED))
            lies = stored.get(disk.number, Stored(0, 0)) if is_now else None
            rows.append(DiskRow(replace(disk, total=total, free=free), health, lies))

        def show() -> None:
            self._probes, self._space, self._last_probe = probes, space, last_probe
            self.query_one(Table).show(rows)
            line = self.query_one("#space", Static)
            line.display = bool(space)
            line.update(space)

        return show


def probe_disks(library: Path) -> tuple[dict[int, Probe], str]:
    """Return size, free space and health of each disk by its number, and a line on the room; nothing if that takes too
    long.

    `vtlfs status` probes in a process of its own, which can be killed: a thread that waits for a hung disk can't.
    """
    command = [sys.executable, "-m", "vtlfs", "status", "--json", str(library)]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=PROBE_TIMEOUT, check=False, stdin=subprocess.DEVNULL
        )
        found = json.loads(done.stdout)
        probes = {
            disk["number"]: Probe(disk["total"], disk["free"], disk["problem"] or disk["fault"] or "ok")
            for disk in found["disks"]
        }
        return probes, space_line(found["use"], found["space"])
    except (subprocess.SubprocessError, ValueError, KeyError):
        return {}, ""


def space_line(use: Mapping[str, Any], space: Mapping[str, Any]) -> str:
    """Return for what the room is used, and when the disks will be full. `use`, `space`: of `vtlfs status --json`."""
    said = (
        f"used: {fmt.size(use['current'])} by what the media have now, {fmt.size(use['held'])} by erased volumes that"
        f" are held; {fmt.size(use['reclaimable'])} can be reclaimed; {fmt.size(space['free'])} free"
    )
    return said if use["full_at"] is None else f"{said}; full about {use['full_at'][:10]}"


def _health_style(health: str) -> str:
    return {"ok": "good", RECORDED: "dim", "retiring, ok": "warn"}.get(health, "bad")
