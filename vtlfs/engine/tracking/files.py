"""Database files that no mount uses: copies of the tracking database, and a database that is being rebuilt.

Used by `engine/backup/` and `engine/rebuild/`, which know where such files lie. Everything here may block.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from vtlfs.engine.tracking.connection import errno_of
from vtlfs.errors import LibraryError
from vtlfs.model import NOWHERE


def copy(
    source: Path, target: str, check_room: Callable[[int], None], look: Callable[[], None], step_pages: int
) -> None:
    """Copy the database as it stands at one moment to an empty file, which is not synced. Writers are not held up.

    `check_room` is called first, with the size of the copy; `look` after each `step_pages` pages. Either may raise
    OSError to end the copying. Errors of SQLite are raised as OSError.
    """
    try:
        source_path = f"{source.as_uri()}?mode=ro"
        with closing(sqlite3.connect(source_path, uri=True)) as read, closing(sqlite3.connect(target)) as written:
            read.execute("BEGIN")  # one state for the whole copy
            (pages,), (size,) = (read.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size"))
            check_room(pages * size)
            written.execute("PRAGMA synchronous = OFF")
            read.backup(written, pages=step_pages, progress=lambda *_: look())
            written.execute("PRAGMA journal_mode = DELETE")  # a write-ahead log could not be read on a read-only disk
    except sqlite3.Error as error:
        raise OSError(errno_of(error, source), str(error)) from error


def fold_log(file: Path) -> None:
    """Fold a database's write-ahead log into the database. Raises LibraryError."""
    with _opened(file) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def check_integrity(file: Path) -> None:
    """Raise LibraryError if a database is damaged, or a row refers to a row that does not exist."""
    with _opened(file) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            raise LibraryError("it is damaged")
        if connection.execute("PRAGMA foreign_key_check").fetchone():
            raise LibraryError("its tables do not fit together")


def count_copies_on(file: Path, newest: int) -> None:
    """Make the next copy of a database due soon, with a number above `newest`, the highest number on the disks."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "UPDATE copy SET number = max(number, ?), begun_at = NULL, again_at = NULL, state = NULL", (newest,)
        )


class EndedSessions:
    """Finds the sessions that have ended and lack nothing. For one thread, while nobody changes the database."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, check_same_thread=False)

    def among(self, first: int, last: int) -> set[int]:
        """Return those of the sessions `first` to `last` that a rebuild need not look for on the disks again.

        Sessions are left out that have an extent at no known position, or stripes without all their parity: a disk that
        was missing at an earlier rebuild may have these.
        """
        rows = self._connection.execute(
            "SELECT id FROM session WHERE id BETWEEN ? AND ? AND state <> 'open'"
            " AND NOT EXISTS (SELECT 1 FROM extent WHERE extent.session = id AND position = ?)"
            " AND (parity = 0 OR (SELECT count(*) FROM parity WHERE parity.session = id)"
            " >= session.parity * (SELECT count(DISTINCT stripe) FROM extent WHERE extent.session = id))",
            (first, last, NOWHERE),
        )
        return {row[0] for row in rows}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(file)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise LibraryError(str(error)) from error
