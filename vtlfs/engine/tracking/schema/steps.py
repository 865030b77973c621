"""The steps from one version of the tables to the next. A change is a new step, never an edit of an old one."""

import sqlite3

from vtlfs.engine.tracking.history import versioning_sql, widening_sql
from vtlfs.engine.tracking.schema.incidents import INCIDENTS, KNOWN
from vtlfs.engine.tracking.schema.migrations import Migrations
from vtlfs.engine.tracking.schema.tables import TABLES, VERSIONED, WRITE_COMMAND
from vtlfs.failpoints import reached

FIRST_OF_FORMAT_1 = "first_schema"  # the first step of every database of a library of format 1

migrations = Migrations("vtlfs")


def _script(connection: sqlite3.Connection, script: str) -> None:
    """Run the statements one by one, since `executescript` would commit the migration's transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns, without `since`, that a versioned table has at this step."""
    names = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    return [name for name in names if name != "since"]


@migrations
def format_2(connection: sqlite3.Connection) -> None:
    """Create the tables that came with format 2 of the disks."""
    _script(connection, TABLES)
    connection.execute(f"CREATE VIEW write_command AS {WRITE_COMMAND}")
    for table, (key, _) in VERSIONED.items():
        _script(connection, versioning_sql(table, key, _columns(connection, table)))
    reached("create.tables")


@migrations
def slots(connection: sqlite3.Connection) -> None:
    """Give each medium that was not removed a slot of the changer, in the order in which media were added."""
    columns = _columns(connection, "medium")
    _script(connection, widening_sql("medium", "barcode", columns, "slot", "INTEGER CHECK (slot > 0)"))
    connection.execute("CREATE UNIQUE INDEX medium_slot ON medium (slot) WHERE slot IS NOT NULL")
    connection.execute(
        "UPDATE medium SET slot = place FROM (SELECT id AS number, row_number() OVER (ORDER BY id) AS place FROM medium"
        " WHERE state <> 'removed') WHERE id = number"
    )
    reached("create.slots")


@migrations
def openings(connection: sqlite3.Connection) -> None:
    """Number the sessions in the order of opening over all mounts; those that are there get 0.

    To number these as well would copy every row to the history.
    """
    columns = _columns(connection, "session")
    _script(connection, widening_sql("session", "id", columns, "sequence", "INTEGER NOT NULL DEFAULT 0"))
    connection.execute("CREATE INDEX session_sequence ON session (sequence, id)")
    for column in ("medium", "host"):
        connection.execute(f"DROP INDEX session_{column}")
        connection.execute(f"CREATE INDEX session_{column} ON session ({column}, sequence, id)")
    reached("create.openings")


@migrations
def incidents(connection: sqlite3.Connection) -> None:
    """Keep what went wrong by itself, beginning with the sessions that have failed."""
    _script(connection, INCIDENTS)
    connection.execute(KNOWN)
    reached("create.incidents")
