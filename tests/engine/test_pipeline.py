"""Disks that fail under a stream while two others are left: no byte is lost, and the writer gets no error."""

import errno
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mounting import random_bytes as stream
from scripted import OPENER, UNIT, Rig, ScriptedDisk, first_disk, make_library, rigged, until

from vtlfs.engine.writing.session import WriteSession
from vtlfs.errors import DiskError
from vtlfs.timing import Timing

UNITS = 24
HANGING = Timing(hangs=0.05, probe=0.01, queue_elsewhere=0.01)


async def write_all(rig: Rig, session: WriteSession, data: bytes, *, step: int = 1000, flush_every: int = 7) -> None:
    """Write and now and then flush, as a program with fsync does."""
    for number, start in enumerate(range(0, len(data), step)):
        await session.write(start, data[start : start + step])
        if number % flush_every == 0:
            await session.flush()
    await session.flush()
    await rig.engine.release_writer(session)


async def expect_whole(rig: Rig, session: WriteSession, data: bytes) -> None:
    known = rig.known(session)
    assert (known.state, known.error, known.bytes) == ("released", None, len(data))
    assert await rig.read("T1") == data
    assert rig.durable(session) == data


async def test_parity_that_a_failed_sync_sends_to_the_same_disk_moves_again(tmp_path: Path) -> None:
    """The open stripe has no other disk for its parity then, though two other disks work."""
    data = stream(1, 5 * UNIT)
    async with rigged(make_library(tmp_path, disks=4, parity=1), timing=Timing(trial=3600)) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, data)
        await session._pipeline.drain()
        open_stripe = session._stripes.open
        assert open_stripe is not None
        second, third = sorted({0, 1, 2, 3} - {fragment.disk for fragment in open_stripe.data})
        rig.engine.pool[third].note_fault(DiskError(third, "/scripted", OSError(errno.EIO, "gone")))
        fault = rig.disks[second].fail("sync", errno.EIO)
        await session.writeback(1)
        assert fault.happened
        await session.flush()
        await rig.engine.release_writer(session)
        await expect_whole(rig, session, data)


@pytest.mark.parametrize("kind", ["write", "sync", "allocate"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("at", [1, 2, 5])
async def test_stream_goes_on_without_a_disk_that_fails(tmp_path: Path, kind: str, error: int, at: int) -> None:
    disks = [ScriptedDisk(number) for number in range(3)]
    if kind == "allocate":
        for disk in disks:
            disk.free = UNIT
    data = stream(1, UNITS * UNIT + 17)
    async with rigged(make_library(tmp_path, disks=3), disks) as rig:
        fault = disks[1].fail(kind, error, at)
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await write_all(rig, session, data)
        assert fault.happened
        await expect_whole(rig, session, data)
        after = [call for call in disks[1].calls if call[0] == kind]
        assert len(after) <= at + 6, "the disk is avoided, but for what was on its way"
        record = rig.engine.catalogue.tracking.disks.all()[1]
        await until(lambda: rig.engine.catalogue.tracking.disks.all()[1].fault is not None, "the fault in the database")
        assert record.number == 1


@pytest.mark.parametrize("kind", ["write", "sync"])
async def test_with_a_single_disk_left_the_writer_is_told(tmp_path: Path, kind: str) -> None:
    disks = [ScriptedDisk(number) for number in range(3)]
    async with rigged(make_library(tmp_path, disks=3), disks) as rig:
        disks[0].fail(kind, errno.EROFS, 1)
        disks[2].fail(kind, errno.EIO, 2)
        session = await rig.engine.open_writer("T1", 0, OPENER)
        data = stream(1, UNITS * UNIT)
        with pytest.raises(DiskError) as told:
            await write_all(rig, session, data)
        assert told.value.errno in (errno.EIO, errno.EROFS)
        await rig.engine.release_writer(session)
        known = rig.known(session)
        assert (known.state, known.error) == ("failed", errno.errorcode[told.value.errno])
        assert rig.durable(session) == data[: known.bytes]


async def test_disk_that_takes_its_unsynced_extents_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sync of the disk fails, and the disk can't be read any more; the extents are still in memory."""
    disks = [ScriptedDisk(number) for number in range(4)]
    data = stream(1, UNITS * UNIT + 5)
    async with rigged(make_library(tmp_path, disks=4), disks) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        for start in range(0, len(data), 1000):
            await session.write(start, data[start : start + 1000])
        await session._pipeline.drain()
        disks[2].fail("sync", errno.EIO)
        monkeypatch.setattr(disks[2], "read_stored", lambda *_: pytest.fail("it must not be asked"))
        await session.flush()
        await rig.engine.release_writer(session)
        assert all(one.disk != 2 for one in rig.extents(session))
        await expect_whole(rig, session, data)
        assert rig.engine._context.dirty.bytes == 0
        assert not any(rig.engine._context.dirty.by_disk.values())


async def test_what_is_kept_in_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = [ScriptedDisk(number) for number in range(3)]
    async with rigged(make_library(tmp_path, disks=3), disks) as rig:
        kept = rig.engine._context.dirty
        kept.limit = 6 * UNIT
        session = await rig.engine.open_writer("T1", 0, OPENER)
        data, most = stream(1, 100 * UNIT), 0
        for start in range(0, len(data), UNIT):
            await session.write(start, data[start : start + UNIT])
            await session._pipeline.drain()
            most = max(most, kept.bytes)
        await session.flush()
        await rig.engine.release_writer(session)
        assert 0 < most <= 8 * UNIT
        await expect_whole(rig, session, data)


async def test_units_on_their_way_to_a_disk_that_hangs_go_elsewhere(tmp_path: Path) -> None:
    disks = [ScriptedDisk(number) for number in range(3)]
    data = stream(1, UNITS * UNIT + 9)
    async with rigged(make_library(tmp_path, disks=3), disks, timing=HANGING) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        with disks[1].held("write"), trio.fail_after(30):
            for start in range(0, len(data), 1000):
                await session.write(start, data[start : start + 1000])
            await session.flush()
            assert disks[1].waiting == 1
            assert all(one.disk != 1 for one in rig.extents(session))
            await rig.engine.wait_visible("T1")
        await rig.engine.release_writer(session)
        await expect_whole(rig, session, data)


@pytest.mark.parametrize("held", ["write", "finish"])
async def test_mount_goes_down_without_a_disk_that_hangs(tmp_path: Path, held: str) -> None:
    disks, library = [ScriptedDisk(number) for number in range(4)], make_library(tmp_path, disks=4)
    with ExitStack() as holding:
        async with rigged(library, disks, timing=replace(HANGING, queue=0.01)) as rig:
            sessions = [await rig.engine.open_writer(f"T{number}", 0, OPENER) for number in (1, 2, 3)]
            for session in sessions:
                await session.write(0, stream(1, 8 * UNIT))
                await session._pipeline.drain()
            holding.enter_context(disks[1].held(held, "finish"))
            for session in sessions:
                await session.write(8 * UNIT, stream(2, 8 * UNIT + 9))
        with closing(library.tracking(read_only=True)) as tracking:
            ended = [tracking.sessions.get(session.number) for session in sessions]
            assert tracking.mounts.live() == []
    assert [(one.state, one.error, one.bytes) for one in ended] == [("failed", "ESHUTDOWN", 16 * UNIT + 9)] * 3


async def test_flush_does_not_wait_for_a_disk_that_its_stripe_has_left(tmp_path: Path) -> None:
    """The stripe is dealt anew because the disk hangs; a flush waits only for the new stripe."""
    disks = [ScriptedDisk(number) for number in range(3)]
    async with rigged(make_library(tmp_path, disks=3), disks, timing=replace(HANGING, probe=3600)) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, b"a" * 10)
        disk = disks[first_disk(rig)]
        with disk.held("write"), trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.flush)
                await until(lambda: disk.waiting == 1, "the disk to hang")
                disk.free = UNIT
                await session.write(10, b"b" * 10)
                assert session.send_elsewhere(disk.number) == 1
        await rig.engine.release_writer(session)
        await expect_whole(rig, session, b"a" * 10 + b"b" * 10)


async def test_disk_is_used_again_when_it_works_again(tmp_path: Path) -> None:
    disks = [ScriptedDisk(number) for number in range(3)]
    async with rigged(make_library(tmp_path, disks=3), disks, timing=Timing(trial=0.0, probe=0.01)) as rig:
        disks[0].fail("write", errno.EIO)
        still = disks[0].fail("try_out", errno.EIO)
        await rig.write("T1", stream(1, 6 * UNIT))
        await until(lambda: still.happened, "a trial that fails")
        await until(lambda: rig.engine.pool[0].fault is None, "the disk to work again")
        await until(lambda: rig.engine.catalogue.tracking.disks.all()[0].fault is None, "the database to know")
        before = disks[0].count("write")
        await rig.write("T1", stream(2, 6 * UNIT))
        assert disks[0].count("write") > before


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    parity=st.integers(0, 2),
    faults=st.lists(
        st.tuples(st.sampled_from(["write", "sync", "read"]), st.integers(0, 1), st.integers(1, 12)), max_size=4
    ),
    step=st.sampled_from([500, UNIT, 3 * UNIT + 1]),
    flush_every=st.integers(1, 9),
    disks=st.sampled_from([4, 5]),
)
def test_whatever_two_disks_do_the_stream_is_whole(
    tmp_path_factory: pytest.TempPathFactory,
    parity: int,
    faults: list[tuple[str, int, int]],
    step: int,
    flush_every: int,
    disks: int,
) -> None:
    """Two of four or five disks fail in any way: two healthy ones are left, and that is enough."""

    async def run() -> None:
        scripted = [ScriptedDisk(number) for number in range(disks)]
        data = stream(7, 15 * UNIT + 123)
        library = make_library(tmp_path_factory.mktemp("library"), disks=disks, parity=parity)
        async with rigged(library, scripted) as rig:
            for kind, disk, at in faults:
                scripted[disk].fail(kind, errno.EIO, at)
            session = await rig.engine.open_writer("T1", 0, OPENER)
            await write_all(rig, session, data, step=step, flush_every=flush_every)
            for healed in scripted:
                healed.faults.clear()  # those that did not come to pass
            await expect_whole(rig, session, data)

    trio.run(run)
