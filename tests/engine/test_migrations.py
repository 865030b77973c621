"""Which version a database is of: what is recorded, and that sqlite-utils understands it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlite_utils import Database
from sqlite_utils import Migrations as MigrationsOfSqliteUtils

from vtlfs.engine.tracking.schema.migrations import Migrations, has_table
from vtlfs.engine.tracking.schema.steps import migrations


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as made:
        yield made


@pytest.fixture
def two_steps() -> Migrations:
    made = Migrations("tests")

    @made
    def first(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE shelf (place INTEGER)")

    @made
    def second(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE shelf ADD COLUMN room INTEGER")

    return made


def tables(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_steps_are_taken_once_in_their_order(connection: sqlite3.Connection, two_steps: Migrations) -> None:
    assert (two_steps.applied(connection), two_steps.pending(connection)) == ([], ["first", "second"])
    two_steps.apply(connection)
    two_steps.apply(connection)
    assert (two_steps.applied(connection), two_steps.pending(connection)) == (["first", "second"], [])
    assert connection.execute("SELECT place, room FROM shelf").fetchall() == []
    assert not two_steps.is_newer(connection)


def test_a_step_that_fails_leaves_nothing_and_is_still_to_come(
    connection: sqlite3.Connection, two_steps: Migrations
) -> None:
    two_steps.apply(connection)

    @two_steps
    def third(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE other (place INTEGER)")
        raise KeyError

    with pytest.raises(KeyError):
        two_steps.apply(connection)
    assert not connection.in_transaction
    assert not has_table(connection, "other")
    assert two_steps.pending(connection) == ["third"]


def test_tables_to_compare_with_are_those_that_the_steps_make(
    connection: sqlite3.Connection, two_steps: Migrations
) -> None:
    two_steps.apply(connection)
    with closing(sqlite3.connect(":memory:")) as other:
        two_steps.make(other)
        assert tables(other) == tables(connection)


def test_records_are_those_of_sqlite_utils(connection: sqlite3.Connection, two_steps: Migrations) -> None:
    theirs = MigrationsOfSqliteUtils("tests")
    theirs(name="first")(lambda db: db.execute("CREATE TABLE shelf (place INTEGER)"))
    theirs(name="second")(lambda db: db.execute("ALTER TABLE shelf ADD COLUMN room INTEGER"))
    two_steps.apply(connection)
    assert theirs.pending(Database(connection)) == []
    with closing(sqlite3.connect(":memory:")) as other:
        theirs.apply(Database(other))
        assert tables(other) == tables(connection)
        assert two_steps.pending(other) == []


def test_steps_of_others_are_no_business_of_ours(connection: sqlite3.Connection, two_steps: Migrations) -> None:
    two_steps.apply(connection)
    others = Migrations("others")
    assert (others.applied(connection), others.is_newer(connection)) == ([], False)
    del two_steps.steps["second"]
    assert two_steps.is_newer(connection)


@pytest.fixture
def older(connection: sqlite3.Connection) -> sqlite3.Connection:
    """A library from before tape files had ordinals, with two media, some of whose times a clock had wrong."""
    for name in ("first_schema", "few_of_many"):
        migrations.steps[name](connection)
    connection.execute("INSERT INTO library (uuid, created_at, epoch, next_session) VALUES ('u', 't', 2, 10)")
    connection.execute("INSERT INTO disk (number, uuid, path, added_at) VALUES (0, 'd', '/d', 't')")
    connection.execute("INSERT INTO drive (number) VALUES (0)")
    connection.execute("INSERT INTO medium (barcode, added_at) VALUES ('A', 't'), ('B', 't')")
    connection.execute(
        "INSERT INTO mount (machine, pid, uid, mountpoint, options, state, mounted_at) VALUES"
        " ('m', 1, 0, '/', '', 'mounted', 't')"
    )
    rows = [  # medium, number, released_at, epoch
        *(("A", 0, "2026-01-01", 1), ("A", 1, "2036-01-01", 1), ("A", 2, "2026-01-03", 1)),
        *(("B", 0, "2026-01-02", 1), ("B", 1, "1970-01-01", 2), ("B", 2, "2026-01-05", 2)),
    ]
    for session, (medium, number, at, epoch) in enumerate(rows, 1):
        connection.execute(
            "INSERT INTO session (id, mount, host, pid, uid, gid, program, access, drive, medium, state, opened_at,"
            " released_at, stripe_unit) VALUES (?, 1, 'h', 1, 0, 0, 'p', 'write', 0, ?, 'released', 't', ?, 4096)",
            (session, medium, at),
        )
        connection.execute(
            "INSERT INTO tape_file VALUES (?, ?, ?, ?, 5, ?, ?)", (medium, number, session, 5 * number, at, epoch)
        )
    connection.execute("INSERT INTO verification (started_at, ended_at, bytes) VALUES ('2026-01-01', '2026-01-02', 5)")
    connection.execute(
        "INSERT INTO verification (started_at, bytes, damaged, progress) VALUES ('2026-01-01', 5, 1, '{')"
    )
    return connection


def test_tape_files_of_an_older_library_get_ordinals(older: sqlite3.Connection) -> None:
    """Those of a medium in their order, those of an epoch before those of the next, whatever their times say."""
    for name in ("order_without_clocks", "numbered_announcements"):
        migrations.steps[name](older)
    order = older.execute("SELECT medium, number, session, start FROM tape_file ORDER BY ordinal").fetchall()
    assert order == [("A", 0, 1, 0), ("B", 0, 4, 0), ("A", 1, 2, 5), ("A", 2, 3, 10), ("B", 1, 5, 5), ("B", 2, 6, 10)]
    ordinals = older.execute("SELECT ordinal FROM tape_file ORDER BY 1").fetchall()
    assert ordinals == [(number,) for number in range(1, 7)]
    assert older.execute("SELECT tape_files, bytes, announced FROM library").fetchall() == [(6, 30, 0)]
    with pytest.raises(sqlite3.IntegrityError, match="ordinal"):
        older.execute("INSERT INTO tape_file SELECT medium, 9, 99, 99, 5, 't', 2, 6 FROM tape_file LIMIT 1")


def test_verification_of_an_older_library_that_was_interrupted_begins_anew(older: sqlite3.Connection) -> None:
    migrations.steps["order_without_clocks"](older)
    rows = older.execute("SELECT last, progress, unfinished, bytes, damaged FROM verification ORDER BY id").fetchall()
    assert rows == [(0, "{}", "[]", 5, 0), (6, "{}", "[]", 0, 0)]


def test_history_of_an_older_library_goes_on_with_the_new_column(older: sqlite3.Connection) -> None:
    migrations.steps["numbered_announcements"](older)
    older.execute("UPDATE session SET announced = 7 WHERE id = 1")
    older.execute("UPDATE library SET epoch = 3")
    older.execute("UPDATE session SET announced = 8 WHERE id = 1")
    assert older.execute("SELECT since FROM session WHERE id = 1").fetchall() == [(3,)]
    past = older.execute("SELECT id, announced, since, until FROM session_history").fetchall()
    assert past == [(1, 7, 2, 3)]
