"""What a mount and its worker process say to each other: frames over two pipes. Pure.

A frame is a letter, the length of what follows (4 bytes, big-endian), and that. The mount says JOB and DATA; the worker
says READY once, READ, and, as JSON, ARCHIVE, MEMBERS, REMARK and END. What the worker says is checked: it reads hostile
streams with a library in C, so it may have become hostile itself.
"""

import json
import struct
from collections.abc import Sequence
from typing import Any

from vtlfs.errors import VtlfsError
from vtlfs.members.filling import FoundArchive, FoundMember
from vtlfs.members.values import Kind

HEADER = struct.Struct("!cI")
NUMBERS = struct.Struct("!QI")  # an offset, and how many bytes: of READ
JOBS = struct.Struct("!QQ")  # the size of the stream, and where in it to begin: of JOB
MAX_FRAME = 64 << 20
MAX_TEXT = 64 << 10
MAX_SIZE = 1 << 62

JOB, DATA = b"J", b"D"
READY, READ, ARCHIVE, MEMBERS, REMARK, END = b"Y", b"R", b"A", b"M", b"W", b"E"


class BadFrame(VtlfsError):
    """What the worker said makes no sense."""


def frame(letter: bytes, content: bytes) -> bytes:
    """Return a frame."""
    return HEADER.pack(letter, len(content)) + content


def numbers(letter: bytes, offset: int, size: int) -> bytes:
    """Return a frame with two numbers."""
    return frame(letter, NUMBERS.pack(offset, size))


def job(size: int, start: int) -> bytes:
    """Return the frame that hands over a stream, to be walked over from `start` on."""
    return frame(JOB, JOBS.pack(size, start))


def read_job(content: bytes) -> tuple[int, int]:
    """Return the size of a stream, and where to begin."""
    size, start = JOBS.unpack(content)
    return size, start


def members(found: Sequence[FoundMember]) -> bytes:
    """Return the frame of some members."""
    rows = [[one.path, one.kind, one.size, one.mtime, one.link, one.start, one.end] for one in found]
    return frame(MEMBERS, json.dumps(rows, separators=(",", ":")).encode())


def archive(found: FoundArchive) -> bytes:
    """Return the frame of the beginning of an archive."""
    return frame(ARCHIVE, json.dumps([found.start, found.format, found.compression]).encode())


def remark(text: str, *, is_unknown: bool) -> bytes:
    """Return the frame of something that can't be read."""
    return frame(REMARK, json.dumps([text, is_unknown]).encode())


def read_members(content: bytes) -> list[FoundMember]:
    """Return the members of a frame. Raises BadFrame."""
    rows = _json(content)
    if not isinstance(rows, list):
        raise BadFrame("no list of members")
    return [_member(row) for row in rows]


def read_archive(content: bytes) -> FoundArchive:
    """Return the archive of a frame. Raises BadFrame."""
    match _json(content):
        case [int(start), str(form), str(compression)] if 0 <= start < MAX_SIZE:
            return FoundArchive(start, form[:20], compression[:20])
    raise BadFrame("no archive")


def read_remark(content: bytes) -> tuple[str, bool]:
    """Return the text of a frame, printable, and whether nothing can be read. Raises BadFrame."""
    match _json(content):
        case [str(text), bool(is_unknown)]:
            return "".join(c if c.isprintable() else "?" for c in text[:500]), is_unknown
    raise BadFrame("no remark")


def read_numbers(content: bytes) -> tuple[int, int]:
    """Return the two numbers of a frame. Raises BadFrame."""
    if len(content) != NUMBERS.size:
        raise BadFrame("no two numbers")
    offset, size = NUMBERS.unpack(content)
    return offset, size


def _member(row: Any) -> FoundMember:
    match row:
        case [str(path), str(kind), int(size), int() | None as mtime, str() | None as link, int(start), int(end)] if (
            len(path) <= MAX_TEXT
            and len(link or "") <= MAX_TEXT
            and 0 <= size <= MAX_SIZE
            and -(1 << 63) <= (mtime or 0) < 1 << 63
            and 0 <= start <= end <= MAX_SIZE
            and kind in _KINDS
        ):
            return FoundMember(path, _KINDS[kind], size, mtime, link, start, end)
    raise BadFrame("no member")


_KINDS = {str(kind): kind for kind in Kind}


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise BadFrame("no JSON") from None
