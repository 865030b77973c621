"""The crowd: thousands of open, idle files beside the load, held by one process for each mount."""

import resource
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from mounting import random_bytes

from soak.plan import CROWD_READS, CROWD_WRITES, Stage
from vtlfs.engine.library import Library
from vtlfs.model import MIB

IDLE = Path(__file__).with_name("idle.py")
OTHERS = 100  # streams for which a mount sets descriptors aside for other uses
END_SECONDS = 600.0  # for a process to close all


class Crowds:
    """Open files of each mount, as many as planned for all together."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._processes: list[subprocess.Popen[str]] = []

    def start(self) -> None:
        """Begin to open files; return before all are open."""
        count = self.stage.plan.crowd // len(self.stage.mounts)
        if not count:
            return
        next(iter(self.stage.mounts.values())).medium(CROWD_READS).write_bytes(random_bytes(self.stage.plan.seed, MIB))
        writers = min(count, self._admitted())
        for mount in self.stage.mounts.values():
            words = [IDLE, mount.medium(CROWD_WRITES), mount.medium(CROWD_READS), writers, count]
            process = subprocess.Popen(
                [sys.executable, *map(str, words)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            self._processes.append(process)

    def _admitted(self) -> int:
        """Return how many writers a mount admits besides the load: each may come to hold two descriptors a disk."""
        _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        return max(0, limit // (2 * len(self.stage.library.disks)) - self.stage.plan.sessions - OTHERS)

    def join(self) -> None:
        """Close all files; check that all bytes written to them are there."""
        report, wanted = self.stage.report, 0
        for process in self._processes:
            try:
                said, errors = process.communicate(timeout=END_SECONDS)
            finally:
                process.kill()
            fine = (process.returncode, errors) == (0, "")
            report.want(fine, f"a crowd of idle files: status {process.returncode}, {said}{errors}")
            opened, size = map(int, said.split()) if fine else (0, 0)
            wanted += size
            report.count("idle files", opened)
        if self._processes:
            for mount in self.stage.mounts.values():  # which waits until every stream that was closed is released
                mount.medium(CROWD_WRITES).stat()
            with closing(Library.open(self.stage.library.path).tracking(read_only=True)) as tracking:
                written = tracking.media.get(CROWD_WRITES).bytes
            report.want(written == wanted, f"a crowd of idle files wrote {wanted} bytes, {written} are there")
