"""Live figures: the progress that a mount publishes while it runs."""

import os
import random
from pathlib import Path

import pytest
from scripted import OPENER, UNIT, Rig, make_library, rigged, until

from vtlfs.engine import live
from vtlfs.engine.live import LiveStats
from vtlfs.timing import Timing

OFTEN = Timing(figures=0.01)


async def test_figures_are_those_of_the_open_sessions_and_of_the_disks(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    async with rigged(library, timing=OFTEN) as rig:
        writer = await rig.engine.open_writer("T1", 0, OPENER)
        await writer.write(0, random.Random(1).randbytes(3 * UNIT + 10))
        await until(lambda: sum(written for written, _ in _found(rig).disks.values()) == 3 * UNIT, "full units")
        assert _found(rig).sessions == {writer.number: (3 * UNIT + 10, 1)}
        await writer.flush()
        await rig.engine.release_writer(writer)
        reader = await rig.engine.open_reader("T1", 1, 3 * UNIT + 10, 0, OPENER)
        assert len(await reader.read(0, 100)) == 100
        await until(lambda: _found(rig).sessions == {reader.number: (100, 1)}, "the reader")
        await until(lambda: sum(read for _, read in _found(rig).disks.values()) >= UNIT, "what was read")
        assert sum(written for written, _ in _found(rig).disks.values()) == 3 * UNIT + 10
        rig.engine.release_reader(reader)
        await until(lambda: not _found(rig).sessions, "no session")
    assert live.read(library.path, rig.engine.mount.id) is None


def _found(rig: Rig) -> LiveStats:
    return live.read(rig.engine.library.path, rig.engine.mount.id) or LiveStats(0, {}, {})


async def test_a_mount_serves_where_its_figures_cannot_be_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library = make_library(tmp_path)
    live.path_of(library.path, 1).symlink_to("elsewhere")  # never followed
    with caplog.at_level("INFO"):
        async with rigged(library, timing=OFTEN) as rig:
            await until(lambda: "live figures" in caplog.text, "a word")
            writer = await rig.engine.open_writer("T1", 0, OPENER)
            await writer.write(0, b"x")
            await rig.engine.release_writer(writer)


def test_a_file_that_is_half_rewritten_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "mounts").mkdir()
    file = live.path_of(tmp_path, 1)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        long = LiveStats(1.5, {number: (number, 1) for number in range(50)}, {0: (1, 2)})
        for expected in (long, LiveStats(2.5, {7: (10, 2)}, {0: (10, 20), 1: (3, 4)})):
            live.write(descriptor, expected)
            assert live.read(tmp_path, 1) == expected
        os.pwrite(descriptor, b"9", 30)
        assert live.read(tmp_path, 1) is None
    finally:
        os.close(descriptor)
    file.write_bytes(b"")
    assert live.read(tmp_path, 1) is None
