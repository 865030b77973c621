"""What lies in the archives of the tape files: a directory of one, and what a search over all of the past finds.

Worker threads call the functions, which query the member index and so may block.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import VtlfsError
from vtlfs.members.database import MemberIndex
from vtlfs.members.finding import Query, find, not_indexed
from vtlfs.members.pattern import compile_pattern
from vtlfs.members.stream import find_stream, first_session
from vtlfs.members.values import ArchiveMember, Entry, Kind, StreamState
from vtlfs.model import TapeFile
from vtlfs.restore.wanted import Choice
from vtlfs.tui import format as fmt
from vtlfs.tui.details import Details
from vtlfs.tui.source import Source, Target

MAX_HITS = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class MemberTarget:
    """A member to restore, with all that lies in it: of the stream that a tape file belongs to."""

    session: int
    path: str
    file: Target
    member: int | None = None  # identifier of the very one; None: a directory, and all that lies in it

    def choose(self, tracking: Tracking, index: MemberIndex) -> list[Choice]:
        """Return what is to be restored. Raises NoSuchSession."""
        return [Choice(find_stream(tracking, self.session), frozenset({self.path}), self.member)]


@dataclass(frozen=True, slots=True)
class ContentsRow:
    """An entry of a directory in an archive."""

    entry: Entry
    target: MemberTarget

    @property
    def kind(self) -> str:
        """The letter of `ls -l`."""
        return "d" if self.entry.is_directory else "?" if self.entry.member is None else str(self.entry.member.kind)

    @property
    def name(self) -> str:
        """The name, and what a link points to."""
        name = self.entry.name + ("/" if self.entry.is_directory and self.entry.name != "/" else "")
        link = None if self.entry.member is None else self.entry.member.link
        return fmt.printable(name if link is None else f"{name} -> {link}")


@dataclass(frozen=True, slots=True)
class Listing:
    """A directory of an archive. `note`: what the index says of the tape file, None: nothing."""

    path: str
    rows: list[ContentsRow]
    note: str | None


@dataclass(frozen=True, slots=True)
class HitRow:
    """A member that a search has found."""

    member: ArchiveMember
    file: TapeFile

    @property
    def target(self) -> MemberTarget:
        """What to restore."""
        return member_target(self.member, self.tape_file)

    @property
    def tape_file(self) -> Target:
        """Where it lies."""
        return Target(self.file.medium, self.file.number, self.file.volume)


@dataclass(frozen=True, slots=True)
class Hits:
    """What a search has found. `more`: there is more; `pending`: tape files that are not indexed yet."""

    rows: list[HitRow]
    more: bool
    pending: int


def listing(source: Source, file: Target, state: int | None, path: str) -> Listing:
    """Return a directory of the archive in a tape file. Raises NoIndex, IndexDamaged, NoSuchTapeFile."""
    if file.number is None:
        raise VtlfsError("a medium has several tape files; choose one of them")
    with _opened(source, state) as (tracking, index):
        session = first_session(
            tracking, tracking.tape_files.get(file.barcode, file.number, volume=file.volume).session
        )
        indexed = index.stream(session)
        if indexed is None or indexed.state is StreamState.PENDING:
            raise VtlfsError(f"{file} is not indexed yet; a mount does so in the background, `vtlfs index` at once")
        if indexed.state is StreamState.UNKNOWN:
            raise VtlfsError(f"{file} can't be looked into: {indexed.note}")
        rows = [ContentsRow(one, _entry_target(one, session, file)) for one in index.listing(session, path)]
        return Listing(path, sorted(rows, key=lambda row: (not row.entry.is_directory, row.entry.path)), indexed.note)


def search(source: Source, text: str) -> Hits:
    """Return the members whose paths are like a pattern, of all times. Raises NoIndex, IndexDamaged."""
    with _opened(source, None) as (tracking, index):
        found = find(index, tracking, Query(compile_pattern(text)))
        rows = [HitRow(hit.member, hit.file) for hit in islice(found, MAX_HITS)]
        return Hits(rows, next(found, None) is not None, not_indexed(index, tracking).pending)


def member_target(member: ArchiveMember, file: Target) -> MemberTarget:
    """Return a member as what to restore."""
    only = None if member.kind is Kind.DIRECTORY else member.id
    return MemberTarget(member.session, member.path, file, only)


def _entry_target(entry: Entry, session: int, file: Target) -> MemberTarget:
    if entry.is_directory or entry.member is None:
        return MemberTarget(session, entry.path, file)
    return member_target(entry.member, file)


def of_member(row: ContentsRow) -> Callable[[Tracking], Details]:
    """Return what returns a member's details."""

    def load(_: Tracking) -> Details:
        member = row.entry.member
        assert member is not None
        packed = "" if member.compression == "none" else f", compressed with {member.compression}"
        fields = [
            ("path", fmt.printable(member.path)),
            ("kind", member.kind.name.lower().replace("_", " ")),
            ("size", f"{fmt.size(member.size)} ({member.size:,})"),
            ("modified", modified(member)),
            ("link to", fmt.printable(member.link)),
            ("archive", f"{member.format}{packed}, from byte {member.archive_start:,} of the stream on"),
            ("lies", f"{member.start:,} to {member.end:,}{' of what is unpacked' if packed else ' of the stream'}"),
            ("tape file", str(row.target.file)),
        ]
        return Details(f"archive member {fmt.printable(member.name)}", fields, row.target.file)

    return load


def modified(member: ArchiveMember | None) -> str:
    """Return when a member was modified, to the minute."""
    if member is None or member.mtime is None:
        return "-"
    try:
        return f"{EPOCH + timedelta(seconds=member.mtime):%Y-%m-%d %H:%MZ}"
    except OverflowError:  # no calendar has that year
        return str(member.mtime)


@contextmanager
def _opened(source: Source, state: int | None) -> Iterator[tuple[Tracking, MemberIndex]]:
    library = source.require_library("looking into archives")
    with source.tracking(state) as tracking, closing(MemberIndex.open(library.path, library.config.uuid)) as index:
        yield tracking, index
