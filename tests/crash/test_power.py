"""The power is cut at each failpoint there is: what was not synced is gone, or is there in part. Nothing is lost.

`scenario.py` runs once on a `forgetful` file system, under the library and under its disks. Of each moment of that run
`blackout` then says what may be left; that is put in the place of the file system, and is to be a library that can be
recovered, or rebuilt, with everything that had been acknowledged until that moment.

VTLFS_CUTS=N in the environment: at every step instead of some, torn in N ways, and rebuilt, too.
"""

import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import scenario
from aftermath import Aftermath
from blackout import Disk, Mark, Step
from mounting import SECONDS, require_fuse, wait_until

from vtlfs import failpoints
from vtlfs.engine.library import Library

HERE = Path(__file__).parent
CUTS = int(os.environ.get("VTLFS_CUTS", "0"))


@contextmanager
def forgetful(mountpoint: Path, log: Path) -> Iterator[list[Step]]:
    """Mount a file system that forgets. The list has its log afterwards."""
    words = [sys.executable, HERE / "forgetful.py", mountpoint, log]
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


@dataclass
class Moments:
    """A run of the scenario, at any of its steps. `reached`: for each failpoint, the steps that got there."""

    place: Path
    log: list[Step]
    reached: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    promised: list[tuple[int, tuple]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, step in enumerate(self.log):
            if isinstance(step, Mark):
                kind, *rest = json.loads(step.text)
                if kind == "reached":
                    self.reached[rest[0]].append(number)
                else:
                    self.promised.append((number, (kind, *rest)))

    def disk(self, step: int) -> Disk:
        """Return the disk when this step was done."""
        disk = Disk()
        disk.play(self.log[: step + 1])
        return disk

    def after(self, disk: Disk, step: int, seed: str | None) -> Aftermath:
        """Cut the power behind a step, mount what is left, and return it. `seed`: it is torn in this way."""
        for path in self.place.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        disk.without_power(None if seed is None else random.Random(seed)).write_out(self.place)
        promised = [promise for number, promise in self.promised if number <= step]
        return Aftermath(self.place, promised, power_cut=True)


@pytest.fixture(scope="session")
def moments() -> Iterator[Moments]:
    """One run of the scenario. Its place is an ordinary directory, in memory where that can be had."""
    require_fuse()
    base = Path(tempfile.mkdtemp(prefix="vtlfs-power-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    place = base / "place"
    place.mkdir()
    try:
        with forgetful(place, base / "log") as log:
            done = subprocess.run([sys.executable, HERE / "scenario.py", "--marked", place], timeout=SECONDS, check=False)
            assert done.returncode == 0, (place / "output").read_text()
        yield Moments(place, log)
    finally:
        shutil.rmtree(base)


def some(steps: list[int], name: str) -> list[int]:
    """Return the steps of a failpoint to look at: the first, the last and one between that is always the same."""
    if CUTS:
        return steps
    between = random.Random(name).choice(steps)
    return sorted({steps[0], between, steps[-1]})


@pytest.mark.parametrize("name", failpoints.NAMES)
def test_nothing_is_lost_when_all_that_was_not_synced_is(moments: Moments, name: str):
    for step in some(moments.reached[name], name):
        moments.after(moments.disk(step), step, None).check()


@pytest.mark.parametrize("name", failpoints.NAMES)
def test_nothing_is_lost_when_anything_that_was_not_synced_may_be(moments: Moments, name: str):
    for step in some(moments.reached[name], name):
        for way in range(max(1, CUTS)):
            moments.after(moments.disk(step), step, f"{name} {step} {way}").check()
