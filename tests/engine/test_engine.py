"""The engine of a mount: sessions and their numbers, order of release, other mounts, and the end."""

import errno
import os
import random
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing
from scripted import OPENER, SECONDS, UNIT, Rig, ScriptedDisk, a_mount, held, make_library, rigged, until

from vtlfs.disks.local.opening import member_path
from vtlfs.disks.records import BLOCK, after
from vtlfs.engine import recover
from vtlfs.engine.assembly import running
from vtlfs.engine.lease import Lease
from vtlfs.engine.library import Library
from vtlfs.engine.media.truncation import Anew
from vtlfs.engine.reading.extract import extract
from vtlfs.engine.tracking.repositories.sessions import SessionFilter
from vtlfs.errors import DiskError, MediumBusy, NoSuchMedium, NoSuchSession
from vtlfs.model import Access, Session, State, utc_now
from vtlfs.timing import Timing


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return make_library(tmp_path)


@pytest.fixture
async def rig(library: Library) -> AsyncIterator[Rig]:
    async with rigged(library) as rig:
        yield rig


def stream(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def sessions(library: Library) -> list[Session]:
    with closing(library.tracking(read_only=True)) as tracking:
        return tracking.sessions.find(SessionFilter())


# --- opening --------------------------------------------------------------------------------------------------------


async def test_stream_that_ends_before_one_that_begins_the_medium_anew_loses_no_bytes(
    library: Library, rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """A program such as dar looks for other writers when it opens; it shuts nobody out who comes later."""
    async with rigged(library, rig.disks, host="beta") as other:
        first = await rig.engine.open_writer("T1", 0, OPENER, anew=Anew("O_TRUNC"))
        with pytest.raises(MediumBusy):
            await other.engine.open_writer("T1", 0, OPENER, anew=Anew("open"))
        later = await other.engine.open_writer("T1", 0, OPENER)
        with pytest.raises(MediumBusy):
            await other.engine.begin_volume(later, "ftruncate")
        await first.write(0, stream(1, 50_000))
        await later.write(0, stream(2, 20_000))
        for engine, session in ((other.engine, later), (rig.engine, first)):
            await session.flush(closing=True)
            await engine.release_writer(session)
        assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
            f"session {first.number}: is not at the beginning of T1, where its program looks for it: other streams"
            " ended before; read it from /files/T1/0001"
        ]
        reader = rig.engine.medium_reader("T1", 1, 70_000)
        assert bytes(await reader.read(0, 70_000)) == stream(2, 20_000) + stream(1, 50_000)


async def test_unknown_medium_is_refused_and_leaves_no_session(rig: Rig, library: Library) -> None:
    with pytest.raises(NoSuchMedium):
        await rig.engine.open_writer("NONE", 0, OPENER)
    with pytest.raises(NoSuchSession):
        await rig.engine.describe(1)
    assert sessions(library) == []


async def test_session_is_tracked_when_open_returns(rig: Rig, library: Library) -> None:
    session = await rig.engine.open_writer("T1", 3, OPENER)
    (known,) = sessions(library)
    assert (known.id, known.drive, known.medium, known.access, known.state) == (
        session.number,
        3,
        "T1",
        "write",
        "open",
    )
    assert (known.host, known.pid, known.uid, known.program) == ("alpha", 4711, 0, "tar")
    assert await rig.engine.open_sessions() == [session.number]
    await rig.engine.release_writer(session)
    assert await rig.engine.open_sessions() == []


async def test_many_sessions_at_once_have_numbers_of_their_own(rig: Rig) -> None:
    numbers: list[int] = []

    async def use() -> None:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        numbers.append(session.number)
        await session.write(0, b"%06d" % session.number)
        await session.flush()
        await rig.engine.release_writer(session)

    async with trio.open_nursery() as nursery:
        for _ in range(250):
            nursery.start_soon(use)
    assert len(set(numbers)) == 250
    content = await rig.read("T1")
    assert [int(content[start : start + 6]) for start in range(0, len(content), 6)] == [
        tape_file.session for tape_file in rig.files("T1")
    ]


async def test_readers_do_not_wait_for_the_database(rig: Rig) -> None:
    async with held(rig.engine._committer, 801):  # their sessions, and a lease of identifiers
        with trio.fail_after(30):
            sessions = [await rig.engine.open_reader("T1", 1, 0, 0, OPENER) for _ in range(800)]
    await rig.engine.open_sessions()
    assert rig.engine.catalogue.tracking.sessions.open_ids() == [session.number for session in sessions]


async def test_drive_with_the_fewest_open_sessions(rig: Rig, library: Library) -> None:
    opened = []
    for _ in range(9):
        drive = await rig.engine.least_busy_drive()
        opened.append((await rig.engine.open_writer("T1", drive, OPENER), drive))
    assert [drive for _, drive in opened] == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    reader = await rig.engine.open_reader("T1", 1, 0, 1, OPENER)
    assert await rig.engine.least_busy_drive() == 2
    assert await rig.engine.least_busy_drive([0, 1, 3]) == 3
    async with rigged(library, host="beta") as other:
        assert await other.engine.least_busy_drive() in (1, 2, 3)
    rig.engine.release_reader(reader)
    for session, _drive in opened:
        await rig.engine.release_writer(session)
    assert await rig.engine.least_busy_drive() == 0


async def test_streams_begin_on_each_disk_in_turn(rig: Rig) -> None:
    first = [rig.extents(await rig.write("T1", b"small"))[0].disk for _ in range(6)]
    assert first in ([0, 1] * 3, [1, 0] * 3)


# --- order and visibility -------------------------------------------------------------------------------------------


async def test_tape_files_are_in_the_order_of_release(rig: Rig) -> None:
    opened = [await rig.engine.open_writer("T1", 0, OPENER) for _ in range(6)]
    for number, session in enumerate(opened):
        await session.write(0, b"%d" % number * (number + 1))
        await session.flush()
    order = [4, 0, 5, 2, 1, 3]
    for number in order:
        await rig.engine.release_writer(opened[number])
    files = rig.files("T1")
    assert [tape_file.session for tape_file in files] == [opened[number].number for number in order]
    assert [tape_file.number for tape_file in files] == list(range(6))
    assert [tape_file.start for tape_file in files] == [sum(n + 1 for n in order[:k]) for k in range(6)]
    assert await rig.read("T1") == b"".join(b"%d" % n * (n + 1) for n in order)


async def test_look_up_waits_for_a_release_that_has_begun(rig: Rig) -> None:
    session = await rig.engine.open_writer("T1", 0, OPENER)
    await session.write(0, b"data")
    await session.flush()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.engine.release_writer, session)
        await trio.testing.wait_all_tasks_blocked()
        await rig.engine.wait_visible("T1")
        assert rig.engine.catalogue.tracking.media.get("T1").bytes == 4
        nursery.start_soon(rig.engine.wait_visible, "T2")


async def test_look_up_does_not_wait_for_releases_that_begin_later(rig: Rig) -> None:
    """Otherwise a look-up of a medium to which many sessions write might wait for ever."""
    first, later = [await rig.engine.open_writer("T1", 0, OPENER) for _ in range(2)]
    for session in (first, later):
        await session.write(0, b"x" * 10)
        await session.flush(closing=True)
    order: list[str] = []

    async def look_up() -> None:
        order.append(f"looked up {(await rig.engine.wait_visible('T1')).tape_files}")

    async with trio.open_nursery() as nursery, later._flushing:
        async with held(rig.engine._committer, 1):
            for task in (partial(rig.engine.release_writer, first), look_up, partial(rig.engine.release_writer, later)):
                nursery.start_soon(task)
                await trio.testing.wait_all_tasks_blocked()
        await until(lambda: order, "the one who waits for the first only")
    assert order == ["looked up 1"]


async def test_look_up_does_not_wait_for_a_stream_that_was_never_closed(rig: Rig) -> None:
    """Its writer was killed before close(): nothing was promised."""
    session = await rig.engine.open_writer("T1", 0, OPENER)
    await session.write(0, stream(1, 4 * UNIT))
    async with trio.open_nursery() as nursery:
        with rig.disks[0].held(), rig.disks[1].held(), trio.fail_after(SECONDS):
            nursery.start_soon(rig.engine.release_writer, session)
            await trio.testing.wait_all_tasks_blocked()
            await rig.engine.wait_visible("T1")
            assert rig.engine.catalogue.tracking.media.get("T1").bytes == 0
    assert await rig.read("T1") == stream(1, 4 * UNIT)


async def test_look_up_waits_for_what_is_kept_of_a_failed_stream(rig: Rig) -> None:
    """Its close() may have failed without waiting for anything."""
    session = await rig.engine.open_writer("T1", 0, OPENER)
    await session.write(0, b"data")
    await session.flush()
    rig.disks[0].fail("write", errno.EIO)
    rig.disks[1].fail("write", errno.EIO)
    await session.write(4, stream(1, 3 * UNIT))
    await until(lambda: session.has_failed, "the failure")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.engine.release_writer, session)
        await trio.testing.wait_all_tasks_blocked()
        await rig.engine.wait_visible("T1")
        assert await rig.read("T1") == b"data"


async def test_look_up_loses_patience_with_a_failed_stream_on_a_disk_that_hangs(rig: Rig) -> None:
    rig.engine._timing = Timing(failed=0.01)
    session = await rig.engine.open_writer("T1", 0, OPENER)
    with rig.disks[0].held():
        rig.disks[1].fail("write", errno.EIO)
        await session.write(0, stream(1, 4 * UNIT))
        await until(lambda: session.has_failed, "the failure")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.engine.release_writer, session)
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(SECONDS):
                await rig.engine.wait_visible("T1")
            rig.disks[0].let_go()


# --- several engines ------------------------------------------------------------------------------------------------


async def test_two_engines_write_one_medium(library: Library) -> None:
    disks = [ScriptedDisk(number) for number in range(2)]
    async with rigged(library, disks, host="alpha") as alpha, rigged(library, disks, host="beta") as beta:
        written: dict[int, bytes] = {}

        async def use(rig: Rig, seed: int) -> None:
            data = stream(seed, 3 * UNIT + seed)
            written[(await rig.write("T1", data)).number] = data

        async with trio.open_nursery() as nursery:
            for seed in range(20):
                nursery.start_soon(use, (alpha, beta)[seed % 2], seed)
        assert len(written) == 20
        whole = b"".join(written[tape_file.session] for tape_file in alpha.files("T1"))
        assert await alpha.read("T1") == whole
        assert await beta.read("T1") == whole
        assert {mount.host for mount in alpha.engine.catalogue.tracking.mounts.live()} == {"alpha", "beta"}
    assert [known.state for known in sessions(library)] == ["released"] * 20


async def test_identifiers_are_given_back_in_part_only_if_nobody_took_more(library: Library) -> None:
    async with rigged(library) as rig:
        first = await rig.write("T1", b"x")
    async with rigged(library) as rig:
        second = await rig.write("T1", b"x")
        async with rigged(library, host="beta") as other:
            third = await other.write("T1", b"x")
        fourth = await rig.write("T1", b"x")
    numbers = [session.number for session in (first, second, third, fourth)]
    assert numbers[1] == numbers[0] + 1
    assert len(set(numbers)) == 4
    async with rigged(library) as rig:
        assert (await rig.write("T1", b"x")).number > max(numbers)


# --- the end --------------------------------------------------------------------------------------------------------


async def test_end_cuts_open_streams_off_and_keeps_what_came(library: Library) -> None:
    data = stream(1, 3 * UNIT + 7)
    async with rigged(library) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, data)
        reader = await rig.engine.open_reader("T1", 1, 0, 0, OPENER)
    writing, reading = sessions(library)
    assert (writing.id, writing.state, writing.error, writing.bytes) == (
        session.number,
        "failed",
        "ESHUTDOWN",
        len(data),
    )
    assert (reading.id, reading.state) == (reader.number, "released")
    with closing(library.tracking(read_only=True)) as tracking:
        assert tracking.media.get("T1").bytes == len(data)
        assert [mount.state for mount in tracking.mounts.all()] == ["unmounted"]
    assert list((library.path / "mounts").iterdir()) == []


async def test_a_dead_mount_is_recovered_by_the_next(library: Library, caplog: pytest.LogCaptureFixture) -> None:
    with closing(library.tracking()) as tracking, tracking.transaction():
        dead = tracking.mounts.add(a_mount("dead"))
        number = tracking.library.take_sessions(1)[0]
        tracking.sessions.open(number, dead, OPENER, Access.WRITE, 0, "T1", UNIT, utc_now())
    async with rigged(library) as rig:
        assert rig.engine.catalogue.tracking.sessions.get(number).state == "recovered"
        assert [mount.id for mount in rig.engine.catalogue.tracking.mounts.live()] == [rig.engine.mount.id]
    assert "died; 1 of its sessions" in caplog.text


async def test_recover_keeps_what_is_recorded_and_trims_the_rest(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On real disks: an engine goes away as if killed, with more on the disks than was recorded."""
    data = stream(1, 9 * UNIT)
    async with running(library, a_mount()) as engine:
        session = await engine.open_writer("T1", 0, OPENER)
        await session.write(0, data[: 4 * UNIT + 100])
        await session.flush()
        await session.write(4 * UNIT + 100, data[4 * UNIT + 100 :])
        await session._pipeline.drain()
        monkeypatch.setattr(engine, "end", trio.lowlevel.checkpoint)  # dead: nobody ends anything
        lease = engine._lease
    lease.let_go()
    longest = max(member_path(disk, session.number).stat().st_size for disk in library.config.disks)
    recorded = 3 * after(0, UNIT) + BLOCK  # at most: three extents
    assert longest > recorded + UNIT
    (ended,) = recover.recover(library)
    assert (ended.id, ended.state, ended.bytes) == (session.number, "recovered", 4 * UNIT + 100)
    pieces: list[bytes] = []
    await trio.to_thread.run_sync(
        lambda: extract(library, "T1", None, lambda piece: pieces.append(bytes(piece)), lambda _: None)
    )
    assert b"".join(pieces) == data[: 4 * UNIT + 100]
    for disk in library.config.disks:
        assert member_path(disk, session.number).stat().st_size <= recorded
    assert recover.recover(library) == []
    async with running(library, a_mount()) as engine:
        assert bytes(await engine.medium_reader("T1", 1, ended.bytes).read(0, 1 << 20)) == data[: ended.bytes]


async def test_fault_of_a_disk_that_has_been_mended_meanwhile_is_taken_back(library: Library) -> None:
    async with rigged(library) as rig:
        await rig.engine.change(lambda tracking: tracking.disks.record_fault(1, "Input/output error", utc_now()))
    async with rigged(library) as rig:
        await until(lambda: rig.engine.catalogue.tracking.disks.all()[1].fault is None, "a look at the disk")


async def test_engine_does_not_start_on_a_disk_that_fails(library: Library) -> None:
    disks = [ScriptedDisk(number) for number in range(2)]

    def measure() -> None:
        raise DiskError(1, "/scripted", OSError(errno.EIO, "broken"))

    disks[1].measure = measure  # type: ignore[method-assign]  # of this one disk
    with pytest.raises(DiskError):
        async with rigged(library, disks):
            pytest.fail("it started")
    with closing(library.tracking(read_only=True)) as tracking:
        assert tracking.mounts.live() == []


async def test_headers_that_cannot_be_noted_as_finished_take_no_mount_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file system of the library returns an error, while the disks work."""
    tried: list[int] = []
    library = make_library(tmp_path)
    async with rigged(library, timing=Timing(written=0.01, probe=0.01)) as rig:

        def fail(_: Lease, ordinal: int) -> None:
            tried.append(ordinal)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(Lease, "note_finished", fail)
        await rig.write("T1", b"data")
        await until(lambda: len(tried) >= 3, "three failures")
        assert tried[-1] == 1
        assert await rig.read("T1") == b"data"


async def test_headers_say_nothing_of_an_end_that_somebody_else_has_decided(rig: Rig) -> None:
    session = await rig.engine.open_writer("T1", 0, OPENER)
    await session.write(0, b"data")
    await session.flush()
    await rig.engine.change(
        lambda tracking: tracking.sessions.release(session.number, State.RECOVERED, None, utc_now())
    )
    await rig.engine.release_writer(session)
    assert {disk.finished.get(session.number) for disk in rig.disks} == {None}
    assert rig.known(session).state == "recovered"
