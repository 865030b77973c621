"""The snapshots of a library, as rows. Functions that change rows are called inside a transaction."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from time import monotonic, sleep

from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import NoSuchSnapshot, UsageError
from vtlfs.failpoints import reached
from vtlfs.model import Actor, Snapshot
from vtlfs.timing import DEFAULT, Timing

MAX_NAME = 200
LATEST, NOW = "latest", "now"  # what they stand for is no snapshot's name
RESERVED = (LATEST, NOW)
MAX_DIGITS = 19
DELETED = "snapshot deleted"  # of the event
COLUMNS = "id, name, taken_at, scheduled, media, sessions, open_sessions, tape_files, bytes"

# The tables whose changes are worth a snapshot. Mounts and the free space of disks are not.
_CHANGING = ("drive", "medium", "session")


def check_name(name: str) -> str:
    """Return the name if a snapshot may have it, else raise UsageError."""
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise UsageError(f"{name!r} is no name for a snapshot; choose 1 to {MAX_NAME} printable characters")
    if name in RESERVED or name.isdecimal():
        raise UsageError(f"{name!r} can't be the name of a snapshot: it stands for another one; choose another name")
    return name


def resolve(tracking: Tracking, word: str) -> Snapshot:
    """Return the snapshot that a word stands for: a number, a name, or `latest`. Raises NoSuchSnapshot."""
    if word == LATEST:
        found = snapshots(tracking, 1)
        if not found:
            raise NoSuchSnapshot(word)
        return found[0]
    if word.isascii() and word.isdigit() and len(word) < MAX_DIGITS:
        return snapshot(tracking, int(word))
    row = tracking.sql.first(f"SELECT {COLUMNS} FROM snapshot WHERE name = ?", word)
    if row is None:
        raise NoSuchSnapshot(word)
    return _snapshot(row)


def number_of(library: Library, word: str) -> int:
    """Return the number of the snapshot that a word stands for, see `resolve`. Raises NoSuchSnapshot, LibraryError."""
    with closing(library.tracking(read_only=True)) as tracking:
        return resolve(tracking, word).id


def wait_visible(tracking: Tracking, timing: Timing = DEFAULT) -> None:
    """Wait until the database shows the end of every stream whose close() has returned. Blocks; not in a transaction.

    If an announced close() was not the last of its stream, the mount soon withdraws the announcement. A mount that
    hangs or is stopped does not, so the wait has a limit.
    """
    last, deadline = tracking.sessions.last_announcement(), monotonic() + timing.snapshot
    while tracking.sessions.is_closing(last) and monotonic() < deadline:
        sleep(timing.snapshot_poll)


def take(tracking: Tracking, at: str, *, name: str | None = None, scheduled: bool = False) -> Snapshot:
    """Take a snapshot. The cost does not depend on the size of the library. Raises UsageError: another has the name."""
    if name is not None and (taken := tracking.sql.first("SELECT id FROM snapshot WHERE name = ?", name)):
        raise UsageError(f"snapshot {taken[0]} has the name {name!r} already; choose another, or delete that one")
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
    """Remove snapshots, and the history that no other snapshot shows. Data on the disks is never touched."""
    tracking.snapshots.remove(list(numbers))


def delete(tracking: Tracking, words: Sequence[str], actor: Actor, at: str) -> list[Snapshot]:
    """Delete the snapshots that words stand for, all or none, and return them. Raises NoSuchSnapshot.

    What only they show of volumes that have ended is reclaimed from then on.
    """
    gone = {one.id: one for one in (resolve(tracking, word) for word in words)}
    remove(tracking, gone)
    for one in gone.values():
        tracking.events.add(DELETED, actor, at, snapshot=one.id, name=one.name, taken_at=one.taken_at)
    return [gone[number] for number in sorted(gone)]


def _snapshot(row: tuple[object, ...]) -> Snapshot:
    number, name, taken_at, scheduled, *counters = row
    return Snapshot(number, name, taken_at, bool(scheduled), *counters)  # type: ignore[arg-type]
