"""Exporting a snapshot to an SQLite file: the tables of the tracking database, with their rows at the snapshot.

Extents are those of then, and lie where they lie now. Disks that were added since are there if extents lie on them.

`sqlite3`, Datasette and `vtlfs tui` open such a file. It has neither triggers nor history.
"""

import os
import re
from pathlib import Path

from vtlfs.durable import sync_directory
from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.schema.tables import VERSIONED, WRITE_COMMAND
from vtlfs.errors import LibraryError
from vtlfs.failpoints import reached
from vtlfs.snap import store
from vtlfs.snap.view import open_view

TABLES = (
    "library",
    "disk",
    "medium",
    "volume",
    "hold",
    "event",
    "drive",
    "mount",
    "session",
    "tape_file",
    "snapshot",
    "_sqlite_migrations",
)


def export(library: Library, number: int, file: Path) -> None:
    """Write snapshot `number` to a new file. Raises NoSuchSnapshot or LibraryError, and leaves no file then."""
    if file.exists() or file.is_symlink():
        raise LibraryError(f"{file}: exists already; export to a new file")
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    view = open_view(library, number)
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        reached("export.made")
        view.sql.execute("PRAGMA query_only = OFF")
        view.sql.execute("PRAGMA foreign_keys = OFF")  # the rows refer to each other rightly; checking takes time
        view.sql.execute("ATTACH DATABASE ? AS exported", str(temporary))
        view.sql.execute("BEGIN")  # BEGIN IMMEDIATE would lock the library's database, too
        store.snapshot(view, number)
        _copy(view)
        view.sql.execute("COMMIT")
        reached("export.copied")
        view.sql.execute("DETACH DATABASE exported")
        os.link(temporary, file)
        reached("export.named")
        sync_directory(file.parent)
    except FileExistsError:
        raise LibraryError(f"{file}: exists already; export to a new file") from None
    except OSError as error:
        raise LibraryError(f"{file}: {error.strerror}") from None
    finally:
        view.close()
        for left in (temporary, temporary.with_name(f"{temporary.name}-journal")):
            left.unlink(missing_ok=True)
        reached("export.tidied")


def _copy(view: Tracking) -> None:
    for table in (*TABLES, "extent", "parity"):
        (made,) = view.sql.one("SELECT sql FROM main.sqlite_master WHERE type = 'table' AND name = ?", table)
        view.sql.execute(_without_since(made).replace("CREATE TABLE ", "CREATE TABLE exported.", 1))
    for table in TABLES:
        view.sql.execute(f"INSERT INTO exported.{table} SELECT * FROM {table}")
    # Of a session that was open then, later extents are left out. Stripes are recorded whole, so whole stripes go.
    view.sql.execute(
        "INSERT INTO exported.extent SELECT extent.* FROM main.extent AS extent JOIN session"
        " ON session.id = extent.session WHERE access = 'write' AND offset < session.bytes"
    )
    view.sql.execute(
        "INSERT INTO exported.parity SELECT * FROM main.parity"
        " WHERE (session, stripe) IN (SELECT session, stripe FROM exported.extent)"
    )
    columns = ", ".join(VERSIONED["disk"][1])  # extents move: where they lie by now is no disk of then
    view.sql.execute(
        f"INSERT OR IGNORE INTO exported.disk SELECT {columns} FROM main.disk WHERE number IN"
        " (SELECT disk FROM exported.extent UNION SELECT disk FROM exported.parity)"
    )
    indexes = view.sql.execute(
        "SELECT sql FROM main.sqlite_master WHERE type = 'index' AND tbl_name IN ('session', 'tape_file')"
        " AND sql NOT LIKE '%(since)'"
    )
    for (index,) in indexes.fetchall():
        view.sql.execute(index.replace("CREATE INDEX ", "CREATE INDEX exported.", 1))
    view.sql.execute(f"CREATE VIEW exported.write_command AS {WRITE_COMMAND}")


def _without_since(table: str) -> str:
    """Return the SQL that makes a table without its column `since`, and with all its comments.

    SQLite has put columns that were added later behind `since`, on the same line.
    """
    rest = re.sub(r"\n( *)since INTEGER(?:, (\w[^\n]*)|[^\n]*)", lambda m: f"\n{m[1]}{m[2]}" if m[2] else "", table)
    return re.sub(r",( *--[^\n]*)?\n(?=[),])", r"\1\n", rest)
