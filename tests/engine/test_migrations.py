"""Which version a database is of: what is recorded, and that sqlite-utils understands it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlite_utils import Database
from sqlite_utils import Migrations as MigrationsOfSqliteUtils

from vtlfs.engine.tracking.schema import steps
from vtlfs.engine.tracking.schema.migrations import Migrations, has_table


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


def test_media_of_an_older_database_get_slots_in_the_order_of_adding(connection: sqlite3.Connection) -> None:
    older = Migrations("vtlfs")
    older.steps = {name: step for name, step in steps.migrations.steps.items() if name == "format_2"}
    older.apply(connection)
    connection.execute("INSERT INTO library (uuid, created_at, epoch, next_session) VALUES ('u', 't', 1, 1)")
    for barcode, state in (("B", "in use"), ("A", "removed"), ("C", "retired")):
        connection.execute(
            "INSERT INTO medium (barcode, added_at, begun_at, state) VALUES (?, 't', 't', ?)", (barcode, state)
        )
    connection.execute("UPDATE library SET epoch = 2")  # a snapshot was taken
    connection.commit()
    assert steps.migrations.pending(connection)[0] == "slots"
    steps.migrations.apply(connection)
    rows = connection.execute("SELECT barcode, slot, since FROM medium ORDER BY id").fetchall()
    assert rows == [("B", 1, 2), ("A", None, 1), ("C", 2, 2)]
    assert connection.execute("SELECT barcode, slot, until FROM medium_history ORDER BY id").fetchall() == [
        ("B", None, 2),
        ("C", None, 2),
    ]
    with closing(sqlite3.connect(":memory:")) as fresh:
        steps.migrations.make(fresh)
        assert tables(fresh) == tables(connection)


def test_steps_of_others_are_no_business_of_ours(connection: sqlite3.Connection, two_steps: Migrations) -> None:
    two_steps.apply(connection)
    others = Migrations("others")
    assert (others.applied(connection), others.is_newer(connection)) == ([], False)
    del two_steps.steps["second"]
    assert two_steps.is_newer(connection)
