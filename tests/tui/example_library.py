"""A library with a week's history, always the same, on two real disks. It is filled without a mount."""

import io
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

from filling import deal, tracked

from vtlfs.disks.headers import Opening
from vtlfs.engine.library import Library, create
from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Access, Mount, Opener, Snapshot, State
from vtlfs.snap import store

UNIT = 4096
OPENING = Opening("T1", 0, Opener("alpha", 1, 0, 0, "tar"), "2026-01-31T09:30:00.000000Z", UNIT)  # of all sessions
HOSTS = ("alpha", "beta", "gamma")
MEDIA = ("A00001L9", "A00002L9", "A00003L9")


def at(day: int, hour: int, minute: int = 0) -> str:
    """Return a time of a week in November 2026."""
    return f"2026-11-{15 + day:02d}T{hour:02d}:{minute:02d}:00.000000Z"


class ExampleLibrary:
    """The library, and methods that add to its history."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.disks = [root / "disk0", root / "disk1"]
        for disk in self.disks:
            disk.mkdir()
        self.library: Library = create(root / "library", self.disks, drives=4, stripe_unit=UNIT, at=at(0, 0))
        self.path = self.library.path
        with closing(tracked(self.library)) as tracking, tracking.transaction():
            tracking.media.add(MEDIA[:2], None, at(0, 0))
            tracking.media.add(MEDIA[2:], 1 << 20, at(0, 0))
            tracking.drives.load(1, MEDIA[0], at(0, 1))
            for number in range(2):
                tracking.disks.record_fill(number, 1 << 30, (1 << 30) - (number + 1) * (200 << 20), at(0, 2))
            mount = Mount(0, "alpha", "machine", 4711, 0, "/mnt/vtl", "", "mounted", at(0, 1), None)
            self.mount = tracking.mounts.add(mount)

    def open(
        self, opened: str, barcode: str, data: bytes, host: str = "alpha", *, drive: int = 0, program: str = "tar"
    ) -> int:
        """Open a session, and make `data` durable in it. Return its identifier."""
        with closing(tracked(self.library)) as tracking, tracking.transaction():
            session = tracking.library.take_sessions(1)[0]
            opener = Opener(host, 123, 0, 0, program)
            tracking.sessions.open(session, self.mount, opener, Access.WRITE, drive, barcode, UNIT, opened)
            self._record(tracking, session, data)
        return session

    def _record(self, tracking: Tracking, session: int, data: bytes) -> None:
        extents = deal(self.library, session, OPENING, data)
        tracking.sessions.record_progress(session, extents, len(data), max(1, len(data) // 10240))

    def write(self, opened: str, released: str, barcode: str, data: bytes, host: str = "alpha", **options: Any) -> int:
        """Write `data` in a session, and release it. Return its identifier."""
        session = self.open(opened, barcode, data, host, **options)
        with closing(tracked(self.library)) as tracking, tracking.transaction():
            tracking.sessions.release(session, State.RELEASED, None, released)
        return session

    def take_snapshot(self, at: str, name: str | None = None, *, scheduled: bool = False) -> Snapshot:
        """Take a snapshot."""
        with closing(tracked(self.library)) as tracking, tracking.transaction():
            return store.take(tracking, at, name=name, scheduled=scheduled)


def tar_archive(*members: tuple[str, bytes]) -> bytes:
    """Return a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def build_week(root: Path) -> ExampleLibrary:
    """Return a library with 16 sessions and 5 snapshots. Two sessions are open, one is newer than the last snapshot."""
    example = ExampleLibrary(root)
    example.write(at(1, 1), at(1, 2), MEDIA[0], tar_archive(("home/notes", b"remember the milk\n" * 500)))
    for day in range(1, 5):
        for number, host in enumerate(HOSTS):
            data = bytes([64 + number]) * ((number + 1) * day * 7000)
            example.write(at(day, 3 + number), at(day, 3 + number, 30), MEDIA[number], data, host, drive=number)
        example.take_snapshot(at(day, 12), scheduled=True)
    example.open(at(5, 1), MEDIA[0], b"still going on " * 3000, "beta", program="mbuffer")
    example.open(at(5, 2), MEDIA[1], b"x" * 50000, "gamma", drive=1)
    example.take_snapshot(at(5, 3), "before the upgrade")
    example.write(at(5, 4), at(5, 5), MEDIA[2], b"later " * 10000, "alpha", program="pg_dump")
    return example
