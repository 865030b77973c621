"""Drives, media and disks: tables that are short enough to be fetched as a whole."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import ClassVar

from textual.app import ComposeResult

from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import DiskRecord, Drive, Medium
from vtlfs.tui import format as fmt
from vtlfs.tui.panes.pane import Pane
from vtlfs.tui.source import NOW, Source
from vtlfs.tui.widgets.table import Column, Table

PROBE_SECONDS = 10.0  # between two looks at the disks themselves
PROBE_TIMEOUT = 15.0
RECORDED = "as recorded"


@dataclass(frozen=True, slots=True)
class DriveRow:
    """A drive and how many sessions are open on it."""

    drive: Drive
    open_sessions: int


@dataclass(frozen=True, slots=True)
class DiskRow:
    """A disk and what is the matter with it."""

    disk: DiskRecord
    health: str

    @property
    def used(self) -> int | None:
        """Bytes that are taken, of the whole file system."""
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
        """Lay it out."""
        yield Table(self.COLUMNS, key=lambda row: row.drive.number)

    def look(self, tracking: Tracking, source: Source, state: int | None) -> Callable[[], None]:
        """Ask for the drives."""
        open_sessions = tracking.open_sessions_by_drive()
        rows = [DriveRow(drive, open_sessions.get(drive.number, 0)) for drive in tracking.drives()]
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
        """Lay it out."""
        yield Table(self.COLUMNS, key=lambda medium: medium.barcode)

    def look(self, tracking: Tracking, source: Source, state: int | None) -> Callable[[], None]:
        """Ask for the media."""
        rows = tracking.media()
        return lambda: self.query_one(Table).show(rows)


class Disks(Pane):
    """The disks. Of now their health is looked at, of a snapshot it is what was recorded."""

    NAME = "disks"
    LABEL = "Disks"
    COLUMNS: ClassVar[list[Column[DiskRow]]] = [
        Column("DISK", 4, lambda r: str(r.disk.number), right=True),
        Column("PATH", 0, lambda r: fmt.printable(r.disk.path)),
        Column("FREE", 9, lambda r: fmt.size(r.disk.free), right=True),
        Column("TOTAL", 9, lambda r: fmt.size(r.disk.total), right=True),
        Column("FILL", 15, lambda r: fmt.bar(r.used, r.disk.total)),
        Column("HEALTH", 14, lambda r: fmt.printable(r.health), look=lambda r: _look(r.health)),
    ]
    _found: dict[int, tuple[int | None, int | None, str]]
    _looked = float("-inf")

    def compose(self) -> ComposeResult:
        """Lay it out."""
        self._found = {}
        yield Table(self.COLUMNS, key=lambda row: row.disk.number)

    def look(self, tracking: Tracking, source: Source, state: int | None) -> Callable[[], None]:
        """Ask for the disks, and of now look at them, but not every second."""
        if state is NOW and source.library is not None and monotonic() - self._looked > PROBE_SECONDS:
            self._found = probe(source.path)
            self._looked = monotonic()
        rows = []
        for disk in tracking.disks():
            total, free, health = self._found.get(disk.number, (disk.total, disk.free, RECORDED))
            seen = DiskRecord(disk.number, disk.uuid, disk.path, disk.added_at, total, free, disk.seen_at)
            rows.append(DiskRow(seen, health))
        return lambda: self.query_one(Table).show(rows)


def probe(library: Path) -> dict[int, tuple[int | None, int | None, str]]:
    """Look at the disks: by number their size, what is free, and what is the matter. Does not wait for one that hangs.

    `vtlfs status` does it in a process of its own, for a thread that waits for a dead disk could never be ended.
    """
    words_ = [sys.executable, "-m", "vtlfs", "status", "--json", str(library)]
    try:
        done = subprocess.run(words_, capture_output=True, timeout=PROBE_TIMEOUT, check=True, stdin=subprocess.DEVNULL)
        found = json.loads(done.stdout)["disks"]
    except (subprocess.SubprocessError, ValueError, KeyError):
        return {}
    return {disk["number"]: (disk["total"], disk["free"], disk["problem"] or "ok") for disk in found}


def _look(health: str) -> str:
    return {"ok": "good", RECORDED: "dim"}.get(health, "bad")
