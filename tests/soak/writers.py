"""Writers: real programs, each of which is fed a stream; and the ledger of what each of them was given."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from soak.plan import Stage
from soak.streams import Archive, Content, Made, any_size
from vtlfs.engine.jobs.rate_limit import RateLimit
from vtlfs.model import Session, utc_now

FSYNCING = Path(__file__).with_name("fsyncing.py")
CHUNK = 1 << 18
SLOW_STEPS = 20
END_SECONDS = 300.0  # for a program to end that has been given everything
COPIES = 'exec 3>"$0" 4>&3; head -c 100000 >&3; exec 3>&-; dd bs=64k count=8 iflag=fullblock status=none >&4; cat >&4'

KINDS: dict[str, list[str]] = {  # {} is the path; all but the last are fed
    "dd bs=10k": ["dd", "bs=10k", "iflag=fullblock", "status=none", "of={}"],
    "dd bs=1M": ["dd", "bs=1M", "iflag=fullblock", "status=none", "of={}"],
    "dd conv=fsync": ["dd", "bs=64k", "iflag=fullblock", "status=none", "conv=fsync", "of={}"],
    "cat >": ["bash", "-c", 'exec cat >"$0"', "{}"],
    "cat >>": ["bash", "-c", 'exec cat >>"$0"', "{}"],
    "copies of one descriptor": ["bash", "-c", COPIES, "{}"],
    "fsync() now and then": [sys.executable, "-I", "-S", str(FSYNCING), "{}"],
    "tar": [],
}


@dataclass
class Written:
    """One stream: its expected content, and how far its program came."""

    kind: str
    host: str
    medium: str
    content: Content
    begun_at: str
    pid: int = 0
    fed: int = 0  # bytes that the program was given
    acknowledged: int = 0  # bytes that fsync() or the exit status 0 has acknowledged
    killed: bool = False
    ended_at: str = "9"

    def __str__(self) -> str:
        return f"{self.kind} of {self.content.size} bytes to {self.medium} through {self.host}, pid {self.pid}"


@dataclass
class Ledger:
    """All streams. Threads of writers add, others look up by session."""

    all: list[Written] = field(default_factory=list)
    _by_place: dict[tuple[str, str, int], list[Written]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, written: Written) -> None:
        """Add a stream whose program has just been started."""
        with self._lock:
            self.all.append(written)
            self._by_place[written.host, written.medium, written.pid].append(written)

    def of(self, session: Session) -> Written | None:
        """Return the stream of a session: that of the process which opened it, through its mount."""
        with self._lock:
            for written in self._by_place[session.host, session.medium, session.pid]:
                if written.begun_at <= session.opened_at <= written.ended_at:
                    return written
        return None


class Writers:
    """Keeps a number of writers running, each fed by a thread, until the time is up."""

    def __init__(self, stage: Stage, ledger: Ledger) -> None:
        self.stage = stage
        self.ledger = ledger
        self.archive = Archive(stage.plan.root)
        self._chance = random.Random(stage.plan.seed)
        self._rate_limit = RateLimit(int(stage.plan.size / stage.plan.seconds), time.monotonic)
        self._lock = threading.Lock()
        self._made = 0
        self._running: set[subprocess.Popen[bytes]] = set()
        self._threads = [threading.Thread(target=self._work) for _ in range(stage.plan.sessions)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until the last stream has ended."""
        for thread in self._threads:
            thread.join()

    def kill(self) -> None:
        """End all programs at once."""
        with self._lock:
            for process in self._running:
                _kill(process)

    def _work(self) -> None:
        while not self.stage.over.is_set():
            written, path, seconds, dies_after, slowly = self._next()
            try:
                self._run(written, path, seconds, dies_after, slowly=slowly)
            except Exception as error:
                self.stage.report.problem(f"{written}: {error!r}")

    def _next(self) -> tuple[Written, Path, float, float, bool]:
        """Choose a stream: its content, medium, duration, how it is fed, and after which part its program is killed."""
        plan, chance = self.stage.plan, self._chance
        with self._lock:
            self._made += 1
            kind = chance.choice(list(KINDS))
            content: Content = Made(plan.seed * 1_000_000 + self._made, any_size(chance, plan.average))
            if kind == "tar":
                content = self.archive
            host, barcode = chance.choice(list(self.stage.mounts)), chance.choice(plan.barcodes)
            mount = self.stage.mounts[host]
            path = mount.medium(barcode) if chance.random() < 0.5 else mount.drive(chance.randrange(4), barcode)
            dies_after = chance.random() if chance.random() < 0.06 else 2.0
            seconds = self._rate_limit.take(content.size)
            return Written(kind, host, barcode, content, utc_now()), path, seconds, dies_after, chance.random() < 0.6

    def _run(self, written: Written, path: Path, seconds: float, dies_after: float, *, slowly: bool) -> None:
        words = [word.format(path) for word in KINDS[written.kind]] or self.archive.command(path, seconds)
        written.begun_at = utc_now()
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            written.pid = process.pid
            self.ledger.add(written)
            with self._lock:
                self._running.add(process)
            try:
                self._feed(written, process, seconds, dies_after, slowly=slowly)
                said, errors = process.communicate(timeout=END_SECONDS)
            except BaseException:
                _kill(process)
                raise
            finally:
                with self._lock:
                    self._running.discard(process)
        written.ended_at = utc_now()
        self._conclude(written, process.returncode, said, errors)

    def _feed(
        self, written: Written, process: "subprocess.Popen[bytes]", seconds: float, dies_after: float, *, slowly: bool
    ) -> None:
        """Give the program its stream: evenly over the seconds, or in two bursts."""
        assert process.stdin is not None
        size = written.content.size if KINDS[written.kind] else 0
        if not size and dies_after < 1:
            self._pause(dies_after / 100)
        steps = SLOW_STEPS if slowly else 2
        with suppress(BrokenPipeError):
            for step in range(steps):
                end = size * (step + 1) // steps
                while written.fed < end and written.fed <= size * dies_after:
                    piece = written.content.piece(written.fed, min(end, written.fed + CHUNK))
                    process.stdin.write(piece)
                    process.stdin.flush()
                    written.fed += len(piece)
                if written.fed > size * dies_after or (not size and dies_after < 1):
                    written.killed = True
                    _kill(process)
                    break
                if step < steps - 1:
                    self._pause(seconds / (steps - 1))
        if not KINDS[written.kind]:
            written.fed = written.content.size

    def _conclude(self, written: Written, status: int, said: bytes, errors: bytes) -> None:
        """Note what the program promised."""
        report = self.stage.report
        report.count("streams")
        report.count("killed", written.killed)
        lengths = said.decode().split("\n")[:-1]
        written.acknowledged = int(lengths[-1]) if lengths else 0
        if not written.killed:
            written.acknowledged = written.content.size
            report.want((status, errors) == (0, b""), f"{written}: exit status {status}, {errors.decode()}")

    def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until all are to stop."""
        self.stage.stopped.wait(seconds)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill the program and those that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
