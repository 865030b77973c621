"""Announcements: how long a look-up waits for a close() that another mount has announced, and what is remembered."""

import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from scripted import OPENER, SECONDS, make_library, rigged, until

from vtlfs import model
from vtlfs.engine import engine as engine_module
from vtlfs.engine.tracking.repositories.media import Media
from vtlfs.engine.writing.announcements import GRAIN_SECONDS, SeenAnnouncements
from vtlfs.model import State, utc_now
from vtlfs.snap import store
from vtlfs.timing import Timing

PATIENT = Timing(elsewhere=3600.0)
PATIENT_ROUND = Timing(elsewhere=3600.0, closing_round=3600.0)
BRIEF = Timing(elsewhere=0.1)


def test_each_number_is_waited_for_as_long_as_it_has_been_known() -> None:
    seen = SeenAnnouncements(0.5)
    assert seen.waited_out(0.0) == 0
    seen.see(3, 10.0)
    seen.see(3, 10.3)
    seen.see(5, 10.3)
    assert [seen.waited_out(at) for at in (10.0, 10.4, 10.5, 10.7, 10.8, 99.0)] == [0, 0, 3, 3, 5, 5]


def test_what_is_seen_again_is_not_waited_for_again() -> None:
    seen = SeenAnnouncements(0.5)
    for at in range(100):
        seen.see(7, float(at))
    assert seen.waited_out(100.0) == 7
    seen.see(7, 100.0)
    assert seen.waited_out(100.0) == 7
    seen.see(8, 100.0)
    assert (seen.waited_out(100.4), seen.waited_out(100.5)) == (7, 8)


def test_what_is_kept_is_bounded_however_many_look_ups_there_are() -> None:
    seen = SeenAnnouncements(0.5)
    for count in range(100_000):
        now = count / 20_000
        seen.waited_out(now)
        seen.see(count, now)
        assert len(seen._seen) <= 0.5 / GRAIN_SECONDS + 1
        assert seen.waited_out(now) >= count - (0.5 + GRAIN_SECONDS) * 20_000 - 1


def count_looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by one with each SQL statement of a look-up."""
    looks: list[str] = []
    really = Media.get_announced

    def look(media: Media, barcode: str, mount: int, after: int) -> tuple[model.Medium, int, int | None]:
        looks.append(barcode)
        return really(media, barcode, mount, after)

    monkeypatch.setattr(Media, "get_announced", look)
    return looks


async def test_stream_that_goes_on_after_a_close_holds_up_each_other_mount_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of its descriptor was closed, as shells and dd do."""
    looks = count_looks(monkeypatch)
    library = make_library(tmp_path)
    async with (
        rigged(library, timing=BRIEF) as rig,
        rigged(library, host="beta", timing=BRIEF) as other,
    ):
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, b"x" * 10)
        await session.flush(closing=True)
        await other.engine.wait_visible("T2")
        assert looks == ["T2"], "that is another medium"
        await other.engine.wait_visible("T1")
        waited = len(looks)
        assert waited > 2
        for _ in range(3):
            await other.engine.wait_visible("T1")
        assert len(looks) == waited + 3
        await session.write(10, b"y" * 10)
        await session.flush(closing=True)
        await rig.engine.wait_visible("T1")
        assert len(looks) == waited + 4, "in the same mount nobody waits for it"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.engine.release_writer, session)
            assert (await other.engine.wait_visible("T1")).bytes == 20


async def test_look_up_does_not_wait_for_what_is_announced_while_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = count_looks(monkeypatch)
    library = make_library(tmp_path)
    with trio.fail_after(SECONDS):
        async with (
            rigged(library, timing=PATIENT) as rig,
            rigged(library, host="beta", timing=PATIENT) as other,
        ):
            first, later = [await rig.engine.open_writer("T1", 0, OPENER) for _ in range(2)]
            for session in (first, later):
                await session.write(0, b"x" * 10)
            await first.flush(closing=True)
            async with trio.open_nursery() as nursery:

                async def look_up() -> None:
                    assert (await other.engine.wait_visible("T1")).bytes == 10

                nursery.start_soon(look_up)
                await until(lambda: looks, "the look-up waits")
                await later.flush(closing=True)
                await rig.engine.release_writer(first)
            await rig.engine.release_writer(later)


async def test_a_mount_does_not_wait_for_what_was_announced_long_before_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = count_looks(monkeypatch)
    library = make_library(tmp_path)
    async with rigged(library, timing=Timing(elsewhere=0.05)) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, b"x" * 10)
        await session.flush(closing=True)
        async with rigged(library, host="beta", timing=Timing(elsewhere=0.05)) as other:
            await trio.sleep(0.06)
            await other.engine.wait_visible("T1")
            assert looks == ["T1"]


async def test_a_release_is_waited_for_however_long_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a busy machine, where a commit of another mount's can take a second."""
    looks = count_looks(monkeypatch)
    library = make_library(tmp_path)
    with trio.fail_after(SECONDS):
        async with (
            rigged(library, timing=PATIENT) as rig,
            rigged(library, host="beta", timing=PATIENT) as other,
        ):
            going_on, session = [await rig.engine.open_writer(name, 0, OPENER) for name in ("T2", "T1")]
            for stream in (going_on, session):
                await stream.write(0, b"x" * 10)
                await stream.flush(closing=True)
            async with trio.open_nursery() as nursery:
                with closing(library.tracking()) as busy, busy.transaction():  # so that nobody else can commit
                    nursery.start_soon(rig.engine.release_writer, session)
                    nursery.start_soon(see, other.engine, 10)
                    await until(lambda: looks, "the look-up waits")
                    await until(
                        lambda: not rig.engine._context.announcements.has(going_on._recording),
                        "a close() that is long ago",
                    )
            await rig.engine.release_writer(going_on)


async def see(engine: engine_module.Engine, size: int) -> None:
    """Assert that a look-up finds so many bytes on the medium."""
    assert (await engine.wait_visible("T1")).bytes == size


async def test_an_announcement_is_withdrawn_where_no_release_follows(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    with trio.fail_after(SECONDS):
        async with (
            rigged(library, timing=PATIENT) as rig,
            rigged(library, host="beta", timing=PATIENT) as other,
        ):
            session = await rig.engine.open_writer("T1", 0, OPENER)
            await session.write(0, b"x" * 10)
            await session.flush(closing=True)
            await see(other.engine, 0)
            await session.flush(closing=True)
            await see(other.engine, 0)
            await rig.engine.release_writer(session)
            await see(other.engine, 10)


@pytest.mark.parametrize("syncs", [False, True])
async def test_an_announcement_is_withdrawn_with_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs: bool
) -> None:
    looks = count_looks(monkeypatch)
    library = make_library(tmp_path)
    with trio.fail_after(SECONDS):
        async with (
            rigged(library, timing=PATIENT_ROUND) as rig,
            rigged(library, host="beta", timing=PATIENT_ROUND) as other,
        ):
            session = await rig.engine.open_writer("T1", 0, OPENER)
            await session.write(0, b"x" * 10)
            await (session.fsync() if syncs else session.flush(closing=True))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(see, other.engine, 0)
                await until(lambda: looks, "the look-up waits")
                await session.write(10, b"y")
            await session.flush(closing=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rig.engine.release_writer, session)
                await see(other.engine, 11)


@pytest.mark.parametrize("years", [-30, 30])
async def test_a_snapshot_waits_for_a_stream_that_was_closed_whatever_the_clock_has_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    library = make_library(tmp_path)
    async with rigged(library) as rig:
        session = await rig.engine.open_writer("T1", 0, OPENER)
        await session.write(0, b"x" * 10)
        await session.flush(closing=True)
        monkeypatch.setattr(model, "wall_clock", lambda: datetime.now(UTC) + timedelta(days=365 * years))
        began, settled = threading.Event(), list[State]()

        def snapshot() -> None:
            with closing(library.tracking()) as tracking:
                began.set()
                store.wait_visible(tracking, Timing(snapshot=30.0))
                settled.append(tracking.sessions.get(session.number).state)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, snapshot)
            await trio.to_thread.run_sync(began.wait)
            await trio.sleep(0.05)
            assert settled == []
            await rig.engine.release_writer(session)
        assert settled == [State.RELEASED]


def test_a_snapshot_does_not_wait_for_ever_nor_for_what_was_never_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(store, "sleep", pauses.append)
    timing = Timing(snapshot=0.02)
    library = make_library(tmp_path)
    with closing(library.tracking()) as tracking:
        with tracking.transaction():
            mount = tracking.mounts.add(model.Mount(0, None, "m", 1, 0, "/mnt", "", "mounted", utc_now(), None))
            tracking.sessions.open(1, mount, OPENER, model.Access.WRITE, 0, "T1", 4096, utc_now())
        store.wait_visible(tracking, timing)
        assert pauses == []
        with tracking.transaction():
            tracking.sessions.announce(1, utc_now())
        store.wait_visible(tracking, timing)
        assert pauses
