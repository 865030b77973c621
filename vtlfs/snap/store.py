"""The snapshots of a library, as rows. Functions that change rows are called inside a transaction."""

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

# The tables whose changes are worth a snapshot. Mounts and the free space of disks are not.
_CHANGING = ("drive", "medium", "session")


def check_name(name: str) -> str:
    """Return the name if a snapshot may have it, else raise UsageError."""
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise UsageError(f"{name!r} is no name for a snapshot; choose 1 to {MAX_NAME} printable characters")
    return name


def wait_visible(tracking: Tracking, timing: Timing = DEFAULT) -> None:
    """Wait until the database shows the end of every stream whose close() has returned. Blocks; not in a transaction.

    If an announced close() was not the last of its stream, the mount soon withdraws the announcement. A mount that
    hangs or is stopped does not, so the wait has a limit.
    """
    last, deadline = tracking.sessions.last_announcement(), monotonic() + timing.snapshot
    while tracking.sessions.is_closing(last) and monotonic() < deadline:
        sleep(timing.snapshot_poll)


def take(tracking: Tracking, at: str, *, name: str | None = None, scheduled: bool = False) -> Snapshot:
    """Take a snapshot. The cost does not depend on the size of the library."""
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
    """Return the newest `limit` snapshots (None: all), the oldest of them first."""
    most = -1 if limit is None else limit
    rows = tracking.sql.execute(f"SELECT {COLUMNS} FROM snapshot ORDER BY id DESC LIMIT ?", most)
    return [_snapshot(row) for row in rows][::-1]


def after(tracking: Tracking, number: int, limit: int) -> list[Snapshot]:
    """Return the first `limit` snapshots after the one with this number, the oldest first."""
    rows = tracking.sql.execute(f"SELECT {COLUMNS} FROM snapshot WHERE id > ? ORDER BY id LIMIT ?", number, limit)
    return [_snapshot(row) for row in rows]


def count(tracking: Tracking) -> int:
    """Return the number of snapshots."""
    return int(tracking.sql.one("SELECT count(*) FROM snapshot")[0])


def snapshot(tracking: Tracking, number: int) -> Snapshot:
    """Return one snapshot. Raises NoSuchSnapshot."""
    row = tracking.sql.first(f"SELECT {COLUMNS} FROM snapshot WHERE id = ?", number)
    if row is None:
        raise NoSuchSnapshot(number)
    return _snapshot(row)


def last_scheduled(tracking: Tracking) -> Snapshot | None:
    """Return the newest snapshot that a mount has taken by schedule."""
    row = tracking.sql.first(f"SELECT {COLUMNS} FROM snapshot WHERE scheduled ORDER BY id DESC LIMIT 1")
    return None if row is None else _snapshot(row)


def remove(tracking: Tracking, numbers: Iterable[int]) -> None:
    """Remove snapshots, and the history that no other snapshot shows. Data on the disks is never touched.

    The cost depends on the changes between the removed snapshots and their neighbours, not on the size of the history.
    """
    gone = list(numbers)
    for number in gone:
        tracking.sql.execute("DELETE FROM snapshot WHERE id = ?", number)
    # No snapshot shows a row of the history that began after a remaining snapshot and ended before the next one.
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
