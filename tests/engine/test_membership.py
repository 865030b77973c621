"""Disks that are added, leave and come back while an engine and its streams run on them."""

import errno
import logging
import threading
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from filling import tracked
from scripted import OPENER, UNIT, Rig, ScriptedDisk, a_mount, make_library, rigged, until

from vtlfs.disks.base import Disk
from vtlfs.disks.missing import MissingDisk
from vtlfs.engine.assembly import running
from vtlfs.engine.library import Library
from vtlfs.engine.roster import roster
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import DiskError
from vtlfs.model import Access, DiskRecord, utc_now
from vtlfs.timing import Timing

QUICK = Timing(probe=0.01)


@dataclass
class Shelf:
    """Disks that can be found, by number. `asked`: each search, with the disk and the paths that it passed over."""

    there: dict[int, Disk] = field(default_factory=dict)
    asked: list[tuple[int, set[str]]] = field(default_factory=list)

    def find(self, wanted: DiskRecord, passed_over: Collection[str]) -> Disk | None:
        self.asked.append((wanted.number, set(passed_over)))
        return self.there.get(wanted.number)


def change(library: Library, what: Callable[[Tracking], object]) -> None:
    """Change the catalogue, as a command does."""
    with closing(tracked(library)) as tracking, tracking.transaction():
        what(tracking)


def add_row(library: Library, number: int) -> None:
    change(library, lambda tracking: tracking.disks.add(DiskRecord(number, f"uuid {number}", "/new", utc_now())))


def used(rig: Rig, session: int) -> set[int]:
    return set(rig.engine.catalogue.tracking.sessions.get(session).disks)


@pytest.mark.parametrize("parity", [0, 1])
async def test_a_disk_that_is_added_is_used_by_streams_that_run(tmp_path: Path, parity: int) -> None:
    library, shelf = make_library(tmp_path, disks=2, parity=parity), Shelf()
    async with rigged(library, find=shelf.find, timing=QUICK) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await stream.write(0, b"a" * 4 * UNIT)
        await stream.flush()
        add_row(library, 2)
        await until(lambda: shelf.asked, "a search for the new disk")
        assert 2 not in rig.engine.pool
        shelf.there[2] = new = ScriptedDisk(2)
        await until(lambda: 2 in rig.engine.pool, "the new disk")
        await stream.write(4 * UNIT, b"b" * 8 * UNIT)
        await stream.flush()
        await rig.engine.release_writer(stream)
        assert used(rig, stream.number) == {0, 1, 2}
        assert new.count("write") > 1
        assert await rig.read("T1") == b"a" * 4 * UNIT + b"b" * 8 * UNIT
        assert new.mark() is not None


async def test_the_search_passes_over_the_paths_of_other_disks_and_reports_once_that_it_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library, shelf = make_library(tmp_path), Shelf()
    async with rigged(library, find=shelf.find, timing=QUICK):
        add_row(library, 2)
        await until(lambda: len(shelf.asked) > 3, "several searches")
    assert all(asked == (2, {"/scripted"}) for asked in shelf.asked)
    told = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == ["disk 2 was added to the library, but is not at /new; mount it there"]


async def test_nothing_new_goes_to_a_disk_that_is_retiring_and_its_stripes_are_recorded_at_once(
    tmp_path: Path,
) -> None:
    library = make_library(tmp_path, disks=3)
    async with rigged(library, timing=QUICK) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await stream.write(0, b"a" * 6 * UNIT)
        assert rig.known(stream).bytes == 0
        change(library, lambda tracking: tracking.disks.begin_retiring(1, utc_now()))
        await until(lambda: rig.engine.pool[1].leaving, "that the mount takes note")
        await until(lambda: rig.known(stream).bytes == 6 * UNIT, "the record of what is in flight")
        with closing(library.tracking(read_only=True)) as tracking:
            assert tracking.session_disks.is_written_to(1)
            before = tracking.disks.stored()[1]
        await stream.write(6 * UNIT, b"b" * 9 * UNIT)
        other = await rig.write("T2", b"c" * 6 * UNIT)
        await rig.engine.release_writer(stream)
        assert used(rig, other.number) == {0, 2}
        assert rig.engine.catalogue.tracking.disks.stored()[1] == before
        assert await rig.read("T1") == b"a" * 6 * UNIT + b"b" * 9 * UNIT


async def test_a_disk_that_is_retiring_is_used_where_only_one_other_works(tmp_path: Path) -> None:
    library = make_library(tmp_path, disks=3)
    disks = [ScriptedDisk(number) for number in range(3)]
    async with rigged(library, disks, timing=Timing(probe=0.01, trial=3600)) as rig:
        change(library, lambda tracking: tracking.disks.begin_retiring(2, utc_now()))
        await until(lambda: rig.engine.pool[2].leaving, "that the mount takes note")
        rig.engine.pool[0].note_fault(DiskError(0, "/scripted", OSError(errno.EIO, "dead")))
        session = await rig.write("T1", b"a" * 6 * UNIT)
        assert rig.known(session).state == "released"
        assert used(rig, session.number) == {1, 2}


async def test_a_disk_that_has_retired_is_out_of_the_pool_and_its_streams_end_well(tmp_path: Path) -> None:
    library = make_library(tmp_path, disks=3)
    async with rigged(library, timing=QUICK) as rig:
        idle = await rig.engine.open_writer("T1", 0, OPENER)
        await idle.write(0, b"x")  # in hand: on no disk yet
        change(library, lambda tracking: tracking.disks.begin_retiring(0, utc_now()))
        await until(lambda: rig.engine.pool[0].leaving, "that the mount takes note")
        change(library, lambda tracking: tracking.disks.retire(0, utc_now()))
        await until(lambda: 0 not in rig.engine.pool, "that the disk is out")
        assert len(rig.engine.pool) == 2
        await idle.write(1, b"y" * 4 * UNIT)
        await idle.flush()
        await rig.engine.release_writer(idle)
        assert rig.known(idle).state == "released"
        assert used(rig, idle.number) == {1, 2}
        assert await rig.read("T1") == b"x" + b"y" * 4 * UNIT
        assert set(rig.engine.figures().disks) == {1, 2}


async def test_a_stream_that_records_on_a_disk_that_has_retired_fails(tmp_path: Path) -> None:
    """A mount that hung for long may still write there, because it has not noticed the retirement."""
    library = make_library(tmp_path)
    async with rigged(library, timing=Timing(probe=3600)) as rig:
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await stream.write(0, b"a" * 4 * UNIT)
        change(library, lambda tracking: tracking.disks.retire(1, utc_now()))
        with pytest.raises(DiskError, match="has retired from the library"):
            await stream.flush()
        await rig.engine.release_writer(stream)
        assert rig.known(stream).state == "failed"
        assert rig.engine.catalogue.tracking.disks.stored() == {}


async def test_a_disk_that_was_missing_at_the_mount_is_used_again_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library, shelf = make_library(tmp_path, disks=3, parity=1), Shelf()
    disks = [ScriptedDisk(number) for number in range(3)]
    async with rigged(library, disks, timing=QUICK) as rig:
        first = await rig.write("T1", b"a" * 6 * UNIT)
        assert 2 in used(rig, first.number)
    here: list[Disk] = [disks[0], disks[1], MissingDisk(2, "/away")]
    async with running(library, a_mount(), disks=here, find=shelf.find, timing=QUICK) as engine:
        rig = Rig(engine, disks)
        degraded = await rig.write("T2", b"b" * 6 * UNIT)
        assert used(rig, degraded.number) == {0, 1}
        assert await rig.read("T1") == b"a" * 6 * UNIT
        disks[2].path = "/back"
        shelf.there[2] = disks[2]
        await until(lambda: engine.pool[2].usable, "the disk that is back")
        whole = await rig.write("T3", b"c" * 6 * UNIT)
        assert used(rig, whole.number) == {0, 1, 2}
        record = engine.catalogue.tracking.disks.all
        await until(lambda: record()[2].path == "/back", "its new place in the catalogue")
        await until(lambda: record()[2].fault is None, "that it works, in the catalogue")
    assert [record.message for record in caplog.records if "/back" in record.message] == [
        "disk 2 is back at /back; it is used again"
    ]


async def test_a_disk_that_is_found_after_it_has_retired_is_not_taken_in(tmp_path: Path) -> None:
    """The search for the disk hung, and the label of the disk is still there."""
    library, shelf = make_library(tmp_path, disks=3, parity=1), Shelf()
    disks = [ScriptedDisk(number) for number in range(3)]
    here: list[Disk] = [disks[0], disks[1], MissingDisk(2, "/away")]
    answers, asked = threading.Event(), threading.Event()

    def find(wanted: DiskRecord, passed_over: Collection[str]) -> Disk | None:
        asked.set()
        answers.wait()
        return shelf.find(wanted, passed_over)

    shelf.there[2] = disks[2]
    async with running(library, a_mount(), disks=here, find=find, timing=QUICK) as engine:
        rig = Rig(engine, disks)
        await until(asked.is_set, "the search")
        change(library, lambda tracking: tracking.disks.begin_retiring(2, utc_now()))
        change(library, lambda tracking: tracking.disks.retire(2, utc_now()))
        await until(lambda: 2 not in engine.pool, "that the disk is out")
        answers.set()
        await until(lambda: shelf.asked, "what was found")
        await trio.sleep(0.1)
        assert [pooled.number for pooled in engine.pool.disks] == [0, 1]
        session = await rig.write("T1", b"a" * 6 * UNIT)
        assert used(rig, session.number) == {0, 1}


# --- when a disk may leave --------------------------------------------------------------------------------------------

AT = "2026-01-31T09:30:00.000000Z"
LATER = "2026-01-31T09:31:00.000000Z"


def finished(library: Library, number: int, at: str) -> bool:
    with closing(tracked(library)) as tracking, tracking.transaction():
        return roster.finish_retiring(tracking, number, at)


async def test_a_disk_retires_when_it_is_empty_and_no_stream_has_anything_there(tmp_path: Path) -> None:
    library = make_library(tmp_path, disks=3)
    async with rigged(library, timing=Timing(probe=3600)) as rig:
        assert not finished(library, 1, AT)  # it is in use
        change(library, lambda tracking: tracking.disks.begin_retiring(1, AT))
        assert not finished(library, 1, AT)  # the mount may not have taken note yet
        stream = await rig.engine.open_writer("T1", 0, OPENER)
        await stream.write(0, b"a" * 6 * UNIT)
        await stream.flush()
        assert not finished(library, 1, LATER)  # a stream
        await rig.engine.release_writer(stream)
        assert not finished(library, 1, LATER)  # its tape file
    assert not finished(library, 1, LATER)

    def empty(tracking: Tracking) -> None:
        tracking.sql.execute("UPDATE extent SET disk = 0 WHERE disk = 1")
        tracking.sql.execute("UPDATE stored SET extents = 0, bytes = 0 WHERE disk = 1")

    change(library, empty)
    assert finished(library, 1, AT)  # nobody mounts the library
    assert finished(library, 1, AT)
    with closing(library.tracking(read_only=True)) as tracking:
        assert [disk.number for disk in tracking.disks.all()] == [0, 2]
        assert tracking.disks.ever()[1].state_at == AT


@pytest.mark.parametrize("at", [LATER, "2026-01-31T09:29:59.000000Z"])
async def test_an_empty_disk_waits_for_mounts_to_take_note_and_not_for_a_clock_that_jumps(
    tmp_path: Path, at: str
) -> None:
    library = make_library(tmp_path, disks=3)
    async with rigged(library, timing=Timing(probe=3600)):
        change(library, lambda tracking: tracking.disks.begin_retiring(1, AT))
        assert not finished(library, 1, "2026-01-31T09:30:05.000000Z")
        assert finished(library, 1, at)


def test_extents_of_a_session_without_a_tape_file_do_not_keep_a_disk(tmp_path: Path) -> None:
    library = make_library(tmp_path, disks=3)

    def insert(tracking: Tracking) -> None:
        mount = tracking.mounts.add(a_mount())
        tracking.sessions.open(7, mount, OPENER, Access.WRITE, 0, "T1", UNIT, AT)
        tracking.sql.execute("INSERT INTO extent VALUES (7, 0, 10, 0, 0, 'none', 1, 4096, 10, zeroblob(32))")
        tracking.sql.execute("INSERT INTO stored VALUES (1, 1, 10)")
        tracking.sql.execute("UPDATE session SET state = 'failed', disks = '[1]', released_at = ? WHERE id = 7", AT)
        tracking.mounts.end(mount, "unmounted", AT)
        tracking.disks.begin_retiring(1, AT)

    change(library, insert)
    assert finished(library, 1, AT)
    with closing(library.tracking(read_only=True)) as tracking:
        assert tracking.sessions.get(7).disks == ()
        assert tracking.disks.stored()[1].extents == 0
