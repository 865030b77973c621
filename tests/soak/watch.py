"""Watches the processes of the mounts from outside, and reads what `observed` records about them."""

import json
import re
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mounting import Mounted

from soak.plan import DISKS, MAX_RESIDENT, Stage
from vtlfs.engine.library import Library
from vtlfs.model import MIB

EVERY_SECONDS = 0.5
SETTLE_SECONDS = 60.0
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
NAMES_AND_INODES = "2"
SPARE = (
    "/tracking.db"  # SQLite keeps those of connections that were closed, and uses them again: a copy needs one a disk
)
NUMBERED = re.compile(r"\[\d+\]| \(deleted\)$")
THREADS = re.compile(  # what an idle mount may have, see docs/architecture.md
    r"MainThread|committer|mark\.\d+|disk\d+\.(write|sync|read|probe)\.\d+|figures\.1|identify\.\d+|copy.*"
    r"|Thread-\d+ \(observe\)|Trio thread .*"
)


@dataclass(frozen=True)
class Held:
    """The resources of a mount at one moment. `objects`: None unless the mount was idle."""

    descriptors: Counter[str]
    inodes: int
    handles: int
    sessions: int
    threads: list[str]
    objects: dict[str, int] | None


class Watch:
    """A thread that samples the mounts as long as they live."""

    def __init__(self, stage: Stage, observed: Path) -> None:
        self.stage = stage
        self._observed = observed
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._idle: dict[str, Held] = {}

    def start(self) -> None:
        """Remember what the mounts have while they are idle, and begin."""
        self._idle = {host: self._settled(host, None) for host in self.stage.mounts}
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        with closing(Library.open(self.stage.library.path).tracking(read_only=True)) as tracking:
            while not self._ended.wait(EVERY_SECONDS):
                for host, mount in self.stage.mounts.items():
                    self._sample(host, mount)
                [(count,)] = tracking.sql.execute(
                    "SELECT count(*) FROM session WHERE state = 'open' AND access = 'write'"
                )
                self.stage.report.peak("open sessions", count)

    def _sample(self, host: str, mount: Mounted) -> None:
        peak = self.stage.report.peak
        with suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{mount.pid}/status").read_text()
            for name, scale in (("VmHWM", 1024), ("Threads", 1)):
                found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
                if found:
                    peak(f"{name} {host}", int(found[1]) * scale)
            peak(f"descriptors {host}", len(list(Path(f"/proc/{mount.pid}/fd").iterdir())))
            peak(f"inodes {host}", self._said(mount)["inodes"])

    def conclude(self) -> None:
        """Check that the mounts are as idle as before the load, and that their resources were bounded all the time."""
        report = self.stage.report
        for host in self.stage.mounts:
            idle, held = self._idle[host], self._settled(host, self._idle[host])
            for problem in differences(idle, held):
                report.problem(f"mount {host}, when all was over: {problem}")
            peaks = {name.split()[0]: int(value) for name, value in report.peaks.items() if name.endswith(f" {host}")}
            resident = peaks.get("VmHWM", 0)
            report.want(resident <= MAX_RESIDENT, f"mount {host}: {resident // MIB} MiB resident")
            for name, before, peak, after in (
                ("descriptors", idle.descriptors.total(), peaks.get("descriptors"), held.descriptors.total()),
                ("inodes", idle.inodes, peaks.get("inodes"), held.inodes),
                ("threads", len(idle.threads), peaks.get("Threads"), len(held.threads)),
            ):
                report.line(f"{name}, {host}", f"{before} before, {peak} at most, {after} after")
            report.line(f"resident, {host}", f"{resident / MIB:.0f} MiB at most")

    def _settled(self, host: str, like: Held | None) -> Held:
        """Let the kernel forget inodes; return the mount's resources once they are as before, or the time is up."""
        mount, deadline = self.stage.mounts[host], time.monotonic() + SETTLE_SECONDS
        while True:
            forget_names()
            time.sleep(1.5)  # it writes down what it has every half second
            held = self._held(mount)
            late = self.stage.stopped.is_set() or time.monotonic() > deadline
            if late or like is None or not differences(like, held):
                return held

    def _held(self, mount: Mounted) -> Held:
        said = self._said(mount)
        targets: Counter[str] = Counter()
        for entry in Path(f"/proc/{mount.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                targets[NUMBERED.sub("", str(entry.readlink()))] += 1
        return Held(
            targets, said["inodes"], said["handles"], said["sessions"], said["threads"], said.get("objects", None)
        )

    def _said(self, mount: Mounted) -> dict[str, Any]:
        """Return what `observed` last recorded about the mount."""
        path = self._observed / str(mount.pid)
        for _ in range(100):
            with suppress(FileNotFoundError):
                said: dict[str, Any] = json.loads(path.read_text())
                return said
            time.sleep(0.1)
        raise FileNotFoundError(path)


def differences(idle: Held, held: Held) -> list[str]:
    """Return the resources that exist now and did not when the mount was idle."""
    more = held.descriptors - idle.descriptors
    more -= Counter({target: DISKS for target in more if target.endswith(SPARE)})
    left = [f"descriptor of {target} is left" for target in more.elements()]
    left += [f"{held.inodes} inodes, {idle.inodes} before"] * (held.inodes > idle.inodes)
    left += [f"{held.handles} open files are left"] * bool(held.handles)
    left += [f"{held.sessions} sessions are left"] * bool(held.sessions)
    left += [f"thread {name} is left" for name in held.threads if not THREADS.fullmatch(name)]
    if held.objects is None or any(held.objects.values()):
        left.append(f"objects are left: {held.objects}")
    return left


def forget_names() -> None:
    """Let the kernel drop unused names and inodes, so that it tells the mounts to forget them."""
    DROP_CACHES.write_text(NAMES_AND_INODES)
