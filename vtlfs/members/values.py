"""What the member index tells, as frozen values.

**A stream** is what one program wrote: a tape file, or the tape files of one stream that went through a pool, one after
the other. It is named by the identifier of its first session, which never changes. **An archive** lies in a stream; a
stream may hold several, one behind the other. **An archive member** is what one header of an archive describes.

Paths and link targets are texts with the bytes that are not UTF-8 as surrogates (`os.fsencode` gives the bytes back),
as they stand in the archive: absolute, with `..`, whatever. Only slashes at the end are left out. Times are seconds
since 1970.
"""

from dataclasses import dataclass
from enum import StrEnum

NO_COMPRESSION = "none"


class Kind(StrEnum):
    """What an archive member is, with the letters of `ls -l`, and `h` for a hard link to a member before it."""

    FILE = "-"
    DIRECTORY = "d"
    SYMLINK = "l"
    HARD_LINK = "h"
    BLOCK = "b"
    CHARACTER = "c"
    FIFO = "p"
    SOCKET = "s"
    OTHER = "?"


class StreamState(StrEnum):
    """How far a stream is indexed.

    `indexed`: all of it that can be read is; `note` may say what can't. `unknown`: it is no archive that is read, and
    `note` says why. `pending`: it is to be indexed.
    """

    PENDING = "pending"
    INDEXED = "indexed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class IndexedStream:
    """A stream as the index knows it. `bytes`: how long it was when it was indexed; `note`: None, or one clause."""

    session: int
    bytes: int
    state: StreamState
    members: int
    note: str | None


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A member, and where it lies.

    `size` is that of the file, 0 where there is none. `mtime`: None where the archive does not say. `link`: what a
    symbolic or a hard link points to.

    Where `compression` is NO_COMPRESSION, the bytes from `start` up to `end` of the *stream* are the member's headers
    and data, and nothing else but padding: cut out, they are an archive of `format` with this one member (a pax global
    header before it may be missing). Otherwise, `start` and `end` are offsets in what the compressed data decompresses
    to that begins at byte `archive_start` of the stream: it must be decompressed from there.

    In a cpio archive, a hard link may be what has the data: all headers of the file but the last have none.
    """

    id: int
    session: int
    path: str
    kind: Kind
    size: int
    mtime: int | None
    link: str | None
    start: int
    end: int
    archive_start: int
    format: str  # tar or cpio
    compression: str

    @property
    def name(self) -> str:
        """The last component of its path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a directory's listing in a stream.

    `path` is that of the archive, without a slash at the end: listing it lists what lies in it. `member`: the newest
    one of that path in the stream; None for a directory that only occurs in the paths of others.
    """

    path: str
    is_directory: bool
    member: ArchiveMember | None

    @property
    def name(self) -> str:
        """The last component of its path."""
        return self.path.rpartition("/")[2] or self.path
