"""The books of a verification: what is to be verified, in which order, how far it came, and what it found.

The row in the table `verification` lasts, so that an interrupted one can go on. Who verifies holds a lock on the
library's directory, so that there is one at a time.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vtlfs.engine.harm import Severity
from vtlfs.engine.rows import session_of
from vtlfs.engine.tracking import SESSION, Tracking
from vtlfs.errors import LibraryError, TrackingError, UsageError
from vtlfs.failpoints import reached
from vtlfs.model import Session, StripeUnit, TapeFile, check_barcode

FILES_AT_ONCE = 256  # that are looked up in the database together
UNITS_AT_ONCE = 512

_COLUMNS = "id, started_at, ended_at, media, progress, bytes, damaged, unreadable, undescribed"
_SESSION = ", ".join(f"session.{column}" for column in SESSION.split(", "))

log = logging.getLogger(__name__)

Position = tuple[int, int]  # session and stripe unit


@dataclass(slots=True)
class Verification:
    """One run of `vtlfs verify`. `media` of None: all. `progress`: by disk, the last that was verified of it.

    `harms` counts stripe units, headers and disks. `id` of None: the tracking database could not take it.
    """

    id: int | None
    started_at: str
    ended_at: str | None
    media: list[str] | None
    progress: dict[int, Position] = field(default_factory=dict)
    bytes: int = 0
    harms: dict[Severity, int] = field(default_factory=lambda: dict.fromkeys(Severity, 0))

    def as_json(self) -> dict[str, object]:
        """Return what there is to say in the end as a JSON object."""
        return {
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "complete": self.ended_at is not None,
            "media": self.media,
            "bytes": self.bytes,
            **{str(severity): number for severity, number in self.harms.items()},
        }


@contextmanager
def alone(library: Path) -> Iterator[None]:
    """Be the only one who verifies the library. Raises LibraryError."""
    descriptor = os.open(library, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise LibraryError(f"{library}: is being verified by somebody else; wait for that, or stop it") from None
    finally:
        os.close(descriptor)


def begin(tracking: Tracking, media: Sequence[str], at: str) -> Verification:
    """Start a verification of some media, or of all if none is named. Raises NoSuchMedium."""
    for barcode in media:
        tracking.medium(barcode)
    begun = Verification(None, at, None, sorted(set(media)) or None)
    try:
        with tracking.transaction(durable=False):
            cursor = tracking.execute(
                "INSERT INTO verification (started_at, media) VALUES (?, ?)",
                at,
                begun.media and json.dumps(begun.media),
            )
            begun.id = cursor.lastrowid
            reached("tracking.verification_begun")
    except TrackingError as error:
        log.warning("this verification can't be resumed, should it be interrupted: %s", error)
    return begun


def resume(tracking: Tracking) -> Verification:
    """Return the last verification, to go on with it. Raises UsageError where it has come to its end."""
    row = tracking.first(f"SELECT {_COLUMNS} FROM verification ORDER BY id DESC LIMIT 1")
    found = None if row is None else _verification(row)
    if found is None or found.ended_at is not None:
        raise UsageError("no verification was interrupted; leave --resume out to begin one")
    return found


def last_of_all(tracking: Tracking) -> Verification | None:
    """Return the last verification of all media that has come to its end."""
    row = tracking.first(
        f"SELECT {_COLUMNS} FROM verification WHERE media IS NULL AND ended_at IS NOT NULL ORDER BY id DESC LIMIT 1"
    )
    return None if row is None else _verification(row)


def save(tracking: Tracking, verification: Verification) -> None:
    """Write down how far it came. Raises TrackingError."""
    if verification.id is None:
        return
    counts = verification.harms
    with tracking.transaction(durable=verification.ended_at is not None):
        tracking.execute(
            "UPDATE verification SET ended_at = ?, progress = ?, bytes = ?, damaged = ?, unreadable = ?,"
            " undescribed = ? WHERE id = ?",
            *(verification.ended_at, json.dumps(verification.progress), verification.bytes),
            *(counts[Severity.DAMAGED], counts[Severity.UNREADABLE], counts[Severity.UNDESCRIBED]),
            verification.id,
        )
        reached("tracking.verification_saved")


def extent(tracking: Tracking, verification: Verification) -> tuple[int, int, int]:
    """Return how many media with tape files, tape files and bytes are to be verified."""
    where, values = _wanted(verification)
    row = tracking.one(
        f"SELECT count(DISTINCT medium), count(*), coalesce(sum(bytes), 0) FROM tape_file WHERE {where}", *values
    )
    return row[0], row[1], row[2]


def tape_files(tracking: Tracking, verification: Verification, session: int) -> Iterator[tuple[TapeFile, Session]]:
    """Yield what is to be verified in the order of the sessions, from this one on."""
    where, values = _wanted(verification)
    while True:
        rows = tracking.execute(
            f"SELECT tape_file.medium, number, start, tape_file.bytes, {_SESSION}"
            " FROM tape_file CROSS JOIN session ON session.id = tape_file.session"
            f" WHERE tape_file.session >= ? AND {where} ORDER BY tape_file.session LIMIT ?",
            *(session, *values, FILES_AT_ONCE),
        ).fetchall()
        for barcode, number, start, size, *columns in rows:
            found = session_of(tuple(columns))
            released_at = found.released_at or ""
            yield (
                TapeFile(barcode, number, found.id, start, size, found.stripe_unit, released_at, found.host),
                found,
            )
            session = found.id + 1
        if len(rows) < FILES_AT_ONCE:
            return


def stripe_units(
    tracking: Tracking, disk: int, session: int, after: int, size: int
) -> Iterator[tuple[StripeUnit, ...]]:
    """Yield a session's stripe units on a disk behind number `after`, in groups of `size`, or of 1; each by slot."""
    size = max(1, min(size, UNITS_AT_ONCE))
    while units := tracking.stripe_units_on(disk, session, after, UNITS_AT_ONCE):
        for start in range(0, len(units), size):
            yield tuple(sorted(units[start : start + size], key=lambda unit: unit.slot))
        if len(units) < UNITS_AT_ONCE:
            return
        after = units[-1].unit


def mapped(tracking: Tracking, session: Session) -> int:
    """Return of how many bytes of a session's stream the database knows the place, on disks that the session has."""
    row = tracking.one(
        "SELECT coalesce(sum(bytes), 0) FROM stripe_unit WHERE session = ?"
        " AND disk IN (SELECT value FROM json_each(?))",
        *(session.id, json.dumps(session.disks)),
    )
    return int(row[0])


def _wanted(verification: Verification) -> tuple[str, list[object]]:
    """Return the condition on `tape_file`, and its values. The `+` keeps SQLite to the order of the sessions."""
    where, values = "tape_file.released_at <= ?", [verification.started_at]
    if verification.media is None:
        return where, [*values]
    return f"{where} AND +tape_file.medium IN (SELECT value FROM json_each(?))", [
        *values,
        json.dumps(verification.media),
    ]


def _verification(row: Sequence[object]) -> Verification:
    number, started_at, ended_at, media, progress, size, *counts = row
    try:
        barcodes = None if media is None else [check_barcode(str(one)) for one in json.loads(str(media))]
        positions = {int(disk): (int(place[0]), int(place[1])) for disk, place in json.loads(str(progress)).items()}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, UsageError):
        raise TrackingError(f"the row of verification {number} is damaged; leave --resume out to begin one") from None
    return Verification(
        number,  # type: ignore[arg-type]
        str(started_at),
        None if ended_at is None else str(ended_at),
        barcodes,
        positions,
        int(str(size)),
        dict(zip(Severity, (int(str(count)) for count in counts), strict=True)),
    )
