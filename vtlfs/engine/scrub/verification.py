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
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vtlfs.engine.scrub.defects import Severity
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.rows import SESSION, number_of, session_of
from vtlfs.errors import LibraryError, TrackingError, UsageError
from vtlfs.failpoints import reached
from vtlfs.model import Session, StripeUnit, TapeFile, check_barcode

NAMED = 5  # sessions that were left out are named, the others counted
FILES_AT_ONCE = 256  # that are looked up in the database together
UNITS_AT_ONCE = 512

_COLUMNS = "id, started_at, ended_at, media, last, progress, unfinished, bytes, damaged, unreadable, undescribed"
_SESSION = ", ".join(f"session.{column}" for column in SESSION.split(", "))

log = logging.getLogger(__name__)

Position = tuple[int, int]  # session and stripe unit


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A stream that was not verified: it is open, or became a tape file after the verification had begun."""

    session: int
    medium: str
    tape_file: int | None  # None: it is open

    def __str__(self) -> str:
        what = "open" if self.tape_file is None else f"tape file {self.tape_file:04d}"
        return f"session {self.session} on {self.medium} ({what})"


@dataclass(slots=True)
class Verification:
    """One run of `vtlfs verify`. `media` of None: all. `progress`: by disk, the last that was verified of it.

    What is verified are the tape files with ordinals up to `last`: a clock may jump between their release and now.
    `unfinished` are headers, by disk and session, that are to be looked at again. `harms` counts stripe units, headers
    and disks. `left_out`: at the end, how many streams were not verified, and the first of them. `id` of None: the
    tracking database could not take it.
    """

    id: int | None
    started_at: str
    ended_at: str | None
    media: list[str] | None
    last: int
    progress: dict[int, Position] = field(default_factory=dict)
    unfinished: list[tuple[int, int]] = field(default_factory=list)
    bytes: int = 0
    harms: dict[Severity, int] = field(default_factory=lambda: dict.fromkeys(Severity, 0))
    left_out: tuple[int, list[LeftOut]] | None = field(default=None, compare=False)

    def as_json(self) -> dict[str, object]:
        """Return what there is to say in the end as a JSON object."""
        document: dict[str, object] = {
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "complete": self.ended_at is not None,
            "media": self.media,
            "bytes": self.bytes,
            **{str(severity): number for severity, number in self.harms.items()},
        }
        if self.left_out is not None:
            count, first = self.left_out
            document["left_out"] = {"count": count, "sessions": [asdict(one) for one in first]}
        return document


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
        tracking.media.get(barcode)
    # Not what the library counts: no tape file that is there may be left out, were the counter wrong.
    last = number_of(tracking.sql.one("SELECT coalesce(max(ordinal), 0) FROM tape_file")[0], "ordinal")
    begun = Verification(None, at, None, sorted(set(media)) or None, last)
    try:
        with tracking.transaction(durable=False):
            cursor = tracking.sql.execute(
                "INSERT INTO verification (started_at, media, last) VALUES (?, ?, ?)",
                *(at, begun.media and json.dumps(begun.media), last),
            )
            begun.id = cursor.lastrowid
            reached("tracking.verification_begun")
    except TrackingError as error:
        log.warning("this verification can't be resumed, should it be interrupted: %s", error)
    return begun


def resume(tracking: Tracking) -> Verification:
    """Return the last verification, to go on with it. Raises UsageError where it has come to its end."""
    row = tracking.sql.first(f"SELECT {_COLUMNS} FROM verification ORDER BY id DESC LIMIT 1")
    found = None if row is None else _verification(row)
    if found is None or found.ended_at is not None:
        raise UsageError("no verification was interrupted; leave --resume out to begin one")
    return found


def last_of_all(tracking: Tracking) -> Verification | None:
    """Return the last verification of all media that has come to its end."""
    row = tracking.sql.first(
        f"SELECT {_COLUMNS} FROM verification WHERE media IS NULL AND ended_at IS NOT NULL ORDER BY id DESC LIMIT 1"
    )
    return None if row is None else _verification(row)


def save(tracking: Tracking, verification: Verification) -> None:
    """Write down how far it came. Raises TrackingError."""
    if verification.id is None:
        return
    counts = verification.harms
    with tracking.transaction(durable=verification.ended_at is not None):
        tracking.sql.execute(
            "UPDATE verification SET ended_at = ?, progress = ?, unfinished = ?, bytes = ?, damaged = ?,"
            " unreadable = ?, undescribed = ? WHERE id = ?",
            *(verification.ended_at, json.dumps(verification.progress), json.dumps(verification.unfinished)),
            verification.bytes,
            *(counts[Severity.DAMAGED], counts[Severity.UNREADABLE], counts[Severity.UNDESCRIBED]),
            verification.id,
        )
        reached("tracking.verification_saved")


def extent(tracking: Tracking, verification: Verification) -> tuple[int, int, int]:
    """Return how many media with tape files, tape files and bytes are to be verified."""
    where, values = _wanted(verification)
    row = tracking.sql.one(
        f"SELECT count(DISTINCT medium), count(*), coalesce(sum(bytes), 0) FROM tape_file WHERE {where}", *values
    )
    return row[0], row[1], row[2]


def unlisted(tracking: Tracking, verification: Verification) -> list[tuple[str, int, int]]:
    """Return the media whose length is not that of their tape files, the length, and that of the tape files."""
    among, values = _among(verification, "barcode")
    return tracking.sql.execute(
        "SELECT barcode, medium.bytes, coalesce(listed, 0) FROM medium LEFT JOIN"
        " (SELECT medium, sum(bytes) AS listed FROM tape_file GROUP BY medium) AS files ON files.medium = barcode"
        f" WHERE medium.bytes <> coalesce(listed, 0) AND {among} ORDER BY barcode",
        *values,
    ).fetchall()


def left_out(tracking: Tracking, verification: Verification) -> tuple[int, list[LeftOut]]:
    """Return how many streams are not verified, and the first of them: those that are open, or came too late."""
    among, values = _among(verification, "medium")
    rows = tracking.sql.execute(
        "SELECT count(*) OVER (), session, medium, tape_file FROM"
        " (SELECT id AS session, medium, NULL AS tape_file FROM session WHERE state = 'open' AND access = 'write'"
        f" AND {among} UNION ALL SELECT session, medium, number FROM tape_file WHERE ordinal > ? AND {among})"
        " ORDER BY session LIMIT ?",
        *(*values, verification.last, *values, NAMED),
    ).fetchall()
    return (rows[0][0] if rows else 0), [LeftOut(*row[1:]) for row in rows]


def tape_files(tracking: Tracking, verification: Verification, session: int) -> Iterator[tuple[TapeFile, Session]]:
    """Yield what is to be verified in the order of the sessions, from this one on."""
    where, values = _wanted(verification)
    while True:
        rows = tracking.sql.execute(
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
    while units := tracking.stripe_units.on_disk(disk, session, after, UNITS_AT_ONCE):
        for start in range(0, len(units), size):
            yield tuple(sorted(units[start : start + size], key=lambda unit: unit.slot))
        if len(units) < UNITS_AT_ONCE:
            return
        after = units[-1].unit


def mapped(tracking: Tracking, session: Session) -> int:
    """Return of how many bytes of a session's stream the database knows the place, on disks that the session has."""
    row = tracking.sql.one(
        "SELECT coalesce(sum(bytes), 0) FROM stripe_unit WHERE session = ?"
        " AND disk IN (SELECT value FROM json_each(?))",
        *(session.id, json.dumps(session.disks)),
    )
    return int(row[0])


def _wanted(verification: Verification) -> tuple[str, list[object]]:
    """Return the condition on `tape_file`, and its values. The `+` keeps SQLite to the order of the sessions."""
    among, values = _among(verification, "tape_file.medium")
    return f"+tape_file.ordinal <= ? AND {among}", [verification.last, *values]


def _among(verification: Verification, column: str) -> tuple[str, list[object]]:
    """Return the condition that a barcode is one of those to be verified, and its values."""
    if verification.media is None:
        return "1", []
    return f"+{column} IN (SELECT value FROM json_each(?))", [json.dumps(verification.media)]


def _verification(row: Sequence[object]) -> Verification:
    number, started_at, ended_at, media, last, progress, unfinished, size, *counts = row
    try:
        barcodes = None if media is None else [check_barcode(str(one)) for one in json.loads(str(media))]
        positions = {int(disk): (int(place[0]), int(place[1])) for disk, place in json.loads(str(progress)).items()}
        headers = [(int(disk), int(session)) for disk, session in json.loads(str(unfinished))]
        sums = [int(str(number)) for number in (size, *counts)]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, UsageError):
        raise TrackingError(f"the row of verification {number} is damaged; leave --resume out to begin one") from None
    return Verification(
        number,  # type: ignore[arg-type]
        str(started_at),
        None if ended_at is None else str(ended_at),
        barcodes,
        number_of(last, "ordinal"),
        positions,
        headers,
        sums[0],
        dict(zip(Severity, sums[1:], strict=True)),
    )
