"""What a restore and its worker process say to each other: frames over a socket, as `members.frames` has them. Pure.

The restore says STREAM; then, member after member, HEADERS, WRITE or ATTRIBUTES, of which the last two hand over the
descriptor of the directory that the file lies in. The worker asks for bytes of the stream (READ, answered with DATA, or
with NO_DATA where they can't be had), says ALIVE while it works, and at last DONE, CONTENT or FAILED.
"""

import json
from dataclasses import astuple, dataclass

from vtlfs.members.frames import DATA, READ, READY, BadFrame
from vtlfs.members.values import ArchiveMember, Kind

STREAM, HEADERS, WRITE, ATTRIBUTES, NO_DATA = b"S", b"H", b"F", b"T", b"N"
ALIVE, DONE, CONTENT, FAILED = b"L", b"K", b"C", b"X"

DAMAGED, NOT_WRITTEN, UNREAD = "damaged", "not written", "unread"  # what FAILED says
MAX_CLAUSE = 1000
MAX_CLAUSES = 100

__all__ = ["ALIVE", "ATTRIBUTES", "CONTENT", "DATA", "DONE", "FAILED", "HEADERS", "NO_DATA", "READ", "READY"]
__all__ += ["STREAM", "WRITE", "Task"]


@dataclass(frozen=True, slots=True)
class Task:
    """What the worker is to do with a member. `name`: of the file in the directory; `flags`: ARCHIVE_EXTRACT_…."""

    member: ArchiveMember
    name: bytes = b""
    flags: int = 0

    def encode(self) -> bytes:
        """Return it as the content of a frame."""
        return json.dumps([astuple(self.member), self.name.decode("latin-1"), self.flags]).encode()

    @classmethod
    def decode(cls, content: bytes) -> "Task":
        """Read the content of a frame."""
        (number, session, path, kind, *rest), name, flags = json.loads(content)
        return cls(ArchiveMember(number, session, path, Kind(kind), *rest), name.encode("latin-1"), flags)


def clauses(said: list[str]) -> bytes:
    """Return clauses as the content of a frame."""
    return json.dumps(said[:MAX_CLAUSES]).encode()


def read_clauses(content: bytes) -> list[str]:
    """Return the clauses of a frame, printable. Raises BadFrame."""
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        raise BadFrame("no JSON") from None
    if not isinstance(said, list) or not all(isinstance(one, str) for one in said):
        raise BadFrame("no clauses")
    return ["".join(c if c.isprintable() else "?" for c in one[:MAX_CLAUSE]) for one in said[:MAX_CLAUSES]]
