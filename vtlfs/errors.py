"""Domain errors, each with its operands, its errno for programs on the mount and its exit status for the shell.

This module imports nothing of vtlfs. Each message is one line that names the thing and says what to do next. Where a
message is also part of longer ones, such as that of a disk, `advice` says what to do next, and `with_advice` adds it.
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
    advice: str = ""
    """What to do next, where the message does not say so."""


class UsageError(VtlfsError):
    """An argument, an option or a configuration file is wrong; nothing was changed."""

    errno = errno.EINVAL
    exit_status = 2


class LibraryError(VtlfsError):
    """The library, one of its disks or its tracking database can't be used as the command or the mount needs it."""


class CatalogueBehind(LibraryError):
    """The tracking database went back: the disks know of later changes. Nothing is written to such a database."""

    exit_status = 3

    def __init__(self, database: str, what: str) -> None:
        super().__init__(
            f"{database}: is older than the disks: it lacks {what}; run `vtlfs rebuild` to read that from the disks,"
            " or `vtlfs mount -o ro` to see what the database has"
        )


class MountError(VtlfsError):
    """The library can't be mounted or unmounted."""


class NoSuchMedium(VtlfsError):
    """The library lacks this barcode."""

    errno = errno.ENOENT

    def __init__(self, barcode: str) -> None:
        super().__init__(f"no medium {barcode!r} in this library; `vtlfs media list` shows the media")
        self.barcode = barcode


class NoSuchTapeFile(VtlfsError):
    """The medium lacks a tape file of this number."""

    errno = errno.ENOENT

    def __init__(self, barcode: str, number: int) -> None:
        super().__init__(f"medium {barcode} has no tape file {number}; `vtlfs files` shows its tape files")
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
        super().__init__(f"no session {session}; `vtlfs sessions` shows the sessions")
        self.session = session


class NoSuchSnapshot(VtlfsError):
    """The library has no snapshot of this number or name, or it was pruned or deleted."""

    errno = errno.ENOENT

    def __init__(self, snapshot: int | str) -> None:
        """`snapshot`: its number, or its name."""
        name = snapshot if isinstance(snapshot, int) else repr(snapshot)
        super().__init__(f"no snapshot {name}; `vtlfs snapshot list` shows the snapshots")
        self.snapshot = snapshot


class NoIndex(VtlfsError):
    """The library has no member index yet."""

    errno = errno.ENOENT

    def __init__(self, library: str) -> None:
        super().__init__(f"{library}: nothing is indexed yet; `vtlfs index` reads what is on the tapes")


class IndexUnusable(VtlfsError):
    """The member index can't be read, written or made just now."""


class IndexDamaged(IndexUnusable):
    """The member index is damaged, or of another version. It holds nothing of its own: it can be made anew."""

    def __init__(self, database: str, why: str) -> None:
        super().__init__(f"{database}: {why}; `vtlfs index --anew` makes a new index")


class NotSequential(VtlfsError):
    """A write is neither at the end of its stream nor a repetition of bytes that the stream has there."""

    errno = errno.ESPIPE

    def __init__(self, offset: int, end: int) -> None:
        super().__init__(
            f"write at offset {offset} of a stream that ends at {end}: a tape is written at its end only; use a program"
            " that writes from the first byte to the last"
        )
        self.offset = offset
        self.end = end


class MediumFull(VtlfsError):
    """A write doesn't fit on the medium; none of its bytes were taken."""

    errno = errno.ENOSPC

    def __init__(self, barcode: str) -> None:
        super().__init__(f"medium {barcode} is full; go on with another medium")
        self.barcode = barcode


class ReadOnlyMedium(VtlfsError):
    """A medium can't be written to: it is write-protected, or out of use."""

    errno = errno.EROFS

    def __init__(self, barcode: str, why: str) -> None:
        super().__init__(f"medium {barcode} can only be read: {why}")
        self.barcode = barcode


class MediumBusy(VtlfsError):
    """What was asked of a medium has to wait for a session that writes to it."""

    errno = errno.EBUSY
    is_news = True

    def __init__(self, barcode: str, session: int, host: str) -> None:
        super().__init__(
            f"medium {barcode}: session {session} of {host} writes to it; wait for its end, or run `vtlfs recover` if"
            " its mount has died"
        )
        self.barcode = barcode
        self.session = session


class Retained(VtlfsError):
    """A volume can't end yet: its medium is write-protected or under legal hold, or its retention has not ended."""

    errno = errno.EPERM
    is_news = True

    def __init__(self, barcode: str, why: str, act: str = "erased") -> None:
        """`act`: what was to be done to the medium."""
        super().__init__(f"medium {barcode} can't be {act}: {why}")
        self.barcode = barcode
        self.why = why


class OverrideRefused(VtlfsError):
    """Somebody who is not root wants to end a volume before its retention ends."""

    errno = errno.EPERM

    def __init__(self) -> None:
        super().__init__("only root may override retention; run the command as root")


class ChangerRefused(VtlfsError):
    """The changer can't make a move. The message is in the words of mtx, which programs read."""

    errno = errno.EBUSY


class NotRemovable(VtlfsError):
    """A medium can't be removed: it is not empty, or it is loaded in a drive."""

    errno = errno.EBUSY

    def __init__(self, barcode: str, why: str) -> None:
        super().__init__(f"medium {barcode} can't be removed: {why}")
        self.barcode = barcode


class Refused(VtlfsError):
    """An act on several media was refused for some of them, so that it was done to none. `errors`: one for each."""

    SHOWN = 3  # of the errors, in the message

    def __init__(self, errors: list[VtlfsError], asked: int) -> None:
        """`asked`: how many media there were."""
        more = len(errors) - self.SHOWN
        told = "; ".join([str(error) for error in errors[: self.SHOWN]] + ([f"and {more} more"] if more > 0 else []))
        super().__init__(f"nothing was changed, as {len(errors):,} of {asked:,} media are refused: {told}")
        self.errors = errors
        self.errno = errors[0].errno
        self.exit_status = errors[0].exit_status


class Reclaimed(VtlfsError):
    """The stored bytes of a tape file were deleted while it was read: its medium was erased, no snapshot shows it."""

    errno = errno.ESTALE

    def __init__(self, barcode: str, number: int) -> None:
        super().__init__(
            f"medium {barcode} was erased, and the stored bytes of its tape file {number:04d} are deleted;"
            " read the medium as it is now"
        )


class NothingToResume(VtlfsError):
    """No verification was interrupted, so none can go on."""

    errno = errno.ENOENT

    def __init__(self) -> None:
        super().__init__("no verification was interrupted; leave --resume out to begin one")


class NoSuchHold(VtlfsError):
    """The medium has no legal hold of this name."""

    errno = errno.ENOENT

    def __init__(self, barcode: str, name: str) -> None:
        super().__init__(f"medium {barcode} has no hold {name!r}; `vtlfs media show {barcode}` shows its holds")


class NoSuchPool(VtlfsError):
    """The library has no pool of this name."""

    errno = errno.ENOENT

    def __init__(self, name: str) -> None:
        super().__init__(f"no pool {name!r}; the sections [pools.NAME] of library.toml make pools")


class PoolEnded(VtlfsError):
    """A pool has no medium left to which a stream could be written."""

    errno = errno.ENOSPC
    is_news = True

    def __init__(self, pool: str, why: str) -> None:
        super().__init__(f"pool {pool} is at its end: {why}")
        self.pool = pool


class NotPermitted(VtlfsError):
    """A program asks for what a tape library never does, such as to overwrite, truncate, rename or delete."""

    errno = errno.EPERM

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: not permitted; the only change that a mount allows is to write to a medium's end")


class CannotReopen(VtlfsError):
    """An open file whose bytes go through the kernel's page cache is opened again for writing, by the same inode.

    The kernel calls no handler between the refusal and the end of the open(), so nothing of the file changes.
    """

    errno = errno.EBUSY

    def __init__(self, why: str, way_out: str) -> None:
        super().__init__(f"{why}; {way_out}")


class DiskError(VtlfsError):
    """An operation on one disk failed; `errno` is that of the failed operation, `reason` its text."""

    def __init__(self, disk: int, path: str, error: OSError, what: str = "") -> None:
        """`what` is the operation that failed, if known."""
        code = error.errno or errno.EIO
        self.reason = error.strerror or os.strerror(code)
        super().__init__(f"disk {disk} ({path}): {self.reason}{what and f' ({what})'}")
        self.disk = disk
        self.path = path
        self.errno = code
        self.advice = _DISK_ADVICE.get(code, "")


_DISK_ADVICE = {
    errno.EIO: "the kernel's log (dmesg) may say why; `vtlfs status` shows all disks",
    errno.EROFS: "the kernel's log (dmesg) may say why; `vtlfs status` shows all disks",
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room on the disk, or raise its quota",
}


class DiskMissing(DiskError):
    """An operation needs a disk that is missing."""

    def __init__(self, disk: int, path: str) -> None:
        super().__init__(disk, path, OSError(errno.EIO, "is missing; mount it, or have library.toml lead to it"))
        self.advice = ""


class DamagedExtent(VtlfsError):
    """An extent on a disk is damaged or gone: its BLAKE3 or its length is not the recorded one."""

    errno = errno.EIO
    exit_status = 3
    is_news = True
    advice = "`vtlfs verify` finds all damage"

    def __init__(self, session: int, offset: int | None, disk: int | None, why: str, what: str = "") -> None:
        """`offset`: of the extent in its stream, None for parity; `what`: its medium and tape file, if known."""
        where = "" if disk is None else f" on disk {disk}"
        which = "parity" if offset is None else f"the extent at offset {offset}"
        super().__init__(f"session {session}, {which}{where}: {why}{what and f' ({what})'}")
        self.session = session
        self.offset = offset
        self.disk = disk
        self.why = why


class NoThread(VtlfsError):
    """No thread can be started for a kind of work that has none yet."""

    errno = errno.EAGAIN


class TooManyStreams(VtlfsError):
    """An open() for writing is refused, since the streams that are open may still need all descriptors."""

    errno = errno.EMFILE

    def __init__(self, streams: int, limit: int) -> None:
        super().__init__(
            f"{streams} streams are open for writing, as many as {limit} descriptors allow; close one before the next"
        )
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
        super().__init__(
            f"session {session} was ended by another process, which took this mount for dead; the bytes recorded until"
            " then are a tape file: write the stream again"
        )


def with_advice(error: VtlfsError) -> str:
    """Return the error's message, and what to do next: for a message that stands alone."""
    return f"{error}; {error.advice}" if error.advice else str(error)


def errno_name(error: VtlfsError) -> str:
    """Return the name of the error's errno, such as ENOSPC."""
    return errno.errorcode.get(error.errno, "EIO")


def first_of(error: BaseException) -> BaseException:
    """Return the first error in an exception group, however deep; an error that is no group as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
