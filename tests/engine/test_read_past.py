"""Reading past disks: what a disk that hangs or is gone may cost the readers of a mount."""

import random
from contextlib import closing, suppress
from pathlib import Path

import pytest
import trio
from scripted import OPENER, SECONDS, UNIT, make_library, rigged

from vtlfs.errors import VtlfsError
from vtlfs.timing import Timing

SOON = Timing(reading=0.05)


async def test_readers_do_not_run_out_of_memory_for_what_a_disk_that_hangs_never_brings(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(90 * UNIT)
    async with rigged(make_library(tmp_path, disks=3, parity=1, memory=1), timing=SOON) as rig:
        await rig.write("T1", data, block=UNIT)
        rig.engine.cache.drop_idle(-1)
        with rig.disks[1].held("read"), trio.fail_after(SECONDS):
            assert await rig.read("T1") == data
            for start in range(0, 90 * UNIT, UNIT):  # readers that come and go
                assert await rig.read("T1", start, UNIT) == data[start : start + UNIT]
        reads = rig.disks[1].count("read")
        assert reads < 20, "nothing is asked of a disk that hangs"


async def test_an_extent_is_computed_once_for_all_its_pieces(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(8 * UNIT)
    async with rigged(make_library(tmp_path, disks=3, parity=1)) as rig:
        session = await rig.write("T1", data, block=UNIT)
        row = rig.extents(session)[0]
        rig.disks[row.disk].damage(row)
        rig.engine.cache.drop_idle(-1)
        reader = rig.engine.medium_reader("T1", 1, len(data))
        before = sum(disk.count("read") for disk in rig.disks)
        for start in range(0, UNIT, UNIT // 8):
            assert bytes(await reader.read(start, UNIT // 8)) == data[start : start + UNIT // 8]
        assert sum(disk.count("read") for disk in rig.disks) - before < 12
        reader.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE extent SET offset = offset + 100 WHERE offset = ?",
        "UPDATE extent SET offset = offset - 100 WHERE offset = ?",
        "UPDATE extent SET bytes = bytes + 100 WHERE offset = ?",
        "UPDATE extent SET place = 1 << 50 WHERE offset = ?",
        "UPDATE extent SET stripe = -1 WHERE offset = ?",
    ],
)
async def test_rows_that_contradict_each_other_are_an_error_wherever_they_are(tmp_path: Path, change: str) -> None:
    data = random.Random(1).randbytes(2400)
    library = make_library(tmp_path, disks=3)
    async with rigged(library) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        for start in range(0, 2400, 600):
            await session.write(start, data[start : start + 600])
            await session.fsync()
        await session.flush(closing=True)
        await rig.engine.release_writer(session)
        with closing(library.tracking()) as tracking, tracking.transaction():
            tracking.sql.execute(change, 600)
        reader = rig.engine.medium_reader("T1", 1, len(data))
        with suppress(VtlfsError):
            assert bytes(await reader.read(0, 300)) == data[:300]
        with trio.fail_after(SECONDS), pytest.raises(VtlfsError):
            await reader.read(800, 600)
        reader.close()
