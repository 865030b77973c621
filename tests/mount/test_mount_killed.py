"""A mount that is killed while it waits for an answer of its own file system ends all the same.

strace delays each answer of the mount to the kernel, so that the kill comes while one is owed.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mounting import PROGRAM, PROJECT, SECONDS, OnDisks, mountpoints, wait_until

ANSWER = "writev("  # by which pyfuse3 answers; the first one answers FUSE_INIT


@contextmanager
def traced(library: OnDisks, log: Path) -> Iterator[int]:
    """Mount in the foreground with answers that take a second each. Yields the serving process; unmounts by force."""
    mountpoint = library.root / "mnt"
    mountpoint.mkdir()
    delay = "inject=writev:delay_enter=1000000"
    words: list[str | Path] = ["strace", "-f", "-o", log, "-e", "trace=writev", "-e", delay, *PROGRAM, "mount", "-f"]
    tracer = subprocess.Popen([*words, library.path, mountpoint], cwd=PROJECT, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: str(mountpoint) in mountpoints(), "the mount")
        yield next(mount for mount in children(tracer.pid) if b"mount" in Path(f"/proc/{mount}/cmdline").read_bytes())
    finally:
        while str(mountpoint) in mountpoints():
            subprocess.run(["umount", "-f", "-l", mountpoint], check=True)
        tracer.wait(SECONDS)


def children(process: int) -> list[int]:
    """Return the child processes of a process."""
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def kill(serving: int) -> None:
    """Kill the process, and assert that it ends before anybody unmounts."""
    os.kill(serving, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{serving}").exists(), "the end of the killed process")


def test_a_mount_killed_at_its_start_ends(library: OnDisks, tmp_path: Path) -> None:
    """A mount reports that it is there when it has answered a request of its own."""
    log = tmp_path / "strace"
    with traced(library, log) as serving:
        wait_until(lambda: log.read_text().count(ANSWER) >= 2, "an answer that is on its way")
        kill(serving)


def test_a_mount_killed_while_it_stops_ends(library: OnDisks, tmp_path: Path) -> None:
    """A mount that is told to stop asks the kernel for the pages that it has not sent."""
    log = tmp_path / "strace"
    with traced(library, log) as serving:
        os.stat(library.root / "mnt")
        wait_until(lambda: not children(serving), "the end of the start")
        answers = log.read_text().count(ANSWER)
        os.kill(serving, signal.SIGTERM)
        wait_until(lambda: log.read_text().count(ANSWER) > answers, "an answer that is on its way")
        kill(serving)
