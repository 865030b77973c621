"""SQL statements over the connection of one `Tracking`. Only the repositories and `vtlfs.snap` use this module.

Errors of SQLite are raised as TrackingErrors. A connection belongs to one thread at a time, and so does a `Statements`.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from vtlfs.engine.tracking.connection import Connection, translated
from vtlfs.errors import TrackingError


class Statements:
    """Runs statements over one connection, in the connection's current transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Run one statement. Raises TrackingError."""
        try:
            return self._connection.execute(sql, values)
        except sqlite3.DatabaseError as error:
            raise translated(error, self._connection.path) from error
        except OverflowError:
            raise TrackingError("a number in a statement is too large; `vtlfs check` tells more") from None

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> int:
        """Run one statement for each row of values; return how many rows were changed. Raises TrackingError."""
        try:
            return max(0, self._connection.executemany(sql, rows).rowcount)
        except sqlite3.DatabaseError as error:
            raise translated(error, self._connection.path) from error

    def first(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        """Run one statement and return its first row, None without one. Raises TrackingError."""
        row: tuple[Any, ...] | None = self.execute(sql, *values).fetchone()
        return row

    def one(self, sql: str, *values: object) -> tuple[Any, ...]:
        """Run one statement and return its first row. Raises TrackingError, also without a row."""
        row = self.first(sql, *values)
        if row is None:
            raise TrackingError(f"a row that must be there is not: {sql} {values}")
        return row


class Repository:
    """The rows of one noun, behind verbs that return frozen values.

    Verbs are synchronous. Verbs that change rows are called inside `Tracking.transaction`, so that a caller can put
    several into one commit. A verb that changes several tables stands in the repository whose noun its caller names.
    """

    def __init__(self, sql: Statements) -> None:
        self._sql = sql
