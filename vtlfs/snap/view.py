"""The tracking database as it stood at a snapshot: every query of `Tracking` gets the rows of that moment."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.history import as_of_sql
from vtlfs.engine.tracking.schema.tables import VERSIONED, WRITE_COMMAND
from vtlfs.errors import NoSuchSnapshot
from vtlfs.model import UNKNOWN_MACHINE
from vtlfs.snap import store

_TAPE_FILE = "medium, volume, number, session, start, bytes, released_at, epoch, ordinal, retain_mode, retain_until"

# Holds are not versioned; the events tell which there were. The rows of a medium that was held are not many.
_HOLD = (
    "SELECT placed.medium, json_extract(placed.details, '$.hold') AS name, placed.reason, placed.at AS placed_at,"
    " placed.uid, placed.host FROM main.event AS placed WHERE placed.what = 'held' AND placed.epoch <= {number}"
    " AND NOT EXISTS (SELECT 1 FROM main.event AS ended WHERE ended.medium = placed.medium AND ended.id > placed.id"
    " AND ended.what = 'released' AND ended.epoch <= {number}"
    " AND json_extract(ended.details, '$.hold') = json_extract(placed.details, '$.hold'))"
)


def open_view(library: Library, number: int) -> Tracking:
    """Open the tracking database as it stood at a snapshot, for reading. Raises NoSuchSnapshot, LibraryError.

    Temporary views hide the tables of the same names, so that every query of `Tracking` sees the rows at the snapshot.
    """
    view = library.tracking(read_only=True)
    try:
        view.sql.execute("PRAGMA query_only = OFF")  # temporary views are made
        for name, sql in _views(view, int(number)).items():
            view.sql.execute(f"CREATE TEMP VIEW {name} AS {sql}")
        view.sql.execute("PRAGMA query_only = ON")
    except BaseException:
        view.close()
        raise
    return view


def _views(view: Tracking, number: int) -> dict[str, str]:
    """Return the SQL of each table's view at the snapshot. Raises NoSuchSnapshot."""
    row = view.sql.first("SELECT next_session, sessions FROM snapshot WHERE id = ?", number)
    if row is None:
        raise NoSuchSnapshot(number)
    views = {table: as_of_sql(table, columns, number) for table, (_, columns) in VERSIONED.items()}
    # A rebuild opens the sessions that it finds on the disks again, in another order than theirs.
    is_rebuilt = view.sql.first("SELECT 1 FROM main.mount WHERE machine = ? LIMIT 1", UNKNOWN_MACHINE)
    opened_then = f"likely(id < {row[0]})" + ("" if is_rebuilt else f" AND likely(sequence <= {row[1]})")
    views["session"] = as_of_sql("session", VERSIONED["session"][1], number, among=opened_then)
    views["tape_file"] = f"SELECT {_TAPE_FILE} FROM main.tape_file WHERE epoch <= {number}"
    views["volume"] = (
        "SELECT volume.medium, number, volume.begun_at, begun, iif(number < medium.volume, ended_at, NULL) AS ended_at,"
        " iif(number < medium.volume, ended, NULL) AS ended, volume.bytes, volume.tape_files, retain_mode,"
        " retain_seconds, retain_until, stored, deleted, reclaimed_at"
        " FROM main.volume AS volume JOIN medium ON barcode = volume.medium WHERE number <= medium.volume"
    )
    views["hold"] = _HOLD.format(number=number)
    views["event"] = f"SELECT * FROM main.event WHERE epoch <= {number}"
    views["snapshot"] = f"SELECT * FROM main.snapshot WHERE id <= {number}"
    views["library"] = (
        f"SELECT uuid, created_at, {number} AS epoch, snapshot.next_session, snapshot.media, snapshot.sessions,"
        " snapshot.tape_files, snapshot.bytes, commits, announced, disks, moves, latest"
        " FROM main.library, main.snapshot"
        f" WHERE snapshot.id = {number}"
    )
    return views | {"write_command": WRITE_COMMAND}


@contextmanager
def opened(library: Library, number: int | None) -> Iterator[Tracking]:
    """Open a snapshot, or the present if `number` is None, in one read transaction for the whole block.

    Rows that others write or prune meanwhile are not seen. The transaction keeps SQLite from folding the write-ahead
    log into the database, so the block must be short. Raises NoSuchSnapshot, LibraryError.
    """
    with closing(library.tracking(read_only=True) if number is None else open_view(library, number)) as tracking:
        tracking.sql.execute("BEGIN")
        if number is not None:
            store.snapshot(tracking, number)
        yield tracking
