"""A library that is filled without a mount, and the types of the fixtures that run the program on it."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from filling import deal, tracked

from vtlfs.disks.headers import Opening
from vtlfs.engine.library import create
from vtlfs.model import Access, Mount, Opener, Session, State, utc_now

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "vtlfs"]
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
UNIT = 4096
OPENING = Opening("T1", 0, Opener("alpha", 1, 0, 0, "tar"), "2026-01-31T09:30:00.000000Z", UNIT)  # of all sessions
MACHINE = "machine"

Run = Callable[..., subprocess.CompletedProcess[Any]]  # of text, or with `text=False` of bytes
Done = Callable[..., str]
Refused = Callable[..., str]


class Shelf:
    """A library of two media, as a rule on two disks, and the means to fill its database without a mount."""

    def __init__(self, root: Path, disks: int = 2, parity: int = 0) -> None:
        self.root = root
        self.disks = [root / f"disk{number}" for number in range(disks)]
        for disk in self.disks:
            disk.mkdir()
        self.library = create(root / "library", self.disks, drives=4, stripe_unit=UNIT, parity=parity, at=utc_now())
        self.path = str(self.library.path)
        with closing(tracked(self.library)) as tracking, tracking.transaction():
            tracking.media.add(["A00001L9", "A00002L9"], None, utc_now())

    def mount(self, host: str | None = None, mountpoint: str = "/mnt/vtl", options: str = "") -> int:
        """Record a mount that nobody serves."""
        mount = Mount(0, host, MACHINE, 4711, os.getuid(), mountpoint, options, "mounted", utc_now(), None)
        with closing(tracked(self.library)) as tracking, tracking.transaction():
            return tracking.mounts.add(mount)

    def open(
        self,
        barcode: str,
        data: bytes = b"",
        *,
        mount: int | None = None,
        host: str = "alpha",
        drive: int = 0,
        program: str = "tar",
        access: Access = Access.WRITE,
    ) -> int:
        """Open a session that has made `data` durable; return its identifier."""
        mount = self.mount() if mount is None else mount
        with closing(tracked(self.library)) as tracking, tracking.transaction():
            session = tracking.library.take_sessions(1)[0]
            opener = Opener(host, 123, 0, 0, program)
            tracking.sessions.open(
                session, mount, opener, access, drive, barcode, UNIT, utc_now(), parity=self.library.config.parity
            )
            extents = deal(self.library, session, replace(OPENING, parity=self.library.config.parity), data)
            tracking.sessions.record_progress(session, extents, len(data), 1)
        return session

    def write(self, barcode: str, data: bytes, **more: Any) -> Session:
        """Write `data` in a session, and release the session."""
        return self.release(self.open(barcode, data, **more))

    def release(self, session: int) -> Session:
        """Release a session."""
        with closing(tracked(self.library)) as tracking:
            with tracking.transaction():
                tracking.sessions.release(session, State.RELEASED, None, utc_now())
            return tracking.sessions.get(session)
