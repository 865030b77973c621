"""Snapshots compared with the earlier database: views, differences, exports, pruning, and the cost of taking one."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

import pytest
from acting import COLUMNS, Actor, Rows, actor, contents, steps
from hypothesis import given, settings
from hypothesis import strategies as st

from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.sessions import SessionFilter
from vtlfs.engine.tracking.schema.tables import VERSIONED
from vtlfs.errors import LibraryError, NoSuchMedium, NoSuchSnapshot, NoSuchTapeFile, UsageError
from vtlfs.model import DiskRecord, Session, Snapshot
from vtlfs.snap import browse, past, store
from vtlfs.snap.diff import Changes, difference, difference_as_json
from vtlfs.snap.export import export
from vtlfs.snap.view import open_view

KEYS = {"disk": 0, "drive": 0, "medium": 1, "session": 0}  # place of the column that names a row
BYTES = VERSIONED["session"][1].index("bytes")


def fill(acting: Actor, chosen: list[tuple[str, int]]) -> dict[int, Rows]:
    """Do the steps; return for each snapshot the content of the database when it was taken."""
    then: dict[int, Rows] = {}
    for kind, which in chosen:
        acting.act(kind, which)
        if kind == "snap":
            then[acting.tracking.library.epoch() - 1] = contents(acting.tracking)
    return then


def check_views(acting: Actor, then: dict[int, Rows]) -> None:
    for number, rows in then.items():
        with closing(open_view(acting.library, number)) as view:
            assert contents(view) == rows, f"snapshot {number}"
            media = view.media.all()
        assert sorted(past.media_after(acting.tracking, number, 0), key=lambda medium: medium.barcode) == media
        assert [past.medium(acting.tracking, number, one.barcode) for one in media] == media


@settings(deadline=None, max_examples=50)
@given(steps)
def test_views_show_what_the_database_was(chosen: list[tuple[str, int]]) -> None:
    with actor() as acting:
        check_views(acting, fill(acting, chosen))


@settings(deadline=None, max_examples=50)
@given(steps, st.data())
def test_pruning_changes_no_other_snapshot_and_leaves_no_history_that_none_shows(
    chosen: list[tuple[str, int]], data: st.DataObject
) -> None:
    with actor() as acting:
        then = fill(acting, chosen)
        for _ in range(2):
            going = data.draw(st.sets(st.sampled_from(sorted(then)))) if then else set()
            now = contents(acting.tracking)
            with acting.tracking.transaction():
                store.remove(acting.tracking, going)
            then = {number: rows for number, rows in then.items() if number not in going}
            assert [one.id for one in store.snapshots(acting.tracking)] == sorted(then)
            assert contents(acting.tracking) == now
            check_views(acting, then)
            check_history(acting.tracking, set(then))


def check_history(tracking: Tracking, kept: set[int]) -> None:
    """Assert that a snapshot shows each row of the past."""
    for table in VERSIONED:
        for since, until in tracking.sql.execute(f"SELECT since, until FROM {table}_history"):
            assert any(since <= number < until for number in kept), (table, since, until)


@settings(deadline=None, max_examples=50)
@given(steps, st.data())
def test_difference_is_what_two_states_differ_in(chosen: list[tuple[str, int]], data: st.DataObject) -> None:
    with actor() as acting:
        then = dict[int | None, Rows](fill(acting, chosen).items())
        then[None] = contents(acting.tracking)
        numbers = sorted(number for number in then if number is not None)
        if not numbers:
            return
        earlier = data.draw(st.sampled_from(numbers))
        later = data.draw(st.sampled_from([*(n for n in numbers if n >= earlier), None]))
        going = data.draw(st.sets(st.sampled_from(numbers))) - {earlier, later}
        with acting.tracking.transaction():
            store.remove(acting.tracking, going)
        found = difference(acting.library, earlier, later)
        for table, key in KEYS.items():
            changes = getattr(found, "media" if table == "medium" else f"{table}s")
            name = VERSIONED[table][1][key]
            old, new = ({row[key]: row for row in then[number][table]} for number in (earlier, later))
            assert {getattr(row, name) for row in changes.came} == new.keys() - old.keys()
            assert {getattr(row, name) for row in changes.went} == old.keys() - new.keys()
            differing = {number for number in old.keys() & new.keys() if old[number] != new[number]}
            assert {getattr(change.after, name) for change in changes.changed} == differing
            assert all(getattr(change.before, name) == getattr(change.after, name) for change in changes.changed)
        files = [row for row in then[later]["tape_file"] if row not in then[earlier]["tape_file"]]
        assert sorted((file.medium, file.number) for file in found.tape_files) == sorted(row[:2] for row in files)
        hosts = {row[0]: (row[2], row[8]) for row in then[later]["session"]}
        by_host, by_drive = Counter[str](), Counter[int]()
        for row in files:
            by_host[hosts[row[2]][0]] += row[4]
            by_drive[hosts[row[2]][1]] += row[4]
        assert (found.bytes_by_host, found.bytes_by_drive) == (by_host, by_drive)
        assert found.is_empty == (not files and all(then[earlier][table] == then[later][table] for table in KEYS))


@settings(deadline=None, max_examples=10)
@given(steps)
def test_export_has_the_rows_of_then(chosen: list[tuple[str, int]]) -> None:
    with actor() as acting:
        then = fill(acting, [*chosen, ("snap", 0), *chosen])
        number = max(then)
        file = acting.library.path / "exported.db"
        export(acting.library, number, file)
        with closing(sqlite3.connect(file)) as database:
            for table, rows in then[number].items():
                found = database.execute(f"SELECT {', '.join(COLUMNS[table])} FROM {table}").fetchall()
                assert sorted(found, key=repr) == rows
            written = {row[0]: row[BYTES] for row in then[number]["session"] if row[BYTES]}
            extents = database.execute("SELECT session, sum(bytes) FROM extent GROUP BY session").fetchall()
            assert dict(extents) == written
            parity = database.execute("SELECT session, sum(stored) FROM parity GROUP BY session").fetchall()
            assert dict(parity) == written, "it mirrors"
            assert database.execute("PRAGMA foreign_key_check").fetchall() == []
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            keys = database.execute("SELECT name FROM pragma_table_info('session') WHERE pk").fetchall()
            assert keys == [("id",)]
            linked = database.execute("SELECT \"table\" FROM pragma_foreign_key_list('session')").fetchall()
            assert {name for (name,) in linked} == {"medium", "drive", "mount"}
            kinds = Counter(database.execute("SELECT type FROM sqlite_master"))
            assert ("trigger",) not in kinds
        with closing(Tracking(file.parent, read_only=True, name=file.name)) as exported:
            assert len(exported.sessions.find(SessionFilter())) == len(then[number]["session"])
            assert [medium.barcode for medium in exported.media.all()] == sorted(
                row[1] for row in then[number]["medium"]
            )


def test_export_has_the_disks_that_its_extents_have_moved_to() -> None:
    with actor() as acting:
        session = acting.open()
        acting.record(session, 2)
        acting.release(session)
        number = acting.snap().id
        with acting.tracking.transaction():
            acting.tracking.disks.add(DiskRecord(2, "of disk 2", "/new", acting.at()))
            acting.tracking.disks.add(DiskRecord(3, "of disk 3", "/empty", acting.at()))
            old = [row for row in acting.tracking.extents.of(session, 0, 9) if row.disk == 0]
            assert acting.tracking.extents.replace(old, [replace(row, disk=2) for row in old])
            acting.tracking.session_disks.note_moved(session, {2}, {0})
        file = acting.library.path / "exported.db"
        export(acting.library, number, file)
        with closing(sqlite3.connect(file)) as database:
            assert database.execute("PRAGMA foreign_key_check").fetchall() == []
            assert database.execute("SELECT number, path FROM disk WHERE number > 1").fetchall() == [(2, "/new")]


@settings(deadline=None, max_examples=20)
@given(steps, st.integers(1, 4))
def test_difference_as_json_and_cut_off_is_the_same_difference(chosen: list[tuple[str, int]], limit: int) -> None:
    with actor() as acting:
        first = acting.snap().id
        fill(acting, chosen)
        whole = difference(acting.library, first, None)
        short = difference(acting.library, first, None, limit=limit)
        text = json.loads("".join(difference_as_json(acting.library, first, None)))
    documents: dict[str, Callable[[Any], dict[str, Any]]] = {
        "sessions": Session.as_json, "media": asdict, "drives": asdict, "disks": asdict
    }  # fmt: skip
    for kind, document in documents.items():
        every: Changes[Any] = getattr(whole, kind)
        few: Changes[Any] = getattr(short, kind)
        assert text[kind]["came"] == json.loads(json.dumps([document(row) for row in every.came]))
        assert text[kind]["went"] == [document(row) for row in every.went]
        for told, change in zip(text[kind]["changed"], every.changed, strict=True):
            assert told == json.loads(json.dumps({"before": document(change.before), "after": document(change.after)}))
        assert (every.count_came, every.count_went) == (len(every.came), len(every.went))
        assert (few.count_came, few.count_went, few.count) == (every.count_came, every.count_went, every.count)
        assert (few.came, few.changed) == (every.came[:limit], every.changed[:limit])
    assert text["tape_files"] == [asdict(file) for file in whole.tape_files]
    assert short.tape_files == whole.tape_files[:limit]
    assert short.count_tape_files == whole.count_tape_files == len(whole.tape_files)
    assert text["bytes_by_host"] == dict(whole.bytes_by_host) == dict(short.bytes_by_host)
    assert text["bytes"] == sum(file.bytes for file in whole.tape_files)


def test_export_leaves_the_library_unlocked_and_nothing_behind_that_failed(acting: Actor) -> None:
    acting.snap()
    with acting.tracking.transaction():  # somebody writes
        acting.tracking.media.add(["B1"], None, acting.at())
        export(acting.library, 1, acting.library.path / "then.db")
    with pytest.raises(LibraryError, match="exists already"):
        export(acting.library, 1, acting.library.path / "then.db")
    with pytest.raises(NoSuchSnapshot):
        export(acting.library, 2, acting.library.path / "other.db")
    assert [path.name for path in acting.library.path.iterdir() if path.suffix in (".tmp", "-journal")] == []
    assert not (acting.library.path / "other.db").exists()


def test_a_view_writes_nothing_and_knows_the_counters_of_then(acting: Actor) -> None:
    session = acting.open()
    acting.record(session)
    taken = acting.snap("named")
    assert (taken.id, taken.name, taken.media, taken.sessions, taken.open_sessions) == (1, "named", 3, 1, 1)
    acting.release(session)
    acting.open()
    with closing(open_view(acting.library, taken.id)) as view:
        assert view.sessions.count() == 1
        assert store.snapshots(view) == [taken]
        with pytest.raises(Exception, match="readonly"):
            view.sql.execute("UPDATE main.medium SET capacity = 5")
    with pytest.raises(NoSuchSnapshot):
        open_view(acting.library, 2)
    assert acting.snap().tape_files == 1


def test_the_past_of_media_and_tape_files(acting: Actor) -> None:
    first = acting.open(0)
    acting.record(first, 2)
    acting.release(first)
    one = acting.snap().id
    second = acting.open(0)
    acting.record(second, 1)
    acting.release(second)
    two = acting.snap().id
    tracking = acting.tracking
    assert [past.medium(tracking, number, "A1").tape_files for number in (one, two)] == [1, 2]
    third = acting.open(0)
    acting.record(third, 1)
    acting.release(third)
    for number in (one, two):
        assert [(medium.barcode, medium.tape_files) for medium in past.media_after(tracking, number, 0)] == [
            ("A1", number),
            ("A2", 0),
            ("A3", 0),
        ]
    assert [file.session for file in past.tape_files(tracking, one, "A1", 0, 9)] == [first]
    assert past.tape_file(tracking, two, "A1", 1).session == second
    with pytest.raises(NoSuchTapeFile):
        past.tape_file(tracking, one, "A1", 1)
    with pytest.raises(NoSuchMedium):
        past.medium(tracking, one, "NONE")
    with pytest.raises(NoSuchSnapshot):
        past.media_after(tracking, 3, 0)


def steps_of(tracking: Tracking, ask: Callable[[], object]) -> int:
    """Return how many steps SQLite's virtual machine takes for the query."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connection = tracking._connection
    connection.set_progress_handler(step, 1)
    ask()
    connection.set_progress_handler(None, 1)
    return count


def test_what_commands_and_mounts_ask_first_costs_the_same_however_much_there_is(acting: Actor) -> None:
    tracking = acting.tracking
    (mount,) = tracking.mounts.live()
    asked: list[Callable[[], object]] = [
        tracking.library.counters,
        tracking.sessions.count_open_by_drive,
        tracking.mounts.live,
        lambda: tracking.sessions.unfinished_of(999, tracking.library.last_ordinal()),
        lambda: tracking.sessions.find(SessionFilter(medium="A1", limit=5)),
        lambda: store.snapshots(tracking, 5),
        lambda: store.is_changed(tracking),
        lambda: tracking.media.after(1, 2),
        lambda: tracking.tape_files.of("A1", 2, 5),
        lambda: store.after(tracking, 10, 5),
        lambda: past.tape_files(tracking, 20, "A1", 2, 5),
    ]

    def live(sessions: int) -> list[int]:
        for which in range(sessions):
            session = acting.open(which)
            acting.record(session)
            acting.release(session)
            with tracking.transaction():
                tracking.mounts.end(tracking.mounts.add(replace(mount, id=0)), "unmounted", acting.at())
            acting.snap()
        return [steps_of(tracking, ask) for ask in asked]

    few, many = live(30), live(300)
    assert [more - less for less, more in zip(few, many, strict=True)] == pytest.approx([0] * len(asked), abs=20)


def test_looking_at_a_state_costs_the_same_however_much_came_before_and_after(acting: Actor) -> None:
    def live(epochs: int) -> int:
        for which in range(epochs):
            session = acting.open(which)
            acting.record(session)
            if which % 10 != 9:
                acting.release(session)
            else:
                waiting.append(session)
            if len(waiting) > 1:
                acting.release(waiting.pop(0))
            acting.snap()
        return acting.tracking.library.epoch() - 1

    def look(number: int) -> list[int]:
        with closing(open_view(acting.library, number)) as view:
            questions = [
                view.media.all,
                view.sessions.open_ids,
                view.sessions.count_open_by_drive,
                lambda: view.media.get("A1"),
                lambda: view.sessions.get(3),
                lambda: view.sessions.find(SessionFilter(open_only=True)),
                lambda: view.sessions.find(SessionFilter(limit=5)),
                lambda: browse.sessions_page(view, browse.SessionQuery(), 0, 5),
                lambda: browse.sessions_page(view, browse.SessionQuery(state="open"), 0, 5),
                lambda: past.media_after(acting.tracking, number, 0),
            ]
            return [steps_of(view, question) for question in questions[:-1]] + [
                steps_of(acting.tracking, questions[-1])
            ]

    waiting: list[int] = []
    acting.tracking.sql.execute("PRAGMA synchronous = OFF")
    early = live(20)
    few = look(early)
    late = live(400)
    for number in (early, early + 200, late):
        assert all(now <= 3 * then for then, now in zip(few, look(number), strict=True)), (number, few, look(number))


def cost(acting: Actor) -> tuple[int, int]:
    """Take a snapshot; return the steps of SQLite's virtual machine, and how many rows changed."""
    changes = acting.tracking._connection.total_changes
    count = steps_of(acting.tracking, acting.snap)
    return count, acting.tracking._connection.total_changes - changes


def test_taking_costs_the_same_for_few_sessions_and_for_many(acting: Actor) -> None:
    def more(count: int) -> None:
        with acting.tracking.transaction():
            for which in range(count):
                session = acting.open(which)
                acting.record(session, 3)
                acting.release(session)

    more(10)
    acting.snap()
    few = cost(acting)
    more(1500)
    for index in range(20):
        acting.snap(f"{index}")
    many = cost(acting)
    assert few == many
    assert many[1] == 3, "the snapshot's row, and the library's: its epoch, and its count of commits"
    assert acting.tracking.sessions.count() == 1510


def test_a_difference_of_two_old_snapshots_does_not_look_at_what_came_later(acting: Actor) -> None:
    first = acting.snap().id
    session = acting.open()
    second = acting.snap().id
    acting.release(session)
    with acting.tracking.transaction():
        for which in range(300):
            acting.release(acting.open(which))
    found = difference(acting.library, first, second)
    assert [one.id for one in found.sessions.came] == [session]
    assert asdict(found.sessions.came[0])["state"] == "open"


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b", "x" * 201])
def test_names_that_will_not_do(name: str) -> None:
    with pytest.raises(UsageError, match="is no name"):
        store.check_name(name)


def test_a_library_is_changed_until_it_is_kept(acting: Actor) -> None:
    tracking = acting.tracking
    assert store.is_changed(tracking)
    acting.snap()
    assert not store.is_changed(tracking)
    for kind in ("mount", "end", "fill"):
        acting.act(kind, 0)
    assert not store.is_changed(tracking), "a mount that comes or goes is no change"
    session = acting.open()
    changes: list[Callable[[], object]] = [
        lambda: acting.record(session), lambda: acting.release(session), lambda: acting.act("add", 0)
    ]  # fmt: skip
    for change in changes:
        assert isinstance(acting.snap(), Snapshot)
        assert not store.is_changed(tracking)
        change()
        assert store.is_changed(tracking)
    acting.snap()
    acting.act("load", 1)
    assert store.is_changed(tracking)
