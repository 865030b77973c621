"""The panes of drives, media and disks: tables short enough to be loaded whole."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import ClassVar, NamedTuple

from textual.app import ComposeResult

from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.disks import Stored
from vtlfs.model import DiskRecord, DiskState, Drive, Medium
from vtlfs.tui import format as fmt
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
    """The media."""

    NAME = "media"
    LABEL = "Media"
    COLUMNS: ClassVar[list[Column[Medium]]] = [
        Column("MEDIUM", 0, lambda m: m.barcode),
        Column("FILES", 7, lambda m: f"{m.tape_files:,}", right=True),
        Column("BYTES", 9, lambda m: fmt.size(m.bytes), right=True),
        Column("CAPACITY", 9, lambda m: fmt.size(m.capacity), right=True),
        Column("FILL", 15, lambda m: fmt.bar(m.bytes, m.capacity)),
        Column("WRITTEN", 20, lambda m: fmt.time(m.written_at)),
    ]

    def compose(self) -> ComposeResult:
        """Yield the table."""
        yield Table(self.COLUMNS, key=lambda medium: medium.barcode)

    def load(self, tracking: Tracking, source: Source, state: int | None) -> Callable[[], None]:
        """Load all media."""
        rows = tracking.media.all()
        return lambda: self.query_one(Table).show(rows)


class Probe(NamedTuple):
    """What a probe has found of a disk."""

    total: int | None
    free: int | None
    health: str


class Disks(Pane):
    """The disks. Now, they are probed; in a snapshot, they are shown as recorded."""

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
        self._last_probe = float("-inf")  # monotonic

    def compose(self) -> ComposeResult:
        """Yield the table."""
        yield Table(self.COLUMNS, key=lambda row: row.disk.number)

    def load(self, tracking: Tracking, source: Source, state: int | None) -> Callable[[], None]:
        """Load the disks. Now, probe them too, if the last probe is old enough."""
        is_now = state is NOW and not source.is_export
        probes, last_probe = self._probes, self._last_probe
        if is_now and monotonic() - last_probe > PROBE_SECONDS:
            probes = probe_disks(source.path)
            last_probe = monotonic()
        stored = tracking.disks.stored() if is_now else {}
        rows = []
        for disk in tracking.disks.all():
            total, free, health = probes.get(disk.number, Probe(disk.total, disk.free, RECORDED))
            lies = stored.get(disk.number, Stored(0, 0)) if is_now else None
            rows.append(DiskRow(replace(disk, total=total, free=free), health, lies))

        def show() -> None:
            self._probes, self._last_probe = probes, last_probe
            self.query_one(Table).show(rows)

        return show


def probe_disks(library: Path) -> dict[int, Probe]:
    """Return size, free space and health of each disk by its number; nothing if that takes too long.

    `vtlfs status` probes in a process of its own, which can be killed: a thread that waits for a hung disk can't.
    """
    command = [sys.executable, "-m", "vtlfs", "status", "--json", str(library)]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=PROBE_TIMEOUT, check=False, stdin=subprocess.DEVNULL
        )
        disks = json.loads(done.stdout)["disks"]
    except (subprocess.SubprocessError, ValueError, KeyError):
        return {}
    return {
        disk["number"]: Probe(disk["total"], disk["free"], disk["problem"] or disk["fault"] or "ok") for disk in disks
    }


def _health_style(health: str) -> str:
    return {"ok": "good", RECORDED: "dim", "retiring, ok": "warn"}.get(health, "bad")
