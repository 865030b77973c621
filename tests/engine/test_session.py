"""Write sessions: out of order, in pieces, on disks that fail, hang and fill up."""

import errno
import os
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted import OPENER, SECONDS, UNIT, Rig, make_library, rigged, until

from vtlfs.disks.records import BLOCK
from vtlfs.engine.library import Library
from vtlfs.engine.writing.session import WriteSession
from vtlfs.errors import DiskError, MediumFull, NotSequential, VtlfsError
from vtlfs.model import Extent
from vtlfs.timing import Timing

PAGE = 4096
BIG_UNIT = 4 * PAGE


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rigged(make_library(tmp_path)) as rig:
        yield rig


@pytest.fixture(scope="module")
def many_pages(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """A library with stripe units of four pages on three disks, for many examples."""
    return make_library(tmp_path_factory.mktemp("pages"), disks=3, unit=BIG_UNIT)


def stream(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


# --- the kernel's writeback -----------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), st.integers(1, 6 * PAGE)),
        st.tuples(st.just("write back"), st.integers(0, 2**32)),
        st.tuples(st.just("repeat"), st.integers(0, 2**32)),
        st.tuples(st.just("checkpoint"), st.just(0)),
        st.tuples(st.just("flush"), st.integers(0, 2**32)),
    ),
    min_size=1,
    max_size=40,
)


class PageCache:
    """Plays the kernel: a stream grows in its page cache, and dirty pages come in any order, alone or gathered."""

    def __init__(self, rig: Rig, session: WriteSession, data: bytes) -> None:
        self.rig, self.session, self.data = rig, session, data
        self.length = 0
        self.dirty: set[int] = set()

    async def step(self, what: str, number: int) -> None:
        source = random.Random(number)
        match what:
            case "grow":
                start, self.length = self.length, min(self.length + number, len(self.data))
                self.dirty |= set(range(start // PAGE, -(-self.length // PAGE)))
            case "write back":
                await self.send({page for page in self.dirty if source.random() < 0.6}, source)
            case "repeat":
                await self.send({source.randrange(self.length // PAGE + 1) for _ in range(2)} - self.unsent(), source)
            case "checkpoint":
                await self.session.checkpoint()
            case "flush":
                await self.send(set(self.dirty), source)
                await self.session.flush()
                assert self.rig.known(self.session).bytes == self.length
                assert self.rig.durable(self.session) == self.data[: self.length]

    def unsent(self) -> set[int]:
        """Return the pages that were not sent yet: a page must not be repeated before it was sent once."""
        return self.dirty | {self.length // PAGE} if self.length % PAGE == 0 else set(self.dirty)

    async def send(self, pages: set[int], source: random.Random) -> None:
        """Send pages in runs of up to three, the runs in any order and partly at the same time."""
        runs: list[list[int]] = []
        for page in sorted(pages):
            if runs and runs[-1][-1] == page - 1 and len(runs[-1]) < 3:
                runs[-1].append(page)
            else:
                runs.append([page])
        source.shuffle(runs)
        self.dirty -= pages
        async with trio.open_nursery() as nursery:
            for run in runs:
                start, end = run[0] * PAGE, min((run[-1] + 1) * PAGE, self.length)
                nursery.start_soon(self.session.write, start, self.data[start:end])


def check_extents(extents: list[Extent], length: int, unit: int) -> None:
    """Check that extents follow each other, each in one stripe unit and in a place of its own."""
    assert [one.offset for one in extents] == [0, *(one.end for one in extents[:-1])]
    assert extents[-1].end == length
    assert all((one.offset or 0) // unit == (one.end - 1) // unit for one in extents)
    assert len({(one.disk, one.position) for one in extents}) == len(extents)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, last=st.integers(0, 2**32))
def test_pages_in_any_order_and_repeated_make_the_stream(
    many_pages: Library, steps: list[tuple[str, int]], last: int
) -> None:
    data = stream(last, 300_000)

    async def run() -> None:
        async with rigged(many_pages) as rig:
            session = await rig.engine.open_writer("T1", 0, OPENER)
            session.note_page_cache()
            cache = PageCache(rig, session, data)
            for step in [*steps, ("flush", last)]:
                await cache.step(*step)
            await rig.engine.release_writer(session)
            known = rig.known(session)
            assert (known.state, known.error, known.bytes) == ("released", None, cache.length)
            if cache.length == 0:
                assert known.tape_file is None
                return
            assert known.tape_file is not None
            tape_file = rig.files("T1")[known.tape_file]
            assert await rig.read("T1", tape_file.start, tape_file.bytes) == data[: cache.length]
            assert rig.durable(session) == data[: cache.length]
            extents = rig.extents(session)
            check_extents(extents, cache.length, BIG_UNIT)
            assert [one.disk for one in extents] == [(extents[0].disk + n) % 3 for n in range(len(extents))]

    trio.run(run)


@pytest.mark.parametrize("block", [1, 100, UNIT - 1, UNIT, UNIT + 1, 5 * UNIT + 7])
async def test_stream_in_order_is_striped_and_comes_back(rig: Rig, block: int) -> None:
    data = stream(block, 20 * UNIT + 3 if block > 1 else 5000)
    session = await rig.write("T1", data, block=block)
    assert await rig.read("T1") == data
    extents = rig.extents(session)
    check_extents(extents, len(data), UNIT)
    assert all(one.bytes == UNIT for one in extents[:-1])
    assert [one.disk for one in extents] == [(extents[0].disk + n) % 2 for n in range(len(extents))]
    assert [one.position for one in extents] == [BLOCK + n // 2 * (BLOCK + UNIT) for n in range(len(extents))]
    known = rig.known(session)
    assert (known.requests, known.bytes, known.disks) == (-(-len(data) // block), len(data), (0, 1))
    endings = [disk.finished[session.number] for disk in rig.disks]
    assert all(ending is not None and ending.bytes == len(data) for ending in endings)


async def test_large_pieces_that_begin_anywhere(tmp_path: Path) -> None:
    """From 64 KiB on, pieces are kept as they came; smaller ones and overlapping ones are copied."""
    data = stream(1, 6 << 20)
    async with rigged(make_library(tmp_path, unit=1 << 20)) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        source, start = random.Random(5), 0
        pieces = []
        while start < len(data):
            size = source.choice([100, 4096, 65_536, 100_000, 1_000_000, 1 << 20])
            pieces.append((start, data[start : start + size]))
            start += size
        for first in range(0, len(pieces), 3):
            some = pieces[first : first + 3]
            source.shuffle(some)
            for offset, piece in some:
                await session.write(offset, piece)
                await session.write(offset, piece[: len(piece) // 2])
            if first % 2:
                await session.flush()
        await rig.engine.release_writer(session)
        assert await rig.read("T1") == data
        assert rig.durable(session) == data


async def test_own_stream_is_read_wherever_it_is(rig: Rig) -> None:
    data = stream(1, 10 * UNIT + 100)
    session = await rig.engine.open_writer("T1", 0, OPENER)
    for start in range(0, len(data), 1500):
        await session.write(start, data[start : start + 1500])
        end = min(start + 1500, len(data))
        for offset in (0, start, start // 2, max(0, start - UNIT)):
            assert await session.read(offset, 3000) == data[offset : min(offset + 3000, end)]
        if start % 4 == 0:
            await session.flush()
    assert await session.read(0, 1 << 20) == data
    assert await session.read(len(data), 10) == b""
    await rig.engine.release_writer(session)


async def test_repeated_bytes_that_differ_are_refused(rig: Rig) -> None:
    data = stream(1, 4 * UNIT)
    session = await rig.engine.open_writer("T1", 0, OPENER)
    await session.write(0, data)
    await session.write(UNIT, data[UNIT : 2 * UNIT])
    with pytest.raises(NotSequential):
        await session.write(UNIT + 5, b"something else")
    await session.write(len(data), b"the end")
    await session.flush()
    await rig.engine.release_writer(session)
    assert await rig.read("T1") == data + b"the end"


# --- durability -----------------------------------------------------------------------------------------------------


async def test_flush_makes_durable_first_and_records_then(rig: Rig) -> None:
    data = stream(1, 3 * UNIT + 10)
    session = await rig.engine.open_writer("T1", 0, OPENER)
    await session.write(0, data)
    with rig.disks[1].held("sync"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.flush)
            await until(lambda: rig.disks[1].waiting == 1 and rig.disks[0].count("sync") == 1, "the syncs")
            assert rig.known(session).bytes == 0
            assert rig.extents(session) == []
            rig.disks[1].let_go()
    assert rig.known(session).bytes == len(data)
    assert rig.durable(session) == data
    await rig.engine.release_writer(session)


async def test_each_flush_records_a_further_extent(rig: Rig) -> None:
    data = stream(1, 3 * UNIT)
    session = await rig.engine.open_writer("T1", 0, OPENER)
    for end in (1, 2, 100, UNIT - 1, UNIT, UNIT + 1, 2 * UNIT + 5, 3 * UNIT):
        await session.write(session.length, data[session.length : end])
        await session.flush()
        await session.flush()
        assert rig.known(session).bytes == end
        assert rig.durable(session) == data[:end]
    await rig.engine.release_writer(session)
    assert await rig.read("T1") == data


async def test_checkpoint_records_the_full_units_of_the_page_cache(rig: Rig) -> None:
    data = stream(1, 5 * UNIT + 10)
    session = await rig.engine.open_writer("T1", 0, OPENER)
    session.note_page_cache()
    await session.write(0, data)
    await until(lambda: rig.disks[0].count("write") + rig.disks[1].count("write") == 5, "the writes")
    await session.checkpoint()
    assert rig.known(session).bytes == 5 * UNIT
    assert rig.durable(session) == data[: 5 * UNIT]
    await session.checkpoint()
    await session.flush()
    await rig.engine.release_writer(session)
    assert await rig.read("T1") == data


@pytest.mark.parametrize("size", [UNIT // 3, UNIT - 1, UNIT, UNIT + 1, 5 * UNIT // 2])
async def test_checkpoint_records_whole_writes(rig: Rig, size: int) -> None:
    """Also while writes go on: what comes during a checkpoint is recorded up to the end of a write, or not at all."""
    data = stream(1, 40 * size)
    session = await rig.engine.open_writer("T1", 0, OPENER)
    lengths = []

    async def write(first: int, end: int) -> None:
        for number in range(first, end):
            await session.write(number * size, data[number * size : (number + 1) * size])
            await trio.lowlevel.checkpoint()

    await write(0, 20)
    await session.checkpoint()
    assert (rig.known(session).bytes, session.length) == (20 * size, 20 * size)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, 20, 40)
        for _ in range(5):
            await session.checkpoint()
            lengths.append(rig.known(session).bytes)
    assert [length % size for length in lengths] == [0] * 5
    assert lengths == sorted(lengths)
    assert rig.durable(session) == data[: rig.known(session).bytes]
    await session.flush()
    await rig.engine.release_writer(session)
    assert await rig.read("T1") == data


async def test_checkpoint_leaves_a_short_stream_in_hand(rig: Rig) -> None:
    """So that a program may still replace its own bytes, such as a label."""
    session = await rig.engine.open_writer("T1", 0, OPENER)
    await session.write(0, b"label 1")
    await session.checkpoint()
    assert rig.known(session).bytes == 0
    await session.write(0, b"label 2")
    await session.flush()
    await rig.engine.release_writer(session)
    assert await rig.read("T1") == b"label 2"


async def test_checkpoint_records_what_a_writeback_has_synced(tmp_path: Path) -> None:
    """All extents of the open stripe are durable then, but its parity has not been written."""
    async with rigged(make_library(tmp_path, disks=4, parity=1)) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, b"x" * UNIT)
        await session._pipeline.drain()
        await session.writeback(1)
        assert not session._stripes.unsynced
        await session.checkpoint()
        assert rig.known(session).bytes == UNIT
        await session.flush()
        await rig.engine.release_writer(session)


async def test_checkpoint_records_nothing_behind_a_gap(rig: Rig) -> None:
    data = stream(1, 5 * UNIT)
    session = await rig.engine.open_writer("T1", 0, OPENER)
    await session.write(0, data[:UNIT])
    await session.write(2 * UNIT, data[2 * UNIT :])
    await until(lambda: rig.disks[0].count("write") + rig.disks[1].count("write") == 1, "the write")
    await session.checkpoint()
    assert rig.known(session).bytes == UNIT
    await session.write(UNIT, data[UNIT : 2 * UNIT])
    await session.flush()
    assert rig.known(session).bytes == 5 * UNIT
    await rig.engine.release_writer(session)
    assert await rig.read("T1") == data


async def test_engine_checkpoints_running_streams(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    library = Library(library.path, replace(library.config, checkpoint=0.01))
    async with rigged(library) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, stream(1, 3 * UNIT + 1))
        await until(lambda: rig.known(session).bytes == 3 * UNIT + 1, "a checkpoint")
        await session.flush()
        await rig.engine.release_writer(session)


async def test_without_sync_close_does_not_wait_for_it_and_fsync_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    async with rigged(make_library(tmp_path), durable_close=False) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        monkeypatch.setattr(os, "fsync", watched)
        await session.write(0, b"x" * 100)
        await session.flush()
        assert rig.known(session).bytes == 100
        assert [disk.count("sync") for disk in rig.disks] == [0, 0]
        assert synced == []
        await session.fsync()
        assert [name for name in synced if name.endswith("tracking.db-wal")]
        assert sum(disk.count("sync") for disk in rig.disks) == 1
        assert rig.durable(session) == b"x" * 100
        await session.write(100, b"y" * 50)
        await session.flush()
        await rig.engine.release_writer(session)
        assert rig.durable(session) == b"x" * 100 + b"y" * 50


# --- failing disks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("at", [1, 2, 4])
async def test_failed_write_is_told_at_flush_and_the_prefix_is_kept(
    rig: Rig, error: int, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    data = stream(1, 12 * UNIT + 1)
    session = await rig.engine.open_writer("T1", 0, OPENER)
    rig.disks[1].fail("write", error, at)

    async def write() -> None:
        for start in range(0, len(data), 1000):
            await session.write(start, data[start : start + 1000])
        await session.flush()

    with pytest.raises(DiskError) as told:
        await write()
    assert told.value.errno == error
    for again in (session.flush, session.fsync, lambda: session.write(session.length, b"more")):
        with pytest.raises(DiskError) as told:
            await again()
        assert told.value.errno == error
    await rig.engine.release_writer(session)
    known = rig.known(session)
    assert (known.state, known.error) == ("failed", errno.errorcode[error])
    first = min(call[2] for call in rig.disks[1].calls if call[0] == "write")
    failed = first + 2 * (at - 1) * UNIT
    assert known.bytes == failed
    if failed:
        assert await rig.read("T1") == data[:failed]
        assert rig.durable(session) == data[:failed]
    else:
        assert rig.files("T1") == []
    level = "WARNING" if error == errno.ENOSPC else "ERROR"
    assert [(record.name, record.levelname) for record in caplog.records] == [
        ("vtlfs.disks.pool", level),
        ("vtlfs.engine.writing.verdict", level),
    ]


async def test_failed_stream_harms_no_other(rig: Rig) -> None:
    bad = await rig.engine.open_writer("T1", 0, OPENER)
    good = await rig.engine.open_writer("T1", 0, OPENER)
    rig.disks[0].fail("write", errno.EIO)
    await bad.write(0, stream(1, 2 * UNIT))
    with pytest.raises(DiskError):
        await bad.flush()
    await good.write(0, stream(2, 10 * UNIT))
    await good.flush()
    await rig.engine.release_writer(good)
    await rig.engine.release_writer(bad)
    assert (rig.known(good).state, rig.known(bad).state) == ("released", "failed")
    assert await rig.read("T1", 0, 10 * UNIT) == stream(2, 10 * UNIT)


@pytest.mark.parametrize("disk", [0, 1])
async def test_what_a_failed_sync_was_to_make_durable_is_never_recorded(rig: Rig, disk: int) -> None:
    """The next sync succeeds, as on Linux, but the bytes are gone."""
    data = stream(1, 8 * UNIT)
    session = await rig.engine.open_writer("T1", 0, OPENER)
    await session.write(0, data[: 3 * UNIT + 5])
    await session.flush()
    await session.write(3 * UNIT + 5, data[3 * UNIT + 5 :])
    rig.disks[disk].fail("sync", errno.EIO)
    for _ in range(2):
        with pytest.raises(DiskError) as told:
            await session.flush()
        assert told.value.errno == errno.EIO
    await rig.engine.release_writer(session)
    known = rig.known(session)
    assert (known.state, known.error) == ("failed", "EIO")
    assert 3 * UNIT + 5 <= known.bytes < len(data)
    assert rig.durable(session) == data[: known.bytes]
    assert await rig.read("T1") == data[: known.bytes]


async def test_failed_checkpoint_is_told_at_the_next_write(rig: Rig) -> None:
    session = await rig.engine.open_writer("T1", 0, OPENER)
    await session.write(0, stream(1, 4 * UNIT))
    await until(lambda: rig.disks[0].count("write") + rig.disks[1].count("write") == 4, "the writes")
    rig.disks[0].fail("sync", errno.EIO)
    await session.checkpoint()
    with pytest.raises(DiskError):
        await session.write(4 * UNIT, b"more")
    await rig.engine.release_writer(session)
    assert rig.known(session).state == "failed"
    assert rig.durable(session) == stream(1, 4 * UNIT)[: rig.known(session).bytes]


async def test_failure_at_finish_is_only_logged(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.disks[0].fail("finish", errno.EIO)
    session = await rig.write("T1", stream(1, 4 * UNIT))
    assert rig.known(session).state == "released"
    assert await rig.read("T1") == stream(1, 4 * UNIT)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


# --- disks that hang ------------------------------------------------------------------------------------------------


async def test_hung_disk_holds_up_only_the_streams_that_use_it(rig: Rig) -> None:
    hung, good = rig.disks
    sessions = [await rig.engine.open_writer("T1", 0, OPENER) for _ in range(4)]
    finished: list[int] = []

    async def write(number: int) -> None:
        await sessions[number].write(0, b"%d" % number * 100)
        await sessions[number].flush()
        finished.append(number)
        await rig.engine.release_writer(sessions[number])

    async with trio.open_nursery() as nursery:
        with hung.held():
            for number in range(4):
                nursery.start_soon(write, number)
            await until(lambda: len(finished) == 2 and hung.waiting == 1, "the streams on the good disk")
            await until(lambda: len(rig.files("T1")) == 2, "their tape files")
            assert good.waiting == 0
            await rig.engine.wait_visible("T1")
            assert len(await rig.read("T1")) == 200
            held_up = set(range(4)) - set(finished)
            assert all(rig.known(sessions[number]).state == "open" for number in held_up)
    assert sorted(finished) == [0, 1, 2, 3]
    assert all(rig.known(session).state == "released" for session in sessions)
    assert len(await rig.read("T1")) == 400


async def test_new_streams_begin_on_disks_that_answer(rig: Rig) -> None:
    hung, _ = rig.disks
    stuck = [await rig.engine.open_writer("T1", 0, OPENER) for _ in range(2)]
    # Only after each stream has begun on a disk of its own: without patience, a probe in progress counts as a hang.
    rig.engine.pool[hung.number]._timing = Timing(stalled=0.0)
    async with trio.open_nursery() as nursery:
        with hung.held():
            for session in stuck:
                await session.write(0, b"x")
                nursery.start_soon(session.flush)
            await until(lambda: hung.waiting == 1, "the disk to hang")
            for number in range(6):
                await rig.write("T2", b"%d" % number * 50)
            assert len(await rig.read("T2")) == 300
    for session in stuck:
        await rig.engine.release_writer(session)


async def test_release_is_seen_although_a_disk_holds_up_the_tidying(rig: Rig) -> None:
    """The bytes that close() acknowledged are durable, so a look-up must not wait for a disk that hangs afterwards."""
    session = await rig.engine.open_writer("T1", 0, OPENER)
    data = stream(1, 4 * UNIT)
    await session.write(0, data)
    await session.flush()
    async with trio.open_nursery() as nursery:
        with rig.disks[0].held("finish", "write"), trio.fail_after(SECONDS):
            nursery.start_soon(rig.engine.release_writer, session)
            await until(lambda: rig.disks[0].waiting == 1, "the tidying up")
            await rig.engine.wait_visible("T1")
            assert rig.engine.catalogue.tracking.media.get("T1").bytes == len(data)
            assert await rig.read("T1") == data
            assert await rig.engine.open_sessions() == []


async def test_queue_of_a_disk_is_bounded(tmp_path: Path) -> None:
    data = stream(1, 60 * UNIT)
    async with rigged(make_library(tmp_path, memory=48 * UNIT)) as rig:  # an eighth of it may be queued
        limit = 3
        sessions = [await rig.engine.open_writer("T1", 0, OPENER) for _ in range(3)]
        written = dict.fromkeys(range(3), 0)

        async def write(number: int) -> None:
            for start in range(0, len(data), UNIT):
                await sessions[number].write(start, data[start : start + UNIT])
                written[number] += 1
            await sessions[number].flush()
            await rig.engine.release_writer(sessions[number])

        async with trio.open_nursery() as nursery:
            with rig.disks[0].held("write"):
                for number in range(3):
                    nursery.start_soon(write, number)
                await until(lambda: rig.engine.pool[0].queue.value == 0, "a full queue")
                await until(lambda: rig.engine.pool[1].queue.value == limit, "the other disk to have nothing to do")
                # On their way to the hung disk are the extents in its queue, and one for each writer that waits.
                assert sum(written.values()) <= 2 * (limit + 3)
                await until(
                    lambda: rig.disks[0].count("write") == 1, "the disk's thread at its first write, and no more"
                )
        assert set(written.values()) == {60}
        assert await rig.read("T1") == data * 3


# --- room -----------------------------------------------------------------------------------------------------------


async def test_write_that_a_disk_has_no_room_for_is_refused_as_a_whole(rig: Rig) -> None:
    data = stream(1, 20 * UNIT)
    for disk in rig.disks:
        disk.free = 0  # so that each unit is allocated before it is taken
    session = await rig.engine.open_writer("T1", 0, OPENER)
    await session.write(0, data[: 4 * UNIT + 10])
    rig.disks[1].fail("allocate", errno.ENOSPC)
    with pytest.raises(DiskError) as told:
        await session.write(4 * UNIT + 10, data[4 * UNIT + 10 : 10 * UNIT])
    assert told.value.errno == errno.ENOSPC
    assert session.length == 4 * UNIT + 10
    await session.flush()
    assert rig.known(session).bytes == 4 * UNIT + 10
    await session.write(4 * UNIT + 10, data[4 * UNIT + 10 : 6 * UNIT])
    await session.flush()
    await rig.engine.release_writer(session)
    known = rig.known(session)
    assert (known.state, known.error, known.bytes) == ("released", "ENOSPC", 6 * UNIT)
    assert await rig.read("T1") == data[: 6 * UNIT]
    for extent in rig.extents(session):
        allocated = [call[2] for call in rig.disks[extent.disk].calls if call[0] == "allocate"]
        assert extent.position + BLOCK + extent.stored <= max(allocated)


async def test_write_that_the_medium_has_no_room_for_is_refused_as_a_whole(rig: Rig) -> None:
    session = await rig.engine.open_writer("FULL", 0, OPENER)
    await session.write(0, b"a" * 90_000)
    with pytest.raises(MediumFull):
        await session.write(90_000, b"b" * 10_001)
    assert session.length == 90_000
    await session.write(90_000, b"c" * 10_000)
    await session.flush()
    await rig.engine.release_writer(session)
    assert rig.known(session).error == "ENOSPC"
    assert await rig.read("FULL") == b"a" * 90_000 + b"c" * 10_000
    medium = rig.engine.catalogue.tracking.media.get("FULL")
    assert (medium.reserved, medium.left) == (0, 0)


async def test_sessions_never_get_more_of_a_medium_than_there_is(rig: Rig) -> None:
    sessions = [await rig.engine.open_writer("FULL", 0, OPENER) for _ in range(7)]
    taken = [0] * 7

    async def write(number: int) -> None:
        try:
            while True:
                await sessions[number].write(taken[number], bytes(3000))
                taken[number] += 3000
        except MediumFull:
            await sessions[number].flush()
            await rig.engine.release_writer(sessions[number])

    async with trio.open_nursery() as nursery:
        for number in range(7):
            nursery.start_soon(write, number)
    assert sum(taken) == 99_000
    assert rig.engine.catalogue.tracking.media.get("FULL").bytes == 99_000
    assert sorted(tape_file.bytes for tape_file in rig.files("FULL")) == sorted(size for size in taken if size)


async def test_refused_pages_fail_the_stream(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """This is why `refuse` exists: the writer believes that the refused bytes were written."""
    session = await rig.engine.open_writer("FULL", 0, OPENER)
    await session.write(0, b"a" * 50_000)
    try:
        await session.write(50_000, b"b" * 60_000)
    except VtlfsError as error:
        session.refuse(error)
    with pytest.raises(MediumFull):
        await session.flush()
    await rig.engine.release_writer(session)
    known = rig.known(session)
    assert (known.state, known.error, known.bytes) == ("failed", "ENOSPC", 50_000)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
