"""The nouns of the library as frozen values, and the pure rules for their names, sizes and times.

Nothing here does I/O, and only `wall_clock` reads a clock. Field names are the column names of the tracking database.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import accumulate

from vtlfs.errors import UsageError, VtlfsError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
Digest = bytes  # a BLAKE3, 32 bytes
NO_CODEC = "none"  # the stored bytes are those of the stream
LAST_TIME = "2999-12-31T23:59:59.999999Z"  # of a retention, and as a time by which retention is told
NO_MOUNTPOINT = "-"
NOWHERE = 0  # position of an extent that a rebuild knows of and has not found: it is computed, or lost

BARCODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
RESERVED_BARCODES = frozenset({"loaded"})  # /drives/N/loaded is the symbolic link
PATTERN = re.compile(r"[*?\[]")  # is in each shell pattern, and in no barcode
HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9_.:%-]{0,254}")
MAX_PARITY = 2  # parity extents of a stripe
MAX_MEMBERS = 32  # data extents of a stripe: a parity record, which lists them, fits its block
MAX_SIZE = 1 << 62  # of anything; the tracking database adds two sizes in 64 bits
MAX_SESSION = 1 << 55  # no identifier is so large: inode numbers of paths lie above
MAX_RANGE = 100_000  # barcodes in one A..B range: a typing error, not a library

_SUFFIX = {"": 1, "B": 1} | {
    suffix: factor
    for power, letter in enumerate("KMGTP", 1)
    for suffix, factor in (
        (letter, 1024**power),
        (f"{letter}IB", 1024**power),
        (f"{letter}B", 1000**power),
    )
}


class Access(StrEnum):
    """What a session does to its medium."""

    WRITE = "write"
    READ = "read"


class State(StrEnum):
    """Where a session stands.

    `open` until its last close; `released` in order; `failed` when bytes that the writer had handed over were lost and
    the writer was told; `recovered` when its mount died and another process ended the session.
    """

    OPEN = "open"
    RELEASED = "released"
    FAILED = "failed"
    RECOVERED = "recovered"


class DiskState(StrEnum):
    """Where a disk stands in its library. A disk that is dead or missing for now is `in use` all the same.

    `retiring`: nothing new goes to it, and what lies on it is being moved; `retired`: it has left, with its number.
    """

    IN_USE = "in use"
    RETIRING = "retiring"
    RETIRED = "retired"


class MediumState(StrEnum):
    """Where a medium stands. `retired`: out of use, and only read; `removed`: gone from the tree, with its barcode."""

    IN_USE = "in use"
    RETIRED = "retired"
    REMOVED = "removed"


class RetainMode(StrEnum):
    """How strictly a volume is retained, from the least strict on, with the meanings of S3 Object Lock.

    `governance`: root may end it before its time, saying why; `compliance`: nobody may; `worm`: it never ends.
    """

    GOVERNANCE = "governance"
    COMPLIANCE = "compliance"
    WORM = "worm"

    @property
    def strictness(self) -> int:
        """A number that is higher for a stricter mode."""
        return list(RetainMode).index(self)


@dataclass(frozen=True, slots=True)
class Retention:
    """Until when something is retained, and how strictly. `until` is None for `worm`: for ever."""

    mode: RetainMode
    until: str | None

    def __str__(self) -> str:
        return "for ever (WORM)" if self.until is None else f"until {self.until} ({self.mode})"


class IoMode(StrEnum):
    """How the kernel hands a file's bytes over: gathered in its page cache, or each write as it is."""

    AUTO = "auto"
    CACHED = "cached"
    DIRECT = "direct"


class SyncMode(StrEnum):
    """What close() waits for: everything on the disks, or nothing but the hand-over."""

    CLOSE = "close"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Medium:
    """A cartridge. `capacity` is None where the medium has no limit; sizes are bytes."""

    id: int
    barcode: str
    capacity: int | None
    bytes: int
    tape_files: int
    reserved: int
    added_at: str
    written_at: str | None
    volume: int = 1  # the number of the current one
    begun_at: str = ""  # when that began
    state: MediumState = MediumState.IN_USE
    protected: bool = False  # its write-protect tab is set
    slot: int | None = None  # of the changer, from 1, where it is unless a drive has it; None: it was removed

    @property
    def is_writable(self) -> bool:
        """Tell whether streams may be written to it, as far as it is up to the medium."""
        return self.state is MediumState.IN_USE and not self.protected

    @property
    def left(self) -> int | None:
        """Bytes that nobody has written or reserved, None without a limit."""
        return None if self.capacity is None else max(0, self.capacity - self.bytes - self.reserved)


@dataclass(frozen=True, slots=True)
class Volume:
    """One life of a medium, which ends when the medium is erased. Sizes are bytes.

    `begun` and `ended` are epochs: snapshot S shows the volume if begun <= S < ended. `retain_seconds`: for how long
    each of its tape files is retained from its release. `bytes` and `tape_files` of the current volume are those of
    the medium.
    """

    medium: str
    number: int
    begun_at: str
    begun: int
    ended_at: str | None
    ended: int | None
    bytes: int
    tape_files: int
    retain_mode: RetainMode | None
    retain_seconds: int | None
    retain_until: str | None
    reclaimed_at: str | None

    @property
    def retention(self) -> Retention | None:
        """What keeps it from ending; None: nothing does, or nothing was written since there is a rule."""
        return retention_of(self.retain_mode, self.retain_until, self.bytes)


def retention_of(mode: RetainMode | None, until: str | None, size: int) -> Retention | None:
    """Return what keeps a volume of so many bytes from ending. `until` may be of the time before it became `worm`."""
    is_worm = mode is RetainMode.WORM
    if mode is None or (until is None and not (is_worm and size)):
        return None
    return Retention(mode, None if is_worm else until)


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold on a medium: while there is one, its volume does not end."""

    medium: str
    name: str
    reason: str
    placed_at: str
    uid: int
    host: str


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something to a medium, and with which program, for the events."""

    uid: int
    host: str
    program: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to a medium, a snapshot or a pool. `details` is what else there is to know."""

    id: int
    at: str
    epoch: int
    what: str
    medium: str | None
    volume: int | None
    uid: int
    host: str
    program: str
    reason: str | None
    details: dict[str, object]


@dataclass(frozen=True, slots=True)
class Drive:
    """A set of write options under a number; `loaded` is the barcode that /drives/N/loaded names."""

    number: int
    loaded: str | None
    loaded_at: str | None


UNKNOWN_DISK = "unknown, of disk "  # begins the UUID of a disk that was not there at a rebuild


@dataclass(frozen=True, slots=True)
class DiskRecord:
    """A disk as the tracking database knows it. Its fill is None where nobody has looked yet.

    `fault` is what kept a mount from using it, and `fault_at` since when; None while nothing does. `state_at`: when it
    began to retire, or had retired. `successor`: the number of the disk that replaces it.
    """

    number: int
    uuid: str
    path: str
    added_at: str
    total: int | None = None
    free: int | None = None
    seen_at: str | None = None
    fault: str | None = None
    fault_at: str | None = None
    state: DiskState = DiskState.IN_USE
    state_at: str | None = None
    successor: int | None = None

    def is_labelled(self, uuid: str) -> bool:
        """Tell whether a label of its number with this UUID may be that of the disk."""
        return uuid == self.uuid or self.uuid.startswith(UNKNOWN_DISK)


UNKNOWN_MACHINE = "?"  # of the mount that stands for those that a lost database knew


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted process. `state` is mounted, unmounted or dead. `mountpoint`: NO_MOUNTPOINT of a command."""

    id: int
    host: str | None
    machine: str
    pid: int
    uid: int
    mountpoint: str
    options: str
    state: str
    mounted_at: str
    unmounted_at: str | None

    @property
    def is_command(self) -> bool:
        """Tell whether it is a command that writes, such as an import: a participant like a mount, without a tree."""
        return self.mountpoint == NO_MOUNTPOINT


@dataclass(frozen=True, slots=True)
class Session:
    """What one open() started. `disks` are the numbers of the disks that hold its extents."""

    id: int
    mount: int
    host: str
    pid: int
    uid: int
    gid: int
    program: str
    access: Access
    drive: int
    medium: str
    state: State
    error: str | None
    opened_at: str
    released_at: str | None
    bytes: int
    requests: int
    reserved: int
    stripe_unit: int
    disks: tuple[int, ...]
    tape_file: int | None
    parity: int = 0  # extents of it that each stripe was to have
    volume: int = 1  # of the medium
    reclaimed: bool = False  # its stored bytes are deleted
    origin: str | None = None  # imported: the library's UUID and the session's identifier of then, LIBRARY/SESSION

    def as_json(self) -> dict[str, object]:
        """Return the session as CONTRACT's JSON object."""
        return {
            "id": self.id,
            "host": self.host,
            "pid": self.pid,
            "uid": self.uid,
            "gid": self.gid,
            "program": self.program,
            "access": str(self.access),
            "drive": self.drive,
            "medium": self.medium,
            "state": str(self.state),
            "error": self.error,
            "opened_at": self.opened_at,
            "released_at": self.released_at,
            "bytes": self.bytes,
            "requests": self.requests,
            "tape_file": self.tape_file,
            "disks": list(self.disks),
            "stripe_unit": self.stripe_unit,
            "parity": self.parity,
            "volume": self.volume,
            "reclaimed": self.reclaimed,
            "origin": self.origin,
            "mount": self.mount,
        }


@dataclass(frozen=True, slots=True)
class TapeFile:
    """What one write session left: `bytes` bytes from `start` on the medium."""

    medium: str
    number: int
    session: int
    start: int
    bytes: int
    stripe_unit: int
    released_at: str
    host: str
    volume: int = 1  # of the medium
    retention: Retention | None = None  # of its own, since its release

    @property
    def end(self) -> int:
        """Offset on the medium of the byte after the last."""
        return self.start + self.bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """What one program wrote: the tape files, one after the other. More than one only through a pool that spans."""

    session: int  # identifier of the first one
    parts: tuple[TapeFile, ...]

    @property
    def bytes(self) -> int:
        """Its length."""
        return sum(part.bytes for part in self.parts)

    @property
    def released_at(self) -> str:
        """When its last tape file was released."""
        return self.parts[-1].released_at

    def part_at(self, offset: int) -> TapeFile:
        """Return the tape file that has the byte at an offset of the stream, or the last one."""
        return self.parts[min(self._place(offset), len(self.parts) - 1)]

    def start_of(self, part: TapeFile) -> int:
        """Return the offset in the stream of the first byte of one of its tape files."""
        return self._starts()[self.parts.index(part)]

    def _place(self, offset: int) -> int:
        return bisect_right(self._starts(), offset) - 1

    def _starts(self) -> list[int]:
        return list(accumulate((part.bytes for part in self.parts[:-1]), initial=0))


@dataclass(frozen=True, slots=True)
class Extent:
    """A piece of a session's stream, or of its parity, as it lies on a disk: written once, and never changed.

    Data has `bytes` bytes of the stream from `offset` on, and is at `place` of its stripe. Parity has no offset (None),
    `place` is its row, and `bytes` is 0. `stored` bytes, after the codec, with this BLAKE3, lie behind the record that
    is at `position` of the session's member file on `disk`.
    """

    session: int
    stripe: int
    place: int
    offset: int | None
    bytes: int
    codec: str
    disk: int
    position: int
    stored: int
    blake3: Digest

    @property
    def is_parity(self) -> bool:
        """Tell whether it is parity."""
        return self.offset is None

    @property
    def end(self) -> int:
        """Offset in the stream of the byte after the last; 0 for parity."""
        return 0 if self.offset is None else self.offset + self.bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of the tracking database that was kept, with the library's counters of then."""

    id: int
    name: str | None
    taken_at: str
    scheduled: bool
    media: int
    sessions: int
    open_sessions: int
    tape_files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far a tracking database has come: the transactions that it has committed, and its counters after them.

    `commits` never gets less in the life of a library, so two of them tell which came first, without a clock.
    `snapshot` is the number of the newest one, 0 without any. `disks`: the number that the next disk gets. `moves`:
    how often repair has recorded that extents lie elsewhere, or that a disk has left; an older database with fewer does
    not know where, or which. `latest` is the highest time that was ever recorded, or empty.
    """

    commits: int
    next_session: int
    epoch: int
    media: int
    sessions: int
    tape_files: int
    bytes: int
    snapshot: int
    disks: int
    moves: int
    latest: str = ""


@dataclass(frozen=True, slots=True)
class Opener:
    """Who opened a file: the process behind the open(), and the host it works for."""

    host: str
    pid: int
    uid: int
    gid: int
    program: str
    small_writes: bool = False  # a program that writes its output itself, in small blocks; see vtlfs.fs.openers
    block: int | None = None  # bytes that it reads or writes at a time, where that can be told beforehand
    sends_offsets: bool = False  # a file server, which gives every write an offset; see vtlfs.fs.openers
    streams_only: bool = False  # a program that writes a right stream only where it can't seek; see vtlfs.fs.openers
    changes_media: bool = False  # a program that goes on with the next medium where a write finds no room
    begins_anew: bool = False  # a program whose O_TRUNC means that its archive begins anew; see vtlfs.fs.openers
    overwrites: bool = False  # a program that never finds what it appends to a medium; see vtlfs.fs.openers


@dataclass(frozen=True, slots=True)
class ImportedEnd:
    """How the session of an imported tape file ends, once its bytes are known to be whole and right.

    `state` to `requests` are what the exporting library says. `number`: of the tape file that it is to become on its
    medium, None: any. `now`: the time of this machine, by which retention is told; `retention`: how strictly, and until
    when, the volume and the tape file are retained at least; None: as the volume is.
    """

    state: State
    error: str | None
    released_at: str
    requests: int
    now: str
    number: int | None = None
    retention: Retention | None = None


def wall_clock() -> datetime:
    """Return what the machine's clock says, which may jump by years at any moment, either way."""
    return datetime.now(UTC)


def utc_now() -> str:
    """Return the present as ISO 8601 in UTC with microseconds, the form of every time in the product.

    It is for people. What came before what is told by transactions, identifiers and counters, and how long something
    takes by the monotonic clock of one process. Where two such times are compared all the same, a comment there says
    why a jump of the clock between them does no harm.
    """
    return format_time(wall_clock())


def format_time(moment: datetime) -> str:
    """Return a moment, in UTC, in the product's form."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def later(time: str, seconds: float) -> str:
    """Return the time that is so many seconds after a time, both in the product's form; LAST_TIME at most.

    Raises VtlfsError where `time` is none.
    """
    try:
        return min(format_time(datetime.fromisoformat(time).astimezone(UTC) + timedelta(seconds=seconds)), LAST_TIME)
    except OverflowError:
        return LAST_TIME
    except ValueError:
        raise VtlfsError(f"{time!r} is not a time; `vtlfs check` finds what is damaged") from None


def local_time(time: str) -> str:
    """Return a time in the product's form as people read it: local, to the second, 2026-01-31 10:30:00.

    One that no calendar has is returned as it is.
    """
    try:
        return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):
        return time


def epoch_ns(time: str) -> int:
    """Return the nanoseconds since 1970 of a time in the product's form. Raises VtlfsError for anything else."""
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        raise VtlfsError(f"{time!r} is not a time; `vtlfs check` finds what is damaged") from None
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1_000


def parse_size(text: str) -> int:
    """Read a size in bytes: `4096`, `64K`, `1MiB`, `2.5G`, `12TB`.

    K, M, G, T, P and KiB… are powers of 1024, as in dd and tar; KB, MB… are powers of 1000.
    Raises UsageError, also for more than MAX_SIZE.
    """
    match = re.fullmatch(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2].upper() not in _SUFFIX:
        raise UsageError(f"{text!r} is not a size; write it like 4096, 64K, 1MiB or 12TB")
    number = float(match[1]) if "." in match[1] else int(match[1])
    size = int(number * _SUFFIX[match[2].upper()])
    if size > MAX_SIZE:
        raise UsageError(f"{text!r} is too large a size: {format_size(MAX_SIZE)} at most")
    return size


def format_size(size: int) -> str:
    """Write a size for people: three figures and a binary suffix."""
    value = float(size)
    for suffix in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1000:
            return f"{size} B" if suffix == "B" else f"{value:.3g} {suffix}"
        value /= 1024
    return f"{value:.4g} PiB"


def check_barcode(barcode: str) -> str:
    """Return the barcode if it is one, else raise UsageError."""
    if not BARCODE.fullmatch(barcode):
        raise UsageError(
            f"{barcode!r} is not a barcode: 1 to 32 characters of A-Z a-z 0-9 _ - . that begin with a letter or digit"
        )
    if barcode in RESERVED_BARCODES:
        raise UsageError(f"{barcode!r} can't be a barcode: /drives/N/{barcode} is the link to the loaded medium")
    return barcode


def check_host(host: str) -> str:
    """Return the host's name if it is one, else raise UsageError."""
    if not HOST.fullmatch(host):
        raise UsageError(
            f"{host!r} is no host name: letters, digits and _ . : % - of which the first is no punctuation"
        )
    return host


def expand_barcodes(words: tuple[str, ...] | list[str]) -> list[str]:
    """Turn words such as `A00001L9` and `A00001L9..A00020L9` into barcodes, in order.

    The two ends of a range differ in one run of digits of the same length. Raises UsageError.
    """
    barcodes: list[str] = []
    for word in words:
        first, dots, last = word.partition("..")
        barcodes += _range(first, last) if dots else [check_barcode(word)]
    seen: set[str] = set()
    for barcode in barcodes:
        if barcode in seen:
            raise UsageError(f"barcode {barcode} is named twice")
        seen.add(barcode)
    return barcodes


def choose_barcodes(words: Sequence[str], known: Sequence[str]) -> list[str]:
    """Turn barcodes, ranges and shell patterns such as `NIGHT*` into barcodes, in order, each once.

    A pattern stands for those of `known` that it matches. Raises UsageError, also where it matches none.
    """
    chosen: dict[str, None] = {}
    for word in words:
        if not PATTERN.search(word):
            chosen |= dict.fromkeys(expand_barcodes((word,)))
        elif matching := [barcode for barcode in known if fnmatchcase(barcode, word)]:
            chosen |= dict.fromkeys(matching)
        else:
            raise UsageError(f"no medium matches {word!r}; `vtlfs media list` shows the media")
    return list(chosen)


def _range(first: str, last: str) -> list[str]:
    check_barcode(first), check_barcode(last)
    a, b = re.split(r"(\d+)", first), re.split(r"(\d+)", last)
    differing = [i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y]
    if len(a) != len(b) or len(differing) > 1 or any(i % 2 == 0 or len(a[i]) != len(b[i]) for i in differing):
        raise UsageError(f"{first}..{last} is no range: its ends differ in more than one number of the same length")
    if not differing:
        return [first]
    at = differing[0]
    low, high = int(a[at]), int(b[at])
    if high < low or high - low >= MAX_RANGE:
        raise UsageError(f"{first}..{last} is no range of 1 to {MAX_RANGE:,} barcodes")
    width = len(a[at])
    return ["".join([*a[:at], f"{n:0{width}d}", *a[at + 1 :]]) for n in range(low, high + 1)]
