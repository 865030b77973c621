"""Database files that no mount uses: copies, and the beginning of a rebuilt database.

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
    """Copy one state of the database, however much is written meanwhile, to an empty file, unsynced.

    `check_room` is called with the size first, `look` between two steps of `step_pages` pages; either may raise
    OSError, and end it. Raises OSError, also for what SQLite can't read or write.
    """
    try:
        source_path = f"{source.as_uri()}?mode=ro"
        with closing(sqlite3.connect(source_path, uri=True)) as read, closing(sqlite3.connect(target)) as written:
            read.execute("BEGIN")  # one state for the whole copy
            (pages,), (size,) = (read.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size"))
            check_room(pages * size)
            written.execute("PRAGMA synchronous = OFF")
            read.backup(written, pages=step_pages, progress=lambda *_: look())
            written.execute("PRAGMA journal_mode = DELETE")  # so that it can be read where nothing can be written
    except sqlite3.Error as error:
        raise OSError(errno_of(error, source), str(error)) from error


def fold_log(file: Path) -> None:
    """Have a database's write-ahead log in the database. Raises LibraryError."""
    with _opened(file) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def check_integrity(file: Path) -> None:
    """Raise LibraryError where a database is damaged, or its tables do not fit together."""
    with _opened(file) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            raise LibraryError("it is damaged")
        if connection.execute("PRAGMA foreign_key_check").fetchone():
            raise LibraryError("its tables do not fit together")


def count_copies_on(file: Path, newest: int) -> None:
    """Have the next copy of a database be newer than any on the disks, and made soon."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "UPDATE copy SET number = max(number, ?), begun_at = NULL, again_at = NULL, state = NULL", (newest,)
        )


class EndedSessions:
    """Asks which sessions have ended and lack nothing, in a thread of its own, while nobody changes the database."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, check_same_thread=False)

    def among(self, first: int, last: int) -> set[int]:
        """Return those of the sessions `first` to `last` of which the database knows all there is.

        A session does not count of which a rebuild has not found an extent, or whose stripes lack parity: a disk that
        was missing then may have it.
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
