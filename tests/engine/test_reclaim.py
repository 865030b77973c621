"""Reclaiming on directories: what comes back, what holds the rest, and what a process that dies in it leaves."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from filling import member, tracked
from scripted import OPENER, UNIT, a_mount, make_library, until

from vtlfs import failpoints
from vtlfs.engine import lease
from vtlfs.engine.assembly import running
from vtlfs.engine.engine import Engine
from vtlfs.engine.jobs import background
from vtlfs.engine.library import Library
from vtlfs.engine.reading.extract import extract
from vtlfs.engine.reclaim import job
from vtlfs.engine.reclaim.foreground import reclaim
from vtlfs.engine.reclaim.outlook import Outlook, look
from vtlfs.engine.reclaim.reclaim import LEASE, NAME, Reclaimed
from vtlfs.engine.scrub import verification, verify
from vtlfs.engine.scrub.check import check
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.reclaiming import EndedVolume
from vtlfs.errors import NoSuchMedium, NoSuchSnapshot, UsageError
from vtlfs.errors import Reclaimed as Gone
from vtlfs.model import Access, Actor, MediumState, utc_now
from vtlfs.sizes import Sizes
from vtlfs.snap import store
from vtlfs.snap.view import open_view
from vtlfs.timing import Timing

QUICK = Timing(reclaim=0.0)
SMALL = Sizes(reclaim_sessions=2, reclaim_batch=20 * UNIT, reclaim_rows=3)
ACTOR = Actor(0, "alpha", "vtlfs")
MEDIA = ("T1", "T2", "T3")


def nothing(done: int, total: int) -> None:
    """Take no note of the progress."""


def run(library: Library, sizes: Sizes = SMALL) -> Reclaimed:
    outcome = reclaim(library, limit=None, progress=nothing, timing=QUICK, sizes=sizes)
    assert outcome.interrupted is None
    return outcome.reclaimed


def looked(library: Library) -> Outlook:
    with closing(library.tracking(read_only=True)) as tracking:
        return look(library, tracking)


async def stream(engine: Engine, barcode: str, data: bytes) -> int:
    session = await engine.open_writer(barcode, 0, OPENER)
    await session.write(0, data)
    await session.flush(closing=True)
    await engine.release_writer(session)
    return session.number


def write(library: Library, *streams: tuple[str, bytes]) -> list[int]:
    async def fill() -> list[int]:
        async with running(library, a_mount()) as engine:
            return [await stream(engine, barcode, data) for barcode, data in streams]

    return trio.run(fill)


@contextmanager
def changing(library: Library) -> Iterator[Tracking]:
    with closing(tracked(library)) as tracking, tracking.transaction():
        yield tracking


def erase(library: Library, barcode: str) -> None:
    with changing(library) as tracking:
        tracking.volumes.end_current(barcode, utc_now())


def take(library: Library, name: str | None = None) -> int:
    with changing(library) as tracking:
        return store.take(tracking, utc_now(), name=name).id


def delete(library: Library, *words: object) -> None:
    with changing(library) as tracking:
        store.delete(tracking, [str(word) for word in words], ACTOR, utc_now())


def read(library: Library, barcode: str, snapshot: int | None = None) -> bytes:
    pieces: list[bytes] = []
    opening = None if snapshot is None else partial(open_view, library, snapshot)
    extract(library, barcode, None, lambda piece: pieces.append(bytes(piece)), lambda _: None, opening)
    return b"".join(pieces)


def members(library: Library) -> set[int]:
    """Return the sessions that have a member on any disk."""
    return {int(path.stem, 10) for disk in library.config.disks for path in disk.glob("sessions/*/*") if path.is_file()}


def taken(library: Library) -> int:
    """Return the bytes that member files take on the disks."""
    paths = [path for disk in library.config.disks for path in disk.glob("sessions/*/*")]
    return sum(path.stat().st_blocks * 512 for path in paths)


def is_sound(library: Library, *, notes: bool = False) -> None:
    found = [str(one) for one in check(library).findings if one.damage or not notes]
    assert found == []


def data(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture(params=[(2, 0), (3, 1)], ids=["striped", "parity"])
def library(tmp_path: Path, request: pytest.FixtureRequest) -> Library:
    """A library on directories."""
    disks, parity = request.param
    return make_library(tmp_path, disks=disks, parity=parity)


# --- what comes back, and what holds the rest -----------------------------------------------------------------------


def test_bytes_of_an_erased_medium_come_back(library: Library) -> None:
    kept, *_ = write(library, ("T2", data(1, 9 * UNIT)))
    before = taken(library)
    write(library, ("T1", data(2, 30 * UNIT + 5)), ("T1", data(3, 100)), ("T1", data(4, 3 * UNIT)))
    assert taken(library) > before
    assert looked(library) == Outlook()
    erase(library, "T1")
    assert looked(library).bytes > 33 * UNIT
    result = run(library)
    assert result.volumes == [("T1", 1)]
    assert result.sessions == 3
    assert result.left == {}
    assert members(library) == {kept}
    assert taken(library) == before
    assert looked(library) == Outlook()
    is_sound(library)
    assert read(library, "T2") == data(1, 9 * UNIT)
    with closing(library.tracking(read_only=True)) as tracking:
        (event,) = tracking.events.find()
        assert (event.what, event.medium, event.volume) == ("reclaimed", "T1", 1)
        assert event.details == {"bytes": result.bytes, "data": 33 * UNIT + 105}
        assert tracking.volumes.get("T1", 1).reclaimed_at is not None
        row = tracking.jobs.get(NAME)
        assert row is not None
        assert (row.done, row.total) == (result.bytes, result.bytes)
        assert row.ended_at is not None
        usage = tracking.reclaiming.usage()
        assert usage.current > 9 * UNIT - 1
        assert (usage.shown, usage.others) == (0, 0)


def test_second_run_has_nothing_to_do(library: Library) -> None:
    write(library, ("T1", data(1, 5 * UNIT)))
    erase(library, "T1")
    run(library)
    again = run(library)
    assert (again.volumes, again.bytes, again.sessions) == ([], 0, 0)
    with closing(library.tracking(read_only=True)) as tracking:
        assert len(tracking.events.find()) == 1


def test_current_volume_is_never_reclaimed(library: Library) -> None:
    write(library, ("T1", data(1, 5 * UNIT)))
    erase(library, "T1")
    write(library, ("T1", data(2, 5 * UNIT)))
    run(library)
    assert read(library, "T1") == data(2, 5 * UNIT)
    is_sound(library)


def test_snapshot_holds_a_volume_until_it_is_deleted(library: Library) -> None:
    write(library, ("T1", data(1, 12 * UNIT)))
    first, second = take(library, "monday"), take(library)
    erase(library, "T1")
    after = take(library)
    write(library, ("T1", data(2, 100)))
    (held,) = looked(library).held
    assert held.snapshots == [(first, "monday"), (second, None)]
    assert held.readers == []
    assert run(library).volumes == []
    assert read(library, "T1", first) == data(1, 12 * UNIT)
    delete(library, "monday", after)
    assert run(library).volumes == []
    assert read(library, "T1", second) == data(1, 12 * UNIT)
    delete(library, "latest")
    assert run(library).volumes == [("T1", 1)]
    assert read(library, "T1") == data(2, 100)
    is_sound(library)


def test_oldest_volume_comes_first(library: Library) -> None:
    write(library, ("T2", data(1, UNIT)), ("T1", data(2, UNIT)))
    erase(library, "T2")
    delete(library, take(library))
    erase(library, "T1")
    assert [volume.key for volume in looked(library).reclaimable] == [("T2", 1), ("T1", 1)]
    assert run(library).volumes == [("T2", 1), ("T1", 1)]


def test_process_that_extracts_holds_a_volume(library: Library) -> None:
    write(library, ("T1", data(1, 3 * UNIT)))
    erase(library, "T1")
    with lease.reading(library.path, "T1", 1):
        (held,) = looked(library).held
        assert held.processes == [os.getpid()]
        assert run(library).volumes == []
    assert run(library).volumes == [("T1", 1)]
    assert list((library.path / lease.DIRECTORY).glob("*.reading")) == []


def test_process_holds_a_volume_in_a_library_without_leases(library: Library) -> None:
    """It was restored from a copy that has no empty directories."""
    write(library, ("T1", data(1, 3 * UNIT)))
    erase(library, "T1")
    shutil.rmtree(library.path / lease.DIRECTORY)
    with lease.reading(library.path, "T1", 1):
        assert run(library).volumes == []
    assert run(library).volumes == [("T1", 1)]


def test_process_that_was_killed_holds_nothing(library: Library) -> None:
    write(library, ("T1", data(1, 3 * UNIT)))
    erase(library, "T1")
    script = (
        "import os, sys; from pathlib import Path; from vtlfs.engine import lease\n"
        "with lease.reading(Path(sys.argv[1]), 'T1', 1):\n    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(library.path)], check=False)
    assert len(list((library.path / lease.DIRECTORY).glob("*.reading"))) == 1
    assert run(library).volumes == [("T1", 1)]


def test_reader_in_a_mount_holds_a_volume_and_reads_it_to_its_end(library: Library) -> None:
    content = data(1, 40 * UNIT)

    async def scenario() -> None:
        async with running(library, a_mount(), timing=QUICK) as engine:
            await stream(engine, "T1", content)
            reader = await engine.open_reader("T1", 1, len(content), 0, OPENER)
            await engine.change(lambda tracking: tracking.volumes.end_current("T1", utc_now()))
            work = job.ReclaimJob(engine, SMALL)
            reading = engine.catalogue.tracking
            assert not work.is_due(reading, utc_now())
            await until(lambda: reading.reclaiming.readers("T1", 1), "the reader's row")
            (held,) = look(library, reading).held
            assert [one.session for one in held.readers] == [reader.number]
            assert bytes(await reader.read(0, len(content))) == content
            engine.release_reader(reader)
            await until(lambda: not reading.reclaiming.readers("T1", 1), "the end of the reader's row")
            await until(lambda: _all_closed(library, engine), "members that are closed")
            assert work.is_due(reading, utc_now())
            await work.work(await due(engine, work))
            assert members(library) == set()
            assert not work.is_due(reading, utc_now())

    trio.run(scenario)
    is_sound(library)


async def due(engine: Engine, work: job.ReclaimJob) -> list[EndedVolume]:
    """Return what is claimed, as a mount does it."""
    work.is_due(engine.catalogue.tracking, utc_now())
    return list(await engine.change(lambda tracking: work.claim(tracking, utc_now())))


def _all_closed(library: Library, engine: Engine) -> bool:
    last = engine.catalogue.tracking.library.last_ordinal()
    return library.leases.closed_up_to(engine.mount.id) >= last


def test_reader_of_a_mount_that_died_holds_nothing(library: Library) -> None:
    write(library, ("T1", data(1, 3 * UNIT)))
    with changing(library) as tracking:
        mount = tracking.mounts.add(a_mount())
        number = tracking.library.take_sessions(1)[0]
        tracking.sessions.open(number, mount, OPENER, Access.READ, 0, "T1", UNIT, utc_now(), volume=1)
    erase(library, "T1")
    assert run(library).volumes == [("T1", 1)]


def test_reader_that_nobody_knew_of_hears_that_its_bytes_are_deleted(library: Library) -> None:
    content = data(1, 40 * UNIT)

    async def scenario() -> None:
        async with running(library, a_mount(), timing=QUICK) as engine:
            await stream(engine, "T1", content)
            reader = engine.medium_reader("T1", 1, len(content))
            assert bytes(await reader.read(0, UNIT)) == content[:UNIT]
            await engine.change(lambda tracking: tracking.volumes.end_current("T1", utc_now()))
            await until(lambda: _all_closed(library, engine), "members that are closed")
            work = job.ReclaimJob(engine, SMALL)
            await work.work(await due(engine, work))
            with pytest.raises(Gone, match="T1 was erased"):
                await reader.read(30 * UNIT, UNIT)

    trio.run(scenario)


def test_mount_waits_before_it_reclaims_what_a_reader_may_just_have_opened(library: Library) -> None:
    async def scenario() -> None:
        async with running(library, a_mount(), timing=Timing(reclaim=1e6)) as engine:
            await stream(engine, "T1", data(1, 3 * UNIT))
            await engine.change(lambda tracking: tracking.volumes.end_current("T1", utc_now()))
            work = job.ReclaimJob(engine, SMALL)
            assert not work.is_due(engine.catalogue.tracking, utc_now())
            assert await due(engine, work) == []

    trio.run(scenario)


def test_nothing_is_reclaimed_while_somebody_repairs(library: Library) -> None:
    async def scenario() -> None:
        async with running(library, a_mount(), timing=QUICK) as engine:
            await stream(engine, "T1", data(1, 3 * UNIT))
            await engine.change(lambda tracking: tracking.volumes.end_current("T1", utc_now()))
            await until(lambda: _all_closed(library, engine), "members that are closed")
            work = job.ReclaimJob(engine, SMALL)
            assert work.is_due(engine.catalogue.tracking, utc_now())
            with lease.work(library.path, LEASE) as mine:
                assert mine
                await background.run_once(engine, work)
                assert members(library) == {1}
            await background.run_once(engine, work)
            assert members(library) == set()

    trio.run(scenario)


# --- disks that are away --------------------------------------------------------------------------------------------


def test_disk_that_is_missing_keeps_its_members_until_it_is_back(tmp_path: Path) -> None:
    library = make_library(tmp_path, disks=3, parity=1)
    write(library, ("T1", data(1, 30 * UNIT)), ("T1", data(2, UNIT)))
    erase(library, "T1")
    away = library.config.disks[1]
    away.rename(tmp_path / "away")
    result = run(library)
    assert result.volumes == [("T1", 1)]
    assert list(result.left) == [1]
    (tmp_path / "away").rename(away)
    assert members(library) != set()
    assert looked(library).left == [1]
    notes = list(check(library).findings)
    assert [one.damage for one in notes] == [False]
    assert "members of reclaimed sessions" in notes[0].problem
    assert run(library).left == {}
    assert members(library) == set()
    is_sound(library)


def test_empty_directory_in_the_place_of_a_disk_is_not_taken_for_it(tmp_path: Path) -> None:
    library = make_library(tmp_path, disks=3, parity=1)
    write(library, ("T1", data(1, 30 * UNIT)))
    erase(library, "T1")
    away = library.config.disks[1]
    away.rename(tmp_path / "away")
    away.mkdir()
    assert list(run(library).left) == [1]
    away.rmdir()
    (tmp_path / "away").rename(away)
    assert members(library) == {1}
    run(library)
    assert members(library) == set()


def test_what_is_left_on_a_disk_that_has_retired_is_forgotten(tmp_path: Path) -> None:
    library = make_library(tmp_path, disks=3)
    write(library, ("T1", data(1, 30 * UNIT)))
    erase(library, "T1")
    library.config.disks[2].rename(tmp_path / "away")
    run(library)
    with changing(library) as tracking:
        tracking.sql.execute("UPDATE disk SET state = 'retired', state_at = ? WHERE number = 2", utc_now())
    run(library)
    with closing(library.tracking(read_only=True)) as tracking:
        assert not tracking.reclaiming.is_left_on(2)


def test_member_that_cannot_be_removed_leaves_the_others_removable(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    write(library, *(("T1", data(number, 3 * UNIT)) for number in range(4)))
    erase(library, "T1")
    path = member(library, 0, 2)
    path.unlink()
    path.mkdir()
    assert list(run(library).left) == [0]
    assert members(library) == set()
    path.rmdir()
    assert run(library).left == {}
    is_sound(library)


# --- beside others --------------------------------------------------------------------------------------------------


def test_verification_that_goes_on_after_a_reclaim_finds_no_damage(library: Library) -> None:
    """It has counted the bytes of a tape file that is reclaimed before it comes to it."""
    write(library, ("T1", data(1, 30 * UNIT)), ("T2", data(2, 30 * UNIT)))
    with closing(library.tracking()) as tracking:
        begun = verification.begin(tracking, (), utc_now())
        found: list[object] = []
        verifier = verify.Verifier(library, tracking, begun, found.append, lambda _: None)
        erase(library, "T2")
        run(library)
        trio.run(verifier.run, None)
    assert found == []
    assert begun.ended_at is not None
    is_sound(library)


def test_copy_of_the_database_from_before_is_not_trusted(library: Library) -> None:
    write(library, ("T1", data(1, 3 * UNIT)))
    erase(library, "T1")
    with closing(library.tracking(read_only=True)) as tracking:
        before = tracking.library.watermark().moves
    run(library)
    with closing(library.tracking(read_only=True)) as tracking:
        assert tracking.library.watermark().moves > before


# --- lives ----------------------------------------------------------------------------------------------------------


POINTS = [
    *("tracking.session_reclaimed", "tracking.extents_reclaimed", "tracking.extents_reclaimed:2", "member.removed"),
    *("tracking.session_reclaimed>transaction.committed", "tracking.extents_reclaimed>transaction.committed"),
    *("member.removed:3", "tracking.leftovers_removed", "tracking.leftovers_removed>transaction.committed"),
    *("tracking.volume_reclaimed", "tracking.volume_reclaimed>transaction.committed", "tracking.job_ended"),
    *("tracking.extents_reclaimed:5", "tracking.leftovers_removed:4", "tracking.job_begun>transaction.committed"),
]
DIES = """
import sys
from pathlib import Path
from vtlfs.engine.library import Library
from vtlfs.engine.reclaim.foreground import reclaim
from vtlfs.sizes import Sizes
from vtlfs.timing import Timing
sizes = Sizes(reclaim_sessions=2, reclaim_batch=20 * 4096, reclaim_rows=3)
reclaim(Library.open(Path(sys.argv[1])), limit=None, progress=lambda *_: None, timing=Timing(reclaim=0.0), sizes=sizes)
"""


def die(library: Library, where: str) -> int:
    """Reclaim in a process of its own that dies at a failpoint; return its exit status."""
    environment = os.environ | {failpoints.ENVIRONMENT: where}
    return subprocess.run([sys.executable, "-c", DIES, str(library.path)], env=environment, check=False).returncode


@pytest.mark.parametrize("where", POINTS)
def test_process_that_dies_leaves_what_the_next_run_mends(library: Library, where: str) -> None:
    kept = data(9, 7 * UNIT)
    write(library, ("T1", data(1, 12 * UNIT)), ("T1", data(2, 100)), ("T1", data(3, 5 * UNIT)), ("T2", kept))
    erase(library, "T1")
    assert die(library, where) == failpoints.STATUS
    is_sound(library, notes=True)
    assert read(library, "T2") == kept
    run(library)
    is_sound(library)
    assert read(library, "T2") == kept
    assert members(library) == {4}
    with closing(library.tracking(read_only=True)) as tracking:
        (event,) = tracking.events.find()
        assert event.details["data"] == 17 * UNIT + 100
        assert int(str(event.details["bytes"])) >= 17 * UNIT + 100


@pytest.mark.parametrize("seed", range(4))
def test_every_snapshot_reads_as_then_through_random_lives(library: Library, seed: int) -> None:
    chance = random.Random(seed)
    now: dict[str, bytes] = dict.fromkeys(MEDIA, b"")
    then: dict[int, dict[str, bytes]] = {}
    for step in range(24):
        barcode = chance.choice(MEDIA)
        match chance.choice(["write", "write", "write", "erase", "take", "delete", "reclaim", "die"]):
            case "write":
                content = data(100 * seed + step, chance.choice([100, 3 * UNIT + 1, 11 * UNIT]))
                write(library, (barcode, content))
                now[barcode] += content
            case "erase":
                erase(library, barcode)
                now[barcode] = b""
            case "take":
                then[take(library)] = dict(now)
            case "delete" if then:
                number = chance.choice(sorted(then))
                delete(library, number)
                del then[number]
            case "reclaim":
                run(library)
            case "die":
                die(library, chance.choice(POINTS))
    is_sound(library, notes=True)
    run(library)
    assert look_at(library, None) == now
    assert {number: look_at(library, number) for number in then} == then
    is_sound(library)
    delete(library, *then) if then else None
    for barcode in MEDIA:
        erase(library, barcode)
    run(library)
    assert members(library) == set()
    assert taken(library) == 0
    is_sound(library)


def look_at(library: Library, snapshot: int | None) -> dict[str, bytes]:
    return {barcode: read(library, barcode, snapshot) for barcode in MEDIA}


# --- snapshots that are deleted, and their names --------------------------------------------------------------------


def test_snapshot_goes_by_number_name_and_latest(library: Library) -> None:
    first, second = take(library, "monday"), take(library)
    with closing(library.tracking(read_only=True)) as tracking:
        assert store.resolve(tracking, "monday").id == first
        assert store.resolve(tracking, str(second)).id == second
        assert store.resolve(tracking, "latest").id == second
        for word in ("tuesday", "99", "now", "٣", "-1"):
            with pytest.raises(NoSuchSnapshot):
                store.resolve(tracking, word)


@pytest.mark.parametrize("name", ["latest", "now", "17", "0"])
def test_name_that_stands_for_another_snapshot_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="can't be the name"):
        store.check_name(name)


def test_two_snapshots_have_no_name_in_common(library: Library) -> None:
    take(library, "monday")
    with pytest.raises(UsageError, match="has the name 'monday' already"):
        take(library, "monday")
    delete(library, "monday")
    take(library, "monday")


def test_name_is_taken_by_one_of_many_at_the_same_time(library: Library) -> None:
    script = (
        "import sys; from pathlib import Path; from vtlfs.engine.library import Library; from vtlfs.snap import store\n"
        "tracking = Library.open(Path(sys.argv[1])).tracking()\n"
        "with tracking.transaction():\n    store.take(tracking, 'now', name='monday')\n"
    )
    words = [sys.executable, "-c", script, str(library.path)]
    several = [subprocess.Popen(words, stderr=subprocess.DEVNULL) for _ in range(4)]
    assert sorted(process.wait() for process in several) == [0, 1, 1, 1]


def test_deleting_is_all_or_nothing_and_an_event(library: Library) -> None:
    first, second = take(library, "monday"), take(library)
    with pytest.raises(NoSuchSnapshot):
        delete(library, first, "tuesday")
    with closing(library.tracking(read_only=True)) as tracking:
        assert len(store.snapshots(tracking)) == 2
        assert tracking.events.find() == []
    delete(library, "monday", first)
    with closing(library.tracking(read_only=True)) as tracking:
        assert [one.id for one in store.snapshots(tracking)] == [second]
        (event,) = tracking.events.find()
        assert event.what == "snapshot deleted"
        assert (event.details["snapshot"], event.details["name"]) == (first, "monday")


def test_number_of_a_deleted_snapshot_is_never_used_again(library: Library) -> None:
    last = take(library)
    delete(library, last)
    assert take(library) == last + 1
    is_sound(library)


def test_medium_that_was_removed_is_reclaimed(library: Library) -> None:
    write(library, ("T1", data(1, 3 * UNIT)))
    erase(library, "T1")
    with changing(library) as tracking:
        tracking.media.set_state("T1", MediumState.REMOVED)
    with pytest.raises(NoSuchMedium):
        read(library, "T1")
    assert run(library).volumes == [("T1", 1)]
    is_sound(library)
