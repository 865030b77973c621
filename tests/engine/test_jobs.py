"""Background jobs: exactly one mount does each job, and the job is repeated after an error."""

from pathlib import Path

import pytest
import trio
from scripted import make_library, rigged, until

from vtlfs.engine import jobs
from vtlfs.engine.engine import Engine
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import VtlfsError


class Counting:
    """A job that is claimed by loading a medium into drive 0, which only one mount can do at a time."""

    what = "counting"
    every = 0.01

    def __init__(self, done: list[int], fails: int = 0) -> None:
        self._done = done
        self._fails = fails

    def is_due(self, tracking: Tracking, at: str) -> bool:
        return tracking.drives.get(0).loaded is None

    def claim(self, tracking: Tracking, at: str) -> int | None:
        if tracking.drives.get(0).loaded is not None:
            return None
        tracking.drives.load(0, "T1", at)
        return 1

    async def work(self, engine: Engine, claim: int) -> None:
        await trio.sleep(0.01)
        self._done.append(claim)
        if len(self._done) <= self._fails:
            await engine.change(lambda tracking: tracking.drives.unload(0))
            raise VtlfsError("not this time")


async def test_of_two_mounts_one_does_a_job(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    done: list[int] = []
    async with rigged(library) as rig, rigged(library, host="beta") as other, trio.open_nursery() as nursery:
        for engine in (rig.engine, other.engine):
            nursery.start_soon(jobs.run, engine, Counting(done))
        await until(lambda: done, "the job")
        for _ in range(5):
            await trio.sleep(Counting.every)
        nursery.cancel_scope.cancel()
    assert done == [1]


async def test_job_that_fails_is_told_and_done_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []
    async with rigged(make_library(tmp_path)) as rig, trio.open_nursery() as nursery:
        nursery.start_soon(jobs.run, rig.engine, Counting(done, fails=2))
        await until(lambda: len(done) == 3, "the job")
        nursery.cancel_scope.cancel()
    assert caplog.text.count("counting: not this time; trying again") == 2
