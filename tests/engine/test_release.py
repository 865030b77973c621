"""The end of a session that the database, a disk's queue, an earlier write or another mount delays."""

import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from time import sleep
from typing import Any

import outcome
import pytest
import trio
import trio.testing
from scripted import OPENER, UNIT, first_disk, held, make_library, rigged, until

from vtlfs.engine.engine import Engine
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.committer import GroupCommitter
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.sessions import Sessions
from vtlfs.engine.writing.session import WriteSession
from vtlfs.errors import DiskError, SessionEnded, TrackingError
from vtlfs.model import Session, State, TapeFile
from vtlfs.timing import Timing


def refusing(monkeypatch: pytest.MonkeyPatch, verb: str, times: int) -> Callable[[], int]:
    """Make the database refuse a method so many times; return a function that counts the refusals."""
    original, refused = getattr(Sessions, verb), [0]

    def refuse(sessions: Sessions, *args: Any, **kwargs: Any) -> Any:
        if refused[0] < times:
            refused[0] += 1
            raise TrackingError("database is locked")
        return original(sessions, *args, **kwargs)

    monkeypatch.setattr(Sessions, verb, refuse)
    return lambda: refused[0]


def ended(library: Library, session: WriteSession) -> Session:
    """Return a session, as the database has it after the end of its mount."""
    with closing(library.tracking(read_only=True)) as tracking:
        return tracking.sessions.get(session.number)


@asynccontextmanager
async def in_one_commit(engine: Engine, changes: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[trio.Nursery]:
    """Put so many changes that the block asks for into one transaction, and make its commit fail."""

    def full(name: str) -> None:
        if name == "transaction.commit":
            raise TrackingError("database or disk is full", errno.ENOSPC)

    def fail(_: Tracking) -> None:
        patch.setattr("vtlfs.engine.tracking.database.reached", full)

    with monkeypatch.context() as patch:
        async with trio.open_nursery() as nursery, held(engine._committer, changes + 1):
            yield nursery
            engine._committer.post(fail)


async def test_a_release_that_the_database_refuses_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with rigged(make_library(tmp_path), timing=Timing(retry=0.01)) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, b"x" * 100)
        await session.flush()
        refused = refusing(monkeypatch, "release", 2)
        await rig.engine.release_writer(session)
        await until(lambda: rig.known(session).state == State.RELEASED, "the release")
        assert refused() == 2
        assert rig.known(session).tape_file == 0
        await until(lambda: any(session.number in disk.finished for disk in rig.disks), "the member file is closed")
    assert "trying again" in caplog.text


async def test_a_commit_that_fails_harms_none_of_the_streams_that_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their checkpoints are tried again, their flushes get the error, and their releases are repeated."""
    async with rigged(make_library(tmp_path), timing=Timing(retry=0.01)) as rig:
        sessions = [await rig.engine.open_writer(f"T{number}", 0, OPENER) for number in (1, 2, 3)]
        for session in sessions:
            await session.write(0, b"x" * UNIT)
        await until(lambda: sum(disk.count("write") for disk in rig.disks) == 3, "written extents")
        async with in_one_commit(rig.engine, 3, monkeypatch) as nursery:
            for session in sessions:
                nursery.start_soon(session.checkpoint)
        told: list[int] = []

        async def flush(session: WriteSession) -> None:
            with pytest.raises(TrackingError) as error:
                await session.flush(closing=True)
            told.append(error.value.errno)

        async with in_one_commit(rig.engine, 3, monkeypatch) as nursery:
            for session in sessions:
                nursery.start_soon(flush, session)
        assert told == [errno.ENOSPC] * 3
        for session in sessions:
            await session.flush(closing=True)
        async with in_one_commit(rig.engine, 3, monkeypatch) as nursery:
            for session in sessions:
                nursery.start_soon(rig.engine.release_writer, session)
        await until(lambda: all(rig.known(session).state == State.RELEASED for session in sessions), "the releases")


async def test_a_checkpoint_that_the_database_refuses_harms_no_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rigged(make_library(tmp_path)) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, b"x" * UNIT)
        refused = refusing(monkeypatch, "record_progress", 1)
        await until(lambda: sum(disk.count("write") for disk in rig.disks) == 1, "the extent is written")
        while not refused():
            await session.checkpoint()
            await trio.sleep(0.001)
        await session.write(UNIT, b"y")
        await session.flush()
        assert rig.durable(session) == b"x" * UNIT + b"y"
        await rig.engine.release_writer(session)
        assert rig.known(session).state == State.RELEASED


async def test_a_flush_that_the_database_refuses_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rigged(make_library(tmp_path)) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, b"x" * 10)
        refusing(monkeypatch, "record_progress", 1)
        with pytest.raises(TrackingError):
            await session.flush()
        assert not session.is_recorded
        await session.flush()
        assert session.is_recorded
        await rig.engine.release_writer(session)


async def test_a_session_that_somebody_else_ended_acknowledges_nothing_more(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path)) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, b"x" * 10)
        await session.flush()
        other = rig.engine.library.tracking()
        with other.transaction():
            other.sessions.release(session.number, State.RECOVERED, None, "t")
        other.close()
        await session.write(10, b"y" * 10)
        with pytest.raises(SessionEnded):
            await session.flush()
        with pytest.raises(SessionEnded):
            await session.flush()
        await rig.engine.release_writer(session)
        assert rig.known(session).state == State.RECOVERED
        assert rig.known(session).bytes == 10
        assert all(session.number in disk.finished for disk in rig.disks if disk.count("write"))
        assert rig.engine.figures().sessions == {}, "it is not released again and again"


async def test_a_session_that_somebody_else_ended_reserves_nothing_more(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    async with rigged(library) as rig:
        session = await rig.engine.open_writer("FULL", 0, OPENER)
        await session.write(0, b"x" * 10)
        await session.flush()
        with closing(library.tracking()) as other, other.transaction():
            other.sessions.release(session.number, State.RECOVERED, None, "t")
        with pytest.raises(SessionEnded):
            await session.write(10, b"y" * 50_000)
        await rig.engine.release_writer(session)
        medium = rig.engine.catalogue.tracking.media.get("FULL")
        assert (medium.bytes, medium.reserved) == (10, 0)


async def test_a_stripe_of_which_a_write_failed_is_never_recorded(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path)) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, b"x" * 10)
        fault = rig.disks[first_disk(rig)].fail("write", errno.EIO)
        with pytest.raises(DiskError):
            await session.flush()
        session._stripes.put(10, memoryview(b"y" * 10))
        await session._pipeline.send(flush=True)  # as a write that was on its way would
        await rig.engine.release_writer(session)
        assert fault.happened
        assert rig.known(session).state == State.FAILED
        assert rig.known(session).bytes == 0


async def test_a_flush_that_waits_for_a_queue_sends_nothing_twice(tmp_path: Path) -> None:
    async with rigged(make_library(tmp_path)) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        queues = [pooled.queue for pooled in rig.engine.pool.disks]
        taken = [(queue, queue.value) for queue in queues]
        await session.write(0, b"a" * 10)
        for queue, count in taken:
            for _ in range(count):
                queue.acquire_nowait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.flush)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(session.write, 10, b"b" * (UNIT - 10))  # while the flush waits with what came before
            await trio.testing.wait_all_tasks_blocked()
            for queue, count in taken:
                for _ in range(count):
                    queue.release()
        await session.flush()
        assert rig.durable(session) == b"a" * 10 + b"b" * (UNIT - 10)
        assert sum(disk.count("write") for disk in rig.disks) == 2
        await rig.engine.release_writer(session)


async def test_the_release_of_a_stream_without_rivals_does_not_wait_for_a_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut, recovery releases it again, at the same place: with concurrent writers it might be another."""
    original = GroupCommitter._commit
    found: list[tuple[int, bool]] = []

    def commit(committer: GroupCommitter, batch: list[Any]) -> Any:
        results = original(committer, batch)
        values = [result.value for result in results if isinstance(result, outcome.Value)]
        ended = [value for value in values if isinstance(value, TapeFile)]
        found.extend((file.number, any(one.durable for one in batch)) for file in ended)
        return results

    monkeypatch.setattr(GroupCommitter, "_commit", commit)
    async with rigged(make_library(tmp_path)) as rig:
        sessions = [await rig.engine.open_writer(medium, 0, OPENER) for medium in ("T1", "T2", "T1", "T1")]
        alone, elsewhere, rival, last = sessions
        await alone.write(0, b"x")
        await alone.flush(closing=True)
        await elsewhere.write(0, b"e")
        await elsewhere.flush()
        await rival.write(0, b"r")  # of which nothing is recorded yet
        await rig.engine.release_writer(alone)
        await last.write(0, b"l")
        await last.flush()
        await rival.flush()
        await rig.engine.release_writer(last)
        await rig.engine.release_writer(rival)
        assert found == [(0, False), (1, True), (2, False)]
        [before] = rig.extents(elsewhere)
        rig.disks[1 - before.disk].fail("write", errno.EIO)
        await elsewhere.write(1, b"!")
        await rig.engine.release_writer(elsewhere)
        assert rig.known(elsewhere).state == State.FAILED
        assert found[3:] == [(0, True)]


async def test_what_close_has_promised_is_released_when_the_mount_goes_down(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    async with rigged(library) as rig:
        closed = await rig.engine.open_writer("T1", 0, OPENER)
        await closed.write(0, b"x" * 10)
        await closed.flush(closing=True)
        running = await rig.engine.open_writer("T1", 0, OPENER)
        await running.write(0, b"y" * 10)
        await running.fsync()
    tracking = library.tracking(read_only=True)
    assert tracking.sessions.get(closed.number).state == State.RELEASED
    assert (tracking.sessions.get(running.number).state, tracking.sessions.get(running.number).error) == (
        "failed",
        "ESHUTDOWN",
    )
    assert [file.bytes for file in tracking.tape_files.of("T1")] == [10, 10]
    tracking.close()


async def test_what_came_during_a_close_is_cut_off_when_the_mount_goes_down(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    async with rigged(library) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, b"x" * 100)
        async with trio.open_nursery() as nursery:
            with rig.disks[0].held("sync"), rig.disks[1].held("sync"):
                nursery.start_soon(lambda: session.flush(closing=True))
                await until(lambda: sum(disk.waiting for disk in rig.disks), "a sync")
                await session.write(100, b"y" * 100)
    known = ended(library, session)
    assert (known.state, known.error, known.bytes) == ("failed", "ESHUTDOWN", 200)


async def test_what_had_to_wait_for_room_during_a_close_is_cut_off_when_the_mount_goes_down(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    async with rigged(library) as rig:
        session = await rig.engine.open_writer("FULL", 0, OPENER)
        async with trio.open_nursery() as nursery, held(rig.engine._committer, 1):
            nursery.start_soon(session.write, 0, b"x" * 100)
            await trio.testing.wait_all_tasks_blocked()
            await session.flush(closing=True)
    known = ended(library, session)
    assert (known.state, known.error, known.bytes) == ("failed", "ESHUTDOWN", 100)


async def test_what_was_taken_in_is_kept_when_a_write_is_cancelled(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    async with rigged(library) as rig:
        for pooled in rig.engine.pool.disks:
            pooled.queue.value = 1
        session = await rig.engine.open_writer("T1", 0, OPENER)
        with rig.disks[0].held("write"), rig.disks[1].held("write"):
            taken_in = 0

            async def write() -> None:
                nonlocal taken_in
                while True:
                    await session.write(taken_in, b"x" * 3000)
                    taken_in += 3000

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                await until(lambda: taken_in > 2 * UNIT and all(disk.waiting for disk in rig.disks), "full queues")
                await trio.testing.wait_all_tasks_blocked(0.05)
                nursery.cancel_scope.cancel()
    known = ended(library, session)
    assert (known.state, known.error) == ("failed", "ESHUTDOWN")
    assert known.bytes >= taken_in > 2 * UNIT


async def test_what_had_waited_for_room_and_came_during_a_close_is_cut_off_too(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    async with rigged(library) as rig:
        session = await rig.engine.open_writer("FULL", 0, OPENER)
        await session.write(0, b"x" * 100)
        with rig.disks[0].held("sync"), rig.disks[1].held("sync"):
            async with trio.open_nursery() as nursery:
                async with held(rig.engine._committer, 1):
                    nursery.start_soon(session.write, 100, b"y" * 50_000)
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.start_soon(lambda: session.flush(closing=True))
                    await until(lambda: sum(disk.waiting for disk in rig.disks), "a sync")
                await until(lambda: session.length == 50_100, "the bytes")
                for disk in rig.disks:
                    disk.let_go()
    known = ended(library, session)
    assert (known.state, known.error, known.bytes) == ("failed", "ESHUTDOWN", 50_100)


@pytest.mark.parametrize("syncs", [0, 1, 2])
async def test_another_mount_waits_for_the_release_of_a_closed_stream(tmp_path: Path, syncs: int) -> None:
    library = make_library(tmp_path)
    async with rigged(library) as rig, rigged(library, host="beta") as other:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, b"x" * 10)
        for _ in range(syncs):
            await session.fsync()
        await session.flush(closing=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.engine.release_writer, session)
            await other.engine.wait_visible("T1")
            assert other.engine.catalogue.tracking.media.get("T1").bytes == 10


@pytest.mark.parametrize("syncs", [False, True])
async def test_a_commit_that_takes_long_does_not_hide_a_close_from_another_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs: bool
) -> None:
    """Its announcement has expired by then, so it announces the close again."""
    library, commit, timing = make_library(tmp_path), GroupCommitter._commit, Timing(elsewhere=0.5)

    def slowly(committer: GroupCommitter, batch: list[Any]) -> list[Any]:
        results = commit(committer, batch)
        if batch[0].durable and slow:
            sleep(timing.elsewhere * 1.2)
        return results

    slow: list[bool] = []
    monkeypatch.setattr(GroupCommitter, "_commit", slowly)
    async with rigged(library, timing=timing) as rig, rigged(library, host="beta", timing=timing) as other:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, b"x" * 10)
        slow.append(True)
        if syncs:
            await session.fsync()
        await session.flush(closing=True)
        slow.clear()
        async with trio.open_nursery() as nursery:

            async def release() -> None:
                await trio.testing.wait_all_tasks_blocked()  # the other mount waits
                await rig.engine.release_writer(session)

            nursery.start_soon(release)
            assert (await other.engine.wait_visible("T1")).bytes == 10


@pytest.mark.parametrize(("seconds", "announced"), [(1e9, 0), (-1.0, 1)])
async def test_only_the_first_fsync_announces_a_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, announced: int
) -> None:
    """A program that syncs and then closes thereby announces the close(), unless that comes late."""
    noted: list[int] = []
    really = Sessions.announce

    def announce(sessions: Sessions, session: int, at: str) -> None:
        noted.append(session)
        really(sessions, session, at)

    monkeypatch.setattr(Sessions, "announce", announce)
    async with rigged(make_library(tmp_path), timing=Timing(announced=seconds)) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        flushed: list[str] = []
        for data in (b"one", b"two"):
            await session.write(session.length, data)
            await session.fsync()
            flushed.append(
                rig.engine.catalogue.tracking.sql.one("SELECT flushed_at FROM session WHERE id = ?", session.number)[0]
            )
        assert flushed[0] == flushed[1] is not None
        await session.flush(closing=True)
        assert len(noted) == 1 + announced
        await rig.engine.release_writer(session)


@pytest.mark.parametrize("why", ["a gap", "the database"])
async def test_without_sync_at_close_nothing_that_is_recorded_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """A checkpoint may have made durable, and not recorded, less of a stream than is recorded when it was closed."""
    async with rigged(make_library(tmp_path), durable_close=False) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(UNIT, b"a" * 100)
        if why == "the database":
            await session.write(0, b"x" * UNIT)
            refusing(monkeypatch, "record_progress", 2)
            with pytest.raises(TrackingError):
                await session.flush()
        else:
            await session.flush()
        await session.checkpoint()
        await session.write(0, b"x" * UNIT)
        await session.write(UNIT + 100, b"b" * 100)
        await session.flush(closing=True)
        assert session.is_recorded
        await rig.engine.release_writer(session)
        assert (rig.known(session).state, rig.known(session).bytes) == (State.RELEASED, UNIT + 200)
        assert await rig.read("T1") == b"x" * UNIT + b"a" * 100 + b"b" * 100


@pytest.mark.parametrize("also", ["nothing", "checkpoint"])
async def test_without_sync_at_close_what_fsync_has_promised_is_not_put_at_risk(tmp_path: Path, also: str) -> None:
    """Bytes written after an fsync() go into extents of their own, so the acknowledged extents stay as they are."""
    async with rigged(make_library(tmp_path), durable_close=False) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, b"x" * UNIT + b"promised ")
        await session.fsync()
        for more in (b"and ", b"more"):
            await session.write(session.length, more)
            if also == "checkpoint":
                await session.checkpoint()
            await session.flush(closing=True)
            assert rig.durable(session).startswith(b"x" * UNIT + b"promised ")
        await rig.engine.release_writer(session)
        assert await rig.read("T1") == b"x" * UNIT + b"promised and more"
