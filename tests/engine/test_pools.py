"""Streams through pools on engines: who decides where they go, what fails, and what is kept."""

import errno
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from scripted import OPENER, Rig, ScriptedDisk, make_library, rigged

from vtlfs.engine.library import Library
from vtlfs.engine.pool_streams import PoolStream, open_stream
from vtlfs.errors import DiskError, MediumFull, NoSuchPool, NotSequential, PoolEnded, VtlfsError
from vtlfs.model import RetainMode, Stream, utc_now
from vtlfs.rules import MediaRule, PoolRule, Reuse

CAPACITY = 20_000
SPANS = PoolRule("N*", span=True)


def pooled(root: Path, rule: PoolRule = SPANS, media: int = 5, capacity: int | None = CAPACITY) -> Library:
    """Make a library with a pool P of media N1, N2, …"""
    library = make_library(root)
    with closing(library.tracking()) as tracking, tracking.transaction():
        tracking.media.add([f"N{number}" for number in range(1, media + 1)], capacity, utc_now())
    return Library(library.path, replace(library.config, pools={"P": rule}))


@asynccontextmanager
async def engines(library: Library, count: int, disks: Sequence[ScriptedDisk]) -> AsyncIterator[list[Rig]]:
    """Run several mounts of a library on the same disks."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(rigged(library, disks, host=f"h{number}")) for number in range(count)]


async def anything(barcode: str) -> int:
    """Let any stream go to any medium."""
    return 0


async def write(rig: Rig, data: bytes, block: int = 1000) -> PoolStream:
    stream = await open_stream(rig.engine, "P", OPENER, anything)
    try:
        for start in range(0, len(data), block):
            await stream.write(start, data[start : start + block])
        await stream.flush(closing=True)
    finally:
        await stream.release()
    return stream


def files(rig: Rig) -> list[Stream]:
    return rig.engine.catalogue.tracking.pools.files("P", 0, 1000)


async def content(rig: Rig, file: Stream) -> bytes:
    pieces = []
    for part in file.parts:
        reader = rig.engine.medium_reader(part.medium, part.volume, part.end)
        pieces.append(bytes(await reader.read(part.start, part.bytes)))
    return b"".join(pieces)


async def test_stream_spans_and_is_read_back_while_it_is_written(tmp_path: Path) -> None:
    data = os.urandom(50_500)
    async with rigged(pooled(tmp_path)) as rig:
        stream = await open_stream(rig.engine, "P", OPENER, anything)
        for start in range(0, len(data), 700):
            await stream.write(start, data[start : start + 700])
            assert await stream.read(0, start + 700) == data[: start + 700]
        assert await stream.read(19_000, 2000) == data[19_000:21_000], "over the end of a part"
        await stream.write(10_000, data[10_000:])  # once more
        with pytest.raises(NotSequential):
            await stream.write(10_000, b"other")
        await stream.flush(closing=True)
        await stream.release()
        [file] = files(rig)
        assert file.session == stream.number
        assert [part.medium for part in file.parts] == ["N1", "N2", "N3"]
        assert await content(rig, file) == data
        assert rig.engine.memory.reordered == 0


async def test_stream_is_no_file_of_the_pool_before_it_has_ended(tmp_path: Path) -> None:
    async with rigged(pooled(tmp_path)) as rig:
        stream = await open_stream(rig.engine, "P", OPENER, anything)
        for start in range(0, 45_000, 1000):
            await stream.write(start, b"x" * 1000)
        assert rig.files("N1")
        assert not files(rig)
        await stream.flush(closing=True)
        await stream.release()
        assert [file.bytes for file in files(rig)] == [45_000]


async def test_stream_that_wrote_nothing_leaves_no_file_and_takes_no_medium_away(tmp_path: Path) -> None:
    async with rigged(pooled(tmp_path)) as rig:
        await write(rig, b"")
        await write(rig, b"x")
        assert [file.parts[0].medium for file in files(rig)] == ["N1"]


async def test_without_span_the_next_open_lands_on_the_next_medium(tmp_path: Path) -> None:
    async with rigged(pooled(tmp_path, PoolRule("N*"))) as rig:
        for number in range(1, 6):
            with pytest.raises(MediumFull):
                await write(rig, b"x" * 30_000)
            assert rig.files(f"N{number}")[0].bytes == CAPACITY
        with pytest.raises(PoolEnded):
            await write(rig, b"x")
        assert {file.bytes for file in files(rig)} == {CAPACITY}


async def test_medium_without_a_byte_left_is_full_although_no_stream_was_refused(tmp_path: Path) -> None:
    async with rigged(pooled(tmp_path, PoolRule("N*"))) as rig:
        await write(rig, b"x" * CAPACITY)
        await write(rig, b"y")
        assert [file.parts[0].medium for file in files(rig)] == ["N1", "N2"]


async def test_pool_that_library_toml_lacks(tmp_path: Path) -> None:
    async with rigged(pooled(tmp_path)) as rig:
        with pytest.raises(NoSuchPool):
            await open_stream(rig.engine, "Q", OPENER, anything)


async def test_opener_who_may_not_write_to_the_next_medium_leaves_the_pool_where_it_is(tmp_path: Path) -> None:
    async def only_the_first(barcode: str) -> int:
        if barcode != "N1":
            raise DiskError(0, "", OSError(errno.EACCES, "no"))
        return 0

    async with rigged(pooled(tmp_path)) as rig:
        stream = await open_stream(rig.engine, "P", OPENER, only_the_first)
        await stream.write(0, b"x" * CAPACITY)
        with pytest.raises(DiskError):
            await stream.write(CAPACITY, b"y")
        await stream.flush(closing=True)
        await stream.release()
        assert rig.engine.catalogue.tracking.pools.get("P").medium == "N1"
        assert [file.bytes for file in files(rig)] == [CAPACITY]


async def test_end_of_the_pool_leaves_what_came_and_the_stream_can_be_closed(tmp_path: Path) -> None:
    async with rigged(pooled(tmp_path, media=2)) as rig:
        stream = await open_stream(rig.engine, "P", OPENER, anything)
        for start in range(0, 2 * CAPACITY, 1000):
            await stream.write(start, b"x" * 1000)
        for _ in range(2):
            with pytest.raises(PoolEnded) as raised:
                await stream.write(2 * CAPACITY, b"y")
            assert raised.value.errno == errno.ENOSPC
        await stream.flush(closing=True)
        await stream.release()
        assert [file.bytes for file in files(rig)] == [2 * CAPACITY]
        assert rig.known(stream._parts[0].session).error is None
        assert rig.known(stream._parts[1].session).error == "ENOSPC"


async def test_part_that_can_not_be_made_durable_fails_the_stream(tmp_path: Path) -> None:
    disks = [ScriptedDisk(number) for number in range(2)]
    async with rigged(pooled(tmp_path), disks) as rig:
        stream = await open_stream(rig.engine, "P", OPENER, anything)
        await stream.write(0, b"x" * CAPACITY)
        for disk in disks:
            disk.fail("sync", errno.EIO)
        with pytest.raises(VtlfsError):
            await stream.write(CAPACITY, b"y")
        with pytest.raises(VtlfsError):
            await stream.flush(closing=True)
        await stream.release()
        assert len(stream._parts) == 1, "no part was opened behind one that failed"
        assert rig.known(stream._parts[0].session).state == "failed"


async def test_moves_that_are_cut_short_leave_no_part_open(tmp_path: Path) -> None:
    """A program may write on after a write that was cut short: all parts that it has left are released with it."""
    scope = trio.CancelScope()

    async def cut_short(barcode: str) -> int:
        scope.cancel()
        return 0

    rule = replace(SPANS, grow=True, capacity=CAPACITY)
    async with rigged(pooled(tmp_path, rule, media=1)) as rig:
        stream = await open_stream(rig.engine, "P", OPENER, cut_short)
        for start in (0, CAPACITY):
            await stream.write(start, b"x" * CAPACITY)
            with trio.CancelScope() as scope:
                await stream.write(start + CAPACITY, b"y")
            assert scope.cancelled_caught
        assert len(stream._parts) == 3
        assert len(rig.engine.figures().sessions) == 3, "each move was cut short behind the opening of the next part"
        await stream.release()
        assert [rig.known(part.session).state for part in stream._parts] == ["released"] * 3
        assert rig.engine.figures().sessions == {}


async def test_two_mounts_at_once_pass_over_no_medium_and_lose_no_stream(tmp_path: Path) -> None:
    library = pooled(tmp_path, replace(SPANS, grow=True, capacity=CAPACITY), media=3)
    disks = [ScriptedDisk(number) for number in range(2)]
    wanted: dict[int, bytes] = {}
    async with engines(library, 2, disks) as rigs:

        async def one(rig: Rig, size: int) -> None:
            data = os.urandom(size)
            wanted[(await write(rig, data)).number] = data

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(one, rigs[number % 2], 1000 + 1500 * (number % 12))
        for rig in rigs:
            assert {file.session: await content(rig, file) for file in files(rig)} == wanted
        media = [one for one in rigs[0].engine.catalogue.tracking.media.all() if one.barcode.startswith("N")]
        ordered = sorted(media, key=lambda one: int(one.barcode[1:]))
        assert [one.barcode for one in ordered] == [f"N{number}" for number in range(1, len(ordered) + 1)]
        assert all(one.bytes for one in ordered), "none was passed over, and none was added that nobody took"
        # A medium is left when a write of 1000 bytes did not fit.
        assert all((one.left or 0) < 1000 for one in ordered[:-1])


async def test_pool_reuses_the_oldest_expired_medium_with_an_event(tmp_path: Path) -> None:
    library = pooled(tmp_path, media=2)
    rule = replace(SPANS, reuse=Reuse.OLDEST_EXPIRED)
    media = {"N*": MediaRule(RetainMode.COMPLIANCE, 1)}
    library = Library(library.path, replace(library.config, pools={"P": rule}, media=media))
    async with rigged(library) as rig:
        for _ in range(2):
            await write(rig, b"x" * CAPACITY)
        with pytest.raises(PoolEnded):
            await write(rig, b"y")
        # The highest time that was ever recorded is what counts: a year passes.
        await rig.engine.change(lambda tracking: tracking.volumes.note_time("2099-01-01T00:00:00.000000Z"))
        await write(rig, b"y" * 100)
        tracking = rig.engine.catalogue.tracking
        assert tracking.media.get("N1").volume == 2
        assert tracking.media.get("N1").bytes == 100
        assert tracking.media.get("N2").bytes == CAPACITY
        [event] = [event for event in tracking.events.find() if event.what == "erased"]
        assert (event.medium, event.volume, event.details["pool"]) == ("N1", 1, "P")
        assert (event.program, event.host) == (OPENER.program, OPENER.host)


async def test_pool_passes_over_a_medium_that_is_retained_for_ever_since_later(tmp_path: Path) -> None:
    """It was retained until a date before the rule became WORM; another medium's retention is over."""
    library = pooled(tmp_path, media=2)
    rule = replace(SPANS, reuse=Reuse.OLDEST_EXPIRED)
    media = {"N*": MediaRule(RetainMode.COMPLIANCE, 1)}
    library = Library(library.path, replace(library.config, pools={"P": rule}, media=media))
    async with rigged(library) as rig:
        for _ in range(2):
            await write(rig, b"x" * CAPACITY)
        worm = MediaRule(RetainMode.WORM)
        await rig.engine.change(lambda tracking: tracking.volumes.begin_retention("N1", worm))
        await rig.engine.change(lambda tracking: tracking.volumes.note_time("2099-01-01T00:00:00.000000Z"))
        await write(rig, b"y" * 100)
        tracking = rig.engine.catalogue.tracking
        assert [tracking.media.get(barcode).bytes for barcode in ("N1", "N2")] == [CAPACITY, 100]


async def test_disks_remember_a_medium_that_a_pool_has_added(tmp_path: Path) -> None:
    library = pooled(tmp_path, replace(SPANS, grow=True, capacity=CAPACITY), media=1)
    async with rigged(library) as rig:
        for _ in range(2):
            await write(rig, b"x" * CAPACITY)
        for disk in rig.disks:
            known = dict(disk.cartridges())["N2.cartridge"]
            assert known is not None
            assert known.capacity == CAPACITY
