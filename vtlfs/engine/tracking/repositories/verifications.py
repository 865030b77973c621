"""Verifications: how far each run of `vtlfs verify` has come, and which tape files a run goes through."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vtlfs.engine.tracking.repositories.incidents import Incidents
from vtlfs.engine.tracking.rows import SESSION, left_by, number_of, session_of
from vtlfs.engine.tracking.statements import Repository, Statements
from vtlfs.errors import TrackingError, UsageError
from vtlfs.failpoints import reached
from vtlfs.model import Session, TapeFile, check_barcode

_COLUMNS = (
    "id, started_at, ended_at, media, last, moves, progress, unfinished, bytes, damaged, unreadable, metadata,"
    " replaceable, mended"
)
_SESSION = ", ".join(f"session.{column}" for column in SESSION.split(", "))

_ADVICE = "vtlfs status tells what is damaged; vtlfs disk repair mends it"

Position = tuple[int, int]  # session, and turn among its extents on the disk


@dataclass(frozen=True, slots=True)
class Scope:
    """Which tape files are verified: those with ordinals up to `last`, of some `media`; None: of all.

    `moves`: how often extents of the library had moved at the beginning.
    """

    last: int
    media: tuple[str, ...] | None
    moves: int = 0


@dataclass(frozen=True, slots=True)
class VerificationRow:
    """One verification as the database keeps it.

    `progress`: by disk, the last extent that was verified of it. `unfinished`: headers, by disk and session, that are
    to be looked at again. `damaged`, `unreadable` and `metadata` count defects by their severity; `replaceable` those
    of them that cost nothing yet; `mended` those that are whole again.
    """

    id: int
    started_at: str
    ended_at: str | None
    scope: Scope
    progress: dict[int, Position]
    unfinished: list[tuple[int, int]]
    bytes: int
    damaged: int
    unreadable: int
    metadata: int
    replaceable: int
    mended: int


@dataclass(frozen=True, slots=True)
class Hurt:
    """A tape file of which bytes are lost, unless a disk is mended or comes back."""

    medium: str
    tape_file: int
    session: int
    bytes: int
    of_bytes: int

    def __str__(self) -> str:
        return (
            f"medium {self.medium}, tape file {self.tape_file:04d} (session {self.session}): {self.bytes} of"
            f" {self.of_bytes} bytes are lost"
        )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A stream that was not verified: it is open, or became a tape file after the verification had begun."""

    session: int
    medium: str
    tape_file: int | None  # None: the session is open

    def __str__(self) -> str:
        what = "open" if self.tape_file is None else f"tape file {self.tape_file:04d}"
        return f"session {self.session} on {self.medium} ({what})"


class Verifications(Repository):
    """The rows of the table `verification`, and the tape files, sessions and media that a verification goes through."""

    def __init__(self, sql: Statements, incidents: Incidents) -> None:
        super().__init__(sql)
        self._incidents = incidents

    def scope(self, media: Iterable[str]) -> Scope:
        """Return the scope of a verification of some media that begins now; of all media if none is named."""
        # The rows are asked, and not the library's counter: a wrong counter must not leave a tape file out.
        last = number_of(self._sql.one("SELECT coalesce(max(ordinal), 0) FROM tape_file")[0], "ordinal")
        moves = number_of(self._sql.one("SELECT moves FROM library")[0], "library")
        return Scope(last, tuple(sorted(set(media))) or None, moves)

    def add(self, at: str, scope: Scope) -> int:
        """Record that a verification begins. Return its number."""
        cursor = self._sql.execute(
            "INSERT INTO verification (started_at, media, last, moves) VALUES (?, ?, ?, ?)",
            *(at, scope.media and json.dumps(scope.media), scope.last, scope.moves),
        )
        reached("tracking.verification_begun")
        return int(cursor.lastrowid or 0)

    def save(self, row: VerificationRow, at: str) -> None:
        """Record how far a verification has come; its first finding, and all findings at its end, are incidents."""
        found = row.damaged + row.unreadable + row.metadata
        known = self._sql.first("SELECT damaged + unreadable + metadata FROM verification WHERE id = ?", row.id)
        if found > row.mended and (row.ended_at is not None or known == (0,)):
            what = f"verification {row.id} has found {found:,} defects{'' if row.ended_at else ', so far'}"
            if row.mended:
                what += f", of which {row.mended:,} are mended"
            self._incidents.add("verification found", "verification", what, at, advice=_ADVICE)
        self._sql.execute(
            "UPDATE verification SET ended_at = ?, progress = ?, unfinished = ?, bytes = ?, damaged = ?,"
            " unreadable = ?, metadata = ?, replaceable = ?, mended = ? WHERE id = ?",
            *(row.ended_at, json.dumps(row.progress), json.dumps(row.unfinished)),
            *(row.bytes, row.damaged, row.unreadable, row.metadata, row.replaceable, row.mended, row.id),
        )
        reached("tracking.verification_saved")

    def add_hurt(self, verification: int, hurt: Mapping[int, int]) -> None:
        """Record that tape files have lost more bytes, by their sessions."""
        self._sql.execute_many(
            "INSERT INTO hurt SELECT ?1, id, ?3 FROM session WHERE id = ?2 AND NOT reclaimed"
            " ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes",
            [(verification, session, size) for session, size in hurt.items()],
        )

    def hurt(self, verification: int) -> Iterator[Hurt]:
        """Return the tape files that have lost bytes, by medium and number. They are read as they are asked for."""
        rows = self._sql.execute(
            "SELECT tape_file.medium, number, tape_file.session, hurt.bytes, tape_file.bytes FROM hurt"
            " JOIN tape_file USING (session) WHERE verification = ? ORDER BY tape_file.medium, number",
            verification,
        )
        return (Hurt(*row) for row in rows)

    def last(self) -> VerificationRow | None:
        """Return the verification that was begun last."""
        row = self._sql.first(f"SELECT {_COLUMNS} FROM verification ORDER BY id DESC LIMIT 1")
        return None if row is None else _verification(row)

    def last_begun_of_all(self) -> VerificationRow | None:
        """Return the verification of all media that was begun last."""
        row = self._sql.first(f"SELECT {_COLUMNS} FROM verification WHERE media IS NULL ORDER BY id DESC LIMIT 1")
        return None if row is None else _verification(row)

    def last_of_all(self) -> VerificationRow | None:
        """Return the last completed verification of all media."""
        row = self._sql.first(
            f"SELECT {_COLUMNS} FROM verification WHERE media IS NULL AND ended_at IS NOT NULL ORDER BY id DESC LIMIT 1"
        )
        return None if row is None else _verification(row)

    # --- the rows of a scope ------------------------------------------------------------------------------------------

    def extent(self, scope: Scope) -> tuple[int, int, int]:
        """Return how many media, tape files and bytes a scope has; only media that have tape files are counted."""
        where, values = _wanted(scope)
        row = self._sql.one(
            f"SELECT count(DISTINCT medium), count(*), coalesce(sum(bytes), 0) FROM tape_file WHERE {where}", *values
        )
        return row[0], row[1], row[2]

    def tape_files(self, scope: Scope, session: int, at_once: int) -> Iterator[tuple[TapeFile, Session]]:
        """Yield the tape files of a scope by session, from `session` on. `at_once`: rows that are fetched together."""
        where, values = _wanted(scope)
        while True:
            rows = self._sql.execute(
                f"SELECT start, retain_mode, retain_until, {_SESSION}"
                " FROM tape_file CROSS JOIN session ON session.id = tape_file.session"
                f" WHERE tape_file.session >= ? AND {where} ORDER BY tape_file.session LIMIT ?",
                *(session, *values, at_once),
            ).fetchall()
            for start, mode, until, *columns in rows:
                found = session_of(tuple(columns))
                yield left_by(found, start, mode, until), found
                session = found.id + 1
            if len(rows) < at_once:
                return

    def unlisted(self, scope: Scope) -> list[tuple[str, int, int]]:
        """Return each medium whose length is not that of its tape files: barcode, length, length of the tape files."""
        among, values = _among(scope, "barcode")
        return self._sql.execute(
            "SELECT barcode, medium.bytes, coalesce(listed, 0) FROM medium LEFT JOIN (SELECT medium, volume AS number,"
            " sum(bytes) AS listed FROM tape_file GROUP BY medium, volume) AS files"
            " ON files.medium = barcode AND number = medium.volume"
            f" WHERE medium.bytes <> coalesce(listed, 0) AND {among} ORDER BY barcode",
            *values,
        ).fetchall()

    def left_out(self, scope: Scope, limit: int) -> tuple[int, list[LeftOut]]:
        """Return how many streams a scope leaves out, as they are open or released later; and the first `limit`."""
        among, values = _among(scope, "medium")
        rows = self._sql.execute(
            "SELECT count(*) OVER (), session, medium, tape_file FROM"
            " (SELECT id AS session, medium, NULL AS tape_file FROM session WHERE state = 'open' AND access = 'write'"
            f" AND {among} UNION ALL SELECT session, medium, number FROM tape_file WHERE ordinal > ? AND {among})"
            " ORDER BY session LIMIT ?",
            *(*values, scope.last, *values, limit),
        ).fetchall()
        return (rows[0][0] if rows else 0), [LeftOut(*row[1:]) for row in rows]


def _wanted(scope: Scope) -> tuple[str, list[object]]:
    """Return the condition on `tape_file`, and its values. The `+` makes SQLite read in the order of the sessions."""
    among, values = _among(scope, "tape_file.medium")
    there = "NOT EXISTS (SELECT 1 FROM session AS one WHERE one.id = tape_file.session AND one.reclaimed)"
    return f"+tape_file.ordinal <= ? AND {there} AND {among}", [scope.last, *values]


def _among(scope: Scope, column: str) -> tuple[str, list[object]]:
    """Return the condition that a barcode is in the scope, and its values."""
    if scope.media is None:
        return "1", []
    return f"+{column} IN (SELECT value FROM json_each(?))", [json.dumps(scope.media)]


def _verification(row: Sequence[object]) -> VerificationRow:
    number, started_at, ended_at, media, last, moves, progress, unfinished, *sums = row
    try:
        which = int(str(number))
        barcodes = None if media is None else tuple(check_barcode(str(one)) for one in json.loads(str(media)))
        positions = {int(disk): (int(place[0]), int(place[1])) for disk, place in json.loads(str(progress)).items()}
        headers = [(int(disk), int(session)) for disk, session in json.loads(str(unfinished))]
        size, damaged, unreadable, metadata, replaceable, mended = (int(str(one)) for one in sums)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, UsageError):
        raise TrackingError(f"the row of verification {number} is damaged; leave --resume out to begin one") from None
    return VerificationRow(
        which,
        str(started_at),
        None if ended_at is None else str(ended_at),
        Scope(number_of(last, "ordinal"), barcodes, number_of(moves, "verification")),
        positions,
        headers,
        *(size, damaged, unreadable, metadata, replaceable, mended),
    )
