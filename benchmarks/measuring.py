"""Measures one run: seconds, processor time of the whole machine and of the serving process, and memory."""

import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.interruptions import impatience

PAUSE_SECONDS = 0.3  # for the background work of a file system after a file was removed
MB = 1e6
GB = 1e9


@dataclass(frozen=True)
class Sample:
    """What one run took. `rates`: of each stream, in bytes a second, where there are several streams."""

    bytes: int
    seconds: float
    machine_cpu: float  # processor seconds of the whole machine
    server_cpu: float = 0.0  # those of the process that serves the file system, among these
    memory: int = 0  # peak memory of the serving process, in bytes
    rates: tuple[float, ...] = ()

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.bytes / self.seconds


def measured(work: Callable[[], tuple[int, tuple[float, ...]]], pid: int | None) -> Sample:
    """Do the work, which returns its bytes and the rates of its streams; return what the work took."""
    server = psutil.Process(pid) if pid else None
    before, served = _busy(), _times(server)
    started = time.monotonic()
    size, rates = work()
    seconds = time.monotonic() - started
    return Sample(size, seconds, _busy() - before, _times(server) - served, _peak(pid), rates)


def write_out() -> None:
    """Write out all dirty pages, so that they do not disturb the next run."""
    os.sync()
    time.sleep(PAUSE_SECONDS)


def drop_caches() -> None:
    """Drop the kernel's caches of files. Needs root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def together(commands: list[list[str]]) -> list[float]:
    """Run the commands at the same time, each of which must succeed; return the seconds that each took.

    After an exception, such as KeyboardInterrupt, all of them are killed, so that the mount that they use can be
    unmounted.
    """
    started = time.monotonic()
    running: list[subprocess.Popen[bytes]] = []
    took: dict[int, float] = {}
    try:
        with impatience():
            for words in commands:
                running.append(_start(words))
            while len(took) < len(running):
                pid, status = os.wait()
                process = next((process for process in running if process.pid == pid), None)
                if process is None:
                    raise RuntimeError(f"process {pid}, which serves the mount that is measured, has ended")
                process.returncode = os.waitstatus_to_exitcode(status)
                took[pid] = time.monotonic() - started
                if process.returncode:
                    said = process.stderr.read().decode(errors="replace") if process.stderr else ""
                    raise RuntimeError(f"{' '.join(process.args)}: {said}")  # type: ignore[arg-type]
    finally:
        for process in running:
            _end(process)
    return [took[process.pid] for process in running]


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def _start(words: list[str]) -> subprocess.Popen[bytes]:
    """Start a command in its own process group, which can be killed as a whole, and which Ctrl-C does not reach."""
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, process_group=0)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stderr:
        process.stderr.close()


def _busy() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def _times(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


def _peak(pid: int | None) -> int:
    if pid is None:
        return 0
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
