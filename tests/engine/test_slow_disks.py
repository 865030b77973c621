"""A disk that is slower than the others gets what it can take, and costs nobody more than that."""

import errno
import threading
from contextlib import ExitStack
from pathlib import Path

import trio
from scripted import OPENER, UNIT, Rig, make_library, rigged, unit_of, until

from vtlfs.disks import pool
from vtlfs.engine.writing.dirty import DirtyBudget
from vtlfs.engine.writing.session import WriteSession
from vtlfs.errors import DiskError
from vtlfs.sizes import Sizes

UNITS = 60
BUSY_UNITS = 4 * pool.LAGGING_WRITES


async def write(rig: Rig, stream: WriteSession, units: range) -> None:
    """Write stripe units, as slowly as all disks but disk 1 can take them."""
    for unit in units:
        await stream.write(unit * UNIT, bytes([unit]) * UNIT)
        for number in (0, 2, 3):
            await until(lambda disk=rig.engine.pool[number]: not disk.writing.pending, "the disk is done")


async def fall_behind(rig: Rig, disk: int) -> WriteSession:
    """Write a stream of which so much waits for a disk that is held that it is behind; return the stream."""
    stream = await rig.engine.open_writer("T1", 0, OPENER)
    for unit in range(BUSY_UNITS):
        await stream.write(unit * UNIT, bytes(UNIT))
    await until(lambda: disk in rig.engine.pool.lagging(), "the disk lags")
    return stream


def content(units: int) -> bytes:
    return b"".join(bytes([unit]) * UNIT for unit in range(units))


async def test_new_stripe_units_pass_over_a_disk_that_is_behind(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path, disks=4)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        with rig.disks[1].held("write"), trio.fail_after(60):
            await write(rig, stream, range(UNITS))
            assert rig.engine.pool[1].writing.pending == pool.LAGGING_WRITES
        await until(lambda: not rig.engine.pool[1].writing.pending, "the disk has done what was before it")
        await write(rig, stream, range(UNITS, UNITS + 8))
        await stream.flush()
        assert rig.durable(stream) == content(UNITS + 8)
        assert rig.disks[1].count("write") == pool.LAGGING_WRITES + 2  # it is dealt units in its turn again
        await rig.engine.release_writer(stream)


async def test_a_unit_that_would_have_to_wait_goes_to_another_disk(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path, disks=4)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await stream.write(0, bytes(UNIT // 2))
        disk = rig.engine.pool[unit_of(stream, 0).disk]
        places = disk.queue.value
        for _ in range(places):
            disk.queue.acquire_nowait()
        with trio.fail_after(60):
            await stream.write(UNIT // 2, bytes(UNIT - UNIT // 2))
            await stream.flush()
        assert rig.disks[disk.number].count("write") == 0
        assert rig.durable(stream) == bytes(UNIT)
        for _ in range(places):
            disk.queue.release()
        await rig.engine.release_writer(stream)


async def test_a_flush_sends_to_others_what_waits_for_a_disk_that_is_behind(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path, disks=4)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        with rig.disks[1].held("write"), trio.fail_after(60):
            await write(rig, stream, range(UNITS))
            written = [rig.disks[number].count("write") for number in (0, 2, 3)]
            assert sum(written) == UNITS - pool.LAGGING_WRITES
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.flush)
                await until(
                    lambda: sum(rig.disks[number].count("write") for number in (0, 2, 3)) == UNITS - 1,
                    "all but the unit that disk 1 has begun with are elsewhere",
                )
                rig.disks[1].let_go()
        assert rig.disks[1].count("write") == 1
        assert rig.durable(stream) == content(UNITS)
        await rig.engine.release_writer(stream)


async def test_a_flush_waits_for_the_disk_that_has_a_part_of_the_unit(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path, disks=4)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await stream.write(0, bytes(10))
        await stream.flush()
        disk = unit_of(stream, 0).disk
        async with trio.open_nursery() as nursery:
            with rig.disks[disk].held("write"), trio.fail_after(60):
                other = await fall_behind(rig, disk)
                await stream.write(10, bytes(10))
                nursery.start_soon(stream.flush)
                await until(lambda: unit_of(stream, 0).generation == 2, "the flush waits for the disk")
                await trio.sleep(0.2)
                assert unit_of(stream, 0).disk == disk
                assert nursery.child_tasks
        assert rig.durable(stream) == bytes(20)
        await rig.engine.release_writer(other)
        await rig.engine.release_writer(stream)


async def test_what_a_flush_has_sent_past_a_disk_is_not_sent_again(tmp_path: Path) -> None:
    """Its old place in that disk's queue is none of its business any more."""
    async with rigged(make_library(tmp_path, disks=4)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await stream.write(0, b"x")
        first = unit_of(stream, 0).disk
        quit_waiting = threading.Event()
        with rig.disks[first].held("write"), trio.fail_after(60):
            other = await fall_behind(rig, first)
            await stream.write(1, b"x" * (UNIT - 1))
            (unit,) = {one.unit for one in stream._units.on_their_way()}
            await stream.flush()
            place = unit.place
            assert unit.disk != first
            second = rig.engine.pool[unit.disk]
            for _ in range(2 * pool.LAGGING_WRITES):
                second.writing.submit(lambda _: None, quit_waiting.wait)
            try:
                stream._pipeline._send_past()
            finally:
                quit_waiting.set()
            assert unit.place == place
        await other.flush()
        assert rig.durable(stream) == b"x" * UNIT
        assert sum(disk.count("write") for disk in rig.disks) == BUSY_UNITS + 1
        await rig.engine.release_writer(other)
        await rig.engine.release_writer(stream)


async def test_room_that_a_disk_lacks_is_no_matter_for_a_unit_that_was_sent_past_it(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path, disks=4)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await stream.write(0, b"x")
        unit = unit_of(stream, 0)
        first = unit.disk
        async with trio.open_nursery() as nursery:
            with rig.disks[first].held("write"), trio.fail_after(60):
                other = await fall_behind(rig, first)
                await stream._pipeline.send([unit])
                rig.disks[first].free = 0
                rig.disks[first].fail("allocate", errno.ENOSPC)
                nursery.start_soon(stream.write, 1, b"x" * (UNIT - 1))
                await until(lambda: stream._intake._allocating.locked(), "the write waits for room")
                await stream._pipeline.drain()
                assert unit.disk != first
        await other.flush()
        await stream.flush()
        assert rig.durable(stream) == b"x" * UNIT
        await rig.engine.release_writer(other)
        await rig.engine.release_writer(stream)


async def test_a_unit_that_lies_in_part_on_its_disk_waits_for_it(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path, disks=4)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await stream.write(0, bytes(10))
        await stream.flush()
        disk = rig.engine.pool[unit_of(stream, 0).disk]
        places = disk.queue.value
        for _ in range(places):
            disk.queue.acquire_nowait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, 10, bytes(UNIT - 10))
            await trio.sleep(0.1)
            assert nursery.child_tasks
            for _ in range(places):
                disk.queue.release()
        await stream.flush()
        assert rig.disks[disk.number].count("write") == 2
        await rig.engine.release_writer(stream)


async def test_all_disks_get_the_same_where_all_are_busy(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path, disks=4)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        with ExitStack() as stack:
            for disk in rig.disks:
                stack.enter_context(disk.held("write"))
            for unit in range(UNITS):
                await stream.write(unit * UNIT, bytes([unit]) * UNIT)
            assert [disk.writing.pending for disk in rig.engine.pool.disks] == [UNITS // 4] * 4
        await stream.flush()
        assert [disk.count("write") for disk in rig.disks] == [UNITS // 4] * 4
        assert rig.durable(stream) == content(UNITS)
        await rig.engine.release_writer(stream)


async def test_memory_that_waits_for_a_sync_does_not_wait_for_that_of_a_slower_disk(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path, disks=4), sizes=Sizes(worth_a_sync=2 * UNIT)) as rig:
        kept: DirtyBudget = rig.engine._context.dirty
        kept.limit = 24 * UNIT
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        with rig.disks[1].held("sync"), trio.fail_after(60):
            await write(rig, stream, range(4 * UNITS))
            await stream._pipeline.drain()
            on_its_way = len(rig.disks) * UNIT  # when the last write was let through
            most = kept.limit + on_its_way
            assert kept.bytes <= most, "what that disk has not synced leaves room for what others have not"
        await stream.flush()
        assert kept.bytes == 0
        assert not any(kept.by_disk.values())
        assert rig.durable(stream) == content(4 * UNITS)
        await rig.engine.release_writer(stream)


async def test_a_checkpoint_ends_while_its_stream_goes_on(tmp_path: Path) -> None:
    """What comes while a disk is synced is left to the next one."""
    async with rigged(make_library(tmp_path, disks=2)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await write_to_two(rig, stream, range(4))
        async with trio.open_nursery() as nursery:
            with rig.disks[0].held("sync"), rig.disks[1].held("sync"):
                nursery.start_soon(stream.checkpoint)
                await until(lambda: rig.disks[0].waiting and rig.disks[1].waiting, "both are being synced")
                await write_to_two(rig, stream, range(4, 8))
        assert [disk.count("sync") for disk in rig.disks] == [1, 1]
        assert rig.known(stream).bytes == 4 * UNIT
        await stream.flush()
        assert rig.durable(stream) == content(8)
        await rig.engine.release_writer(stream)


async def write_to_two(rig: Rig, stream: WriteSession, units: range) -> None:
    """Write stripe units that two disks take."""
    for unit in units:
        await stream.write(unit * UNIT, bytes([unit]) * UNIT)
    for disk in rig.engine.pool.disks:
        await until(lambda disk=disk: not disk.writing.pending, "the disk is done")


async def test_a_failed_sync_takes_what_was_on_its_way_to_the_disk_elsewhere_too(tmp_path: Path) -> None:
    """It may have told of that as well, and the next sync of the disk would not."""
    async with rigged(make_library(tmp_path, disks=4)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await write(rig, stream, range(4))
        await until(lambda: not rig.engine.pool[1].writing.pending, "disk 1 is done")
        fault = rig.disks[1].fail("sync", errno.EIO)
        with rig.disks[1].held("write"), trio.fail_after(60):
            await write(rig, stream, range(4, 8))
            assert rig.engine.pool[1].writing.pending == 1
            await stream.writeback(0)
            await stream.flush()
        assert fault.happened
        rows = rig.engine.catalogue.tracking.stripe_units.of(stream.number, 0, 8)
        assert len(rows) == 8
        assert 1 not in {row.disk for row in rows}
        assert rig.durable(stream) == content(8)
        await rig.engine.release_writer(stream)


async def test_a_sync_that_ends_late_does_not_take_back_what_a_unit_has_grown_by(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path, disks=4)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await stream.write(0, b"a" * 10)
        pipeline, unit = stream._pipeline, unit_of(stream, 0)
        first = unit.disk
        with rig.disks[first].held("sync"), trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.flush)
                await until(lambda: rig.disks[first].waiting, "the disk is being synced")
                rig.engine.pool[first].note_fault(DiskError(first, "/scripted", OSError(errno.EIO, "gone")))
                stream._units.put(unit, 10, memoryview(b"b" * 10))
                stream.length = 20
                assert pipeline.reassign(unit)
                await pipeline.send([unit])
                await pipeline.drain()
                assert unit.disk != first
                await stream._durability._sync_all({unit.disk})
                assert unit.durable is not None
                assert unit.durable.bytes == 20
                rig.disks[first].let_go()
        await stream.flush()
        assert rig.durable(stream) == b"a" * 10 + b"b" * 10
        await rig.engine.release_writer(stream)
