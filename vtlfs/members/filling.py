"""Filling the member index, and forgetting what is in it. One process at a time does so, with the lease `index`.

Members come in batches, each of which is one transaction. A stream whose indexing was interrupted is pending, and has
what came so far: indexing goes on behind that, or begins anew and forgets it. Blocks: a mount calls it in a thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vtlfs.members.database import MemberIndex, parent, raw_bytes, split
from vtlfs.members.pattern import ENDS
from vtlfs.members.values import NO_COMPRESSION, Kind, StreamState

MAX_DEPTH = 64  # directories above a member that are listed one in the other; those further down are one
MAX_KNOWN = 200_000  # directories whose identifiers are remembered
FORGET_ROWS = 20_000  # members that are forgotten in one transaction

_SEARCHED = f"'/' || directory.path || name || '{ENDS}'"
_INCOMING = (
    "CREATE TEMP TABLE IF NOT EXISTS incoming (place INTEGER PRIMARY KEY, directory INTEGER, name TEXT, kind TEXT,"
    " size INTEGER, mtime INTEGER, link TEXT, start INTEGER, length INTEGER)"
)


@dataclass(frozen=True, slots=True)
class FoundMember:
    """What was read of a member; as in ArchiveMember, with `end` in the place of its length."""

    path: str
    kind: Kind
    size: int
    mtime: int | None
    link: str | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FoundArchive:
    """What was read of an archive: as in ArchiveMember."""

    start: int
    format: str
    compression: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """How far the indexing of a stream came: the header at `start` is the next. `note`: what can't be read before it.

    `archive`: the one in which the header lies, to which members before it belong; None: there is none yet.
    """

    start: int
    members: int
    archive: FoundArchive | None
    note: str | None


def interrupted(index: MemberIndex, session: int) -> Interrupted | None:
    """Return where the indexing of a stream is to go on; None: it begins anew. Raises IndexDamaged.

    The last member is forgotten: its own end may be that of the stream as it was then. These begin anew: what is
    compressed, which is unpacked from its beginning; cpio, whose hard links are told by all that comes before; and
    members behind which those of another stream were added, since a stream's are next to one another.
    """
    row = next(
        index.rows(
            "SELECT stream.first, stream.last, note, archive.start, format, compression, archive.first, member.start"
            " FROM stream JOIN member ON member.id = stream.last JOIN archive ON archive.id ="
            " (SELECT id FROM archive WHERE first <= stream.last ORDER BY first DESC LIMIT 1)"
            " WHERE session = ? AND state = 'pending' AND stream.bytes = 0 AND members > 0 AND archive.stream = session"
            " AND stream.last = (SELECT max(id) FROM member) AND format = 'tar' AND compression = ?",
            *(session, NO_COMPRESSION),
        ),
        None,
    )
    if row is None:
        return None
    first, last, note, archive_start, form, compression, archive_first, start = row
    with index.transaction():
        _forget_members(index, session, last, last)
        if archive_first == last:
            index.run("DELETE FROM archive WHERE first = ?", last)
    archive = None if archive_first == last else FoundArchive(archive_start, form, compression)
    return Interrupted(start, last - first, archive, note)


class StreamFiller:
    """The rows of one stream, as it is being indexed. `text`: bytes of names that it has added."""

    def __init__(self, index: MemberIndex, session: int, before: Interrupted | None = None) -> None:
        """Begin it, or go on as `interrupted` says. Where it begins, what the index had of it must be forgotten."""
        self.text = 0
        self.members = 0 if before is None else before.members
        self._before = before
        self._index = index
        self._session = session
        self._known: dict[str, int] = {}
        self._archive: FoundArchive | None = None
        self._has_archive = True
        with index.transaction():
            index.run(_INCOMING)
            self._next = int(next(index.rows("SELECT coalesce(max(id), 0) + 1 FROM member"))[0])
            index.run("INSERT OR IGNORE INTO stream (session, bytes, state) VALUES (?, 0, 'pending')", session)

    def begin_archive(self, archive: FoundArchive) -> None:
        """Have the members that follow belong to another archive. One without members leaves nothing."""
        if self._before is not None and self._before.archive is not None and archive.start == self._before.start:
            return  # the rest of the one that was interrupted
        self._archive, self._has_archive = archive, False

    def add(self, members: Sequence[FoundMember]) -> None:
        """Add members, in the order of the archive, in one transaction. Raises IndexDamaged."""
        if not members:
            return
        index = self._index
        with index.transaction():
            rows = [self._row(place, member) for place, member in enumerate(members)]
            if not self._has_archive and (archive := self._archive) is not None:
                index.run(
                    "INSERT INTO archive (stream, start, format, compression, first) VALUES (?, ?, ?, ?, ?)",
                    *(self._session, archive.start, archive.format, archive.compression, self._next),
                )
            index.run("DELETE FROM temp.incoming")
            index.run_many(
                "INSERT INTO temp.incoming VALUES (?, ?, CAST(? AS TEXT), ?, ?, ?, CAST(? AS TEXT), ?, ?)", rows
            )
            (last_path,) = next(index.rows("SELECT coalesce(max(id), 0) FROM path"))
            index.run(
                "INSERT OR IGNORE INTO path (directory, name) SELECT directory, name FROM temp.incoming ORDER BY place"
            )
            index.run(
                f"INSERT INTO trigram (rowid, path) SELECT path.id, {_SEARCHED} FROM path"
                " JOIN directory ON directory.id = path.directory WHERE path.id > ? ORDER BY path.id",
                last_path,
            )
            index.run(
                "INSERT INTO member SELECT place + ?, path.id, kind, size, mtime, start, length, link"
                " FROM temp.incoming JOIN path USING (directory, name) ORDER BY place",
                self._next,
            )
            index.run(
                "UPDATE stream SET first = iif(members = 0, ?1, first), last = ?1 + ?2 - 1, members = members + ?2"
                " WHERE session = ?3",
                *(self._next, len(members), self._session),
            )
        self._has_archive = True
        self._next += len(members)
        self.members += len(members)

    def note(self, text: str) -> None:
        """Record what of the stream can't be read, so that it is known as well when the indexing was interrupted."""
        self._index.run("UPDATE stream SET note = ? WHERE session = ?", text, self._session)

    def end(self, state: StreamState, size: int, note: str | None) -> None:
        """Record that the stream, of `size` bytes, is indexed, or why it is not."""
        with self._index.transaction():
            self._index.run(
                "UPDATE stream SET state = ?, bytes = ?, note = ? WHERE session = ?",
                str(state),
                size,
                note,
                self._session,
            )

    def _row(self, place: int, member: FoundMember) -> tuple[object, ...]:
        directory, name = split(member.path)
        link = None if member.link is None else raw_bytes(member.link)
        raw = raw_bytes(name)
        self.text += len(raw) + len(link or b"")
        length = member.end - member.start
        return (
            *(place, self._directory(directory), raw, str(member.kind), member.size, member.mtime, link),
            *(member.start, length),
        )

    def _directory(self, path: str) -> int:
        """Return the identifier of a directory, which is recorded with those above it as one of the stream."""
        if (known := self._known.get(path)) is not None:
            return known
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        above = None if not path else _outer(path)
        raw, inside = raw_bytes(path), None if above is None else self._directory(above)
        self.text += len(raw)
        self._index.run("INSERT OR IGNORE INTO directory (parent, path) VALUES (?, CAST(? AS TEXT))", inside, raw)
        (number,) = next(self._index.rows("SELECT id FROM directory WHERE path = CAST(? AS TEXT)", raw))
        self._index.run("INSERT OR IGNORE INTO occurrence VALUES (?, ?)", self._session, number)
        self._known[path] = number
        return int(number)


def add_pending(index: MemberIndex, streams: Mapping[int, bool], ordinal: int, last: int) -> None:
    """Note streams that are to be indexed, of tape files up to an ordinal, whose session is `last`.

    `streams`: those that have become longer are to be indexed again, even if they were before. Raises IndexDamaged.
    """
    with index.transaction():
        for becomes_longer, then in ((False, "NOTHING"), (True, "UPDATE SET state = 'pending'")):
            index.run_many(
                f"INSERT INTO stream (session, bytes, state) VALUES (?, 0, 'pending') ON CONFLICT DO {then}",
                [(session,) for session, is_longer in streams.items() if is_longer is becomes_longer],
            )
        index.run("UPDATE catalogue SET ordinal = ?, session = ?", ordinal, last)


def forget_some(index: MemberIndex, session: int, *, stays_pending: bool = False) -> bool:
    """Forget a part of a stream, with the paths that no other stream has; tell whether more is left.

    `stays_pending`: only its members are forgotten. Raises IndexDamaged.
    """
    row = next(index.rows("SELECT first, last FROM stream WHERE session = ?", session), None)
    if row is None:
        return False
    with index.transaction():
        index.run("UPDATE stream SET state = 'pending', bytes = 0, note = NULL WHERE session = ?", session)
        index.run("DELETE FROM archive WHERE stream = ?", session)  # a member without an archive is not found
        if row[1] >= row[0]:
            _forget_members(index, session, max(row[0], row[1] - FORGET_ROWS + 1), row[1])
            return True
        index.run(
            "DELETE FROM directory WHERE id > 0 AND id IN (SELECT directory FROM occurrence WHERE stream = ?1)"
            " AND NOT EXISTS (SELECT 1 FROM occurrence AS other INDEXED BY occurrence_directory"
            " WHERE other.directory = directory.id AND other.stream <> ?1)",
            session,
        )
        index.run("DELETE FROM occurrence WHERE stream = ?", session)
        if not stays_pending:
            index.run("DELETE FROM stream WHERE session = ?", session)
    return False


def _forget_members(index: MemberIndex, session: int, first: int, last: int) -> None:
    """Forget the last members of a stream, from one on."""
    index.run("CREATE TEMP TABLE IF NOT EXISTS gone (path INTEGER PRIMARY KEY)")
    index.run("DELETE FROM temp.gone")
    index.run("INSERT OR IGNORE INTO temp.gone SELECT path FROM member WHERE id BETWEEN ? AND ?", first, last)
    index.run("DELETE FROM member WHERE id BETWEEN ? AND ?", first, last)
    index.run("DELETE FROM temp.gone WHERE EXISTS (SELECT 1 FROM member WHERE member.path = gone.path)")
    index.run(
        f"INSERT INTO trigram (trigram, rowid, path) SELECT 'delete', path.id, {_SEARCHED} FROM temp.gone"
        " JOIN path ON path.id = gone.path JOIN directory ON directory.id = path.directory"
    )
    index.run("DELETE FROM path WHERE id IN (SELECT path FROM temp.gone)")
    index.run("UPDATE stream SET last = ?1 - 1, members = max(0, ?1 - first) WHERE session = ?2", first, session)


def _outer(path: str) -> str | None:
    """Return the directory above a directory: of those that lie too deep, the last one that does not."""
    depth = path.count("/")
    if depth <= MAX_DEPTH:
        return parent(path)
    end = -1
    for _ in range(MAX_DEPTH):
        end = path.index("/", end + 1)
    return path[: end + 1]
