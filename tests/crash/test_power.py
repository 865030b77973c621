"""The power is cut at each failpoint: unsynced changes are gone, or there in part. No acknowledged byte is lost.

`scenario.py` runs once with the library and its disks on a `forgetful` file system; so does
`scenario_of_disks.py`. For each moment of the run, `blackout` then computes what may be left. These remains replace
the file system, and must be a library that can be recovered, or rebuilt, with everything that had been acknowledged
until that moment.

VTLFS_CUTS=N in the environment: cut at every occurrence of a failpoint instead of some, and tear in N ways.
"""

import json
import os
import random
import shutil
import stat
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from blackout import ROOT, Disk, Make, Mark, Step, Sync
from mounting import require_fuse
from powerless import forgetful
from serving import OF_DISKS, SCENARIO, Server
from test_failpoints import NAMES, NAMES_OF_DISKS

CUTS = int(os.environ.get("VTLFS_CUTS", "0"))


@dataclass
class Moments:
    """A run of the scenario, at any of its steps. `reached`: for each failpoint, the steps that got there."""

    place: Path
    log: list[Step]
    server: Server
    scenario: str
    reached: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    promised: list[tuple[int, tuple[Any, ...]]] = field(default_factory=list)

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

    def examine(self, disk: Disk, step: int, seed: str | None, *checks: str, **options: object) -> None:
        """Cut the power after a step, and check the aftermath. `seed` chooses which unsynced changes survive."""
        for path in self.place.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        disk.without_power(None if seed is None else random.Random(seed)).write_out(self.place)
        promised = [promise for number, promise in self.promised if number <= step]
        self.server.examine(self.scenario, self.place, *checks, of={"promised": promised, "power_cut": True}, **options)


@pytest.fixture(scope="session")
def moments(server: Server) -> Iterator[Moments]:
    """One run of `scenario.py`."""
    with lived(server, SCENARIO) as found:
        yield found


@pytest.fixture(scope="session")
def moments_of_disks(server: Server) -> Iterator[Moments]:
    """One run of `scenario_of_disks.py`."""
    with lived(server, OF_DISKS) as found:
        yield found


@contextmanager
def lived(server: Server, scenario: str) -> Iterator[Moments]:
    """Run a scenario, with its remains in an ordinary directory, in memory if possible."""
    require_fuse()
    base = Path(tempfile.mkdtemp(prefix="vtlfs-power-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    place = base / "place"
    place.mkdir()
    try:
        with forgetful(place, base / "log") as log:
            assert server.run(scenario, place, marked=True) == 0, (place / "output").read_text()
        yield Moments(place, log, server, scenario)
    finally:
        shutil.rmtree(base)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_when_all_that_was_not_synced_is(moments: Moments, name: str) -> None:
    steps = moments.reached[name]
    for step in steps if CUTS else sorted({steps[0], steps[-1]}):
        moments.examine(moments.disk(step), step, None)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_when_anything_that_was_not_synced_may_be(moments: Moments, name: str) -> None:
    for step, seed in torn(name, moments.reached[name], 2):
        moments.examine(moments.disk(step), step, seed, by_mount=bool(step % 2))


@pytest.mark.parametrize("name", NAMES)
def test_lost_database_is_rebuilt_after_a_power_cut(moments: Moments, name: str) -> None:
    for step, seed in torn(name, moments.reached[name], 1):
        moments.examine(moments.disk(step), step, seed, "check_rebuilt")


@pytest.mark.parametrize("name", NAMES_OF_DISKS)
def test_disks_come_and_go_although_the_power_fails(moments_of_disks: Moments, name: str) -> None:
    loses_all = not CUTS and NAMES_OF_DISKS.index(name) % 2  # every other failpoint, to save time
    for step, seed in torn(name, moments_of_disks.reached[name], 1):
        way = None if loses_all else seed
        moments_of_disks.examine(moments_of_disks.disk(step), step, way, by_mount=bool(step % 2))


def torn(name: str, steps: list[int], count: int) -> list[tuple[int, str]]:
    """Return the steps after which the power is cut, each with a seed for `blackout`; always the same ones."""
    chosen = steps if CUTS else random.Random(name).sample(steps, min(count, len(steps)))
    return [(step, f"{name} {steps.index(step)} {way}") for step in chosen for way in range(max(1, CUTS))]


@pytest.mark.parametrize("kind", ["files", "directories"])
def test_program_that_does_not_sync_would_be_found_out(moments: Moments, kind: str) -> None:
    """If the syncs of the run are left out, of files or of directories, the tests fail: so they can fail."""
    directories = {step.inode for step in moments.log if isinstance(step, Make) and stat.S_ISDIR(step.mode)} | {ROOT}
    disk, step = Disk(), moments.promised[-1][0]
    disk.play(
        one
        for one in moments.log[: step + 1]
        if not isinstance(one, Sync) or one.inode == ROOT or (one.inode in directories) != (kind == "directories")
    )
    with pytest.raises(AssertionError, match=r"AssertionError|vtlfs\.errors"):
        moments.examine(disk, step, None)
