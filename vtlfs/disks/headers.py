"""What the header of a member says: its codec. docs/format.md specifies it. Pure.

Reading checks: nothing that lies on a disk is believed unseen.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from vtlfs.config import MAX_DRIVES, MAX_SECONDS, check_stripe_unit
from vtlfs.disks import values
from vtlfs.errors import VtlfsError
from vtlfs.model import MAX_PARITY, MAX_SIZE, NO_CODEC, Opener, RetainMode, Retention, State, check_barcode

MAX_COMMITS = 1 << 61  # of a tracking database; it goes on counting from there
MAX_DISKS = 1000
MAX_TAPE_FILES = 1 << 40
MAX_VOLUMES = 100_000  # of a medium: each gets a row in a rebuild

_ERROR = re.compile(r"[A-Z0-9]{1,32}")
_ORIGIN = re.compile(r"[0-9a-f-]{36}/[1-9][0-9]{0,17}")
_ENDED = (State.RELEASED, State.FAILED, State.RECOVERED)


@dataclass(frozen=True, slots=True)
class PartOf:
    """Of which stream of a pool a session is a part. `stream`: identifier of the stream's first session.

    `place`: of the part in the stream, from 0; `start`: offset in the stream of its first byte. `commits`: of the
    tracking database when the session was recorded; of the parts of a pool, the one with the most is the newest. None:
    the header was mended.
    """

    pool: str
    stream: int
    place: int
    start: int
    commits: int | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """What a header says from the beginning: who opened what.

    `parity`: how many parity extents its stripes are to have. `volume`: of the medium, in which the session writes.
    `retain_mode` and `retain_seconds`: the rule of retention of the volume when the session began, None: none; for a
    session of which no header has the end. They are not compared: the tracking database has the rule of now.
    `origin`: of an imported session, see `Session.origin`; without an end such a session has left no tape file.
    `part`: None where it was not opened through a pool, or by a vtlfs that did not write it; not compared therefore.
    """

    medium: str
    drive: int
    opener: Opener
    opened_at: str
    stripe_unit: int
    parity: int = 0
    volume: int = 1
    codec: str = NO_CODEC
    retain_mode: RetainMode | None = field(default=None, compare=False)
    retain_seconds: int | None = field(default=None, compare=False)
    origin: str | None = None
    part: PartOf | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Ending:
    """What a header says at the end. `tape_file`, `start` and `bytes` are None where the session left none.

    `requests`: None: nobody knows, and it is neither written nor compared. `retention`: of the tape file; None: none.
    `goes_on`: the stream of a pool has gone on in a further session; not compared, since recovery does not write it.
    """

    state: State
    error: str | None
    released_at: str
    tape_file: int | None
    start: int | None
    bytes: int | None
    requests: int | None = None
    retention: Retention | None = None
    goes_on: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says: whose it is, and of the session what can be believed."""

    library: object
    disk: object
    session: object
    opening: Opening | None
    ending: Ending | None


OF_THE_END = frozenset(
    {"state", "error", "released_at", "requests", "tape_file", "start", "bytes", "retain", "retain_until", "goes_on"}
)


def document(opening: Opening, ending: Ending | None = None) -> dict[str, Any]:
    """Return what is written into a header, beside whose it is."""
    opener = opening.opener
    said: dict[str, Any] = {
        "medium": opening.medium,
        "volume": opening.volume,
        "drive": opening.drive,
        "host": opener.host,
        "pid": opener.pid,
        "uid": opener.uid,
        "gid": opener.gid,
        "program": opener.program,
        "opened_at": opening.opened_at,
        "stripe_unit": opening.stripe_unit,
        "parity": opening.parity,
        "codec": opening.codec,
    }
    if opening.retain_mode is not None:
        said |= {"retain_mode": str(opening.retain_mode), "retain_seconds": opening.retain_seconds}
    if opening.origin is not None:
        said["origin"] = opening.origin
    if opening.part is not None:
        said["part"] = {key: value for key, value in asdict(opening.part).items() if value is not None}
    return said if ending is None else said | document_of_end(ending)


def document_of_end(ending: Ending) -> dict[str, Any]:
    """Return what is added to a header when the session ends."""
    said: dict[str, Any] = {"state": str(ending.state), "error": ending.error, "released_at": ending.released_at}
    if ending.requests is not None:
        said["requests"] = ending.requests
    said["tape_file"] = ending.tape_file
    if ending.tape_file is None:
        return said
    said |= {"start": ending.start, "bytes": ending.bytes}
    if ending.retention is not None:
        said |= {"retain": str(ending.retention.mode), "retain_until": ending.retention.until}
    if ending.goes_on:
        said["goes_on"] = True
    return said


def read(header: dict[str, Any]) -> Header:
    """Return what a header says."""
    library, disk, session = (header.get(key) for key in ("library", "disk", "session"))
    return Header(library, disk, session, opening(header), ending(header))


def opening(header: dict[str, Any]) -> Opening | None:
    """Return what the header says of the session's beginning; None where that can't be."""
    try:
        pid, uid, gid = (values.number(header[key]) for key in ("pid", "uid", "gid"))
        opener = Opener(values.text(header["host"]), pid, uid, gid, values.text(header["program"]))
        return Opening(
            check_barcode(values.text(header["medium"])),
            values.number(header["drive"], MAX_DRIVES),
            opener,
            values.time(header["opened_at"]),
            check_stripe_unit(values.number(header["stripe_unit"])),
            values.number(header["parity"], MAX_PARITY),
            values.number(header["volume"], MAX_VOLUMES, least=1),
            _codec(header["codec"]),
            *_rule(header),
            check_origin(header["origin"]) if "origin" in header else None,
            _part(header),
        )
    except (KeyError, TypeError, VtlfsError):
        return None


def ending(header: dict[str, Any]) -> Ending | None:
    """Return what the header says of the session's end; None where it does not, or that can't be."""
    try:
        state, error, tape_file = header["state"], header["error"], header["tape_file"]
        if state not in _ENDED or not (error is None or _ERROR.fullmatch(values.text(error))):
            return None
        start = size = None
        if tape_file is not None:
            tape_file, start = values.number(tape_file, MAX_TAPE_FILES), values.number(header["start"], MAX_SIZE)
            size = values.number(header["bytes"], MAX_SIZE)
            if size == 0:
                return None
        requests = values.number(header["requests"]) if "requests" in header else None
        retention = None if tape_file is None else _retention(header)
        place = (values.time(header["released_at"]), tape_file, start, size)
        return Ending(State(state), error, *place, requests, retention, header.get("goes_on") is True)
    except (KeyError, TypeError, VtlfsError):
        return None


def agreed(headers: Iterable[tuple[int, dict[str, Any]]]) -> tuple[Opening | None, Ending | None, list[int]]:
    """Return what a session's headers, by disk, agree on; and the disks whose header is not that session's."""
    first: Opening | None = None
    end: Ending | None = None
    strangers = []
    for disk, header in headers:
        found = opening(header)
        if found is None or (first is not None and found != first):
            strangers.append(disk)
            continue
        first = found
        end = end or ending(header)
    return first, end, strangers


def _rule(header: dict[str, Any]) -> tuple[RetainMode | None, int | None]:
    """Return the rule of retention that a header tells of. One that can't be is none: the rest of the header counts."""
    try:
        seconds = header["retain_seconds"]
        return values.mode(header["retain_mode"]), None if seconds is None else values.number(seconds, MAX_SECONDS)
    except (KeyError, TypeError):
        return None, None


def _part(header: dict[str, Any]) -> PartOf | None:
    """Return of which stream a header says that the session is a part. What can't be is no part: the rest counts."""
    try:
        said = header["part"]
        pool = values.text(said["pool"])
        stream, place, start = (values.number(said[key], MAX_SIZE) for key in ("stream", "place", "start"))
        commits = values.number(said["commits"], MAX_COMMITS) if "commits" in said else None
        return PartOf(pool, stream, place, start, commits)
    except (KeyError, TypeError):
        return None


def _retention(header: dict[str, Any]) -> Retention | None:
    if "retain" not in header:
        return None
    mode, until = values.mode(header["retain"]), header["retain_until"]
    if (until is None) is not (mode is RetainMode.WORM):
        raise TypeError
    return Retention(mode, None if until is None else values.until(until))


def check_origin(value: Any) -> str:
    """Return the origin of a session, if it is one; else raise TypeError."""
    if not isinstance(value, str) or not _ORIGIN.fullmatch(value):
        raise TypeError
    return value


def _codec(value: Any) -> str:
    if value != NO_CODEC:
        raise TypeError
    return NO_CODEC
