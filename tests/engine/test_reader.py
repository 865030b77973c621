"""Reading any part of a medium: extents are read ahead from all disks at once, and each is checked."""

import errno
import random
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import OPENER, SECONDS, UNIT, Rig, make_library, rigged, until

from vtlfs.engine.library import Library
from vtlfs.errors import DamagedExtent, DiskError, VtlfsError

SIZES = [1, UNIT, 3 * UNIT + 5, 10, 7 * UNIT, 2 * UNIT - 1]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rigged(make_library(tmp_path)) as rig:
        yield rig


@pytest.fixture(scope="module")
def used_once(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return make_library(tmp_path_factory.mktemp("reader"), disks=3)


def stream(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


@settings(deadline=None, max_examples=15)
@given(sizes=st.lists(st.integers(1, 5 * UNIT), min_size=1, max_size=5), seed=st.integers(0, 2**32))
def test_any_part_of_a_medium_is_what_was_written_there(used_once: Library, sizes: list[int], seed: int) -> None:
    streams = [stream(seed + number, size) for number, size in enumerate(sizes)]

    async def run() -> None:
        async with rigged(used_once) as rig:
            start = rig.engine.catalogue.tracking.media.get("T1").bytes
            for data in streams:
                await rig.write("T1", data, block=10 * UNIT)
            whole, source = b"".join(streams), random.Random(seed)
            end = start + len(whole)
            reader = rig.engine.medium_reader("T1", 1, end)
            for _ in range(20):
                offset, size = source.randrange(len(whole) + 10), source.choice([1, 100, UNIT, 3 * UNIT, 1 << 20])
                assert bytes(await reader.read(start + offset, size)) == whole[offset : offset + size]

    trio.run(run)


async def test_reading_ends_where_the_medium_ended_at_open(rig: Rig) -> None:
    for number, size in enumerate(SIZES):
        await rig.write("T1", stream(number, size))
    whole = b"".join(stream(number, size) for number, size in enumerate(SIZES))
    reader = rig.engine.medium_reader("T1", 1, len(whole))
    await rig.write("T1", b"later")
    assert bytes(await reader.read(0, 1 << 20)) == whole
    assert bytes(await reader.read(len(whole), 10)) == b""
    assert bytes(await reader.read(len(whole) + 1000, 10)) == b""
    assert bytes(await reader.read(0, 0)) == b""


async def test_sequential_reading_keeps_all_disks_at_work(rig: Rig) -> None:
    data = stream(1, 16 * UNIT)
    await rig.write("T1", data)
    reader = rig.engine.medium_reader("T1", 1, len(data))
    received: list[bytes] = []

    async def read() -> None:
        for start in range(0, len(data), 1000):
            received.append(bytes(await reader.read(start, 1000)))

    async with trio.open_nursery() as nursery:
        with rig.disks[0].held("read"), rig.disks[1].held("read"):
            nursery.start_soon(read)
            await until(lambda: rig.disks[0].waiting and rig.disks[1].waiting, "both disks to read")
            assert received == []
    assert b"".join(received) == data
    assert sum(disk.count("read") for disk in rig.disks) == 16


async def test_reading_ahead_is_limited(rig: Rig) -> None:
    data = stream(1, 100 * UNIT)
    await rig.write("T1", data)
    reader = rig.engine.medium_reader("T1", 1, len(data))
    await reader.read(0, 10)
    await reader.read(10, 10)
    assert sum(disk.count("read") for disk in rig.disks) <= 6
    assert bytes(await reader.read(50 * UNIT, 10)) == data[50 * UNIT : 50 * UNIT + 10]
    assert sum(disk.count("read") for disk in rig.disks) <= 12


async def test_hung_disk_holds_up_only_what_lies_on_it(rig: Rig) -> None:
    sessions = [await rig.write("T1", stream(number, 50)) for number in range(2)]
    on = {rig.extents(session)[0].disk: number for number, session in enumerate(sessions)}
    assert set(on) == {0, 1}
    async with trio.open_nursery() as nursery:
        with rig.disks[0].held("read"), trio.fail_after(SECONDS):
            nursery.start_soon(rig.read, "T1", 50 * on[0], 50)
            await until(lambda: rig.disks[0].waiting == 1, "the disk to hang")
            assert await rig.read("T1", 50 * on[1], 50) == stream(on[1], 50)


async def test_damaged_unit_is_never_handed_out(rig: Rig) -> None:
    data = stream(1, 6 * UNIT)
    session = await rig.write("T1", data)
    bad = rig.extents(session)[3]
    rig.disks[bad.disk].damage(bad)
    assert await rig.read("T1", 0, 3 * UNIT) == data[: 3 * UNIT]
    assert await rig.read("T1", 4 * UNIT) == data[4 * UNIT :]
    for offset, size in ((3 * UNIT, 1), (0, 6 * UNIT), (4 * UNIT - 1, 2)):
        with pytest.raises(DamagedExtent) as told:
            await rig.read("T1", offset, size)
        assert (told.value.session, told.value.offset, told.value.disk) == (session.number, 3 * UNIT, bad.disk)


async def test_failed_read_tells_the_errno_and_later_ones_may_succeed(rig: Rig) -> None:
    data = stream(1, 2 * UNIT)
    await rig.write("T1", data)
    reader = rig.engine.medium_reader("T1", 1, len(data))
    faults = [disk.fail("read", errno.ENXIO) for disk in rig.disks]
    with pytest.raises(DiskError) as told:
        await reader.read(0, 2 * UNIT)
    assert told.value.errno == errno.ENXIO
    await until(lambda: all(fault.happened for fault in faults), "what is read ahead fails too")
    with pytest.raises(DiskError):  # what was read ahead has failed too
        await reader.read(0, 2 * UNIT)
    assert bytes(await reader.read(0, 2 * UNIT)) == data


async def test_damage_is_located_on_the_medium_and_news_once_for_each_reader(rig: Rig) -> None:
    await rig.write("T1", stream(0, 50))
    session = await rig.write("T1", stream(1, 2 * UNIT))
    bad = rig.extents(session)[1]
    rig.disks[bad.disk].damage(bad)
    for _ in range(2):
        reader = rig.engine.medium_reader("T1", 1, 50 + 2 * UNIT)
        for is_news in (True, False):
            with pytest.raises(DamagedExtent) as told:
                await reader.read(50 + UNIT, 10)
            assert f"(medium T1, tape file 0001, offset {UNIT}, {50 + UNIT} on the medium)" in str(told.value)
            assert told.value.is_news is is_news


async def test_failed_disk_is_located_on_the_medium_too(rig: Rig) -> None:
    session = await rig.write("T1", stream(1, UNIT))
    rig.disks[rig.extents(session)[0].disk].fail("read", errno.EIO)
    with pytest.raises(DiskError) as told:
        await rig.read("T1", 0, 10)
    assert told.value.is_news
    what = f"session {session.number}; medium T1, tape file 0000, offset 0, 0 on the medium"
    assert str(told.value).endswith(f"Input/output error ({what})")


async def test_unit_that_the_database_lost_is_damage(rig: Rig) -> None:
    data = stream(1, 3 * UNIT)
    session = await rig.write("T1", data)
    with closing(rig.engine.library.tracking()) as tracking, tracking.transaction():
        tracking.sql.execute("DELETE FROM extent WHERE session = ? AND offset = ?", session.number, UNIT)
    reader = rig.engine.medium_reader("T1", 1, len(data))
    assert bytes(await reader.read(0, UNIT)) == data[:UNIT], "also where the next unit is fetched ahead"
    with pytest.raises(DamagedExtent, match="does not know where it lies"):
        await reader.read(UNIT, UNIT)
    assert bytes(await reader.read(2 * UNIT, UNIT)) == data[2 * UNIT :]


async def test_read_session_is_tracked_with_what_it_read(rig: Rig) -> None:
    await rig.write("T1", stream(1, 5000))
    session = await rig.engine.open_reader("T1", 1, 5000, 2, OPENER)
    assert bytes(await session.read(1000, 3000)) == stream(1, 5000)[1000:4000]
    assert bytes(await session.read(4000, 3000)) == stream(1, 5000)[4000:]
    known, received = await rig.engine.describe(session.number)
    assert (known.state, known.access, known.drive, known.bytes, received) == ("open", "read", 2, 0, 4000)
    assert await rig.engine.open_sessions() == [session.number]
    rig.engine.release_reader(session)
    known, received = await rig.engine.describe(session.number)
    assert (known.state, known.error, known.bytes, known.requests, received) == ("released", None, 4000, 2, 4000)
    assert await rig.engine.open_sessions() == []


async def test_read_session_that_met_damage_has_failed(rig: Rig) -> None:
    written = await rig.write("T1", stream(1, 100))
    unit = rig.extents(written)[0]
    rig.disks[unit.disk].damage(unit)
    session = await rig.engine.open_reader("T1", 1, 100, 0, OPENER)
    with pytest.raises(VtlfsError):
        await session.read(0, 100)
    rig.engine.release_reader(session)
    known, _ = await rig.engine.describe(session.number)
    assert (known.state, known.error) == ("failed", "EIO")
