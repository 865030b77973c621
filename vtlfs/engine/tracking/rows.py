"""Rows of the tracking database as frozen values. Each row is checked: a damaged or forged page is an error. Pure.

The constants in capitals name the columns that a SELECT asks for, in the order that the function for the row expects.
"""

import json
from functools import lru_cache
from typing import Any

from vtlfs.config import MAX_STRIPE_UNIT
from vtlfs.disks.headers import MAX_DISKS
from vtlfs.errors import TrackingError
from vtlfs.model import (
    BARCODE,
    MAX_MEMBERS,
    MAX_PARITY,
    MAX_SESSION,
    MAX_SIZE,
    NO_CODEC,
    NOWHERE,
    Access,
    Extent,
    Medium,
    MediumState,
    RetainMode,
    Retention,
    Session,
    State,
    TapeFile,
    Volume,
)

DIGEST_BYTES = 32
UNKNOWN_BLAKE3 = bytes(DIGEST_BYTES)  # of an extent for which a rebuild has found neither bytes nor record

MEDIUM = (
    "id, barcode, capacity, bytes, tape_files, reserved, added_at, written_at, volume, begun_at, state, protected, slot"
)
VOLUME = (
    "volume.medium, number, volume.begun_at, begun, ended_at, ended, iif(ended IS NULL, medium.bytes, volume.bytes),"
    " iif(ended IS NULL, medium.tape_files, volume.tape_files), retain_mode, retain_seconds, retain_until, reclaimed_at"
    " FROM volume JOIN medium ON barcode = volume.medium"
)
SESSION = (
    "id, mount, host, pid, uid, gid, program, access, drive, medium, state, error, opened_at, released_at, "
    "bytes, requests, reserved, stripe_unit, disks, tape_file, parity, volume, reclaimed, origin"
)
TAPE_FILE = (
    "tape_file.medium, number, session, start, tape_file.bytes, stripe_unit, tape_file.released_at, host,"
    " tape_file.volume, retain_mode, retain_until, (session.medium, session.volume, session.tape_file, session.bytes)"
    " IS (tape_file.medium, tape_file.volume, number, tape_file.bytes) "
    "FROM tape_file JOIN main.session AS session ON session.id = tape_file.session"  # these columns never change
)
EXTENT = "session, stripe, place, offset, bytes, codec, disk, position, stored, blake3"
PARITY = f"session, stripe, place, NULL, 0, '{NO_CODEC}', disk, position, stored, blake3"

_NUMBER, _TEXT, _BYTES, _NONE = int, str, bytes, type(None)
_MEDIUM = (
    *((_NUMBER,), (_TEXT,), (_NUMBER, _NONE), *[(_NUMBER,)] * 3, (_TEXT,), (_TEXT, _NONE), (_NUMBER,), (_TEXT,)),
    *((_TEXT,), (_NUMBER,), (_NUMBER, _NONE)),
)
_VOLUME = (
    *((_TEXT,), (_NUMBER,), (_TEXT,), (_NUMBER,), (_TEXT, _NONE), (_NUMBER, _NONE), (_NUMBER,), (_NUMBER,)),
    *((_TEXT, _NONE), (_NUMBER, _NONE), (_TEXT, _NONE), (_TEXT, _NONE)),
)
_TAPE_FILE = (
    *((_TEXT,), *[(_NUMBER,)] * 5, (_TEXT,), (_TEXT,), (_NUMBER,), (_TEXT, _NONE), (_TEXT, _NONE)),
    (_NUMBER,),
)
_EXTENT = (*[(_NUMBER,)] * 3, (_NUMBER, _NONE), (_NUMBER,), (_TEXT,), *[(_NUMBER,)] * 3, (_BYTES,))
_SESSION = (
    *((_NUMBER,), (_NUMBER,), (_TEXT,), *[(_NUMBER,)] * 3, (_TEXT,), (_TEXT,), (_NUMBER,), (_TEXT,), (_TEXT,)),
    *(
        (_TEXT, _NONE),
        (_TEXT,),
        (_TEXT, _NONE),
        *[(_NUMBER,)] * 4,
        (_TEXT,),
        (_NUMBER, _NONE),
        *[(_NUMBER,)] * 3,
        (_TEXT, _NONE),
    ),
)

Row = tuple[Any, ...]

MEDIA_SHARED = 1024  # media, as they were at one moment, whose objects are given out again


def medium_of(row: Row) -> Medium:
    """Return the medium of a row of the columns MEDIUM. Raises TrackingError."""
    return _medium_of(*row)


@lru_cache(MEDIA_SHARED, typed=True)
def _medium_of(*row: Any) -> Medium:
    """Return the medium of a row: the same object for the same row, because thousands of open files may hold one."""
    if not _has(row, _MEDIUM) or not BARCODE.fullmatch(row[1]) or not 0 <= row[3] <= MAX_SIZE:
        raise _damaged("medium", row[1])
    values = list(row)
    try:
        values[10], values[11] = MediumState(row[10]), bool(row[11])
        return Medium(*values)
    except ValueError:
        raise _damaged("medium", row[1]) from None


def volume_of(row: Row) -> Volume:
    """Return the volume of a row of the columns VOLUME. Raises TrackingError."""
    if not _has(row, _VOLUME) or not BARCODE.fullmatch(row[0]) or not 0 <= row[6] <= MAX_SIZE:
        raise _damaged("volume", f"{row[1]} of {row[0]}")
    values = list(row)
    try:
        values[8] = None if row[8] is None else RetainMode(row[8])
        return Volume(*values)
    except ValueError:
        raise _damaged("volume", f"{row[1]} of {row[0]}") from None


def session_of(row: Row) -> Session:
    """Return the session of a row of the columns SESSION. Raises TrackingError."""
    try:
        if not _has(row, _SESSION) or not (0 < row[0] < MAX_SESSION and 0 < row[17] <= MAX_STRIPE_UNIT):
            raise ValueError
        values = list(row)
        values[7], values[10], values[18] = Access(row[7]), State(row[10]), _numbers(row[18])
        values[22] = bool(row[22])
    except (ValueError, RecursionError):
        raise _damaged("session", row[0]) from None
    return Session(*values)


def tape_file_of(row: Row) -> TapeFile:
    """Return the tape file of a row of the columns TAPE_FILE; the last column tells whether its session's row agrees.

    Raises TrackingError.
    """
    *values, mode, until, is_agreed = row
    try:
        values.append(None if mode is None else Retention(RetainMode(mode), until))
        file = TapeFile(*values)
    except ValueError:
        raise _damaged("tape file", row[1]) from None
    sizes = _has(row, _TAPE_FILE) and 0 < file.bytes <= MAX_SIZE and 0 <= file.start <= MAX_SIZE and file.number >= 0
    if not sizes or not 0 < file.stripe_unit <= MAX_STRIPE_UNIT or not 0 < file.session < MAX_SESSION:
        raise _damaged("tape file", row[1])
    if not is_agreed:
        raise contradiction(f"tape file {file.number} of {file.medium}")
    return file


def left_by(session: Session, start: int, mode: str | None, until: str | None) -> TapeFile:
    """Return the tape file that a session has left, of the columns `start`, `retain_mode` and `retain_until` of it.

    Raises TrackingError.
    """
    if session.tape_file is None or session.released_at is None:
        raise contradiction(f"session {session.id}")
    try:
        retention = None if mode is None else Retention(RetainMode(mode), until)
    except ValueError:
        raise _damaged("tape file", session.tape_file) from None
    place = (session.medium, session.tape_file, session.id, start, session.bytes, session.stripe_unit)
    return TapeFile(*place, session.released_at, session.host, session.volume, retention)


def check_follows(before: TapeFile | None, file: TapeFile) -> None:
    """Raise TrackingError unless a tape file begins where the tape file `before` ends; None: unless it is the first."""
    if (file.number, file.start) != ((0, 0) if before is None else (before.number + 1, before.end)):
        raise contradiction(f"tape file {file.number} of {file.medium}")


def extent_of(row: Row) -> Extent:
    """Return the extent of a row of the columns EXTENT or PARITY. Raises TrackingError."""
    extent = Extent(*row)
    sizes = _has(row, _EXTENT) and 0 < extent.stored <= MAX_STRIPE_UNIT and 0 <= extent.bytes <= MAX_STRIPE_UNIT
    if not sizes or not 0 <= extent.disk < MAX_DISKS or not NOWHERE <= extent.position <= MAX_SIZE:
        raise _damaged("extent", f"at {row[3]} of session {row[0]}")
    places = MAX_PARITY if extent.is_parity else MAX_MEMBERS
    if extent.stripe < 0 or not 0 <= extent.place < places or not (extent.is_parity or extent.bytes):
        raise _damaged("extent", f"at {row[3]} of session {row[0]}")
    if extent.codec != NO_CODEC or len(extent.blake3) != DIGEST_BYTES or (extent.offset or 0) < 0:
        raise _damaged("extent", f"at {row[3]} of session {row[0]}")
    return extent


def number_of(value: object, what: str) -> int:
    """Return a counter or an ordinal of the database. `what` names it. Raises TrackingError."""
    if type(value) is not int or value < 0:
        raise _damaged(what, value)
    return value


def text_of(name: str) -> str:
    """Return a name of any bytes, such as a path, as text that the database takes."""
    return name.encode(errors="backslashreplace").decode()


def _has(row: Row, kinds: tuple[tuple[type, ...], ...]) -> bool:
    """Tell whether the values are of these types: SQLite checks types when it writes, and not when it reads."""
    return all(type(value) in kind for value, kind in zip(row, kinds, strict=True))


@lru_cache
def _numbers(array: str) -> tuple[int, ...]:
    found = json.loads(array)
    if not isinstance(found, list) or not all(type(one) is int and 0 <= one < MAX_DISKS for one in found):
        raise ValueError
    return tuple(found)


def contradiction(what: str) -> TrackingError:
    """Return the error of rows that contradict each other. No bytes are read by them: these might be wrong bytes."""
    return TrackingError(f"its rows of {what} contradict each other; `vtlfs check` tells more")


def _damaged(what: str, which: object) -> TrackingError:
    return TrackingError(f"the row of {what} {which} is damaged; `vtlfs check` tells more")
