"""A library on real directories, and mounts of it that the real program serves."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import loaded
import pytest
from filling import tracked
from loaded import PROGRAM as PROGRAM
from loaded import PROJECT as PROJECT
from loaded import Forked

from vtlfs.engine.library import Library, create
from vtlfs.engine.reading.extract import extract
from vtlfs.engine.scrub.check import check
from vtlfs.logs import FILE as LOG
from vtlfs.model import MIB, Extent, Session, TapeFile, expand_barcodes, utc_now

SECONDS = 120.0  # the longest wait for anything that has to happen
ALARMING = re.compile(r"WARNING|ERROR|CRITICAL|Traceback")


def require_fuse() -> None:
    """Skip the test if this machine can't mount FUSE file systems; under CI, fail."""
    why = None
    if os.geteuid() != 0:
        why = "mount tests want root"
    elif not os.access("/dev/fuse", os.R_OK | os.W_OK):
        why = "there is no usable /dev/fuse"
    if why and os.environ.get("CI"):
        pytest.fail(f"{why}, and CI refuses to skip")
    if why:
        pytest.skip(why)


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until the condition returns a true value; return that value."""
    deadline = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)
    return value


def random_bytes(seed: int, size: int) -> bytes:
    """Return random bytes: the same for the same arguments, and different for different seeds."""
    return random.Random(seed).randbytes(size)


def shell(script: str, *, status: int = 0, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a shell script; it must end with the status."""
    options = {"capture_output": True, "text": True, "timeout": SECONDS} | more
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], check=False, **options)
    assert done.returncode == status, f"{script}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done


class Mounted:
    """A mount, and the process that serves it."""

    def __init__(self, path: Path, pid: int, log: Path) -> None:
        self.path = path
        self.pid = pid
        self.log = log
        self.process: Forked | subprocess.Popen[bytes] | None = None
        self.has_ended = False

    def medium(self, barcode: str) -> Path:
        """Return the path of the medium under /media, by which the mount chooses the drive."""
        return self.path / "media" / barcode

    def drive(self, number: int, barcode: str) -> Path:
        """Return the path of the medium through a drive."""
        return self.path / "drives" / str(number) / barcode

    def file(self, barcode: str, number: int) -> Path:
        """Return the path of a tape file."""
        return self.path / "files" / barcode / f"{number:04d}"

    def session(self, number: int) -> dict[str, Any]:
        """Return the text of a session's file in /sessions."""
        document: dict[str, Any] = json.loads((self.path / "sessions" / str(number)).read_text())
        return document

    def said(self) -> str:
        """Return the log of the mount; empty if the log goes to syslog."""
        return self.log.read_text() if self.log.exists() else ""

    def kill(self) -> None:
        """Kill the serving process, and leave the dead mount."""
        self.stop(signal.SIGKILL)

    def stop(self, number: signal.Signals) -> int | None:
        """Send a signal and wait until the process ends. Return the exit status of a mount in the foreground."""
        os.kill(self.pid, number)
        self.has_ended = True
        return self.ended()

    def ended(self) -> int | None:
        """Wait until the process ends. Return the exit status of a mount in the foreground."""
        if self.process is not None:
            return self.process.wait(SECONDS)
        wait_until(self._is_gone, "the end of the serving process")
        return None

    def _is_gone(self) -> bool:
        """Tell whether the process has ended, even if nobody has asked for its status yet."""
        try:
            return ") Z " in Path(f"/proc/{self.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True


class OnDisks:
    """A library on disks that are directories."""

    serving = PROGRAM  # the command that serves a mount in the foreground; PROGRAM itself: without its start (`loaded`)

    def __init__(
        self,
        root: Path,
        disks: int | Sequence[Path] = 2,
        *,
        media: str = "T1..T9",
        unit: int = MIB,
        parity: int = 0,
    ) -> None:
        self.root = root
        self.path = root / "library"
        self.disks = [root / f"disk{number}" for number in range(disks)] if isinstance(disks, int) else list(disks)
        for disk in self.disks:
            disk.mkdir(exist_ok=True)
        create(self.path, self.disks, drives=4, stripe_unit=unit, parity=parity, at=utc_now())
        self.add(media)

    def vtlfs(self, *words: object, status: int | None = 0) -> str:
        """Run the program, which must end with the status (None: any). Return its output, unless 0 with its errors."""
        done = loaded.run([os.fspath(word) if isinstance(word, Path) else str(word) for word in words], timeout=SECONDS)
        assert status in (None, done.returncode), f"{words}: status {done.returncode}: {done.stderr}"
        return str(done.stdout if status == 0 else done.stdout + done.stderr)

    def add(self, *barcodes: str, capacity: int | None = None) -> None:
        """Add media, by the program's own function: quicker than the program."""
        with closing(tracked(Library.open(self.path))) as tracking, tracking.transaction():
            tracking.media.add(expand_barcodes(barcodes), capacity, utc_now())

    def checkpoint_every(self, time: str) -> None:
        """Change how often a mount that begins from now on makes the progress of its streams durable."""
        config = self.path / "library.toml"
        text = config.read_text()
        assert 'checkpoint = "5s"' in text
        config.write_text(text.replace('checkpoint = "5s"', f'checkpoint = "{time}"'))

    def listed(self, *options: object) -> list[dict[str, Any]]:
        """Return the sessions that `vtlfs sessions --json` lists."""
        found: list[dict[str, Any]] = json.loads(self.vtlfs("sessions", self.path, "--json", *options))
        return found

    def session(self, number: int) -> Session:
        """Return a session, as the tracking database has it."""
        with closing(Library.open(self.path).tracking(read_only=True)) as tracking:
            return tracking.sessions.get(number)

    def tape_files(self, barcode: str) -> list[TapeFile]:
        """Return a medium's tape files, as the tracking database has them."""
        with closing(Library.open(self.path).tracking(read_only=True)) as tracking:
            return tracking.tape_files.of(barcode)

    def extents(self, barcode: str, number: int) -> list[Extent]:
        """Return the extents of a tape file."""
        with closing(Library.open(self.path).tracking(read_only=True)) as tracking:
            return tracking.extents.of(tracking.tape_files.get(barcode, number).session, 0, 1 << 30)

    def disk_fault(self, number: int) -> str | None:
        """Return the recorded fault of a disk; None without one."""
        with closing(Library.open(self.path).tracking(read_only=True)) as tracking:
            return next(disk.fault for disk in tracking.disks.ever() if disk.number == number)

    def extract(self, barcode: str, number: int | None = None) -> bytes:
        """Extract a tape file or medium by the program's own function, which is quicker than the program."""
        pieces: list[bytes] = []
        extract(Library.open(self.path), barcode, number, lambda piece: pieces.append(bytes(piece)), lambda _: None)
        return b"".join(pieces)

    def extracted(self, barcode: str, number: int | None = None) -> bytes:
        """Return the output of `vtlfs extract`."""
        words = [*PROGRAM, "extract", str(self.path), barcode, *([] if number is None else [str(number)])]
        return subprocess.run(words, capture_output=True, timeout=SECONDS, cwd=PROJECT, check=True).stdout

    def check(self) -> None:
        """Assert that `vtlfs check` finds no damage."""
        damage = [str(finding) for finding in check(Library.open(self.path)).findings if finding.damage]
        assert not damage, "\n".join(damage)

    @contextmanager
    def mounted(
        self,
        options: str = "",
        *,
        at: Path | None = None,
        background: bool = False,
        expects: Sequence[str] = (),
        allows: Sequence[str] = (),
        checked: bool = True,
    ) -> Iterator[Mounted]:
        """Mount the library for the block, then unmount it. Assert a clean end, a quiet log and a sound database.

        `expects`: texts that the warnings and errors in the log must contain; a line without any of these texts, or of
        those in `allows`, fails the test. `checked`: the disks must be there and whole at the end.
        """
        path = self.root / "mnt" if at is None else at
        with suppress(FileExistsError):
            path.mkdir()
        mounted = self._start(path, options, background=background)
        try:
            yield mounted
            if not mounted.has_ended:
                self.vtlfs("umount", path)
                assert mounted.ended() in (0, None)
            assert not os.path.ismount(path)
            check_log(mounted.said(), expects, allows)
            if checked:
                self.check()
        except BaseException:
            sys.stderr.write(mounted.said())
            raise
        finally:
            clean_up(mounted)

    def _start(self, path: Path, options: str, *, background: bool) -> Mounted:
        words = ["mount", str(self.path), str(path), *(["-o", options] if options else [])]
        if background:
            assert self.vtlfs(*words) == ""
            log = self.path / LOG
            with closing(Library.open(self.path).tracking(read_only=True)) as tracking:
                pid = next(mount.pid for mount in tracking.mounts.live() if mount.mountpoint == os.path.realpath(path))
            return Mounted(path, pid, log)
        log = self.root / f"mount-{time.monotonic_ns()}.log"
        words.append("--foreground")
        with open(log, "wb") as output:
            if self.serving is PROGRAM:
                process = loaded.start_mount(words, output.fileno())
            else:
                process = subprocess.Popen([*self.serving, *words], stdout=output, stderr=output, cwd=PROJECT)
        mounted = Mounted(path, process.pid, log)
        mounted.process = process
        try:
            wait_until(lambda: process.poll() is not None or " is mounted " in log.read_text(), "a live mount")
            assert process.poll() is None, log.read_text()
        except BaseException:
            clean_up(mounted)
            raise
        return mounted


Shared = tuple[OnDisks, Mounted, Iterator[str], str]  # shared by many tests: library, mount, unused barcodes, I/O mode


@dataclass(frozen=True)
class Tape:
    """A medium that no other test uses, on a mount that others use too."""

    library: OnDisks
    mounted: Mounted
    barcode: str
    io: str

    @property
    def path(self) -> Path:
        """The medium's path."""
        return self.mounted.medium(self.barcode)

    def streams(self) -> list[bytes]:
        """Return the tape files. Assert that /files, /media, /drives and `vtlfs extract` return the same bytes."""
        folder = self.mounted.path / "files" / self.barcode
        names = sorted(entry.name for entry in folder.iterdir())
        assert names == [f"{number:04d}" for number in range(len(names))]
        streams = [(folder / name).read_bytes() for name in names]
        whole = b"".join(streams)
        assert self.path.read_bytes() == whole
        assert self.mounted.drive(1, self.barcode).read_bytes() == whole
        assert self.path.stat().st_size == len(whole)
        assert self.library.extract(self.barcode) == whole
        return streams


def check_log(text: str, expects: Sequence[str], allows: Sequence[str] = ()) -> None:
    """Assert that each expected text is in the log's warnings and errors, and that these have no other lines."""
    alarming = [line for line in text.splitlines() if ALARMING.search(line)]
    unexpected = [line for line in alarming if not any(word in line for word in (*expects, *allows))]
    assert not unexpected, text
    missing = [word for word in expects if not any(word in line for line in alarming)]
    assert not missing, text


def clean_up(mounted: Mounted) -> None:
    """End the process and the mount, whatever has gone wrong."""
    if mounted.process is not None:
        mounted.process.kill()
        # A thread of the mount that waits for an answer of the mount itself keeps a dead process until that is aborted.
        while str(mounted.path) in mountpoints():
            subprocess.run(["umount", "-f", "-l", mounted.path], check=True)
        mounted.process.wait()
    elif not mounted.has_ended:
        with suppress(ProcessLookupError, FileNotFoundError):
            if Path(f"/proc/{mounted.pid}/cmdline").read_bytes().count(b"vtlfs"):
                os.kill(mounted.pid, signal.SIGKILL)
    while str(mounted.path) in mountpoints():
        subprocess.run(["umount", "-l", mounted.path], check=True)


def mountpoints() -> list[str]:
    """Return where vtlfs is mounted, dead or alive."""
    lines = os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).split("\n")
    fields = [line.split(" ")[4] for line in lines if " - fuse.vtlfs " in line]
    return [re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), field) for field in fields]
