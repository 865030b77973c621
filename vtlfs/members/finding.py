"""Finding archive members by their names, over all tape files and times. Blocks; used by commands and the terminal UI.

Which paths have the pattern's letters in them is looked up in the index of three characters; the few that are left are
compared with the pattern. A pattern without any literal character is compared with every path.
"""

from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from json import dumps

from vtlfs.engine.library import Library
from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import IndexUnusable, NoIndex, NoSuchMedium, NoSuchSession
from vtlfs.members.database import MEMBER, OF_MEMBER, MemberIndex, member_of
from vtlfs.members.pattern import Pattern
from vtlfs.members.stream import find_stream, first_session
from vtlfs.members.values import NO_COMPRESSION, ArchiveMember, IndexedStream, StreamState
from vtlfs.model import MediumState, Stream, TapeFile

FIRST_PATHS, MOST_PATHS = 32, 1024  # whose members are looked up together
KNOWN_STREAMS = 100_000
MOST_GRAMS = 512  # that are looked up for one text of one or two characters
_LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Hit:
    """A member that was found, and the tape file that has its header; of a compressed archive, its beginning."""

    member: ArchiveMember
    file: TapeFile


@dataclass(frozen=True, slots=True)
class Query:
    """What to find. `media`: barcodes, None: on all; `since`: of tape files released at this time or later."""

    pattern: Pattern
    media: Collection[str] | None = None
    since: str | None = None
    is_past: bool = False  # the catalogue is a snapshot's: only what that showed


@dataclass(frozen=True, slots=True)
class NotIndexed:
    """Streams in which nothing is found: those that are not indexed yet, and those that are no archives."""

    pending: int
    unknown: int


def find(index: MemberIndex, tracking: Tracking, query: Query) -> Iterator[Hit]:
    """Yield the members that a query is about; those of one path one after the other, in the order of indexing.

    `tracking`: the catalogue of now, or a view of a snapshot. What was reclaimed is left out. Raises IndexDamaged.
    """

    @lru_cache(KNOWN_STREAMS)
    def stream(session: int) -> Stream | None:
        try:
            return find_stream(tracking, session)
        except NoSuchSession:
            return None

    @lru_cache(KNOWN_STREAMS)
    def volume_shown(medium: str) -> int | None:
        try:
            found = tracking.media.get(medium)
        except NoSuchMedium:
            return None
        return None if found.state is MediumState.REMOVED else found.volume

    for member in _members(index, query.pattern):
        known = stream(member.session)
        place = member.start if member.compression == NO_COMPRESSION else member.archive_start
        if known is None or place >= known.bytes:  # of a stream through a pool, a part is not shown
            continue
        file = known.part_at(place)
        if query.media is not None and file.medium not in query.media:
            continue
        if query.is_past and volume_shown(file.medium) != file.volume:
            continue
        # For people: which tape files are told after a jump of the clock does no harm.
        if query.since is not None and file.released_at < query.since:
            continue
        yield Hit(member, file)


def not_indexed(index: MemberIndex, tracking: Tracking) -> NotIndexed:
    """Return how many streams there are in which nothing is found, of the whole library."""
    counts = index.counts()
    new = tracking.library.last_ordinal() - index.position()[0]
    return NotIndexed(counts[StreamState.PENDING] + max(0, new), counts[StreamState.UNKNOWN])


@dataclass(frozen=True, slots=True)
class Summary:
    """How far a library is indexed: streams of each state, and members. `problem`: why the index can't be read."""

    members: int = 0
    indexed: int = 0
    unknown: int = 0
    pending: int = 0
    problem: str | None = None

    def in_words(self) -> str:
        """Return it in one clause."""
        if self.problem is not None:
            return self.problem
        said = [f"{self.members:,} archive members in {self.indexed:,} tape files"]
        said += [f"{self.pending:,} not yet"] if self.pending else []
        said += [f"{self.unknown:,} can't be"] if self.unknown else []
        return ", ".join(said)


def summary(library: Library, tracking: Tracking) -> Summary:
    """Return how far a library is indexed."""
    try:
        with closing(MemberIndex.open(library.path, library.config.uuid)) as index:
            counts, left = index.counts(), not_indexed(index, tracking)
            return Summary(index.count_members(), counts[StreamState.INDEXED], left.unknown, left.pending)
    except NoIndex:
        return Summary(pending=tracking.library.last_ordinal())
    except IndexUnusable as error:
        return Summary(problem=str(error))


def streams_on(
    index: MemberIndex, tracking: Tracking, media: Collection[str] | None = None
) -> Iterator[tuple[TapeFile, IndexedStream | None]]:
    """Yield each tape file whose stored bytes are there, by medium, volume and number, with its stream.

    None: it is not known to the index yet.
    """
    for file in tracking.tape_files.between(0, 1 << 62):
        if (media is None or file.medium in media) and not tracking.reclaiming.is_reclaimed(file.session):
            yield file, index.stream(first_session(tracking, file.session))


def _members(index: MemberIndex, pattern: Pattern) -> Iterator[ArchiveMember]:
    """Yield the members whose paths are like a pattern."""
    paths = (number for number, path in _paths(index, pattern) if pattern.matches(path))
    count = FIRST_PATHS
    while some := list(islice(paths, count)):
        count = min(2 * count, MOST_PATHS)
        yield from index.made(
            member_of,
            f"SELECT {MEMBER} FROM json_each(?) AS wanted JOIN member ON member.path = wanted.value {OF_MEMBER}"
            " ORDER BY wanted.key, member.id",
            dumps(some),
        )


def _paths(index: MemberIndex, pattern: Pattern) -> Iterator[tuple[int, str]]:
    """Yield the paths that may be like a pattern, with their identifiers: each as soon as it is found."""
    words = _words(index, pattern)
    if words is None:
        return
    path = "path.id, directory.path || path.name"
    of_directory = "JOIN directory ON directory.id = path.directory"
    if words:
        rows = index.rows(
            f"SELECT {path} FROM trigram CROSS JOIN path ON path.id = trigram.rowid CROSS {of_directory}"
            " WHERE trigram MATCH ? ORDER BY trigram.rowid",
            words,
        )
    else:
        has_it = "instr(directory.path || path.name, ?) > 0"
        rows = index.rows(f"SELECT {path} FROM path {of_directory} WHERE {has_it} ORDER BY path.id", pattern.longest)
    yield from ((row[0], row[1]) for row in rows)


def _words(index: MemberIndex, pattern: Pattern) -> str | None:
    """Return what to ask of the index of three characters; None: there is no such path; empty: all paths may be.

    A text of one or two characters is looked up as any of the three in a row that occur, and begin with it. Of too many
    of these there are so many paths that the first ones are soon found among all.
    """
    wanted = [_quoted(gram) for gram in pattern.grams]
    for text in () if wanted else pattern.short:
        grams = _beginning_with(index, text)
        if not grams:
            return None
        if len(grams) <= MOST_GRAMS:
            wanted.append(f"({' OR '.join(map(_quoted, grams))})")
    return " AND ".join(wanted)


def _beginning_with(index: MemberIndex, text: str) -> list[str]:
    """Return which three characters in a row occur that begin with one or two: at most one more than MOST_GRAMS."""
    found: list[str] = []
    after, end = text, text + _LAST
    while len(found) <= MOST_GRAMS:
        sql = "SELECT term FROM gram WHERE term >= ? AND term < ? LIMIT 1"
        (gram,) = next(index.rows(sql, after, end), ("",))
        if not gram:
            break
        found.append(gram)
        after = gram + "\0"
    return found


def _quoted(gram: str) -> str:
    return '"' + gram.replace('"', '""') + '"'
