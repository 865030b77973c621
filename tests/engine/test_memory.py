"""The memory budget: idle streams are put away on their disks and go on whole, whatever befalls them meanwhile."""

import errno
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from mounting import random_bytes as stream
from scripted import OPENER, Rig, ScriptedDisk, first_disk, fragment_at, make_library, rigged, until

from vtlfs.engine.memory import MemoryBudget
from vtlfs.engine.writing.session import WriteSession
from vtlfs.errors import DamagedExtent, DiskError
from vtlfs.model import KIB, MIB, Extent
from vtlfs.sizes import Sizes
from vtlfs.timing import Timing

UNIT = 64 * KIB
SMALL = Sizes(worth_a_write=UNIT // 2, small_extent=4 * KIB)
IMPATIENT = Timing(idle=0.01, memory_round=0.005)


async def opened(rig: Rig, data: bytes = b"", barcode: str = "T1") -> WriteSession:
    session = await rig.engine.open_writer(barcode, 0, OPENER)
    if data:
        await session.write(0, data)
    return session


async def end(rig: Rig, session: WriteSession, data: bytes) -> None:
    await session.flush()
    await rig.engine.release_writer(session)
    known = rig.known(session)
    assert (known.state, known.error, known.bytes) == ("released", None, len(data))
    assert rig.durable(session) == data


def budget(rig: Rig) -> MemoryBudget:
    return rig.engine._context.memory


def is_away(session: WriteSession) -> bool:
    return session.account.held == 0


@pytest.mark.parametrize("disks", [2, 3])
@pytest.mark.parametrize("durable_close", [True, False])
async def test_idle_streams_give_back_and_go_on(tmp_path: Path, disks: int, durable_close: bool) -> None:
    library = make_library(tmp_path, disks=disks, unit=UNIT)
    async with rigged(library, durable_close=durable_close, timing=IMPATIENT, sizes=SMALL) as rig:
        budget(rig).limit = MIB
        wanted, sessions = [stream(seed, 100_000) for seed in range(40)], []
        for data in wanted:
            sessions.append(await opened(rig, data[:50_000]))
            assert budget(rig).used <= MIB
        await until(lambda: not budget(rig).is_short, "memory")
        assert sum(is_away(session) for session in sessions) > 20
        for session, data in zip(sessions, wanted, strict=True):
            assert await session.read(49_990, 100) == data[49_990:50_000]
            for start in range(50_000, 100_000, 10_000):
                await session.write(start, data[start : start + 10_000])
            assert budget(rig).used <= MIB
        for session, data in zip(sessions, wanted, strict=True):
            await session.fsync()
            await end(rig, session, data)
        assert await rig.read("T1") == b"".join(wanted)
        budget(rig).buffers.drop()
        rig.engine.cache.drop_idle(-1)
        assert budget(rig).used == 0


@pytest.mark.parametrize("durable_close", [True, False])
async def test_an_idle_stream_gives_back_what_it_keeps_for_its_parity(tmp_path: Path, durable_close: bool) -> None:
    library = make_library(tmp_path, disks=4, parity=1, unit=UNIT)
    async with rigged(library, durable_close=durable_close) as rig:
        session = await opened(rig, bytes(UNIT))
        await session._pipeline.drain()
        assert session.account.held >= UNIT
        assert session.eviction.can_give()
        await session.eviction.give_back()
        assert session.account.held == 0
        await rig.engine.release_writer(session)


async def test_streams_that_hold_little_are_left_alone(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path, unit=UNIT), timing=IMPATIENT, sizes=SMALL) as rig:
        budget(rig).limit = MIB
        small = [await opened(rig, b"x") for _ in range(20)]
        large = [await opened(rig, stream(seed, 50_000)) for seed in range(20)]
        await until(lambda: not budget(rig).is_short, "memory")
        assert not any(is_away(session) for session in small)
        for session in small + large:
            await rig.engine.release_writer(session)


async def test_small_end_of_a_stream_gets_a_small_buffer(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path, unit=UNIT), timing=IMPATIENT, sizes=SMALL) as rig:
        data = stream(1, UNIT + 10)
        session = await opened(rig, data)
        await session._pipeline.drain()
        assert session.account.held == UNIT
        await session.eviction.give_back()
        assert session.account.held == 4 * KIB
        assert not is_away(session)
        await session.write(len(data), data)
        await end(rig, session, data + data)


async def test_a_write_that_comes_while_a_stream_is_put_away_is_kept(tmp_path: Path) -> None:
    disks = [ScriptedDisk(number) for number in range(2)]
    async with rigged(make_library(tmp_path, unit=UNIT), disks, timing=IMPATIENT, sizes=SMALL) as rig:
        session = await opened(rig, b"a" * 50_000)
        async with trio.open_nursery() as nursery:
            disk = disks[first_disk(rig)]
            with disk.held("write"):
                nursery.start_soon(session.eviction.give_back)
                await until(lambda: disk.waiting, "the disk's write")
                await session.write(50_000, b"b" * 10)
        assert not is_away(session)
        await end(rig, session, b"a" * 50_000 + b"b" * 10)


async def test_flush_and_release_wait_for_a_stream_that_is_put_away(tmp_path: Path) -> None:
    disks = [ScriptedDisk(number) for number in range(2)]
    async with rigged(make_library(tmp_path, unit=UNIT), disks, timing=IMPATIENT, sizes=SMALL) as rig:
        session = await opened(rig, b"a" * 50_000)
        async with trio.open_nursery() as nursery:
            disk = disks[first_disk(rig)]
            with disk.held("write"):
                nursery.start_soon(session.eviction.give_back)
                await until(lambda: disk.waiting, "the disk's write")
                nursery.start_soon(end, rig, session, b"a" * 50_000)
                await trio.testing.wait_all_tasks_blocked()
        assert disk.count("write") == 1


async def test_a_stream_that_was_put_away_goes_on_without_being_read(tmp_path: Path) -> None:
    disks = [ScriptedDisk(number) for number in range(2)]
    async with rigged(make_library(tmp_path, unit=UNIT), disks, timing=IMPATIENT, sizes=SMALL) as rig:
        session = await opened(rig, b"a" * 50_000)
        await session.eviction.give_back()
        assert is_away(session)
        disks[first_disk(rig)].damage(fragment_row(session, 0))
        await session.write(50_000, b"b" * 10)
        with pytest.raises(DamagedExtent):
            await session.read(0, 10)
        assert await session.read(50_000, 10) == b"b" * 10
        await rig.engine.release_writer(session)
        assert rig.known(session).bytes == 50_010


def fragment_row(session: WriteSession, offset: int) -> Extent:
    row = fragment_at(session, offset).row
    assert row is not None
    return row


@pytest.mark.parametrize("kind", ["write", "sync"])
async def test_a_disk_that_fails_while_a_unit_is_put_away_costs_nothing(tmp_path: Path, kind: str) -> None:
    disks = [ScriptedDisk(number) for number in range(3)]
    async with rigged(make_library(tmp_path, disks=3, unit=UNIT), disks, timing=IMPATIENT, sizes=SMALL) as rig:
        session = await opened(rig, b"a" * 50_000)
        bad = first_disk(rig)
        disks[bad].fail(kind, errno.EIO)
        await session.eviction.give_back()
        assert is_away(session)
        assert fragment_at(session, 0).disk != bad
        await session.write(50_000, b"b" * 10)
        await end(rig, session, b"a" * 50_000 + b"b" * 10)


async def test_with_too_few_disks_the_writer_is_told(tmp_path: Path) -> None:
    disks = [ScriptedDisk(number) for number in range(2)]
    async with rigged(make_library(tmp_path, unit=UNIT), disks, timing=IMPATIENT, sizes=SMALL) as rig:
        session = await opened(rig, b"a" * 50_000)
        disks[first_disk(rig)].fail("write", errno.EIO)
        await session.eviction.give_back()
        assert session.has_failed
        with pytest.raises(DiskError):
            await session.write(50_000, b"b")
        await rig.engine.release_writer(session)
        assert rig.known(session).error == "EIO"
        budget(rig).buffers.drop()
        assert budget(rig).used == 0


async def test_what_has_a_gap_stays_in_memory(tmp_path: Path) -> None:
    timing = replace(IMPATIENT, memory_patience=math.inf)
    async with rigged(make_library(tmp_path, unit=UNIT), timing=timing, sizes=SMALL) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(4096, b"b" * 4096)  # as the kernel sends pages
        await session.eviction.give_back()
        assert not is_away(session)
        budget(rig).limit = 1
        with trio.fail_after(60):  # as other streams give no memory back, waiting for it would never end
            await session.write(0, b"a" * 4096)
        await end(rig, session, b"a" * 4096 + b"b" * 4096)


async def test_writers_wait_for_memory_and_not_for_ever(tmp_path: Path) -> None:
    timing = replace(IMPATIENT, memory_patience=0.2)
    disks = [ScriptedDisk(number) for number in range(2)]
    async with rigged(make_library(tmp_path, unit=UNIT), disks, timing=timing, sizes=SMALL) as rig:
        budget(rig).limit = MIB
        with disks[0].held("write"), disks[1].held("write"):
            sessions = []
            for seed in range(14):
                sessions.append(await opened(rig, stream(seed, 50_000)))
            late = await rig.engine.open_writer("T1", 0, OPENER)
            began = trio.current_time()
            with trio.fail_after(30):
                await late.write(0, stream(99, 50_000))
            assert trio.current_time() - began >= 0.2
        await end(rig, late, stream(99, 50_000))
        for session in sessions:
            await rig.engine.release_writer(session)


async def write_somehow(session: WriteSession, data: bytes, chance: random.Random) -> None:
    """Write a stream in blocks of any size, with flushes and reads of its own bytes in between."""
    while session.length < len(data):
        at = session.length
        await session.write(at, data[at : at + chance.choice([1, 500, 4096, 30_000, UNIT, 70_000])])
        match chance.randrange(6):
            case 0:
                await session.flush()
            case 1:
                start = chance.randrange(session.length)
                assert await session.read(start, 5000) == data[start : session.length][:5000]
        await trio.sleep(chance.random() / 500)


async def put_away(sessions: list[WriteSession]) -> None:
    """Put the streams away all the time, one after the other."""
    while True:
        for session in sessions:
            if session.eviction.can_give():
                await session.eviction.give_back()
        await trio.lowlevel.checkpoint()


async def read_back(session: WriteSession, data: bytes) -> None:
    """Put away all bytes that a stream holds in memory, and read the stream from its disks."""
    await until(lambda: is_away(session), "the stream to be put away")
    assert await session.read(0, len(data)) == data


@pytest.mark.parametrize("seed", range(6))
async def test_streams_are_whole_whatever_is_put_away_when(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    disks = [ScriptedDisk(number) for number in range(2 + seed % 2)]
    async with rigged(make_library(tmp_path, disks=len(disks), unit=UNIT), disks, timing=IMPATIENT, sizes=SMALL) as rig:
        wanted = [stream(100 * seed + number, chance.randrange(1, 6 * UNIT)) for number in range(4)]
        sessions = [await rig.engine.open_writer("T1", 0, OPENER) for _ in wanted]
        if len(disks) > 2:
            disks[1].fail("write", errno.EIO, at=3)

        async with trio.open_nursery() as giving:
            giving.start_soon(put_away, sessions)
            async with trio.open_nursery() as nursery:
                for session, data in zip(sessions, wanted, strict=True):
                    nursery.start_soon(write_somehow, session, data, chance)
            for session, data in zip(sessions, wanted, strict=True):
                await read_back(session, data)
            giving.cancel_scope.cancel()
        assert sum(disk.count("read") for disk in disks)
        for fault in disks[1].faults:
            fault.happened = True
        for session, data in zip(sessions, wanted, strict=True):
            await end(rig, session, data)


async def test_without_files_to_open_only_streams_that_have_some_are_put_away(tmp_path: Path) -> None:
    sizes = replace(SMALL, spare_files=1 << 40)
    async with rigged(make_library(tmp_path, unit=UNIT), timing=IMPATIENT, sizes=sizes) as rig:
        with_files = [await opened(rig, stream(seed, 40_000)) for seed in range(8)]
        for session in with_files:
            await session.flush()
        budget(rig).limit = MIB
        without = [await opened(rig, stream(seed, 40_000)) for seed in range(8)]
        await until(lambda: all(is_away(session) for session in with_files), "memory")
        assert not any(is_away(session) for session in without)
        for session in with_files + without:
            await rig.engine.release_writer(session)
