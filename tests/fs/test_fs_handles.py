"""How the kernel's offsets map to a stream's own, and which streams go through the page cache."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from vtlfs.engine.assembly import running
from vtlfs.engine.engine import Engine
from vtlfs.engine.library import create
from vtlfs.engine.memory import NO_LIMIT, MemoryBudget
from vtlfs.engine.writing.session import WriteSession
from vtlfs.errors import CannotReopen, MediumFull, NotPermitted, NotSequential
from vtlfs.fs.caching import check_reopening, first_offset, goes_through_cache, read_through_cache
from vtlfs.fs.handles import WriteHandle
from vtlfs.fs.inodes import Inode, Inodes
from vtlfs.fs.nodes import MediumNode
from vtlfs.model import IoMode, Medium, Mount, Opener, utc_now

TAR = Opener("alpha", 1, 0, 0, "tar", small_writes=True)
BASH = replace(TAR, program="bash", small_writes=False, streams_only=True)
OTHER = replace(BASH, program="other", streams_only=False)  # may seek
TRUNCATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
MEDIUM = Medium(1, "T1", None, 0, 0, 0, utc_now(), None)


def inode(size: int = 5000) -> Inode:
    return Inodes(MemoryBudget(NO_LIMIT)).looked_up(MediumNode(replace(MEDIUM, bytes=size), None))


@pytest.mark.parametrize(
    ("io", "flags", "opener", "risky", "cached"),
    [
        (IoMode.AUTO, TRUNCATE, TAR, False, True),
        (IoMode.AUTO, TRUNCATE, BASH, False, True),
        (IoMode.AUTO, TRUNCATE, BASH, True, False),
        (IoMode.AUTO, TRUNCATE, OTHER, False, False),
        (IoMode.CACHED, TRUNCATE, OTHER, False, True),
        (IoMode.AUTO, TRUNCATE, replace(BASH, sends_offsets=True), False, False),
        (IoMode.AUTO, TRUNCATE | os.O_DIRECT, TAR, False, False),
        (IoMode.CACHED, TRUNCATE, replace(BASH, sends_offsets=True), False, True),
        (IoMode.AUTO, TRUNCATE, TAR, True, False),
        (IoMode.AUTO, TRUNCATE, replace(TAR, block=10_240), False, True),
        (IoMode.AUTO, TRUNCATE, replace(TAR, block=1 << 20), False, False),
        (IoMode.CACHED, TRUNCATE, replace(TAR, block=1 << 20), False, True),
        (IoMode.AUTO, os.O_WRONLY, TAR, False, False),
        (IoMode.AUTO, os.O_RDWR | os.O_TRUNC, TAR, False, False),
        (IoMode.AUTO, os.O_RDWR | os.O_APPEND, TAR, False, False),
        (IoMode.AUTO, TRUNCATE | os.O_APPEND, TAR, False, True),
        (IoMode.AUTO, os.O_WRONLY | os.O_APPEND, BASH, False, True),
        (IoMode.CACHED, TRUNCATE, BASH, True, True),
        (IoMode.CACHED, os.O_WRONLY, TAR, False, False),
        (IoMode.CACHED, os.O_RDWR, TAR, False, False),
        (IoMode.DIRECT, TRUNCATE, TAR, False, False),
    ],
)
def test_only_simple_streams_are_cached(io: IoMode, flags: int, opener: Opener, risky: bool, cached: bool) -> None:
    assert goes_through_cache(io, flags, inode(), opener, risky=risky, reopen=False) is cached


@pytest.mark.parametrize(("opener", "cached"), [(TAR, True), (BASH, False)])
def test_where_outputs_may_be_opened_again_only_known_programs_are_cached(opener: Opener, cached: bool) -> None:
    for flags in (TRUNCATE, os.O_WRONLY | os.O_APPEND):
        assert goes_through_cache(IoMode.AUTO, flags, inode(), opener, risky=False, reopen=True) is cached


@pytest.mark.parametrize(
    ("flags", "size", "written", "first"),
    [
        (TRUNCATE, 5000, False, 0),
        (TRUNCATE | os.O_APPEND, 5000, True, 0),
        (os.O_WRONLY | os.O_APPEND, 5000, False, 5000),
        (os.O_WRONLY | os.O_APPEND, 5000, True, None),
        (os.O_WRONLY, 5000, False, None),
        (os.O_WRONLY, 0, False, None),
    ],
)
def test_kernel_knows_the_first_offset_only_of_some_streams(
    flags: int, size: int, written: bool, first: int | None
) -> None:
    known = inode(size)
    known.written = written
    assert first_offset(flags, known) == first


def test_inode_that_is_open_already_is_not_cached() -> None:
    reading = inode()
    reading.readers = 1
    assert not goes_through_cache(IoMode.CACHED, TRUNCATE, reading, TAR, risky=False, reopen=False)


@pytest.mark.parametrize(
    ("io", "opener", "cached"),
    [
        (IoMode.AUTO, TAR, True),
        (IoMode.AUTO, replace(TAR, block=10_240), True),
        (IoMode.AUTO, replace(TAR, block=1 << 20), False),
        (IoMode.CACHED, replace(TAR, block=1 << 20), True),
        (IoMode.DIRECT, TAR, False),
    ],
)
def test_large_blocks_are_read_past_the_page_cache(io: IoMode, opener: Opener, cached: bool) -> None:
    assert read_through_cache(io, inode(), opener) is cached


# --- on an engine ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def an_engine(root: Path) -> AsyncIterator[Engine]:
    disks = [root / f"disk{number}" for number in range(2)]
    for disk in disks:
        disk.mkdir()
    library = create(root / "library", disks, drives=2, stripe_unit=4096, at=utc_now())
    tracking = library.tracking()
    with tracking.transaction():
        tracking.media.add(["T1"], None, utc_now())
        tracking.media.add(["FULL"], 10_000, utc_now())
    tracking.close()
    mount = Mount(0, "alpha", "machine", os.getpid(), 0, "/mnt", "", "mounted", utc_now(), None)
    async with running(library, mount) as engine:
        yield engine


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with an_engine(tmp_path) as engine:
        yield engine


async def a_handle(engine: Engine, barcode: str = "T1", *, cached: bool = False, append: bool = False) -> WriteHandle:
    known = inode()
    session = await engine.open_writer(barcode, 0, TAR)
    known.writers.append(session)
    known.writing = 1
    known.cached = cached
    return WriteHandle(known, session, cached, append)


def session_of(handle: WriteHandle) -> WriteSession:
    """Return the session of a handle, which was not opened through a pool."""
    assert isinstance(handle.session, WriteSession)
    return handle.session


async def close(engine: Engine, handle: WriteHandle) -> bytes:
    """End the session; return the bytes of its medium."""
    await handle.session.flush()
    await engine.release_writer(session_of(handle))
    size = engine.catalogue.tracking.media.get(session_of(handle).barcode).bytes
    return bytes(await engine.medium_reader(session_of(handle).barcode, 1, size).read(0, size))


async def test_appending_handle_takes_any_offset_for_the_end(engine: Engine) -> None:
    handle = await a_handle(engine, append=True)
    for offset in (0, 3, 99_999, 0):
        await handle.write(offset, b"abc")
    assert handle.inode.size == 100_002  # for the kernel
    assert await close(engine, handle) == b"abc" * 4


async def test_direct_handle_writes_at_the_end_and_repeats(engine: Engine) -> None:
    handle = await a_handle(engine)
    await handle.write(0, b"a" * 5000)
    await handle.write(5000, b"b" * 5000)
    await handle.write(0, b"a" * 100)
    await handle.write(4990, b"a" * 10 + b"b" * 10)
    await handle.write(9990, b"b" * 10 + b"new")
    assert handle.end == 10_003
    for offset, data in ((0, b"x"), (8191, b"xy"), (10_004, b"x"), (4999, b"bb")):
        with pytest.raises(NotSequential):
            await handle.write(offset, data)
    assert handle.end == 10_003
    assert await close(engine, handle) == b"a" * 5000 + b"b" * 5000 + b"new"


async def test_read_write_handle_has_the_medium_before_its_stream(engine: Engine) -> None:
    first = await a_handle(engine)
    await first.write(0, b"before" * 1000)
    before = await close(engine, first)
    handle = await a_handle(engine)
    handle.base, handle.before = len(before), engine.medium_reader("T1", 1, len(before))
    await handle.write(0, before[:210])
    await handle.write(len(before), b"own" * 2000)
    assert await handle.read(0, 1 << 20) == before + b"own" * 2000
    assert await handle.read(5998, 5) == b"reown"
    assert await handle.read(6000, 3) == b"own"
    assert await handle.read(12_000, 10) == b""
    assert await handle.read(99_999, 10) == b""
    with pytest.raises(NotSequential):
        await handle.write(5999, b"xx")
    assert await close(engine, handle) == before + b"own" * 2000


async def test_file_server_may_write_in_any_order(engine: Engine) -> None:
    handle = await a_handle(engine)
    handle.sends_offsets = True
    data = bytes(range(256)) * 100
    for start in (5000, 20_000, 4000, 0, 10_000, 3000):
        await handle.write(start, data[start : start + (5000 if start < 20_000 else 5600)])
    with pytest.raises(NotSequential):
        await handle.fsync()
    await handle.write(14_000, data[14_000:20_001])
    await handle.fsync()
    assert handle.end == handle.inode.size == len(data)
    await handle.flush()
    assert await close(engine, handle) == data


async def test_gap_that_a_file_server_leaves_is_an_error_of_close(engine: Engine) -> None:
    handle = await a_handle(engine)
    handle.sends_offsets = True
    await handle.write(0, b"a" * 5000)
    await handle.write(5001, b"b")
    with pytest.raises(NotSequential):
        await handle.flush()
    await engine.release_writer(session_of(handle))
    known = engine.catalogue.tracking.sessions.get(handle.session.number)
    assert (known.state, known.error, known.bytes) == ("failed", "ESPIPE", 5000)


async def test_what_follows_a_refused_write_is_refused_for_the_same_reason(engine: Engine) -> None:
    handle = await a_handle(engine, "FULL")
    handle.sends_offsets = True
    await handle.write(0, b"a" * 8192)
    for offset in (8192, 12_288, 16_384):
        with pytest.raises(MediumFull):
            await handle.write(offset, b"b" * 4096)
    await handle.flush()
    assert await close(engine, handle) == b"a" * 8192
    known = engine.catalogue.tracking.sessions.get(handle.session.number)
    assert (known.state, known.error) == ("released", "ENOSPC")


async def test_what_came_too_early_and_does_not_fit_fails_the_stream(engine: Engine) -> None:
    handle = await a_handle(engine, "FULL")
    handle.sends_offsets = True
    await handle.write(4096, b"b" * 8192)
    with pytest.raises(MediumFull):
        await handle.write(0, b"a" * 4096)
    with pytest.raises(MediumFull):
        await handle.flush()
    await engine.release_writer(session_of(handle))
    known = engine.catalogue.tracking.sessions.get(handle.session.number)
    assert (known.state, known.error, known.bytes) == ("failed", "ENOSPC", 4096)


async def test_not_everything_is_kept_that_comes_too_early(engine: Engine) -> None:
    handle = await a_handle(engine)
    handle.most_reordered = 10_000
    handle.sends_offsets = True
    await handle.write(1000, b"b" * 10_000)
    with pytest.raises(NotSequential):
        await handle.write(11_000, b"c")
    await handle.write(0, b"a" * 1000)
    await handle.write(11_000, b"c")
    await handle.flush()
    assert await close(engine, handle) == b"a" * 1000 + b"b" * 10_000 + b"c"


async def test_file_server_begins_empty_by_a_truncation(engine: Engine) -> None:
    before = await close(engine, await _written(engine, b"before"))
    handle = await a_handle(engine)
    handle.base, handle.before, handle.sends_offsets = len(before), engine.medium_reader("T1", 1, len(before)), True
    await handle.truncate(0)
    await handle.write(0, b"own")
    assert await handle.read(0, 100) == b"own"
    with pytest.raises(NotPermitted):
        await handle.truncate(0)
    await handle.flush()
    assert await close(engine, handle) == b"beforeown"


async def test_nobody_else_begins_empty_by_a_truncation(engine: Engine) -> None:
    handle = await _written(engine, b"own")
    with pytest.raises(NotPermitted):
        await handle.truncate(0)
    await engine.release_writer(session_of(handle))


async def _written(engine: Engine, data: bytes) -> WriteHandle:
    handle = await a_handle(engine)
    await handle.write(0, data)
    return handle


async def test_cached_stream_that_appends_begins_within_a_page(engine: Engine) -> None:
    """The kernel reads the page in which the stream begins, and writes it back, with the medium's bytes."""
    before = await close(engine, await _written(engine, b"before"))
    handle = await a_handle(engine, cached=True)
    handle.base = len(before)
    assert await handle.read(0, 4096) == bytes(len(before))
    await handle.write(0, bytes(len(before)) + b"own")
    await handle.write(0, bytes(len(before)) + b"own bytes")
    assert await handle.read(0, 4096) == bytes(len(before)) + b"own bytes"
    assert await handle.read(len(before) + 4, 3) == b"byt"
    for size in (0, len(before), len(before) + 3):
        with pytest.raises(NotPermitted):
            await handle.truncate(size)
    await handle.truncate(len(before) + len("own bytes"))
    await handle.flush()
    assert await close(engine, handle) == before + b"own bytes"


async def test_refused_pages_of_a_cached_stream_fail_it(engine: Engine) -> None:
    handle = await a_handle(engine, "FULL", cached=True)
    await handle.write(0, b"a" * 8192)
    with pytest.raises(MediumFull):
        await handle.write(8192, b"b" * 4096)
    with pytest.raises(MediumFull):
        await handle.session.flush()
    await engine.release_writer(session_of(handle))
    known = engine.catalogue.tracking.sessions.get(handle.session.number)
    assert (known.state, known.error, known.bytes) == ("failed", "ENOSPC", 8192)


async def test_refused_write_of_a_direct_stream_does_not_fail_it(engine: Engine) -> None:
    handle = await a_handle(engine, "FULL")
    await handle.write(0, b"a" * 8192)
    with pytest.raises(MediumFull):
        await handle.write(8192, b"b" * 4096)
    assert await close(engine, handle) == b"a" * 8192
    assert engine.catalogue.tracking.sessions.get(handle.session.number).state == "released"


async def test_cached_stream_can_not_be_opened_once_more(engine: Engine) -> None:
    handle = await a_handle(engine, cached=True)
    for writing in (True, False):
        with pytest.raises(CannotReopen, match="reopen=allow"):
            check_reopening(handle.inode, writing=writing)
    handle.inode.writing = 0
    check_reopening(handle.inode, writing=True)
    direct = await a_handle(engine)
    check_reopening(direct.inode, writing=True)
    direct.inode.cached_readers = 1
    check_reopening(direct.inode, writing=False)
    with pytest.raises(CannotReopen, match="io=direct"):
        check_reopening(direct.inode, writing=True)
    for one in (handle, direct):
        await engine.release_writer(session_of(one))
