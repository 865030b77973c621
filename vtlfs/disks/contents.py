"""What a disk tells of its contents: what is listed there, what a scan finds, and what an examination finds wrong.

Plain values, which every `Disk` returns and the engine reads.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from vtlfs.disks.headers import Ending, Opening
from vtlfs.disks.records import Found
from vtlfs.model import Extent

SESSIONS_PER_GROUP = 1000  # whose member files are listed together: group G has those from G * 1000 on
NO_ENDING = "its header does not say how the session ended"


# --- listing: names and sizes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """A directory's entry that has the name of a member file. `is_file`: a regular one, and no symbolic link."""

    size: int
    is_file: bool
    is_private: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """The member files of one group of sessions, by session, and where things lie beside them that are none."""

    members: dict[int, Entry]
    strange: list[str]


# --- scanning: headers and records ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Batch:
    """What was found since the batch before.

    `present`: sessions that have a member file; `headers`: what those say that were read, None where a header can't be
    read; `ignored`: what is no part of the library; `damaged`: what is, and can't be read.
    """

    disk: int
    present: list[int] = field(default_factory=list)
    headers: list[tuple[int, dict[str, Any] | None]] = field(default_factory=list)
    records: list[Found] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


# --- examining: every byte ------------------------------------------------------------------------------------------


class Kind(StrEnum):
    """What is the matter with an extent, a member file or a disk."""

    FLIPPED = "flipped"  # the bytes are not those that were written
    TRUNCATED = "truncated"  # the file ends before them
    MISSING = "missing"  # the file is not there
    REPLACED = "replaced"  # something that is no regular file is in its place
    SWAPPED = "swapped"  # what lies there belongs to another session, disk or extent
    FOREIGN = "foreign"  # what lies there belongs to another library
    UNMAPPED = "unmapped"  # the tracking database does not say where the bytes lie
    UNREADABLE = "unreadable"  # the disk reports an error
    ABSENT = "absent"  # the disk is not there at all
    HEADER = "header"  # the bytes are right; the member file's header is not
    RECORD = "record"  # the bytes are right; the extent's record is not


@dataclass(frozen=True, slots=True)
class Part:
    """Some extents of one session on one disk, by position. `opening`, `ending`: what the header is to say.

    `is_first`: these are the session's first ones on the disk, and the header is to be examined with them.
    """

    session: int
    stripe_unit: int
    opening: Opening
    ending: Ending
    extents: tuple[Extent, ...]
    is_first: bool

    @property
    def bytes(self) -> int:
        """Stored bytes of the extents."""
        return sum(extent.stored for extent in self.extents)


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is the matter with one extent; or, where `extent` is None, with the member file's header."""

    kind: Kind
    extent: Extent | None
    why: str
    position: int | None = None  # of the first byte concerned, in the member file; None for a header

    @property
    def is_unfinished(self) -> bool:
        """Tell whether a header does not say how the session ended, as is right until its mount has written that."""
        return self.kind is Kind.HEADER and self.why == NO_ENDING
