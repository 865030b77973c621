"""The real program on real directories: a library of two small disks, what it prints, and what it must leave alone."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from vtlfs.disks.headers import Opening
from vtlfs.disks.local.disk import LocalDisk
from vtlfs.engine.library import create
from vtlfs.model import Access, Mount, Opener, Session, State, utc_now

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "vtlfs"]
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
UNIT = 4096
OPENING = Opening("T1", 0, Opener("alpha", 1, 0, 0, "tar"), "2026-01-31T09:30:00.000000Z", UNIT, 2)  # of all sessions
MACHINE = "machine"


class Shelf:
    """A library of two disks and two media, and the means to fill its books without a mount."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.disks = [root / "disk0", root / "disk1"]
        for disk in self.disks:
            disk.mkdir()
        self.library = create(root / "library", self.disks, drives=4, stripe_unit=UNIT, at=utc_now())
        self.path = str(self.library.path)
        with closing(self.library.tracking()) as tracking, tracking.transaction():
            tracking.media.add(["A00001L9", "A00002L9"], None, utc_now())

    def mount(self, host: str | None = None, mountpoint: str = "/mnt/vtl", options: str = "") -> int:
        """Write a mount into the books; nobody serves it."""
        mount = Mount(0, host, MACHINE, 4711, os.getuid(), mountpoint, options, "mounted", utc_now(), None)
        with closing(self.library.tracking()) as tracking, tracking.transaction():
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
        """Have a session open that has made `data` durable."""
        mount = self.mount() if mount is None else mount
        with closing(self.library.tracking()) as tracking, tracking.transaction():
            session = tracking.library.lease_sessions(1)[0]
            opener = Opener(host, 123, 0, 0, program)
            tracking.sessions.open(session, mount, opener, access, drive, barcode, UNIT, utc_now())
            tracking.sessions.record_progress(session, self._stripe(session, data), len(data), 1)
        return session

    def write(self, barcode: str, data: bytes, **more: object) -> Session:
        """Have a session write `data` and be released."""
        session = self.open(barcode, data, **more)  # type: ignore[arg-type]
        with closing(self.library.tracking()) as tracking:
            with tracking.transaction():
                tracking.sessions.release(session, State.RELEASED, None, utc_now())
            return tracking.sessions.get(session)

    def _stripe(self, session: int, data: bytes) -> list:
        disks = [LocalDisk(number, path, self.library.config.uuid) for number, path in enumerate(self.disks)]
        members = [disk.member(session, UNIT, OPENING) for disk in disks]
        units = []
        for unit, start in enumerate(range(0, len(data), UNIT)):
            piece = memoryview(data[start : start + UNIT])
            units.append(members[unit % 2].write(unit, unit // 2, [piece], 0, 0))
        for member in members:
            member.finish(None)
        return units


def tree(root: Path) -> dict[str, str]:
    """Return everything under a directory: names, kinds, rights, contents."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = ""
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(root))] = f"{status.st_mode:o} {content}"
    return found


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def run() -> Callable[..., subprocess.CompletedProcess]:
    """Return what runs vtlfs with arguments; `rights=False`: as somebody whom file modes bind, also for root."""

    def call(*arguments: object, rights: bool = True, **more: object) -> subprocess.CompletedProcess:
        prefix = [] if rights or os.geteuid() else WITHOUT_RIGHTS
        words = [*prefix, *PROGRAM, *(word if isinstance(word, bytes) else str(word) for word in arguments)]
        options = {"capture_output": True, "text": True, "timeout": 60, "cwd": PROJECT} | more
        return subprocess.run(words, **options)

    return call


@pytest.fixture
def done(run) -> Callable[..., str]:
    """Return what runs vtlfs, wants success and no complaint, and returns what was printed."""

    def call(*arguments: object, **more: object) -> str:
        result = run(*arguments, **more)
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout

    return call


@pytest.fixture
def refused(run, tmp_path: Path) -> Callable[..., str]:
    """Return what runs vtlfs, wants it to fail with one line and to change nothing, and returns the line."""

    def call(status: int, *arguments: object, **more: object) -> str:
        before = tree(tmp_path)
        result = run(*arguments, **more)
        assert result.returncode == status, result.stderr
        assert not result.stdout
        assert result.stderr.startswith("vtlfs: ")
        assert result.stderr.count("\n") == 1
        assert result.stderr.endswith("\n")
        assert tree(tmp_path) == before
        return result.stderr.removeprefix("vtlfs: ").removesuffix("\n")

    return call


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system without a free block."""
    where = tmp_path / "full"
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", where]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a full file system wants the right to mount a tmpfs")
    try:
        (where / "filler").write_bytes(bytes(65536))
        yield where
    finally:
        subprocess.run(["umount", where], check=True)
