"""The versions of a database's tables: which it has gone through, and bringing it up to date.

They are recorded in `_sqlite_migrations` just as sqlite-utils does, so that its commands understand them. It does not
do it itself, for loading it takes longer than everything else that most commands do.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from vtlfs.failpoints import reached

Migration = Callable[[sqlite3.Connection], None]

_RECORDS = """CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
)"""  # to the byte as sqlite-utils makes it, for tables are compared
_INDEX = """CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name")"""


class Migrations:
    """Steps in the order in which they are to be taken, by their names. `label` tells them from those of others."""

    def __init__(self, label: str) -> None:
        self._label = label
        self.steps: dict[str, Migration] = {}

    def __call__(self, step: Migration) -> Migration:
        """Add a step, under the name of the function."""
        self.steps[step.__name__] = step
        return step

    def applied(self, connection: sqlite3.Connection) -> list[str]:
        """Return the names of the steps that the database has gone through, also such as are not known."""
        if not has_table(connection, "_sqlite_migrations"):
            return []
        rows = connection.execute(
            "SELECT name FROM _sqlite_migrations WHERE migration_set = ? ORDER BY rowid", (self._label,)
        )
        return [name for (name,) in rows]

    def pending(self, connection: sqlite3.Connection) -> list[str]:
        """Return the names of the steps that are to come."""
        done = set(self.applied(connection))
        return [name for name in self.steps if name not in done]

    def is_newer(self, connection: sqlite3.Connection) -> bool:
        """Tell whether a later program has changed the tables."""
        return any(name not in self.steps for name in self.applied(connection))

    def apply(self, connection: sqlite3.Connection) -> None:
        """Take the steps that are to come, each in a transaction together with its record."""
        while self.pending(connection):
            with _transaction(connection):
                for name in self.pending(connection)[:1]:  # of now, for somebody else may just have taken it
                    self._take(connection, name)

    def _take(self, connection: sqlite3.Connection, name: str) -> None:
        if not has_table(connection, "_sqlite_migrations"):
            connection.execute(_RECORDS)
            connection.execute(_INDEX)
        self.steps[name](connection)
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, ?, ?)",
            (self._label, name, str(datetime.now(UTC))),
        )
        reached("create.noted")


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Tell whether the database has a table of this name."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
        reached("create.step_taken")
    except BaseException:
        connection.rollback()
        raise
