"""Migrations of a database's tables: which steps a database has gone through, and running the others.

sqlite-utils runs the steps, and records each in the table `_sqlite_migrations`. Loading sqlite-utils takes longer than
all else that most commands do, so it is loaded only when a step is to run; the records are read without it.
"""

import sqlite3
from collections.abc import Callable

from vtlfs.engine.tracking.sqlite_tools import sqlite_utils
from vtlfs.failpoints import reached

Migration = Callable[[sqlite3.Connection], None]

_RECORDS = """CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
)"""  # byte for byte the text of sqlite-utils, since the texts of tables are compared
_INDEX = """CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name")"""


class Migrations:
    """Steps by name, in the order in which they run. `label` is the name of this set of steps in the records."""

    def __init__(self, label: str) -> None:
        self._label = label
        self.steps: dict[str, Migration] = {}

    def __call__(self, step: Migration) -> Migration:
        """Add a step, under the name of the function."""
        self.steps[step.__name__] = step
        return step

    def applied(self, connection: sqlite3.Connection) -> list[str]:
        """Return the names of the steps that the database has gone through, also steps of a newer vtlfs."""
        if not has_table(connection, "_sqlite_migrations"):
            return []
        rows = connection.execute(
            "SELECT name FROM _sqlite_migrations WHERE migration_set = ? ORDER BY rowid", (self._label,)
        )
        return [name for (name,) in rows]

    def pending(self, connection: sqlite3.Connection) -> list[str]:
        """Return the names of the steps that the database has not gone through."""
        done = set(self.applied(connection))
        return [name for name in self.steps if name not in done]

    def is_newer(self, connection: sqlite3.Connection) -> bool:
        """Tell whether a newer vtlfs has changed the tables."""
        return any(name not in self.steps for name in self.applied(connection))

    def apply(self, connection: sqlite3.Connection) -> None:
        """Run the pending steps in one transaction. Another process that wants to run them waits for its end."""
        tools = sqlite_utils()
        recorded = tools.Migrations(self._label)
        for name, step in self.steps.items():
            recorded(name=name)(lambda database, step=step: step(database.conn))
        connection.execute("BEGIN IMMEDIATE")
        try:
            recorded.apply(tools.Database(connection, execute_plugins=False))
            reached("create.noted")
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
        reached("create.steps_taken")

    def make(self, connection: sqlite3.Connection) -> None:
        """Make the tables that `apply` makes in an empty database, without records: for a comparison of their texts."""
        for statement in (_RECORDS, _INDEX):
            connection.execute(statement)
        for step in self.steps.values():
            step(connection)


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Tell whether the database has a table of this name."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None
