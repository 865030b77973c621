"""Measuring one run: seconds, processor time of the whole machine and of the serving process, memory."""

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

PAUSE_SECONDS = 0.3  # for what a file system does by itself after a file was removed
MB = 1e6
GB = 1e9


@dataclass(frozen=True)
class Sample:
    """What one run took. `rates`: of single streams, in bytes a second, where there are several."""

    bytes: int
    seconds: float
    machine_cpu: float  # seconds in which a processor of the machine was busy
    server_cpu: float = 0.0  # of these, of the process that serves the file system
    memory: int = 0  # the most that process has had, in bytes
    rates: tuple[float, ...] = ()

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.bytes / self.seconds


def measured(work: Callable[[], tuple[int, tuple[float, ...]]], pid: int | None) -> Sample:
    """Do the work, which returns its bytes and the rates of its streams, and say what it took."""
    server = psutil.Process(pid) if pid else None
    before, served = _busy(), _times(server)
    started = time.monotonic()
    size, rates = work()
    seconds = time.monotonic() - started
    return Sample(size, seconds, _busy() - before, _times(server) - served, _peak(pid), rates)


def settle() -> None:
    """Have everything written that waits to be, so that it does not disturb the next run."""
    os.sync()
    time.sleep(PAUSE_SECONDS)


def drop_caches() -> None:
    """Have the kernel forget what it has of files. Needs root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def together(commands: list[list[str]]) -> list[float]:
    """Run the commands at the same time, each of which must succeed; return the seconds that each took.

    None of them outlives an exception, KeyboardInterrupt for one: what they write to is to be unmounted.
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
                    raise RuntimeError(f"process {pid}, which serves what is measured, has ended")
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
    """Start a command in a process group of its own, with which it can be killed, and which Ctrl-C does not reach."""
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
