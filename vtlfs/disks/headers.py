"""What the header of a member says: its codec. docs/format.md specifies it. Pure.

Reading checks: nothing that lies on a disk is believed unseen.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vtlfs.config import MAX_DRIVES, check_stripe_unit
from vtlfs.errors import VtlfsError
from vtlfs.model import MAX_PARITY, MAX_SIZE, NO_CODEC, Opener, State, check_barcode, epoch_ns

MAX_DISKS = 1000
MAX_TAPE_FILES = 1 << 40
MAX_VOLUMES = 100_000  # of a medium: each gets a row in a rebuild

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_ERROR = re.compile(r"[A-Z0-9]{1,32}")
_ENDED = (State.RELEASED, State.FAILED, State.RECOVERED)


@dataclass(frozen=True, slots=True)
class Opening:
    """What a header says from the beginning: who opened what.

    `parity`: how many parity extents its stripes are to have. `volume`: of the medium, in which the session writes.
    """

    medium: str
    drive: int
    opener: Opener
    opened_at: str
    stripe_unit: int
    parity: int = 0
    volume: int = 1
    codec: str = NO_CODEC


@dataclass(frozen=True, slots=True)
class Ending:
    """What a header says at the end. `tape_file`, `start` and `bytes` are None where the session left none.

    `requests`: None: nobody knows, and it is neither written nor compared.
    """

    state: State
    error: str | None
    released_at: str
    tape_file: int | None
    start: int | None
    bytes: int | None
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says: whose it is, and of the session what can be believed."""

    library: object
    disk: object
    session: object
    opening: Opening | None
    ending: Ending | None


OF_THE_END = frozenset({"state", "error", "released_at", "requests", "tape_file", "start", "bytes"})


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
    return said if ending is None else said | document_of_end(ending)


def document_of_end(ending: Ending) -> dict[str, Any]:
    """Return what is added to a header when the session ends."""
    said: dict[str, Any] = {"state": str(ending.state), "error": ending.error, "released_at": ending.released_at}
    if ending.requests is not None:
        said["requests"] = ending.requests
    said["tape_file"] = ending.tape_file
    return said if ending.tape_file is None else said | {"start": ending.start, "bytes": ending.bytes}


def read(header: dict[str, Any]) -> Header:
    """Return what a header says."""
    library, disk, session = (header.get(key) for key in ("library", "disk", "session"))
    return Header(library, disk, session, opening(header), ending(header))


def opening(header: dict[str, Any]) -> Opening | None:
    """Return what the header says of the session's beginning; None where that can't be."""
    try:
        pid, uid, gid = (_number(header[key]) for key in ("pid", "uid", "gid"))
        opener = Opener(_text(header["host"]), pid, uid, gid, _text(header["program"]))
        return Opening(
            check_barcode(_text(header["medium"])),
            _number(header["drive"], MAX_DRIVES),
            opener,
            _time(header["opened_at"]),
            check_stripe_unit(_number(header["stripe_unit"])),
            _number(header["parity"], MAX_PARITY),
            _number(header["volume"], MAX_VOLUMES, least=1),
            _codec(header["codec"]),
        )
    except (KeyError, TypeError, VtlfsError):
        return None


def ending(header: dict[str, Any]) -> Ending | None:
    """Return what the header says of the session's end; None where it does not, or that can't be."""
    try:
        state, error, tape_file = header["state"], header["error"], header["tape_file"]
        if state not in _ENDED or not (error is None or _ERROR.fullmatch(_text(error))):
            return None
        start = size = None
        if tape_file is not None:
            tape_file, start = _number(tape_file, MAX_TAPE_FILES), _number(header["start"], MAX_SIZE)
            size = _number(header["bytes"], MAX_SIZE)
            if size == 0:
                return None
        requests = _number(header["requests"]) if "requests" in header else None
        return Ending(State(state), error, _time(header["released_at"]), tape_file, start, size, requests)
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


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) < 1000:
        raise TypeError
    return value.encode(errors="backslashreplace").decode()


def _codec(value: Any) -> str:
    if value != NO_CODEC:
        raise TypeError
    return NO_CODEC


def _time(value: Any) -> str:
    if not _TIME.fullmatch(_text(value)):
        raise TypeError
    epoch_ns(value)
    return str(value)


def _number(value: Any, most: int = (1 << 63) - 1, *, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= most:
        raise TypeError
    return value
