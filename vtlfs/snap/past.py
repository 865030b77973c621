"""The media and tape files of a snapshot, queried over a connection to the present.

A mount uses it to look up names under /snapshots, without a connection for each snapshot. Bytes that have once appeared
never change, so a mount reads those of the present, up to the lengths at the snapshot.
"""

from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.history import as_of_sql
from vtlfs.engine.tracking.rows import medium_of
from vtlfs.engine.tracking.schema.tables import VERSIONED
from vtlfs.errors import NoSuchMedium, NoSuchTapeFile
from vtlfs.model import Medium, TapeFile
from vtlfs.snap import store

_COLUMNS = VERSIONED["medium"][1]


def media_after(tracking: Tracking, snapshot: int, number: int) -> list[Medium]:
    """Return the media with an id above `number` as they stood at a snapshot, by id. Raises NoSuchSnapshot."""
    store.snapshot(tracking, snapshot)
    then = as_of_sql("medium", _COLUMNS, snapshot)
    rows = tracking.sql.execute(f"SELECT * FROM ({then}) WHERE id > ? AND state <> 'removed' ORDER BY id", number)
    return [medium_of(row) for row in rows]


def medium(tracking: Tracking, snapshot: int, barcode: str) -> Medium:
    """Return a medium as it stood at a snapshot. Raises NoSuchSnapshot, NoSuchMedium."""
    store.snapshot(tracking, snapshot)
    then = as_of_sql("medium", _COLUMNS, snapshot)
    row = tracking.sql.first(f"SELECT * FROM ({then}) WHERE barcode = ? AND state <> 'removed'", barcode)
    if row is None:
        raise NoSuchMedium(barcode)
    return medium_of(row)


def tape_files(tracking: Tracking, snapshot: int, barcode: str, first: int, limit: int) -> list[TapeFile]:
    """Return the tape files that a medium had at a snapshot from number `first` on, in order; at most `limit`.

    Raises NoSuchSnapshot, NoSuchMedium.
    """
    then = medium(tracking, snapshot, barcode)
    return tracking.tape_files.of(barcode, first, min(limit, max(0, then.tape_files - first)), volume=then.volume)


def tape_file(tracking: Tracking, snapshot: int, barcode: str, number: int) -> TapeFile:
    """Return one tape file that a medium had at a snapshot. Raises NoSuchSnapshot, NoSuchMedium, NoSuchTapeFile."""
    then = medium(tracking, snapshot, barcode)
    if number >= then.tape_files:
        raise NoSuchTapeFile(barcode, number)
    return tracking.tape_files.get(barcode, number, volume=then.volume)
