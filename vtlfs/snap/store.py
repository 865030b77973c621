"""The snapshots that there are. What changes something is to be called inside a transaction."""

from collections.abc import Iterable
from time import monotonic, sleep

from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.schema.tables import VERSIONED
from vtlfs.errors import NoSuchSnapshot, UsageError
from vtlfs.failpoints import reached
from vtlfs.model import Snapshot
from vtlfs.timing import DEFAULT, Timing

MAX_NAME = 200
COLUMNS = "id, name, taken_at, scheduled, media, sessions, open_sessions, tape_files, bytes"

# What makes a library changed. That somebody mounts it does not, nor that other data on its disks comes and goes.
_CHANGING = ("drive", "medium", "session")


def check_name(name: str) -> str:
    """Return the name if a snapshot may have it, else raise UsageError."""
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise UsageError(f"{name!r} is no name for a snapshot: 1 to {MAX_NAME} printable characters")
    return name


def wait_visible(tracking: Tracking, timing: Timing = DEFAULT) -> None:
    """Wait until the database shows the end of every stream whose close() has returned. Blocks, in no transaction.

    A close() need not have been the last one: then its mount soon withdraws what it has announced. A mount that is hung
    or stopped doesn't, and each snapshot waits for it that long.
    """
    last, deadline = tracking.sessions.last_announcement(), monotonic() + timing.snapshot
    while tracking.sessions.is_closing(last) and monotonic() < deadline:
        sleep(timing.snapshot_poll)


def take(tracking: Tracking, at: str, *, name: str | None = None, scheduled: bool = False) -> Snapshot:
    """Take a snapshot, at a cost that does not depend on the size of the library."""
    row = tracking.sql.one(
        f"INSERT INTO snapshot ({COLUMNS}, next_session)"
        " SELECT epoch, ?, ?, ?, media, sessions, (SELECT count(*) FROM session WHERE state = 'open'),"
        f" tape_files, bytes, next_session FROM library RETURNING {COLUMNS}",
        *(name, at, int(scheduled)),
    )
    tracking.sql.execute("UPDATE library SET epoch = epoch + 1")
    reached("tracking.snapshot_taken")
    return _snapshot(row)


def is_changed(tracking: Tracking) -> bool:
    """Tell whether anything has changed since the last snapshot."""
    return any(
        tracking.sql.first(f"SELECT 1 FROM {table} WHERE since = (SELECT epoch FROM library) LIMIT 1")
        for table in _CHANGING
    )


def snapshots(tracking: Tracking, limit: int | None = None) -> list[Snapshot]:
    """Return the snapshots, the oldest first; at most `limit`, the newest."""
    most = -1 if limit is None else limit
    rows = tracking.sql.execute(f"SELECT {COLUMNS} FROM snapshot ORDER BY id DESC LIMIT ?", most)
    return [_snapshot(row) for row in rows][::-1]


def after(tracking: Tracking, number: int, limit: int) -> list[Snapshot]:
    """Return the snapshots that were taken after this one, the oldest first: the first `limit`."""
    rows = tracking.sql.execute(f"SELECT {COLUMNS} FROM snapshot WHERE id > ? ORDER BY id LIMIT ?", number, limit)
    return [_snapshot(row) for row in rows]


def count(tracking: Tracking) -> int:
    """Return how many snapshots there are."""
    return int(tracking.sql.one("SELECT count(*) FROM snapshot")[0])


def snapshot(tracking: Tracking, number: int) -> Snapshot:
    """Return one snapshot. Raises NoSuchSnapshot."""
    row = tracking.sql.first(f"SELECT {COLUMNS} FROM snapshot WHERE id = ?", number)
    if row is None:
        raise NoSuchSnapshot(number)
    return _snapshot(row)


def last_scheduled(tracking: Tracking) -> Snapshot | None:
    """Return the newest snapshot that a mount took by itself."""
    row = tracking.sql.first(f"SELECT {COLUMNS} FROM snapshot WHERE scheduled ORDER BY id DESC LIMIT 1")
    return None if row is None else _snapshot(row)


def remove(tracking: Tracking, numbers: Iterable[int]) -> None:
    """Forget snapshots, and the history that none of the others shows. Data on the disks is never touched.

    What it costs depends on what has changed between the neighbours of those that go, not on the size of the history.
    """
    gone = list(numbers)
    for number in gone:
        tracking.sql.execute("DELETE FROM snapshot WHERE id = ?", number)
    # What no snapshot shows came after one that is left, and ended before the next could show it.
    gaps = {
        tracking.sql.one(
            "SELECT (SELECT max(id) FROM snapshot WHERE id < ?1),"
            " (SELECT coalesce(min(id), (SELECT epoch FROM library)) FROM snapshot WHERE id > ?1)",
            number,
        )
        for number in gone
    }
    for before, after in gaps:
        for table in VERSIONED:
            tracking.sql.execute(
                f"DELETE FROM {table}_history WHERE until > ?1 AND until <= ?2 AND since > ?1", before or 0, after
            )
    reached("tracking.snapshots_removed")


def _snapshot(row: tuple[object, ...]) -> Snapshot:
    number, name, taken_at, scheduled, *counters = row
    return Snapshot(number, name, taken_at, bool(scheduled), *counters)  # type: ignore[arg-type]
