"""The versions of a database's tables: which it has gone through, and bringing it up to date.

sqlite-utils brings it up to date, and records that in `_sqlite_migrations`. Loading it takes longer than everything
else that most commands do, so that it is loaded where there is something to bring up to date, and a look at the records
does without.
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
        """Take the steps that are to come, all in one transaction: who else wants to take them waits for it."""
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
        """Make the tables that `apply` makes of an empty database, without a record: to compare others with them."""
        for statement in (_RECORDS, _INDEX):
            connection.execute(statement)
        for step in self.steps.values():
            step(connection)


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Tell whether the database has a table of this name."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None
