"""What a rebuild has found on the disks: temporary tables beside those of the database that is being rebuilt.

So memory does not grow with the library. `session` is a table of the database here as everywhere; the temporary tables:

- `present`: which disk has a member file of which session;
- `header`: what the header of a member file says, a JSON object;
- `record`: every record of a stripe unit, those of older generations too;
- `found`: the sessions whose headers can be believed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vtlfs.engine.tracking.rows import UNKNOWN_BLAKE3
from vtlfs.engine.tracking.statements import Repository
from vtlfs.model import StripeUnit

_TABLES = """
    CREATE TEMP TABLE present (session INTEGER, disk INTEGER, PRIMARY KEY (session, disk)) WITHOUT ROWID;
    CREATE TEMP TABLE header (session INTEGER, disk INTEGER, document TEXT, PRIMARY KEY (session, disk)) WITHOUT ROWID;
    CREATE TEMP TABLE record (
        session INTEGER, unit INTEGER, bytes INTEGER, disk INTEGER, slot INTEGER, blake3 BLOB, trusted INTEGER
    );
    CREATE INDEX temp.record_unit ON record (session, unit, bytes);
    CREATE TEMP TABLE found (
        session INTEGER PRIMARY KEY, medium TEXT, opened_at TEXT, drive INTEGER, disks INTEGER, opening TEXT,
        ending TEXT, tape_file INTEGER
    );
    CREATE INDEX temp.found_medium ON found (medium, tape_file, session);
"""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of one member file says; None: it can't be read."""

    session: int
    disk: int
    document: str | None


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A session whose headers can be believed. `opening` and `ending`: documents that tell of these; None: none does.

    `disks`: over how many its stream was dealt.
    """

    session: int
    medium: str
    opened_at: str
    drive: int
    disks: int
    opening: str
    ending: str | None
    tape_file: int | None


@dataclass(frozen=True, slots=True)
class Known:
    """A session that was found, and its state and length in the database; None where that does not know it."""

    session: int
    opening: str
    ending: str | None
    state: str | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stripe unit that a record tells of. `is_trusted`: the database had it, and not only a disk."""

    unit: StripeUnit
    is_trusted: bool


class Scanned(Repository):
    """The temporary tables of one rebuild, on the connection that rebuilds."""

    def make_tables(self) -> None:
        """Make the tables, once before all else."""
        for statement in _TABLES.split(";"):
            self._sql.execute(statement)

    # --- filling the tables -----------------------------------------------------------------------------------------

    def add_members(self, disk: int, sessions: Iterable[int]) -> None:
        """Note of which sessions there are member files on a disk."""
        rows = ((session, disk) for session in sessions)
        self._sql.execute_many("INSERT OR IGNORE INTO present VALUES (?, ?)", rows)

    def add_headers(self, headers: Iterable[Header]) -> None:
        """Keep what headers of member files say."""
        rows = ((one.session, one.disk, one.document) for one in headers)
        self._sql.execute_many("INSERT INTO header VALUES (?, ?, ?)", rows)

    def add_records(self, units: Iterable[StripeUnit]) -> None:
        """Keep what records of stripe units say."""
        rows = ((one.session, one.unit, one.bytes, one.disk, one.slot, one.blake3) for one in units)
        self._sql.execute_many("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, 0)", rows)

    def headers(self) -> Iterator[Header]:
        """Return all headers by session and disk. They are read as they are asked for."""
        rows = self._sql.execute("SELECT session, disk, document FROM header ORDER BY session, disk")
        return (Header(*row) for row in rows)

    def add_sessions(self, sessions: Iterable[FoundSession]) -> None:
        """Keep the sessions whose headers can be believed."""
        self._sql.execute_many(
            "INSERT INTO found VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (one.session, one.medium, one.opened_at, one.drive, one.disks, one.opening, one.ending, one.tape_file)
                for one in sessions
            ),
        )

    def leave_out_member(self, session: int, disk: int) -> None:
        """Forget a session's member file on a disk, all but its header."""
        self._sql.execute("DELETE FROM record WHERE session = ? AND disk = ?", session, disk)
        self._sql.execute("DELETE FROM present WHERE session = ? AND disk = ?", session, disk)

    def leave_out(self, session: int) -> None:
        """Do not believe a session's headers."""
        self._sql.execute("DELETE FROM found WHERE session = ?", session)

    # --- sessions ---------------------------------------------------------------------------------------------------

    def sessions(self) -> Iterator[Known]:
        """Return the sessions by their identifiers. They are read as they are asked for."""
        rows = self._sql.execute(
            "SELECT session, opening, ending, state, bytes FROM found LEFT JOIN main.session ON id = session"
            " ORDER BY session"
        )
        return (Known(*row) for row in rows)

    def strangers(self) -> list[int]:
        """Return the sessions of which the database says something else than their headers do.

        Their times are compared as names are: both were written from the same one, whatever clock it came from.
        """
        rows = self._sql.execute(
            "SELECT session FROM found JOIN main.session ON id = session"
            " WHERE (access, session.medium, session.opened_at) <> ('write', found.medium, found.opened_at)"
        )
        return [row[0] for row in rows]

    def headless(self) -> list[tuple[int, int, str]]:
        """Return session, disk and opening of member files without a header, where another disk has one."""
        return self._sql.execute(
            "SELECT session, disk, opening FROM header JOIN found USING (session) WHERE document IS NULL"
        ).fetchall()

    def most_disks(self) -> int:
        """Return over how many disks the streams were dealt, as far as headers tell; 0 where there are none."""
        return int(self._sql.one("SELECT coalesce(max(disks), 0) FROM found")[0])

    def summary(self) -> tuple[int, int, str | None]:
        """Return how many drives sessions name, how many sessions there are, and when the first was opened."""
        drives, sessions, first = self._sql.one(
            "SELECT coalesce(max(drive), -1) + 1, count(*), (SELECT opened_at FROM found ORDER BY session LIMIT 1)"
            " FROM found"
        )
        return drives, sessions, first

    def media(self) -> list[str]:
        """Return the media of the sessions by their barcodes."""
        return [row[0] for row in self._sql.execute("SELECT DISTINCT medium FROM found ORDER BY medium")]

    def ended_on(self, barcode: str) -> Iterator[tuple[int, str]]:
        """Return session and ending of those that have ended on a medium, and not in the database.

        In the order of their tape files, those without one first. They are read as they are asked for.
        """
        return self._sql.execute(
            "SELECT session, ending FROM found WHERE medium = ? AND ending IS NOT NULL AND session NOT IN"
            " (SELECT id FROM main.session WHERE state <> 'open') ORDER BY tape_file, session",
            barcode,
        )

    def endless_on(self, barcode: str) -> list[tuple[int, int]]:
        """Return session and length of the open streams on a medium whose end no header tells of."""
        return self._sql.execute(
            "SELECT id, bytes FROM main.session WHERE medium = ? AND state = 'open' AND access = 'write' AND bytes > 0"
            " AND id NOT IN (SELECT session FROM found WHERE ending IS NOT NULL) ORDER BY id",
            barcode,
        ).fetchall()

    # --- stripe units -----------------------------------------------------------------------------------------------

    def candidates(self, session: int) -> Iterator[Candidate]:
        """Return what a session's stripe units may be by number, of each the best first.

        They are read as they are asked for.
        """
        rows = self._sql.execute(
            "SELECT session, unit, disk, slot, bytes, blake3, trusted FROM record WHERE session = ?"
            " ORDER BY unit, bytes DESC, trusted DESC, disk, slot",
            session,
        )
        return (Candidate(StripeUnit(*row[:6]), bool(row[6])) for row in rows)

    def take_recorded(self, session: int) -> None:
        """Take a session's stripe units from the database into the records, as ones that are trusted."""
        self._sql.execute("DELETE FROM record WHERE session = ? AND trusted", session)
        self._sql.execute(
            "INSERT INTO record SELECT session, unit, bytes, disk, slot, blake3, 1 FROM main.stripe_unit"
            " WHERE session = ? AND blake3 <> ?",
            *(session, UNKNOWN_BLAKE3),
        )
        self._sql.execute("DELETE FROM main.stripe_unit WHERE session = ?", session)

    def count_units(self, session: int) -> int:
        """Return how many stripe units of a session there are records of."""
        return int(self._sql.one("SELECT count(DISTINCT unit) FROM record WHERE session = ?", session)[0])

    def first_disk(self, session: int) -> int | None:
        """Return a number that is the disk of a session's unit 0, modulo the disks; None where nothing tells."""
        row = self._sql.first("SELECT disk - unit FROM record WHERE session = ? LIMIT 1", session)
        return None if row is None else int(row[0])

    def slots(self, session: int) -> dict[int, int]:
        """Return for each disk how many slots of the session's member file on it have records."""
        return dict(
            self._sql.execute("SELECT disk, max(slot) + 1 FROM record WHERE session = ? GROUP BY disk", session)
        )

    # --- what is not there ------------------------------------------------------------------------------------------

    def incomplete(self) -> set[int]:
        """Return the sessions with a tape file that have no member file on one of their disks."""
        rows = self._sql.execute(
            "SELECT DISTINCT session.id FROM main.session AS session, json_each(session.disks) AS disk"
            " WHERE tape_file IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM present WHERE present.session = session.id AND present.disk = disk.value)"
        )
        return {row[0] for row in rows}

    def count_present(self, session: int) -> int:
        """Return how many stripe units of a session lie in member files that are there."""
        row = self._sql.one(
            "SELECT count(*) FROM main.stripe_unit AS unit JOIN present USING (session, disk)"
            " WHERE session = ? AND blake3 <> ?",
            *(session, UNKNOWN_BLAKE3),
        )
        return int(row[0])
