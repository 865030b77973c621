"""A mounted `forgetful` file system."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blackout import Step
from mounting import SECONDS, wait_until

SERVER = Path(__file__).with_name("forgetful.py")


@contextmanager
def forgetful(mountpoint: Path, log: Path) -> Iterator[list[Step]]:
    """Mount a `forgetful` file system for the block. The list that this yields has the log afterwards."""
    words = [sys.executable, SERVER, mountpoint, log]
    serving = subprocess.Popen([str(word) for word in words])
    steps: list[Step] = []
    try:
        wait_until(lambda: serving.poll() is not None or os.path.ismount(mountpoint), "a file system that forgets")
        assert serving.poll() is None
        yield steps
        subprocess.run(["umount", mountpoint], check=True, timeout=SECONDS)
        assert serving.wait(SECONDS) == 0
        steps += pickle.loads(log.read_bytes())
    finally:
        subprocess.run(["umount", "-l", mountpoint], check=False, stderr=subprocess.DEVNULL)
        serving.kill()
        serving.wait()
