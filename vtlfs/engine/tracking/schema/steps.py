"""The steps from one version of the tables to the next. A change is a new step, never an edit of an old one."""

import sqlite3

from vtlfs.engine.tracking.history import versioning_sql, widening_sql
from vtlfs.engine.tracking.schema.migrations import Migrations
from vtlfs.engine.tracking.schema.tables import TABLES, VERSIONED, WRITE_COMMAND
from vtlfs.failpoints import reached

migrations = Migrations("vtlfs")


def _script(connection: sqlite3.Connection, script: str) -> None:
    """Run the statements one by one, for `executescript` would commit the migration's transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns that a versioned table has at this point of its migrations, but for `since`."""
    names = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    return [name for name in names if name != "since"]


@migrations
def first_schema(connection: sqlite3.Connection) -> None:
    """Create the tables of version 1."""
    _script(connection, TABLES)
    connection.execute(f"CREATE VIEW write_command AS {WRITE_COMMAND}")
    for table, (key, _) in VERSIONED.items():
        _script(connection, versioning_sql(table, key, _columns(connection, table)))
    reached("create.tables")


@migrations
def few_of_many(connection: sqlite3.Connection) -> None:
    """Find the few rows that a mount asks for when it starts without looking at all there ever were."""
    connection.execute("CREATE INDEX session_recovered ON session (mount) WHERE state = 'recovered'")
    connection.execute("CREATE INDEX mount_live ON mount (id) WHERE state = 'mounted'")
    reached("create.indexes")


@migrations
def counted_commits(connection: sqlite3.Connection) -> None:
    """Count the transactions, so that a database that went back can be told from what the disks know of it.

    `commits` is raised by each transaction that changes something. See vtlfs/engine/tracking/currency.py.
    """
    connection.execute("ALTER TABLE library ADD COLUMN commits INTEGER NOT NULL DEFAULT 0")
    reached("create.counted")


_ORDINALS = """
CREATE TEMP TABLE tape_file_of_old AS
    SELECT *, row_number() OVER (ORDER BY epoch, latest, medium, number) AS ordinal FROM
    (SELECT *, max(released_at) OVER (PARTITION BY medium ORDER BY number) AS latest FROM tape_file);
DROP TABLE tape_file;

-- What a write session left on a medium. Rows never change.
CREATE TABLE tape_file (
    medium TEXT NOT NULL REFERENCES medium (barcode),
    number INTEGER NOT NULL,         -- from 0, in the order of release
    session INTEGER NOT NULL UNIQUE REFERENCES session (id),
    start INTEGER NOT NULL,          -- offset on the medium of its first byte
    bytes INTEGER NOT NULL CHECK (bytes > 0),
    released_at TEXT NOT NULL,       -- for people: the order is that of the ordinals
    epoch INTEGER NOT NULL,          -- in which it came: snapshot S shows those with epoch <= S
    ordinal INTEGER NOT NULL UNIQUE, -- over all media, in the order of release: 1 to library.tape_files
    PRIMARY KEY (medium, number),
    UNIQUE (medium, start)
) STRICT, WITHOUT ROWID;
CREATE INDEX tape_file_epoch ON tape_file (epoch);
INSERT INTO tape_file
    SELECT medium, number, session, start, bytes, released_at, epoch, ordinal FROM tape_file_of_old ORDER BY 1, 2;
DROP TABLE tape_file_of_old;
CREATE TRIGGER tape_file_counted AFTER INSERT ON tape_file BEGIN
    UPDATE library SET tape_files = tape_files + 1, bytes = bytes + NEW.bytes;
END;

ALTER TABLE verification ADD COLUMN last INTEGER NOT NULL DEFAULT 0 /* ordinal of the last tape file to verify */;
ALTER TABLE verification ADD COLUMN unfinished TEXT NOT NULL
    DEFAULT '[]' /* [disk, session] of headers that did not say yet how the session ended, a JSON array */;
-- One that was interrupted begins anew: which tape files it was to verify only a clock told.
UPDATE verification SET last = (SELECT tape_files FROM library), progress = '{}', bytes = 0, damaged = 0,
    unreadable = 0, undescribed = 0 WHERE ended_at IS NULL;
"""


@migrations
def order_without_clocks(connection: sqlite3.Connection) -> None:
    """Number the tape files in the order of their release, which only their times told."""
    _script(connection, _ORDINALS)
    reached("create.ordinals")


@migrations
def numbered_announcements(connection: sqlite3.Connection) -> None:
    """Number the announcements of a close(), so that nobody compares times to know the new ones."""
    counter = "/* announcements of a close(), of all sessions: the number of the last one */"
    connection.execute(f"ALTER TABLE library ADD COLUMN announced INTEGER NOT NULL DEFAULT 0 {counter}")
    number = "INTEGER /* number of its last announcement that it may be about to be released; NULL: none */"
    key = VERSIONED["session"][0]
    _script(connection, widening_sql("session", key, _columns(connection, "session"), "announced", number))
    reached("create.announcements")


@migrations
def severity_of_metadata(connection: sqlite3.Connection) -> None:
    """Call defects of headers and records what everybody calls them."""
    connection.execute("ALTER TABLE verification RENAME COLUMN undescribed TO metadata")
    reached("create.renamed")
