"""The tracking database: sessions, media, and every past state of them."""

import errno
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtlfs.disks.records import BLOCK
from vtlfs.engine.layout.intervals import cut
from vtlfs.engine.tracking import database as tracking_module
from vtlfs.engine.tracking.database import FILE_NAME, Tracking
from vtlfs.engine.tracking.history import as_of_sql
from vtlfs.engine.tracking.repositories.extents import BEGIN
from vtlfs.engine.tracking.repositories.sessions import SessionFilter
from vtlfs.engine.tracking.schema.steps import migrations
from vtlfs.engine.tracking.schema.tables import VERSIONED
from vtlfs.errors import (
    LibraryError,
    MediumFull,
    NoSuchDrive,
    NoSuchMedium,
    NoSuchSession,
    NoSuchTapeFile,
    SessionEnded,
    TrackingError,
    UsageError,
)
from vtlfs.model import NO_CODEC, Access, DiskRecord, Extent, Mount, Opener, State, utc_now
from vtlfs.snap import browse
from vtlfs.snap.store import take

DISKS = [DiskRecord(0, "uuid-0", "/disk0", "t0"), DiskRecord(1, "uuid-1", "/disk1", "t0")]
MOUNT = Mount(0, "alpha", "machine", 1, 0, "/mnt", "host=alpha", "mounted", "t0", None)
OPENER = Opener("alpha", 7, 1000, 100, "tar")
UNIT = 10
Execute = Callable[..., list[tuple[Any, ...]]]


def clock() -> Iterator[str]:
    for tick in range(10**6):
        yield f"2026-01-31T09:30:00.{tick:06d}Z"


def new_tracking(library: Path) -> Tracking:
    for path in library.glob("tracking.db*"):
        path.unlink()
    tracking_module.create(library, "library-uuid", DISKS, 3, "t0")
    tracking = Tracking(library)
    with tracking.transaction():
        tracking.mounts.add(MOUNT)
        tracking.media.add(["A1", "A2"], None, "t0")
        tracking.media.add(["C1"], 100, "t0")
    return tracking


@pytest.fixture
def tracking(tmp_path: Path) -> Iterator[Tracking]:
    opened = new_tracking(tmp_path)
    yield opened
    opened.close()


def rows(tracking: Tracking, sql: str, **values: object) -> list[tuple[Any, ...]]:
    return tracking._connection.execute(sql, values).fetchall()


def open_session(
    tracking: Tracking, medium: str = "A1", *, drive: int = 0, access: Access = Access.WRITE, host: str = "alpha"
) -> int:
    with tracking.transaction():
        number = tracking.library.take_sessions(1)[0]
        opener = Opener(host, 7, 1000, 100, "tar")
        tracking.sessions.open(number, 1, opener, access, drive, medium, UNIT, "t1")
    return number


def extents(session: int, start: int, end: int) -> list[Extent]:
    """Return the extents of a piece of a stream, each a stripe of its own; the disks take turns."""
    found = []
    for piece in cut(start, end - start, UNIT):
        offset = start + piece.source
        where = (piece.unit % 2, BLOCK * (1 + 2 * offset), piece.size, bytes([piece.unit]) * 32)
        found.append(Extent(session, offset, 0, offset, piece.size, NO_CODEC, *where))
    return found


def parity(session: int, stripe: int, place: int, disk: int, size: int) -> Extent:
    return Extent(session, stripe, place, None, 0, NO_CODEC, disk, BLOCK * (2 + 2 * stripe), size, bytes(32))


def record(tracking: Tracking, session: int, size: int) -> None:
    """Record a stream up to so many bytes."""
    known = tracking.sessions.get(session).bytes
    with tracking.transaction():
        tracking.sessions.record_progress(session, extents(session, known, size), size, size)


def release(tracking: Tracking, session: int, at: str = "t2") -> None:
    with tracking.transaction():
        tracking.sessions.release(session, State.RELEASED, None, at)


def forget_medium(tracking: Tracking, barcode: str) -> None:
    tracking.sql.execute("DELETE FROM volume WHERE medium = ?", barcode)
    tracking.sql.execute("DELETE FROM medium WHERE barcode = ?", barcode)


def take_snapshot(tracking: Tracking) -> int:
    with tracking.transaction():
        return take(tracking, "t").id


# --- sessions and tape files ------------------------------------------------------------------------------------------


def test_an_open_session_is_known(tracking: Tracking) -> None:
    number = open_session(tracking, "A2", drive=1)
    session = tracking.sessions.get(number)
    assert (session.id, session.host, session.pid, session.uid, session.gid) == (number, "alpha", 7, 1000, 100)
    assert (session.program, session.access, session.drive, session.medium) == ("tar", Access.WRITE, 1, "A2")
    assert (session.state, session.released_at, session.tape_file, session.disks) == (State.OPEN, None, None, ())
    assert tracking.sessions.open_ids() == [number]


def test_a_session_that_wrote_nothing_leaves_no_tape_file(tracking: Tracking) -> None:
    number = open_session(tracking)
    release(tracking, number)
    session = tracking.sessions.get(number)
    assert (session.state, session.released_at, session.tape_file) == (State.RELEASED, "t2", None)
    assert tracking.tape_files.of("A1") == []
    assert tracking.media.get("A1").written_at is None


def test_tape_files_are_numbered_in_the_order_of_release_not_of_opening(tracking: Tracking) -> None:
    first, second, third = (open_session(tracking) for _ in range(3))
    for session, size in ((first, 25), (second, 7), (third, 10)):
        record(tracking, session, size)
    for session in (second, third, first):
        release(tracking, session)
    files = tracking.tape_files.of("A1")
    assert [(file.number, file.session, file.start, file.bytes) for file in files] == [
        (0, second, 0, 7),
        (1, third, 7, 10),
        (2, first, 17, 25),
    ]
    medium = tracking.media.get("A1")
    assert (medium.bytes, medium.tape_files, medium.written_at) == (42, 3, "t2")
    assert tracking.sessions.get(first).tape_file == 2
    assert tracking.media.get("A2").bytes == 0


def test_a_session_is_released_once(tracking: Tracking) -> None:
    number = open_session(tracking)
    record(tracking, number, 25)
    release(tracking, number, "t2")
    before = list(tracking._connection.iterdump())
    with pytest.raises(SessionEnded), tracking.transaction():
        tracking.sessions.release(number, State.RECOVERED, "EIO", "t3")
    with pytest.raises(SessionEnded), tracking.transaction():
        tracking.sessions.record_progress(number, [], 30, 9)
    with tracking.transaction():
        tracking.sessions.release_reader(number, State.RECOVERED, "EIO", "t3", 1, 1)
    assert list(tracking._connection.iterdump()) == before


def test_a_failed_session_keeps_what_was_recorded(tracking: Tracking) -> None:
    number = open_session(tracking)
    record(tracking, number, 25)
    with tracking.transaction():
        file = tracking.sessions.release(number, State.FAILED, "EIO", "t2", 99)
    assert file is not None
    assert (file.number, file.start, file.bytes, file.end, file.stripe_unit) == (0, 0, 25, 25, UNIT)
    session = tracking.sessions.get(number)
    assert (session.state, session.error, session.bytes, session.requests) == (State.FAILED, "EIO", 25, 99)


def test_extents_follow_each_other(tracking: Tracking) -> None:
    number = open_session(tracking)
    for size in (3, 10, 14, 37):
        record(tracking, number, size)
        assert sum(found.bytes for found in tracking.extents.of(number, 0, 99)) == size
        assert tracking.sessions.get(number).bytes == size
    found = tracking.extents.of(number, 0, 99)
    assert [(one.offset, one.bytes) for one in found] == [(0, 3), (3, 7), (10, 4), (14, 6), (20, 10), (30, 7)]
    assert found == extents(number, 0, 3) + extents(number, 3, 10) + extents(number, 10, 14) + extents(number, 14, 37)
    assert tracking.extents.of(number, 12, 2) == found[2:4], "from the one that has the byte on"
    assert tracking.extents.ends(number) == {0: found[4].position + BLOCK + 10, 1: found[5].position + BLOCK + 7}
    assert tracking.sessions.get(number).disks == (0, 1)


def test_damaged_row_takes_no_row_before_it_along(tracking: Tracking) -> None:
    number = open_session(tracking)
    data = extents(number, 0, 30)
    with tracking.transaction():
        tracking.sessions.record_progress(number, data, 30, 3)
        tracking.sql.execute("UPDATE extent SET codec = 'zip' WHERE offset = ?", data[1].offset)
    assert tracking.extents.of(number, 0, 99) == data[:1]
    with pytest.raises(TrackingError, match="extent at 10 of session"):
        tracking.extents.of(number, 15, 99)
    assert tracking.extents.of(number, 20, 99) == data[2:]


def test_parity_is_found_with_its_stripe_and_on_its_disk(tracking: Tracking) -> None:
    number = open_session(tracking)
    data = extents(number, 0, 30)
    rows = [parity(number, one.stripe, place, 1 - one.disk, 10) for one in data for place in range(2)][:-1]
    rows[1] = replace(rows[1], position=rows[1].position + BLOCK)
    with tracking.transaction():
        tracking.sessions.record_progress(number, [*data, *rows], 30, 3)
    assert tracking.extents.of(number, 0, 99) == data
    assert tracking.extents.stripe(data[1], 100) == [data[1], *rows[2:4]]
    assert tracking.extents.parity_of(data[1:]) == rows[2:]
    assert tracking.extents.parity_of([]) == []
    assert tracking.extents.begins(number, 0, 10) == {0: 0, 10: 10}
    on_disk = sorted((one for one in data + rows if one.disk == 0), key=lambda one: one.position)
    found, following = tracking.extents.on_disk(0, number, BEGIN, 99)
    assert ([one for _, one in found], following) == (on_disk, None)
    assert tracking.extents.on_disk(0, number, 0, 1) == ([(turn, one) for turn, one in found if 0 < turn <= 10], 19)
    assert [tracking.extents.is_recorded(one) for one in on_disk] == [True] * len(on_disk)
    assert not tracking.extents.is_recorded(replace(on_disk[0], position=1 << 20))
    assert tracking.extents.mapped_bytes(number) == 30


def test_the_tape_file_at_an_offset(tracking: Tracking) -> None:
    for size in (5, 1, 20):
        number = open_session(tracking)
        record(tracking, number, size)
        release(tracking, number)
    found = [tracking.tape_files.at("A1", 1, offset) for offset in (0, 4, 5, 6, 25, 26, 10**12)]
    assert [None if file is None else file.number for file in found] == [0, 0, 1, 2, 2, None, None]
    assert tracking.tape_files.at("A2", 1, 0) is None


def test_a_reader_is_counted_at_its_end(tracking: Tracking) -> None:
    number = open_session(tracking, access=Access.READ)
    with tracking.transaction():
        tracking.sessions.release_reader(number, State.RELEASED, None, "t2", 512, 3)
    session = tracking.sessions.get(number)
    assert (session.state, session.bytes, session.requests, session.tape_file) == (State.RELEASED, 512, 3, None)
    assert tracking.media.get("A1").tape_files == 0
    assert rows(tracking, "SELECT * FROM write_command") == []


def test_a_name_that_is_not_utf8_is_kept_readable(tracking: Tracking) -> None:
    with tracking.transaction():
        tracking.sessions.open(
            tracking.library.take_sessions(1)[0],
            1,
            Opener("h", 1, 0, 0, "t\udcffr"),
            Access.WRITE,
            0,
            "A1",
            UNIT,
            "t1",
        )
        mount = tracking.mounts.add(Mount(0, None, "m", 1, 0, "/mnt/\udcff", "x=\udcfe", "mounted", "t", None))
    assert tracking.sessions.get(1).program == "t\\udcffr"
    assert tracking.mounts.live()[-1].id == mount
    assert tracking.mounts.live()[-1].mountpoint == "/mnt/\\udcff"


def test_what_does_not_exist_is_named(tracking: Tracking) -> None:
    with pytest.raises(NoSuchMedium, match="'B1'"):
        tracking.media.get("B1")
    with pytest.raises(NoSuchMedium):
        tracking.tape_files.of("B1")
    with pytest.raises(NoSuchMedium):
        tracking.tape_files.get("B1", 0)
    with pytest.raises(NoSuchTapeFile, match="A1 has no tape file 5"):
        tracking.tape_files.get("A1", 5)
    with pytest.raises(NoSuchSession, match="no session 5"):
        tracking.sessions.get(5)
    with pytest.raises(NoSuchDrive, match="no drive 3; this library has drives 0 to 2"):
        tracking.drives.get(3)


# --- capacity ---------------------------------------------------------------------------------------------------------


def test_what_is_reserved_never_exceeds_the_capacity(tracking: Tracking) -> None:
    first, second = open_session(tracking, "C1"), open_session(tracking, "C1")
    with tracking.transaction():
        assert tracking.media.reserve(first, "C1", 10, 60) == 60
        assert tracking.media.reserve(second, "C1", 10, 60) == 10
        with pytest.raises(MediumFull) as caught:
            tracking.media.reserve(second, "C1", 31, 60)
        assert tracking.media.reserve(second, "C1", 30, 60) == 30
    assert caught.value.errno == errno.ENOSPC
    assert tracking.media.get("C1").reserved == 100
    assert tracking.media.get("C1").left == 0
    assert tracking.sessions.get(second).reserved == 40


def test_a_release_gives_back_what_was_reserved_and_not_written(tracking: Tracking) -> None:
    number = open_session(tracking, "C1")
    with tracking.transaction():
        tracking.media.reserve(number, "C1", 60, 60)
    record(tracking, number, 25)
    release(tracking, number)
    medium = tracking.media.get("C1")
    assert (medium.bytes, medium.reserved, medium.left) == (25, 0, 75)
    assert tracking.sessions.get(number).reserved == 0


def test_a_session_that_reserved_and_wrote_nothing_gives_all_back(tracking: Tracking) -> None:
    number = open_session(tracking, "C1")
    with tracking.transaction():
        tracking.media.reserve(number, "C1", 100, 100)
    release(tracking, number)
    assert tracking.media.get("C1").left == 100


def test_a_medium_without_capacity_promises_anything(tracking: Tracking) -> None:
    number = open_session(tracking)
    with tracking.transaction():
        assert tracking.media.reserve(number, "A1", 2**40, 2**50) == 2**50


# --- identifiers, drives, media, filters ------------------------------------------------------------------------------


def test_session_identifiers_are_given_once(tracking: Tracking) -> None:
    with tracking.transaction():
        first, second = tracking.library.take_sessions(5), tracking.library.take_sessions(2)
        assert (first, second) == (range(1, 6), range(6, 8))
        tracking.library.return_sessions(range(4, 6))
        assert tracking.library.take_sessions(1) == range(8, 9)
        tracking.library.return_sessions(range(8, 9))
        assert tracking.library.take_sessions(1) == range(8, 9)


def test_loading_and_unloading_a_drive(tracking: Tracking) -> None:
    with tracking.transaction():
        tracking.drives.load(1, "A1", "t1")
        tracking.drives.load(1, "A2", "t2")
        assert (tracking.drives.get(1).loaded, tracking.drives.get(1).loaded_at) == ("A2", "t2")
        assert tracking.drives.unload(1) == "A2"
        assert tracking.drives.unload(1) is None
    assert (tracking.drives.get(1).loaded, tracking.drives.get(1).loaded_at) == (None, None)


def test_drives_are_added_and_never_removed(tracking: Tracking) -> None:
    with tracking.transaction():
        tracking.drives.load(2, "A1", "t1")
        tracking.drives.ensure(5)
        tracking.drives.ensure(1)
    assert [drive.number for drive in tracking.drives.all()] == [0, 1, 2, 3, 4]
    assert tracking.drives.get(2).loaded == "A1"


def test_adding_a_medium_that_exists_adds_none(tracking: Tracking) -> None:
    def add() -> None:
        with tracking.transaction():
            tracking.media.add(["B1", "A1", "B2"], None, "t1")

    with pytest.raises(UsageError, match="A1 exists already; nothing was added"):
        add()
    assert [medium.barcode for medium in tracking.media.all()] == ["A1", "A2", "C1"]


def test_sessions_are_filtered(tracking: Tracking) -> None:
    wanted = []
    for medium, drive, host in (("A1", 0, "a"), ("A1", 1, "b"), ("A2", 0, "a"), ("A2", 1, "b")):
        wanted.append(open_session(tracking, medium, drive=drive, host=host))
    release(tracking, wanted[0])

    def ids(**restrictions: Any) -> list[int]:
        return [session.id for session in tracking.sessions.find(SessionFilter(**restrictions))]

    assert ids() == wanted
    assert ids(medium="A1") == wanted[:2]
    assert ids(drive=0) == [wanted[0], wanted[2]]
    assert ids(host="b") == [wanted[1], wanted[3]]
    assert ids(open_only=True) == wanted[1:]
    assert ids(limit=2) == wanted[2:]
    assert ids(medium="A1", drive=0, host="a", open_only=True) == []
    assert ids(medium="A2", host="b") == wanted[3:]
    assert tracking.sessions.count() == tracking.sessions.count(SessionFilter(limit=1)) == 4
    assert tracking.sessions.count(SessionFilter(medium="A1", limit=1)) == 2
    assert tracking.sessions.count(SessionFilter(host="b")) == 2
    assert tracking.sessions.count(SessionFilter(drive=0, open_only=True)) == len(ids(drive=0, open_only=True))


def test_sessions_are_in_the_order_of_opening_whatever_their_identifiers_and_times(tracking: Tracking) -> None:
    with tracking.transaction():
        first, second = tracking.library.take_sessions(10), tracking.library.take_sessions(10)  # of two mounts
        order = [second[0], first[0], second[1], first[1]]
        for turn, number in enumerate(order):
            opener = Opener("alpha", 7, 1000, 100, "tar")
            tracking.sessions.open(number, 1, opener, Access.WRITE, 0, "A1", UNIT, f"t{9 - turn}")
    for wanted in (
        SessionFilter(),
        SessionFilter(open_only=True),
        SessionFilter(medium="A1"),
        SessionFilter(host="alpha"),
    ):
        assert [session.id for session in tracking.sessions.find(wanted)] == order
    assert [session.id for session in tracking.sessions.find(SessionFilter(limit=2))] == order[2:]
    assert [session.id for session in browse.sessions_page(tracking, browse.SessionQuery(), 1, 2)] == order[2:0:-1]


def test_open_sessions_are_counted_by_drive(tracking: Tracking) -> None:
    for drive in (0, 0, 2):
        last = open_session(tracking, drive=drive)
    release(tracking, last)
    assert tracking.sessions.count_open_by_drive() == {0: 2}
    assert tracking.sessions.count_open_by_drive(except_mount=1) == {}


def test_mounts_end_once(tracking: Tracking) -> None:
    with tracking.transaction():
        tracking.mounts.end(1, "unmounted", "t1")
        tracking.mounts.end(1, "dead", "t2")
    assert tracking.mounts.live() == []
    assert [(mount.state, mount.unmounted_at) for mount in tracking.mounts.all()] == [("unmounted", "t1")]


# --- what the database refuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO medium (barcode, capacity, added_at) VALUES ('B', 'much', 't')",
        "INSERT INTO medium (barcode, added_at) VALUES ('A1', 't')",
        "UPDATE medium SET bytes = 101 WHERE barcode = 'C1'",
        "UPDATE medium SET reserved = 101 WHERE barcode = 'C1'",
        "UPDATE medium SET reserved = -1 WHERE barcode = 'C1'",
        "UPDATE medium SET capacity = NULL, bytes = -1 WHERE barcode = 'C1'",
        "UPDATE session SET state = 'lost'",
        "UPDATE session SET access = 'append'",
        "UPDATE session SET medium = 'none'",
        "UPDATE session SET drive = 99",
        "UPDATE session SET mount = 99",
        "UPDATE session SET bytes = 'many'",
        "UPDATE mount SET state = 'gone'",
        "UPDATE drive SET loaded = 'none'",
        "DELETE FROM medium",
        "DELETE FROM session",
        "INSERT INTO tape_file VALUES ('A1', 1, 0, 1, 0, 5, 't', 1, 2, NULL, NULL)",
        "INSERT INTO tape_file VALUES ('A1', 1, 7, 2, 0, 5, 't', 1, 2, NULL, NULL)",
        "INSERT INTO tape_file VALUES ('A1', 1, 7, 2, 50, 0, 't', 1, 2, NULL, NULL)",
        "INSERT INTO tape_file VALUES ('A1', 1, 7, 1, 50, 5, 't', 1, 2, NULL, NULL)",
        "INSERT INTO extent VALUES (1, 0, 10, 0, 0, 'none', 0, 4096, 10, x'00')",
        "INSERT INTO extent VALUES (1, 90, 10, 0, 0, 'none', 5, 4096, 10, x'00')",
        "INSERT INTO extent VALUES (1, 90, 0, 0, 0, 'none', 0, 4096, 10, x'00')",
        "INSERT INTO extent VALUES (1, 90, 10, 0, 0, 'none', 0, 4096, 0, x'00')",
        "INSERT INTO extent VALUES (1, 90, 10, 0, 0, NULL, 0, 4096, 10, x'00')",
        "INSERT INTO extent VALUES (1, 90, 10, 0, 0, 'none', 0, 4096, 10, 'text')",
        "INSERT INTO extent VALUES (9, 0, 10, 0, 0, 'none', 0, 4096, 10, x'00')",
        "INSERT INTO parity VALUES (1, 0, 0, 5, 4096, 10, x'00')",
        "INSERT INTO parity VALUES (1, 0, 0, 0, 4096, 0, x'00')",
        "INSERT INTO parity VALUES (1, 0, 0, 0, 4096, 10, 'text')",
        "INSERT INTO parity VALUES (9, 0, 0, 0, 4096, 10, x'00')",
        "INSERT INTO volume (medium, number, begun_at, begun) VALUES ('A1', 1, 't', 1)",
        "INSERT INTO volume (medium, number, begun_at, begun) VALUES ('none', 1, 't', 1)",
        "UPDATE medium SET state = 'lost'",
        "UPDATE volume SET retain_mode = 'a while'",
        "INSERT INTO hold VALUES ('none', 'audit', 'why', 't', 0, 'h')",
    ],
)
def test_a_row_that_cannot_be_true_is_refused(tracking: Tracking, sql: str) -> None:
    number = open_session(tracking)
    record(tracking, number, 5)
    release(tracking, number)
    open_session(tracking)
    with pytest.raises(sqlite3.IntegrityError):
        tracking._connection.execute(sql)


def test_a_transaction_that_fails_leaves_nothing(tracking: Tracking) -> None:
    before = list(tracking._connection.iterdump())

    def fail() -> None:
        with tracking.transaction():
            tracking.drives.load(0, "A1", "t1")
            tracking.library.take_sessions(10)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tracking._connection.iterdump()) == before


def test_a_savepoint_that_fails_takes_nothing_else_with_it(tracking: Tracking) -> None:
    def fail() -> None:
        with tracking.transaction():
            tracking.drives.load(1, "A1", "t1")
            raise KeyError

    with tracking.transaction():
        tracking.drives.load(0, "A1", "t1")
        with pytest.raises(KeyError):
            fail()
    assert (tracking.drives.get(0).loaded, tracking.drives.get(1).loaded) == ("A1", None)


def test_a_read_only_connection_changes_nothing(tracking: Tracking, tmp_path: Path) -> None:
    reader = Tracking(tmp_path, read_only=True)

    def change() -> None:
        with reader.transaction():
            reader.drives.load(0, "A1", "t1")

    with pytest.raises(TrackingError):
        change()
    reader.close()
    assert tracking.drives.get(0).loaded is None


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tracking: Tracking, tmp_path: Path) -> None:
    with tracking.transaction():
        tracking.sql.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('vtlfs', 'from_the_future', 't')"
        )
    before = list(tracking._connection.iterdump())
    with pytest.raises(LibraryError, match="made by a newer vtlfs"):
        Tracking(tmp_path)
    assert list(tracking._connection.iterdump()) == before


@pytest.fixture
def later_version() -> Iterator[None]:
    """A vtlfs whose tables have one column more."""

    @migrations
    def one_more(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE library ADD COLUMN one_more INTEGER")

    yield
    del migrations.steps["one_more"]


@pytest.mark.usefixtures("later_version")
def test_a_database_of_an_older_version_is_brought_up_to_date_but_not_by_reading(tmp_path: Path) -> None:
    name, newest = migrations.steps.popitem()
    new_tracking(tmp_path).close()
    migrations.steps[name] = newest
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(LibraryError, match=r"made by an older vtlfs than this one; run `vtlfs recover`"):
        Tracking(tmp_path, read_only=True)
    assert (tmp_path / FILE_NAME).read_bytes() == before
    with closing(Tracking(tmp_path)) as tracking:
        assert rows(tracking, "SELECT one_more FROM library") == [(None,)]
    Tracking(tmp_path, read_only=True).close()


def test_a_full_disk_is_enospc_and_nothing_else(tracking: Tracking) -> None:
    pages = rows(tracking, "PRAGMA page_count")[0][0]
    tracking._connection.execute(f"PRAGMA max_page_count = {pages}")

    def add() -> None:
        with tracking.transaction():
            tracking.media.add([f"X{number}" for number in range(10_000)], None, "t1")

    with pytest.raises(TrackingError) as caught:
        add()
    assert caught.value.errno == errno.ENOSPC
    assert len(tracking.media.all()) == 3


# --- the past ---------------------------------------------------------------------------------------------------------

operations = st.lists(
    st.tuples(st.sampled_from(["open", "record", "release", "load", "unload", "add", "mount", "end", "move", "snap"]))
    | st.tuples(st.sampled_from(["snap", "record", "release"]), st.integers(0, 5)),
    max_size=40,
)


def current(tracking: Tracking) -> dict[str, list[tuple[Any, ...]]]:
    """Return a copy of all versioned tables and of the tape files."""
    tables = {
        table: sorted(rows(tracking, f"SELECT {', '.join(columns)} FROM {table}"), key=repr)
        for table, (_, columns) in VERSIONED.items()
    }
    return tables | {"tape_file": rows(tracking, "SELECT * FROM tape_file ORDER BY medium, number")}


def as_of(tracking: Tracking, epoch: int) -> dict[str, list[tuple[Any, ...]]]:
    tables = {
        table: sorted(rows(tracking, as_of_sql(table, columns, epoch)), key=repr)
        for table, (_, columns) in VERSIONED.items()
    }
    files = "SELECT * FROM tape_file WHERE epoch <= :epoch ORDER BY medium, number"
    return tables | {"tape_file": rows(tracking, files, epoch=epoch)}


def perform(tracking: Tracking, operation: str, which: int, at: str) -> None:
    """Make one kind of change to the database, if something in it can be changed so."""
    sessions = tracking.sessions.open_ids()
    session = sessions[which % len(sessions)] if sessions else None
    with tracking.transaction():
        if operation == "open":
            number, medium = tracking.library.take_sessions(1)[0], ("A1", "A2", "C1")[which % 3]
            tracking.sessions.open(number, 1, OPENER, Access.WRITE, which % 3, medium, UNIT, at)
        elif operation == "record" and session is not None:
            known = tracking.sessions.get(session)
            if known.bytes < 30:
                end = known.bytes + UNIT
                tracking.sessions.record_progress(session, extents(session, known.bytes, end), end, which)
        elif operation == "release" and session is not None:
            tracking.sessions.release(session, State.RELEASED, None, at)
        elif operation == "load":
            tracking.drives.load(which % 3, "A1", at)
        elif operation == "unload":
            tracking.drives.unload(which % 3)
        elif operation == "add":
            tracking.media.add([f"N{tracking.sessions.count()}-{at[-8:-1]}"], None, at)
        elif operation == "mount":
            tracking.mounts.add(MOUNT)
        elif operation == "end":
            tracking.mounts.end(which % 3 + 1, "unmounted", at)
        elif operation == "move":
            tracking.disks.move(which % 2, f"/moved/{at}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(operations)
def test_every_snapshot_shows_what_the_database_was_when_it_was_taken(
    tmp_path: Path, steps: list[tuple[str] | tuple[str, int]]
) -> None:
    tracking, times = new_tracking(tmp_path), clock()
    taken: dict[int, dict[str, list[tuple[Any, ...]]]] = {}
    for index, (operation, *rest) in enumerate(steps):
        if operation == "snap":
            epoch = take_snapshot(tracking)
            taken[epoch] = current(tracking)
        else:
            perform(tracking, operation, rest[0] if rest else index, next(times))
        assert as_of(tracking, tracking.library.epoch()) == current(tracking)
    for epoch, then in taken.items():
        assert as_of(tracking, epoch) == then, f"snapshot {epoch}"
    tracking.close()


def test_a_snapshot_copies_nothing_and_a_row_is_copied_once_an_epoch(tracking: Tracking) -> None:
    number = open_session(tracking)
    history = "SELECT count(*) FROM session_history"
    take_snapshot(tracking)
    assert rows(tracking, history) == [(0,)]
    for size in range(1, 30):
        record(tracking, number, size)
    assert rows(tracking, history) == [(1,)]
    take_snapshot(tracking)
    take_snapshot(tracking)
    assert rows(tracking, history) == [(1,)]
    release(tracking, number)
    assert rows(tracking, history) == [(2,)]


def test_a_row_that_was_deleted_is_in_the_past(tracking: Tracking) -> None:
    with tracking.transaction():
        tracking.media.add(["GONE"], None, "t1")
    epoch = take_snapshot(tracking)
    then = current(tracking)
    with tracking.transaction():
        forget_medium(tracking, "GONE")
        tracking.media.add(["GONE"], 5, "t2")
        forget_medium(tracking, "GONE")
    assert as_of(tracking, epoch) == then
    assert "GONE" not in {medium.barcode for medium in tracking.media.all()}
    assert as_of(tracking, epoch + 1) == current(tracking)


def test_every_column_has_its_history(tracking: Tracking) -> None:
    for table, (key, columns) in VERSIONED.items():
        names = [row[1] for row in rows(tracking, f"PRAGMA table_info({table})")]
        assert [name for name in names if name != "since"] == columns, "in the order in which exports have them"
        past = [row[1] for row in rows(tracking, f"PRAGMA table_info({table}_history)")]
        assert sorted(past) == sorted([*columns, "since", "until"])
        assert key in columns


# --- several at once --------------------------------------------------------------------------------------------------


def test_two_connections_that_release_at_once_leave_no_gap(tracking: Tracking, tmp_path: Path) -> None:
    sessions = [open_session(tracking) for _ in range(60)]
    for index, session in enumerate(sessions):
        record(tracking, session, index % 23 + 1)
    failures: list[BaseException] = []
    together = threading.Barrier(2)

    def work(mine: list[int]) -> None:
        try:
            connection = Tracking(tmp_path)
            together.wait()
            for session in mine:
                release(connection, session)
            connection.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(sessions[half::2],)) for half in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    files = tracking.tape_files.of("A1")
    assert [file.number for file in files] == list(range(60))
    assert [file.start for file in files] == [0, *(file.end for file in files[:-1])]
    assert {file.session for file in files} == set(sessions)
    assert tracking.media.get("A1").bytes == files[-1].end


def test_two_connections_that_release_the_same_session_make_one_tape_file(tracking: Tracking, tmp_path: Path) -> None:
    other = Tracking(tmp_path)
    number = open_session(tracking)
    record(tracking, number, 25)
    release(other, number, "t2")
    with pytest.raises(SessionEnded):
        release(tracking, number, "t3")
    assert len(tracking.tape_files.of("A1")) == 1
    assert tracking.sessions.get(number).released_at == "t2"
    other.close()


def test_fault_in_other_words_is_no_further_incident(tracking: Tracking) -> None:
    for fault in ("its label is not there", "is missing", "No space left on device", None, None, "is missing"):
        with tracking.transaction():
            tracking.disks.record_fault(1, fault, utc_now())
    (disk,) = [disk for disk in tracking.disks.all() if disk.number == 1]
    assert disk.fault == "is missing"
    found = tracking.incidents.after("disk 1", 0, 10)
    assert [(one.kind, one.lasts) for one in found] == [
        ("disk failed", False),
        ("disk full", False),
        ("disk back", False),
        ("disk failed", True),
    ]
