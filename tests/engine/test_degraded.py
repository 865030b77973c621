"""The lines in a mount's log when its library becomes degraded, and when it is whole again."""

import errno
import logging
from pathlib import Path

import pytest
from scripted import Rig, make_library, rigged, until

from vtlfs.disks.pool import PooledDisk
from vtlfs.engine.tasks.degraded import reasons
from vtlfs.errors import DiskError
from vtlfs.timing import Timing

OFTEN = Timing(watch=0.01, probe=0.01, trial=60)
AT = "2026-11-20T03:00:00.000000Z"


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Return the level and text of each line that says whether the library is degraded or whole."""
    return [
        (record.levelno, record.getMessage())
        for record in caplog.records
        if record.name == "vtlfs.engine.tasks.degraded"
    ]


def fail(pooled: PooledDisk, error: int) -> None:
    pooled.note_fault(DiskError(pooled.number, "/scripted", OSError(error, "gone" if error == errno.EIO else None)))


async def test_a_disk_that_fails_is_told_once_and_so_is_its_return(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        async with rigged(make_library(tmp_path, disks=3, parity=1), timing=OFTEN) as rig:
            fail(rig.engine.pool[1], errno.EIO)
            await until(lambda: lines(caplog), "the line")
            fail(rig.engine.pool[2], errno.EIO)
            await until(lambda: len(_reasons(rig)) == 2, "the second fault")
            for number in (1, 2):
                rig.engine.pool[number].fault = None
            await until(lambda: len(lines(caplog)) == 2, "the other line")
    what = "the library is degraded: disk 1 (/scripted): gone; `vtlfs status` says what to do"
    assert lines(caplog) == [(logging.WARNING, what), (logging.INFO, "the library is whole again")]


async def test_stripes_that_lack_something_are_told_of_without_alarm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        async with rigged(make_library(tmp_path, disks=3, parity=1), timing=OFTEN) as rig:
            session = await rig.write("T1", bytes(10_000))
            await rig.engine.change(lambda tracking: tracking.lacks.note_damaged(session.number, [0], AT))
            await until(lambda: lines(caplog), "the line")
            await rig.engine.change(lambda tracking: tracking.lacks.remove(session.number, [0]))
            await until(lambda: len(lines(caplog)) == 2, "the other line")
    assert lines(caplog)[0] == (
        logging.INFO,
        "the library is degraded: stripes lack parity, or are damaged; `vtlfs status` says what to do",
    )


async def test_a_full_disk_is_not_away_and_one_that_retires_is_told(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path, disks=3, parity=1)) as rig:
        await rig.engine.change(lambda tracking: tracking.disks.record_fault(0, "No space left on device", AT))
        assert _reasons(rig) == []
        await rig.engine.change(lambda tracking: tracking.disks.begin_retiring(2, AT))
        assert _reasons(rig) == ["disk 2 (/scripted) is retiring"]


def _reasons(rig: Rig) -> list[str]:
    away, others = reasons(rig.engine.catalogue.tracking)
    return [*away, *others]
