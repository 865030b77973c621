"""Background jobs: exactly one mount does each job, and the job is repeated after an error."""

from functools import partial
from pathlib import Path

import pytest
import trio
from scripted import make_library, rigged, until

from vtlfs.engine.engine import Engine
from vtlfs.engine.jobs import background
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import VtlfsError


class Counting(background.Job[int]):
    """A job that is claimed by loading a medium into drive 0, which only one mount can do at a time."""

    what = "counting"
    every = 0.01

    def __init__(self, engine: Engine, done: list[int], fails: int = 0, error: Exception | None = None) -> None:
        self._engine = engine
        self._done = done
        self._fails = fails
        self._error = error or VtlfsError("not this time")

    def is_due(self, tracking: Tracking, at: str) -> bool:
        return tracking.drives.get(0).loaded is None

    def claim(self, tracking: Tracking, at: str) -> int | None:
        if tracking.drives.get(0).loaded is not None:
            return None
        tracking.drives.load(0, "T1", at)
        return 1

    async def work(self, claim: int) -> None:
        await trio.sleep(0.01)
        self._done.append(claim)
        if len(self._done) <= self._fails:
            await self._engine.change(lambda tracking: tracking.drives.unload(0))
            raise self._error


async def test_of_two_mounts_one_does_a_job(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    done: list[int] = []
    async with rigged(library) as rig, rigged(library, host="beta") as other, trio.open_nursery() as nursery:
        for engine in (rig.engine, other.engine):
            nursery.start_soon(background.run, engine, Counting(engine, done))
        await until(lambda: done, "the job")
        for _ in range(5):
            await trio.sleep(Counting.every)
        nursery.cancel_scope.cancel()
    assert done == [1]


async def test_job_that_fails_is_told_and_done_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []
    async with rigged(make_library(tmp_path)) as rig, trio.open_nursery() as nursery:
        nursery.start_soon(background.run, rig.engine, Counting(rig.engine, done, fails=2))
        await until(lambda: len(done) == 3, "the job")
        nursery.cancel_scope.cancel()
    assert caplog.text.count("counting: not this time; trying again") == 2


@pytest.mark.parametrize("error", [RuntimeError("nobody expected it"), ExceptionGroup("of a nursery", [OSError("x")])])
async def test_a_job_that_raises_what_nobody_expected_does_not_end_the_mount_and_is_done_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    done: list[int] = []
    async with rigged(make_library(tmp_path)) as rig, trio.open_nursery() as nursery:
        job = Counting(rig.engine, done, fails=2, error=error)
        nursery.start_soon(partial(background.run, rig.engine, job, unexpected=0.01))
        await until(lambda: len(done) == 3, "the job")
        nursery.cancel_scope.cancel()
    told = [record for record in caplog.records if "counting: unexpected error; trying again" in record.message]
    assert len(told) == 2
    assert all(record.exc_info is not None for record in told)


async def test_a_job_whose_nursery_raises_a_domain_error_is_told_without_a_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[int] = []
    error = ExceptionGroup("of a nursery", [VtlfsError("not this time")])
    async with rigged(make_library(tmp_path)) as rig, trio.open_nursery() as nursery:
        job = Counting(rig.engine, done, fails=1, error=error)
        nursery.start_soon(background.run, rig.engine, job)
        await until(lambda: len(done) == 2, "the job")
        nursery.cancel_scope.cancel()
    assert caplog.text.count("counting: not this time; trying again") == 1
    assert "Traceback" not in caplog.text
