"""The bytes that readers have loaded: bounded for all of them together, and freed when a reader is idle or closed."""

import random
from pathlib import Path

import trio
from scripted import OPENER, UNIT, Rig, make_library, rigged, until

from vtlfs.engine.reading.session import ReadSession

DATA = random.Random(1).randbytes(32 * UNIT)


async def readers(rig: Rig, count: int) -> list[ReadSession]:
    await rig.write("T1", DATA, block=10 * UNIT)
    rig.engine._context.memory.limit = 64 * UNIT  # of which readers may have a quarter
    return [await rig.engine.open_reader("T1", 1, len(DATA), 0, OPENER) for _ in range(count)]


async def test_many_readers_have_no_more_loaded_than_their_share(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path)) as rig:
        opened, cache = await readers(rig, 100), rig.engine.cache
        for offset in (0, 10 * UNIT, 11 * UNIT):
            for reader in opened:
                assert bytes(await reader.read(offset, 100)) == DATA[offset : offset + 100]
                assert cache._bytes <= 16 * UNIT
        async with trio.open_nursery() as nursery:
            for reader in opened:
                nursery.start_soon(reader.read, 20 * UNIT, 3 * UNIT)
            for _ in range(20):
                await trio.sleep(0.001)
                assert cache._bytes <= 17 * UNIT
        assert 0 < cache.readers <= 16
        assert sum(len(reader._reader._current[1].loads) for reader in opened if reader._reader._current) <= 16


async def test_what_was_read_lately_stays(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path)) as rig:
        [reader, *others] = await readers(rig, 40)
        await reader.read(10 * UNIT, 100)
        for other in others:
            await other.read(20 * UNIT, 100)
            await reader.read(10 * UNIT + 100, 100)
        [file] = rig.files("T1")
        rows = rig.engine.catalogue.tracking.extents.of(file.session, 0, 1 << 30)
        places = {(row.disk, row.position): row.offset for row in rows}
        read = [places[disk.number, at] for disk in rig.disks for kind, _, at in disk.calls if kind == "read"]
        assert read.count(10 * UNIT) == 1
        assert read.count(20 * UNIT) == len(others)


async def test_idle_readers_do_not_count_for_reading_ahead(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path)) as rig:
        await readers(rig, 1000)
        assert rig.engine._read_ahead() == 4


async def test_idle_and_closed_readers_keep_nothing(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path)) as rig:
        idle, closed = await readers(rig, 2)
        cache, memory = rig.engine.cache, rig.engine._context.memory
        await idle.read(0, 100)
        await until(lambda: not cache._coming, "what was read ahead")
        cache.drop_idle(-1)
        assert (cache._bytes, cache.readers) == (0, 0)
        assert idle._reader._current is not None
        assert not idle._reader._current[1]._rows
        assert bytes(await idle.read(100, 100)) == DATA[100:200]
        rig.engine.release_reader(idle)
        with rig.disks[0].held("read"), rig.disks[1].held("read"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(closed.read, 5 * UNIT, UNIT)
                await until(lambda: any(disk.waiting for disk in rig.disks), "a load")
                rig.engine.release_reader(closed)
                for disk in rig.disks:
                    disk.let_go()
        await until(lambda: not cache._coming, "the loads")
        assert (cache._bytes, cache.readers) == (0, 0)
        memory.buffers.drop()
        assert memory.used == 0
