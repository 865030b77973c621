"""Pools: on which medium each one is, which media it may take, and the streams that were written through it."""

import json
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase

from vtlfs.disks.headers import PartOf
from vtlfs.engine.tracking.repositories.media import Media
from vtlfs.engine.tracking.rows import MEDIUM, TAPE_FILE, Row, contradiction, medium_of, number_of, tape_file_of
from vtlfs.engine.tracking.statements import Repository, Statements
from vtlfs.errors import NoSuchMedium
from vtlfs.failpoints import reached
from vtlfs.model import Medium, RetainMode, Retention, Stream, TapeFile, retention_of

_OF_VOLUME = "FROM volume WHERE volume.medium = barcode AND number = medium.volume"
_CANDIDATE = (
    f"{MEDIUM}, (SELECT retain_mode {_OF_VOLUME}), (SELECT retain_until {_OF_VOLUME}), (SELECT begun {_OF_VOLUME}),"
    " EXISTS (SELECT 1 FROM hold WHERE hold.medium = barcode),"
    " EXISTS (SELECT 1 FROM session WHERE session.state = 'open' AND session.medium = barcode AND access = 'write'),"
    " (SELECT ordinal FROM tape_file WHERE tape_file.medium = barcode AND tape_file.volume = medium.volume"
    " ORDER BY number DESC LIMIT 1)"
)
_MORE = 6  # columns of _CANDIDATE behind those of the medium
# A stream is a file of its pool when it has ended and left something, all of which is on current volumes.
_IS_FILE = (
    "NOT EXISTS (SELECT 1 FROM part AS other JOIN session ON session.id = other.session"
    " JOIN medium ON barcode = session.medium WHERE other.stream = part.stream AND (session.state = 'open'"
    " OR (session.tape_file IS NOT NULL AND (session.volume <> medium.volume OR medium.state = 'removed'))))"
    " AND EXISTS (SELECT 1 FROM part AS other JOIN session ON session.id = other.session"
    " WHERE other.stream = part.stream AND session.tape_file IS NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class Pool:
    """Where a pool is. `medium`: None while it is on none yet. `is_full`: a stream did not fit there."""

    name: str
    medium: str | None
    is_full: bool
    changed_at: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A medium that a pool may take, with what the choice depends on.

    `begun`: the epoch in which its current volume began; `last`: ordinal of that volume's last tape file.
    """

    medium: Medium
    retention: Retention | None
    is_held: bool
    is_written_to: bool
    begun: int
    last: int | None

    @property
    def barcode(self) -> str:
        """The medium's barcode."""
        return self.medium.barcode


@dataclass(frozen=True, slots=True)
class Part:
    """That a session is a part of a pool's stream: at `place`, from 0. `stream`: identifier of its first session."""

    session: int
    pool: str
    stream: int
    place: int


class Pools(Repository):
    """The rows of the tables `pool` and `part`."""

    def __init__(self, sql: Statements, media: Media) -> None:
        super().__init__(sql)
        self._media = media

    # --- where a pool is --------------------------------------------------------------------------------------------

    def get(self, name: str) -> Pool:
        """Return where a pool is; a pool that was never used is on no medium."""
        row = self._sql.first("SELECT name, medium, is_full, changed_at FROM pool WHERE name = ?", name)
        return Pool(name, None, False, "") if row is None else Pool(row[0], row[1], bool(row[2]), row[3])

    def medium(self, name: str) -> Medium | None:
        """Return the medium on which a pool is; None where it is on none, or that was removed."""
        barcode = self.get(name).medium
        with suppress(NoSuchMedium):
            return None if barcode is None else self._media.get(barcode)
        return None

    def move(self, name: str, barcode: str, at: str) -> None:
        """Put a pool on another medium, or on one that has begun anew."""
        self._sql.execute(
            "INSERT INTO pool (name, medium, changed_at) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET"
            " medium = ?2, is_full = 0, changed_at = ?3",
            *(name, barcode, at),
        )
        reached("tracking.pool_moved")

    def note_full(self, name: str, barcode: str) -> None:
        """Record that a stream did not fit on the medium of a pool. Nothing is done where it has gone on since."""
        self._sql.execute("UPDATE pool SET is_full = 1 WHERE name = ? AND medium = ? AND NOT is_full", name, barcode)
        reached("tracking.pool_full")

    def candidates(self, pattern: str) -> list[Candidate]:
        """Return the media that match a pattern and were not removed, in the order in which they were added."""
        prefix = pattern[: re.search(r"[*?[]|$", pattern).start()]  # type: ignore[union-attr]  # $ always matches
        rows = self._sql.execute(
            f"SELECT {_CANDIDATE} FROM medium WHERE medium.state <> 'removed' AND barcode >= ?1"
            " AND barcode < ?1 || char(0x10ffff) ORDER BY id",
            prefix,
        )
        return [_candidate(row) for row in rows if fnmatchcase(row[1], pattern)]

    # --- streams ----------------------------------------------------------------------------------------------------

    def add_part(self, part: Part) -> None:
        """Record that a session, which is recorded in the same transaction, is a part of a pool's stream."""
        self._sql.execute(
            "INSERT INTO part (session, pool, stream, place) VALUES (?, ?, ?, ?)",
            *(part.session, part.pool, part.stream, part.place),
        )
        reached("tracking.part_added")

    def part(self, session: int) -> Part | None:
        """Return of which stream a session is a part; None where it was not opened through a pool."""
        row = self._sql.first("SELECT session, pool, stream, place FROM part WHERE session = ?", session)
        return None if row is None else Part(*row)

    def parts(self, stream: int) -> list[Part]:
        """Return the parts of a stream, in order."""
        rows = self._sql.execute(
            "SELECT session, pool, stream, place FROM part WHERE stream = ? ORDER BY place", stream
        )
        return [Part(*row) for row in rows]

    def parts_of(self, sessions: Collection[int]) -> dict[int, PartOf]:
        """Return what mended headers of some sessions are to say of the streams whose parts they are, by session."""
        rows = self._sql.execute(
            "SELECT part.session, pool, stream, place, (SELECT coalesce(sum(bytes), 0) FROM part AS other JOIN"
            " tape_file ON tape_file.session = other.session WHERE other.stream = part.stream AND other.place <"
            " part.place) FROM part WHERE part.session IN (SELECT value FROM json_each(?))",
            json.dumps(sorted(sessions)),
        )
        return {session: PartOf(*said) for session, *said in rows}

    def gone_on(self, sessions: Collection[int]) -> set[int]:
        """Return which of some sessions are parts of streams of which a later part has left a tape file, too."""
        rows = self._sql.execute(
            "SELECT session FROM part WHERE session IN (SELECT value FROM json_each(?)) AND EXISTS (SELECT 1 FROM part"
            " AS other JOIN session ON session.id = other.session WHERE other.stream = part.stream AND other.place >"
            " part.place AND session.tape_file IS NOT NULL)",
            json.dumps(sorted(sessions)),
        )
        return {row[0] for row in rows}

    def media_being_written(self, name: str, stream: int | None = None) -> list[str]:
        """Return the barcodes of the media to which streams of a pool are being written, or one stream is."""
        rows = self._sql.execute(
            "SELECT DISTINCT session.medium FROM session JOIN part ON part.session = session.id"
            " WHERE session.state = 'open' AND part.pool = ?1 AND (?2 IS NULL OR part.stream = ?2)",
            *(name, stream),
        )
        return [row[0] for row in rows]

    def file(self, name: str, stream: int) -> Stream | None:
        """Return a stream of a pool as it is read back; None where there is none, or not all of it is there."""
        found = self._files(
            self._sql.execute(
                f"SELECT stream FROM part WHERE pool = ? AND stream = ? AND place = 0 AND {_IS_FILE}", name, stream
            )
        )
        return found[0] if found else None

    def files(self, name: str, after: int, limit: int) -> list[Stream]:
        """Return the streams of a pool that are read back, in the order of their identifiers: the next after `after`.

        These are the ones that have ended and left something, if all of it is on current volumes of media.
        """
        return self._files(
            self._sql.execute(
                f"SELECT stream FROM part WHERE pool = ? AND stream > ? AND place = 0 AND {_IS_FILE}"
                " ORDER BY stream LIMIT ?",
                *(name, after, limit),
            )
        )

    def _files(self, streams: Iterable[tuple[int]]) -> list[Stream]:
        wanted = json.dumps([stream for (stream,) in streams])
        places = self._sql.execute(
            "SELECT part.session, stream FROM part WHERE stream IN (SELECT value FROM json_each(?))"
            " ORDER BY stream, place",
            wanted,
        ).fetchall()
        rows = self._sql.execute(
            f"SELECT {TAPE_FILE} WHERE tape_file.session IN (SELECT part.session FROM part WHERE stream IN"
            " (SELECT value FROM json_each(?)))",
            wanted,
        )
        files = {file.session: file for file in map(tape_file_of, rows)}
        streams_of: dict[int, list[TapeFile]] = {}
        for session, stream in places:
            if session in files:
                streams_of.setdefault(stream, []).append(files[session])
        return [Stream(stream, tuple(parts)) for stream, parts in streams_of.items()]


def _candidate(row: Row) -> Candidate:
    medium = medium_of(row[:-_MORE])
    mode, until, begun, is_held, is_written_to, last = row[-_MORE:]
    try:
        retention = retention_of(None if mode is None else RetainMode(mode), until, medium.bytes)
    except ValueError:
        raise contradiction(f"medium {medium.barcode} and its volume") from None
    return Candidate(medium, retention, bool(is_held), bool(is_written_to), number_of(begun, "volume"), last)
