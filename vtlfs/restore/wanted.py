"""Which archive members the words of `vtlfs restore` mean, and in which tape file each is looked for.

A word is the path of a file or of a directory, with or without a slash or `./` before it, or a pattern. Of all tape
files that a state of the library shows, the one that was released last counts: an erased medium's are seen in snapshots
only. All that lies in a directory comes from one tape file, so that files deleted between two backups stay deleted.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby

from vtlfs.engine.tracking.database import Tracking
from vtlfs.errors import NoSuchMedium, NoSuchSession, NoSuchTapeFile, UsageError, VtlfsError
from vtlfs.members.database import MemberIndex
from vtlfs.members.finding import Query, find
from vtlfs.members.pattern import WILDCARDS, compile_pattern
from vtlfs.members.stream import find_stream, first_session
from vtlfs.members.values import ArchiveMember, Kind, StreamState
from vtlfs.model import Stream

MOST_QUERIES = 32  # of the index for one stream: where more paths are wanted, all its members are looked through
MAX_HOPS = 16  # from a hard link to the next
Bare = tuple[str, ...]


class NoSuchMember(VtlfsError):
    """No tape file that is looked at has such an archive member."""

    def __init__(self, word: str, advice: str) -> None:
        super().__init__(f"no archive member {word!r} {advice}")


@dataclass(frozen=True, slots=True)
class Where:
    """The medium, or the tape file, that the members are to come from."""

    medium: str
    number: int | None = None

    def __str__(self) -> str:
        return self.medium if self.number is None else f"{self.medium}/{self.number:04d}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The members of one stream that are wanted: those with the paths `roots`, and all that lie in them.

    `only`: the identifier of the one that is, whatever others have its path; None: all.
    """

    stream: Stream
    roots: frozenset[str]
    only: int | None = None

    def covers(self, member: ArchiveMember) -> bool:
        """Tell whether the member is wanted."""
        if self.only is not None:
            return member.id == self.only
        path = member.path
        while path and path not in self.roots:
            path = path.rpartition("/")[0] or path[: path.startswith("/") and len(path) > 1]
        return path in self.roots

    def members(self, index: MemberIndex) -> Iterator[ArchiveMember]:
        """Yield the members in the order of the archive, also those of the same path."""
        session = self.stream.session
        if self.only is not None:
            member = index.member(self.only)
            return iter(() if member is None or member.session != session else (member,))
        if len(self.roots) > MOST_QUERIES:
            return filter(self.covers, index.members(session))
        found = merge(*(index.below(session, root) for root in self.roots), key=lambda member: member.id)
        return (next(same) for _, same in groupby(found, key=lambda member: member.id))


def choose(words: Sequence[str], where: Where | None, tracking: Tracking, index: MemberIndex) -> list[Choice]:
    """Return what is to be restored, by stream. `tracking`: the state of the library that counts.

    Raises NoSuchMember, NoSuchMedium, NoSuchTapeFile, UsageError, IndexDamaged.
    """
    chooser = _Chooser(tracking, index, where)
    roots: dict[int, dict[str, None]] = {}
    for word in words:
        for session, paths in chooser.find(word):
            roots.setdefault(session, {}).update(dict.fromkeys(paths))
    return [Choice(chooser.streams[session], frozenset(paths)) for session, paths in roots.items()]


class _Chooser:
    def __init__(self, tracking: Tracking, index: MemberIndex, where: Where | None) -> None:
        self._tracking = tracking
        self._index = index
        self._where = where
        self._among = None if where is None else _sessions(tracking, where)
        self.streams: dict[int, Stream] = {}

    def find(self, word: str) -> list[tuple[int, list[str]]]:
        """Return the streams from which a word's members are to come, and their paths there."""
        bare = bare_path(word)
        if not bare:
            if self._where is None:
                raise UsageError(f"{word!r} is all there is; say of which tape file: --from MEDIUM/FILE")
            return [(self._newest(self._among or [], word), [""])]
        spellings = _spellings(word, bare)
        holders = {path: self._index.holders(path) for path in spellings}
        sessions = {session for found in holders.values() for session in found}
        if not sessions and WILDCARDS.search(word):
            return self._matching(word)
        newest = self._newest(sessions, word)
        return [(newest, [path for path, found in holders.items() if newest in found])]

    def _matching(self, word: str) -> list[tuple[int, list[str]]]:
        """Return the newest streams of all paths that a pattern matches; what lies in a match comes with it."""
        found: dict[Bare, dict[int, dict[str, None]]] = {}
        for hit in find(self._index, self._tracking, Query(compile_pattern(word), is_past=True)):
            if bare := bare_path(hit.member.path):
                found.setdefault(bare, {}).setdefault(hit.member.session, {})[hit.member.path] = None
        chosen = [
            (session, list(paths[session]))
            for paths in found.values()
            if (session := self._newest_visible(paths)) is not None
        ]
        if not chosen:
            raise self._none(word)
        return chosen

    def _newest(self, sessions: Iterable[int], word: str) -> int:
        found = self._newest_visible(sessions)
        if found is None:
            raise self._none(word)
        return found

    def _newest_visible(self, sessions: Iterable[int]) -> int | None:
        among = [session for session in set(sessions) if self._among is None or session in self._among]
        for session in self._tracking.tape_files.newest_first(among):
            if session in self.streams or self._is_visible(session):
                return session
        return None

    def _is_visible(self, session: int) -> bool:
        """Tell whether the state shows the whole stream; then it is in `streams`."""
        try:
            stream = find_stream(self._tracking, session)
            shown = [self._tracking.media.get(part.medium) for part in stream.parts]
        except (NoSuchSession, NoSuchMedium):
            return False
        if any(medium.volume != part.volume for medium, part in zip(shown, stream.parts, strict=True)):
            return False
        indexed = self._index.stream(session)
        if indexed is not None and stream.bytes < indexed.bytes:  # of a stream through a pool, a part is not shown
            return False
        self.streams[session] = stream
        return True

    def _none(self, word: str) -> VtlfsError:
        where = "" if self._where is None else f" on {self._where}"
        if self._where is not None and self._where.number is not None:
            for session in self._among or []:
                indexed = self._index.stream(session)
                if indexed is None or indexed.state is StreamState.PENDING:
                    return NoSuchMember(word, f"is known{where}, which is not indexed yet; run `vtlfs index` first")
                if indexed.state is StreamState.UNKNOWN:
                    return NoSuchMember(word, f"is known{where}: {indexed.note}; `vtlfs extract` gets all of it")
        advice = "; `vtlfs find` searches all times: --snapshot restores what is gone by now"
        return NoSuchMember(word, f"is known{where}{advice}")


class HardLinks:
    """What the hard links of a stream point to. A tar archive has the data first, a cpio archive last."""

    def __init__(self, index: MemberIndex, session: int) -> None:
        self._index = index
        self._session = session
        self._cpio: dict[str, ArchiveMember] | None = None

    def source(self, member: ArchiveMember) -> ArchiveMember:
        """Return the member that has the data of a member: another one for hard links. Raises NoSuchMember."""
        if member.format == "cpio" and not member.size and member.kind in (Kind.FILE, Kind.HARD_LINK):
            return self._with_data(member.link or member.path) or (
                member if member.kind is Kind.FILE else self._before(member)
            )
        for _ in range(MAX_HOPS):
            if member.kind is not Kind.HARD_LINK:
                return member
            if member.size:  # it has the data as well
                before = self._last_before(member)
                return member if before is None or not before.size else before
            member = self._before(member)
        raise NoSuchMember(member.path, "has data: it is a hard link to a hard link, and so on")

    def _before(self, member: ArchiveMember) -> ArchiveMember:
        found = self._last_before(member)
        if found is None:
            raise NoSuchMember(member.link or "", "comes before the hard link to it in the archive")
        return found

    def _last_before(self, member: ArchiveMember) -> ArchiveMember | None:
        found = [one for one in self._index.named(self._session, member.link or "") if one.id < member.id]
        return found[-1] if found else None

    def _with_data(self, path: str) -> ArchiveMember | None:
        if self._cpio is None:
            members = self._index.members(self._session)
            self._cpio = {one.link or "": one for one in members if one.kind is Kind.HARD_LINK and one.size}
        return self._cpio.get(path)


def bare_path(path: str) -> Bare:
    """Return a path's names, without slashes and dots: what two spellings of it have in common."""
    return tuple(name for name in path.split("/") if name not in ("", "."))


def _spellings(word: str, bare: Bare) -> list[str]:
    """Return how an archive may write a path."""
    joined = "/".join(bare)
    return list(dict.fromkeys((joined, f"./{joined}", f"/{joined}", word.rstrip("/"))))


def _lies_in(path: str, root: str) -> bool:
    return not root or path == root or path.startswith(root if root.endswith("/") else root + "/")


def _sessions(tracking: Tracking, where: Where) -> list[int]:
    """Return the streams of a medium, or of one of its tape files."""
    if where.number is not None:
        return [first_session(tracking, tracking.tape_files.get(where.medium, where.number).session)]
    found = [first_session(tracking, file.session) for file in tracking.tape_files.of(where.medium)]
    if not found:
        raise NoSuchTapeFile(where.medium, 0)
    return found
