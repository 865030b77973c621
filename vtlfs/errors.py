"""Domain errors: what can go wrong, with its operands, its errno for the mount and its exit status for the shell.

Nothing here imports anything of vtlfs. Each message is one line that says what to do next.
"""

import errno
import os

FORMAT_1 = "format 1, which this vtlfs does not read; vtlfs 0.1 does"  # what a message says of a label or a database


class VtlfsError(Exception):
    """Base of every error that vtlfs raises on purpose.

    `errno` is what a program on the mount sees, `exit_status` what a shell sees.
    """

    errno: int = errno.EIO
    exit_status: int = 1
    is_news: bool = False
    """Whether a mount logs the error, besides returning it to the program."""


class UsageError(VtlfsError):
    """An argument, an option or a configuration file is wrong; nothing was changed."""

    errno = errno.EINVAL
    exit_status = 2


class LibraryError(VtlfsError):
    """The library, one of its disks or its tracking database can't be used as asked."""


class CatalogueBehind(LibraryError):
    """The tracking database is older than the disks: it went back. Nothing is written to it."""

    exit_status = 3

    def __init__(self, database: str, what: str) -> None:
        super().__init__(
            f"{database}: is older than the disks: it lacks {what}; `vtlfs rebuild` takes that in from the disks"
            " (`vtlfs mount -o ro` shows what it has)"
        )


class MountError(VtlfsError):
    """The library can't be mounted or unmounted."""


class NoSuchMedium(VtlfsError):
    """The library lacks this barcode."""

    errno = errno.ENOENT

    def __init__(self, barcode: str) -> None:
        super().__init__(f"no medium {barcode!r} in this library; `vtlfs media list` shows those there are")
        self.barcode = barcode


class NoSuchTapeFile(VtlfsError):
    """The medium lacks a tape file of this number."""

    errno = errno.ENOENT

    def __init__(self, barcode: str, number: int) -> None:
        super().__init__(f"medium {barcode} has no tape file {number}; `vtlfs files` shows those there are")
        self.barcode = barcode
        self.number = number


class NoSuchDrive(VtlfsError):
    """The library lacks a drive of this number."""

    errno = errno.ENOENT

    def __init__(self, number: int, drives: int) -> None:
        super().__init__(f"no drive {number}; this library has drives 0 to {drives - 1}")
        self.number = number


class NoSuchSession(VtlfsError):
    """The library never had a session of this identifier."""

    errno = errno.ENOENT

    def __init__(self, session: int) -> None:
        super().__init__(f"no session {session}; `vtlfs sessions` shows those there are")
        self.session = session


class NoSuchSnapshot(VtlfsError):
    """The library has no snapshot of this number, or it was pruned."""

    errno = errno.ENOENT

    def __init__(self, snapshot: int) -> None:
        super().__init__(f"no snapshot {snapshot}; `vtlfs snapshot list` shows those there are")
        self.snapshot = snapshot


class NotSequential(VtlfsError):
    """A write that is neither at the end of the stream nor the very same bytes again."""

    errno = errno.ESPIPE

    def __init__(self, offset: int, end: int) -> None:
        super().__init__(f"write at {offset}, but the stream ends at {end}: tapes are written at the end only")
        self.offset = offset
        self.end = end


class MediumFull(VtlfsError):
    """The write doesn't fit on the medium; none of it was taken."""

    errno = errno.ENOSPC

    def __init__(self, barcode: str) -> None:
        super().__init__(f"medium {barcode} is full; go on with another medium")
        self.barcode = barcode


class NotPermitted(VtlfsError):
    """Something that a tape library never does: overwrite, truncate, rename, delete."""

    errno = errno.EPERM

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: not permitted, a tape library is append-only")


class CannotReopen(VtlfsError):
    """The same inode can't be opened for writing once more, since its bytes go through the kernel's page cache."""

    errno = errno.ENOTSUP

    def __init__(self) -> None:
        super().__init__(
            "a file open through the page cache can't be opened again for writing; mount with io=direct for that"
        )


class DiskError(VtlfsError):
    """An operation on one disk failed; `errno` is the disk's own, `reason` says it in words."""

    def __init__(self, disk: int, path: str, error: OSError, what: str = "") -> None:
        """`what` is the operation that failed, if known."""
        code = error.errno or errno.EIO
        self.reason = error.strerror or os.strerror(code)
        super().__init__(f"disk {disk} ({path}): {self.reason}{what and f' ({what})'}")
        self.disk = disk
        self.path = path
        self.errno = code


class DiskMissing(DiskError):
    """An operation needs a disk that is missing."""

    def __init__(self, disk: int, path: str) -> None:
        super().__init__(disk, path, OSError(errno.EIO, "is missing; mount it, or have library.toml lead to it"))


class DamagedExtent(VtlfsError):
    """An extent on a disk is not what was written: its BLAKE3 or its length differs, or it is gone."""

    errno = errno.EIO
    exit_status = 3
    is_news = True

    def __init__(self, session: int, offset: int | None, disk: int | None, why: str, what: str = "") -> None:
        """`offset` in the stream, None for parity; `what` of the medium it is, where that is known."""
        where = "" if disk is None else f" on disk {disk}"
        which = "parity" if offset is None else f"the extent at offset {offset}"
        super().__init__(f"session {session}, {which}{where}: {why}{what and f' ({what})'}")
        self.session = session
        self.offset = offset
        self.disk = disk
        self.why = why


class NoThread(VtlfsError):
    """The first thread of those that do some kind of work can't be started."""

    errno = errno.EAGAIN


class TooManyStreams(VtlfsError):
    """One stream more could leave the open ones without the descriptors that they still need."""

    errno = errno.EMFILE

    def __init__(self, streams: int, limit: int) -> None:
        super().__init__(f"{streams} streams are open for writing, and {limit} descriptors are too few for one more")
        self.streams = streams
        self.limit = limit


class TrackingError(VtlfsError):
    """The tracking database could not be read or written."""

    is_news = True

    def __init__(self, what: str, code: int = errno.EIO) -> None:
        super().__init__(f"tracking database: {what}")
        self.errno = code


class SessionEnded(TrackingError):
    """Another process took the session's mount for dead and ended the session."""

    def __init__(self, session: int) -> None:
        super().__init__(f"session {session} was ended by somebody else, who took this mount for dead")


def errno_name(error: VtlfsError) -> str:
    """Return the name of the error's errno, such as ENOSPC."""
    return errno.errorcode.get(error.errno, "EIO")
