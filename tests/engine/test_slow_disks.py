"""A disk that is slower than the others gets fewer extents, and does not slow streams down otherwise."""

import errno
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
import trio.testing
from scripted import OPENER, UNIT, Fault, Rig, first_disk, fragment_at, make_library, rigged, until

from vtlfs.disks import pool
from vtlfs.disks.records import BLOCK, after
from vtlfs.engine.writing.dirty import DirtyBudget
from vtlfs.engine.writing.session import WriteSession
from vtlfs.engine.writing.striping.stripe import State
from vtlfs.errors import DiskError
from vtlfs.sizes import Sizes
from vtlfs.timing import Timing

UNITS = 60
BUSY_UNITS = 4 * pool.LAGGING_WRITES


async def write(rig: Rig, stream: WriteSession, units: range) -> None:
    """Write stripe units, as slowly as all disks but disk 1 can take them."""
    for unit in units:
        await stream.write(unit * UNIT, bytes([unit]) * UNIT)
        for number in (0, 2, 3):
            await until(lambda disk=rig.engine.pool[number]: not disk.writing.pending, "the disk is done")


async def fall_behind(rig: Rig, disk: int) -> WriteSession:
    """Write so much of a stream that a held disk lags behind the others; return the stream's bytes."""
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
        disk = rig.engine.pool[first_disk(rig)]
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


async def test_what_a_flush_has_sent_past_a_disk_is_not_sent_again(tmp_path: Path) -> None:
    """The extent no longer cares about its old place in the queue of that disk."""
    async with rigged(make_library(tmp_path, disks=4)) as rig:
        quit_waiting = threading.Event()
        with rig.disks[1].held("write"), trio.fail_after(60):
            other = await fall_behind(rig, 1)
            stream = await rig.engine.open_writer("T1", 0, OPENER)
            queued = stream._stripes
            await stream.write(0, b"x" * UNIT)
            fragment = fragment_at(stream, 0)
            first = fragment.disk
            assert first != 1, "a disk that is behind is passed over from the beginning"
            await stream._pipeline.drain()
            second = rig.engine.pool[first]
            for _ in range(2 * pool.LAGGING_WRITES):
                second.writing.submit(lambda _: None, quit_waiting.wait)
            try:
                stream._pipeline._send_past()
            finally:
                quit_waiting.set()
            assert fragment_at(stream, 0) is fragment
            assert queued.sending_to(first) == []
            await stream.flush()
        await other.flush()
        assert rig.durable(stream) == b"x" * UNIT
        assert sum(disk.count("write") for disk in rig.disks) == BUSY_UNITS + 1
        await rig.engine.release_writer(other)
        await rig.engine.release_writer(stream)


async def test_room_is_not_sought_for_ever_on_a_disk_that_has_failed(tmp_path: Path) -> None:
    """The open stripe has no other disk for its parity."""
    async with rigged(make_library(tmp_path, disks=4, parity=1), timing=Timing(trial=3600)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await stream.write(0, content(2))
        await stream._pipeline.drain()
        used = {fragment_at(stream, 0).disk, fragment_at(stream, UNIT).disk}
        faults = []
        for disk in rig.disks:
            disk.free = 1
            if disk.number not in used:
                faults.append(disk.fail("allocate", errno.ENOSPC))
                disk.faults += [Fault("allocate", errno.ENOSPC) for _ in range(200)]
        with trio.fail_after(60):
            await stream.write(2 * UNIT, content(3)[2 * UNIT :])
        assert all(fault.happened for fault in faults)
        assert max(disk.count("allocate") for disk in rig.disks) < 200
        for disk in rig.disks:
            disk.faults.clear()
        await stream.flush()
        assert rig.durable(stream) == content(3)
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


async def test_a_disk_whose_sync_hangs_does_not_keep_the_bytes_that_others_have(tmp_path: Path) -> None:
    """Each stripe has an extent on that disk; if all stayed in memory, they would use up the dirty budget."""
    timing = Timing(stalled=0.05, hangs=0.1, probe=0.01)
    library = make_library(tmp_path, disks=4, parity=1)
    async with rigged(library, timing=timing, sizes=Sizes(worth_a_sync=2 * UNIT)) as rig:
        rig.engine._context.dirty.limit = 24 * UNIT
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        with rig.disks[1].held("sync"), trio.fail_after(60):
            await write(rig, stream, range(2 * UNITS))
        await stream.flush()
        assert rig.engine._context.dirty.bytes == 0
        assert not any(rig.engine._context.dirty.by_disk.values())
        assert rig.durable(stream) == content(2 * UNITS)
        await rig.engine.release_writer(stream)


@pytest.mark.parametrize("parity", [0, 1])
async def test_a_flush_does_not_wait_for_a_sync_that_hangs_of_what_was_dealt_anew(tmp_path: Path, parity: int) -> None:
    timing = Timing(stalled=0.05, hangs=0.1, probe=0.01)
    async with rigged(make_library(tmp_path, disks=4, parity=parity), timing=timing) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await write(rig, stream, range(6))
        async with trio.open_nursery() as nursery:
            with rig.disks[1].held("sync"), trio.fail_after(60):
                nursery.start_soon(stream.writeback, 1)
                await until(lambda: rig.disks[1].waiting, "the disk is being synced")
                await until(lambda: not stream._stripes.on_disk(1), "all that it has is elsewhere")
                await stream.flush()
                assert rig.durable(stream) == content(6)
        await rig.engine.release_writer(stream)


async def test_a_checkpoint_ends_while_its_stream_goes_on(tmp_path: Path) -> None:
    """Bytes that arrive during a checkpoint's sync are left to the next checkpoint."""
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
    """The failed sync may have consumed the error of those writes, so that the next sync would not report it."""
    async with rigged(make_library(tmp_path, disks=4)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await write(rig, stream, range(4))
        await until(lambda: not rig.engine.pool[1].writing.pending, "disk 1 is done")
        fault = rig.disks[1].fail("sync", errno.EIO)
        with rig.disks[1].held("write"), trio.fail_after(60):
            await write(rig, stream, range(4, 8))
            assert rig.engine.pool[1].writing.pending == 1
            await stream.writeback(1)
            await stream.flush()
        assert fault.happened
        rows = rig.extents(stream)
        assert len(rows) == 8
        assert 1 not in {row.disk for row in rows}
        assert rig.durable(stream) == content(8)
        await rig.engine.release_writer(stream)


async def test_a_sync_that_ends_late_does_not_concern_what_was_dealt_anew(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path, disks=4)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await stream.write(0, b"a" * 10)
        first = first_disk(rig)
        with rig.disks[first].held("sync"), trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.flush)
                await until(lambda: rig.disks[first].waiting, "the disk is being synced")
                rig.engine.pool[first].note_fault(DiskError(first, "/scripted", OSError(errno.EIO, "gone")))
                assert stream._pipeline.redeal(fragment_at(stream, 0).stripe)
                await stream._pipeline.drain()
                fragment = fragment_at(stream, 0)
                assert fragment.disk != first
                rig.disks[first].let_go()
        assert rig.durable(stream) == b"a" * 10
        assert [one.disk for one in rig.extents(stream)] == [fragment.disk]
        await rig.engine.release_writer(stream)


async def test_a_flush_waits_for_what_another_task_deals_anew(tmp_path: Path) -> None:
    """A writeback's sync fails while a flush waits for another disk; its extents are in flight again then."""
    async with rigged(make_library(tmp_path, disks=5), timing=Timing(trial=3600)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await stream.write(0, content(2))
        await stream._pipeline.drain()
        first, second = fragment_at(stream, 0).disk, fragment_at(stream, UNIT).disk
        rig.disks[first].fail("sync", errno.EIO)
        with rig.disks[second].held("sync"), trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                flushed = trio.Event()

                async def flush() -> None:
                    await stream.flush(closing=True)
                    flushed.set()

                nursery.start_soon(flush)
                await until(
                    lambda: fragment_at(stream, 0).disk != first and fragment_at(stream, 0).is_written,
                    "the first extent is elsewhere",
                )
                third = fragment_at(stream, 0).disk
                rig.disks[third].fail("sync", errno.EIO)
                others = [disk for disk in rig.disks if disk.number not in (first, second, third)]
                with others[0].held("write"), others[1].held("write"):
                    nursery.start_soon(stream.writeback, 0)
                    await until(lambda: any(disk.waiting for disk in others), "it is dealt anew once more")
                    rig.disks[second].let_go()
                    await until(lambda: fragment_at(stream, UNIT).state is State.DURABLE, "the other one is durable")
                    await trio.testing.wait_all_tasks_blocked()
                    assert not flushed.is_set()
        assert rig.durable(stream) == content(2)
        await rig.engine.release_writer(stream)


async def test_parity_that_is_still_to_come_keeps_its_room(tmp_path: Path) -> None:
    """Extents that are dealt to the same disk meanwhile get room of their own."""
    async with rigged(make_library(tmp_path, disks=3, parity=1)) as rig:
        for disk in rig.disks:
            disk.free = 1  # so that room is set aside before a write is taken
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        with rig.disks[first_disk(rig)].held("write"), trio.fail_after(60):
            await stream.write(0, content(2))
            [parity] = fragment_at(stream, 0).stripe.parity
            assert parity.state is State.QUEUED
            await stream.write(2 * UNIT, content(3)[2 * UNIT :])
            assert fragment_at(stream, 2 * UNIT).disk == parity.disk
            room = max(end for kind, _, end in rig.disks[parity.disk].calls if kind == "allocate")
            assert room >= after(after(BLOCK, UNIT), UNIT)
        await stream.flush()
        assert rig.durable(stream) == content(3)
        await rig.engine.release_writer(stream)
