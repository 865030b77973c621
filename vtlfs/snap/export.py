"""Writing a snapshot out as a plain SQLite file of its own: the same tables, with the rows of then.

`sqlite3`, Datasette and `vtlfs tui` open it. It has neither triggers nor history.
"""

import os
from pathlib import Path

from vtlfs.engine.library import Library
from vtlfs.engine.schema import WRITE_COMMAND
from vtlfs.engine.tracking import Tracking
from vtlfs.errors import LibraryError
from vtlfs.snap import store
from vtlfs.snap.view import open_view

TABLES = ("library", "disk", "drive", "medium", "mount", "session", "tape_file", "snapshot", "_sqlite_migrations")
KEYS = {
    "disk": "number",
    "drive": "number",
    "medium": "barcode",
    "mount": "id",
    "session": "id",
    "tape_file": "medium, number",
    "stripe_unit": "session, unit",
    "snapshot": "id",
}


def export(library: Library, number: int, file: Path) -> None:
    """Write snapshot `number` to a new file. Raises NoSuchSnapshot, LibraryError; then there is no file."""
    if file.exists() or file.is_symlink():
        raise LibraryError(f"{file}: exists already; export to a new file")
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    view = open_view(library, number)
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        view.execute("PRAGMA query_only = OFF")
        view.execute("ATTACH DATABASE ? AS exported", str(temporary))
        view.execute("BEGIN")  # not an immediate one, which would lock the library's database too
        store.snapshot(view, number)
        _copy(view)
        view.execute("COMMIT")
        view.execute("DETACH DATABASE exported")
        os.link(temporary, file)
    except FileExistsError:
        raise LibraryError(f"{file}: exists already; export to a new file") from None
    except OSError as error:
        raise LibraryError(f"{file}: {error.strerror}") from None
    finally:
        view.close()
        for left in (temporary, temporary.with_name(f"{temporary.name}-journal")):
            left.unlink(missing_ok=True)


def _copy(view: Tracking) -> None:
    for table in TABLES:
        view.execute(f"CREATE TABLE exported.{table} AS SELECT * FROM {table}")
    # Of a session that was open, the last unit has grown since; what came later is left out.
    view.execute(
        "CREATE TABLE exported.stripe_unit AS SELECT session, unit, disk, slot,"
        " min(stripe_unit.bytes, session.bytes - unit * session.stripe_unit) AS bytes, blake3"
        " FROM main.stripe_unit AS stripe_unit JOIN session ON session.id = stripe_unit.session"
        " WHERE access = 'write' AND unit * session.stripe_unit < session.bytes"
    )
    for table, columns in KEYS.items():
        view.execute(f"CREATE UNIQUE INDEX exported.{table}_key ON {table} ({columns})")
    view.execute("CREATE INDEX exported.session_medium ON session (medium, id)")
    view.execute("CREATE INDEX exported.session_host ON session (host, id)")
    view.execute("CREATE UNIQUE INDEX exported.tape_file_start ON tape_file (medium, start)")
    view.execute("CREATE INDEX exported.session_written ON session (released_at, host, medium, bytes, tape_file)")
    view.execute(f"CREATE VIEW exported.write_command AS {WRITE_COMMAND}")
