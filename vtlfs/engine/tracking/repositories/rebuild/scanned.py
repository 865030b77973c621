"""What a rebuild has found on the disks, in temporary tables, so that memory does not grow with the library.

The tables of the database that is being rebuilt stand beside them; `session` is one of those. The temporary tables:

- `present`: which disk has a member file of which session;
- `header`: the header of a member file, a JSON object;
- `record`: every record of a data extent, also of stripes that were dealt anew; `trusted`: the database had it;
- `parity_record`: every record of a parity extent;
- `described`: the data extents of the stripes that have parity, as the parity's records describe them;
- `found`: the sessions whose headers can be believed;
- `part_of`: of which streams of pools these are parts;
- `memory`: the newest that a disk remembers of each medium;
- `deleted`: runs of snapshots that a disk knows to be deleted.
"""

from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass

from vtlfs.disks.headers import PartOf
from vtlfs.disks.records import Found
from vtlfs.engine.tracking.repositories.rebuild.relived import UNSHOWN
from vtlfs.engine.tracking.statements import Repository
from vtlfs.model import NOWHERE, RetainMode, Retention

_TABLES = """
    CREATE TEMP TABLE present (session INTEGER, disk INTEGER, PRIMARY KEY (session, disk)) WITHOUT ROWID;
    CREATE TEMP TABLE header (session INTEGER, disk INTEGER, document TEXT, PRIMARY KEY (session, disk)) WITHOUT ROWID;
    CREATE TEMP TABLE record (
        session INTEGER, stripe INTEGER, place INTEGER, offset INTEGER, bytes INTEGER, codec TEXT,
        disk INTEGER, position INTEGER, stored INTEGER, blake3 BLOB, trusted INTEGER
    );
    CREATE INDEX temp.record_offset ON record (session, offset, stripe);
    CREATE TEMP TABLE parity_record (
        session INTEGER, stripe INTEGER, place INTEGER,
        disk INTEGER, position INTEGER, stored INTEGER, blake3 BLOB, trusted INTEGER
    );
    CREATE INDEX temp.parity_stripe ON parity_record (session, stripe, place);
    CREATE TEMP TABLE described (
        session INTEGER, stripe INTEGER, place INTEGER, offset INTEGER, bytes INTEGER, codec TEXT, stored INTEGER,
        blake3 BLOB, PRIMARY KEY (session, stripe, place)
    ) WITHOUT ROWID;
    CREATE TEMP TABLE found (
        session INTEGER PRIMARY KEY, medium TEXT, volume INTEGER, opened_at TEXT, drive INTEGER, opening TEXT,
        ending TEXT, tape_file INTEGER, released_at TEXT,
        rule_mode TEXT, rule_seconds INTEGER, retain_mode TEXT, retain_until TEXT
    );
    CREATE INDEX temp.found_medium ON found (medium, volume, tape_file, session);
    CREATE TEMP TABLE part_of (
        session INTEGER PRIMARY KEY, pool TEXT, stream INTEGER, place INTEGER, start INTEGER, commits INTEGER,
        goes_on INTEGER
    );
    CREATE TEMP TABLE deleted (first INTEGER, last INTEGER);
    CREATE TEMP TABLE memory (barcode TEXT PRIMARY KEY, commits INTEGER, volume INTEGER, event INTEGER, document TEXT);
"""


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one member file. `document` is None if the header can't be read."""

    session: int
    disk: int
    document: str | None


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A session whose headers can be believed. `opening` and `ending` are documents; None: no header has an ending.

    `volume`: of the medium. `rule_mode` and `rule_seconds`: how the volume was retained when the session began;
    `retention`: of the tape file.
    """

    session: int
    medium: str
    volume: int
    opened_at: str
    drive: int
    opening: str
    ending: str | None
    tape_file: int | None
    released_at: str | None
    rule_mode: RetainMode | None
    rule_seconds: int | None
    retention: Retention | None


@dataclass(frozen=True, slots=True)
class Known:
    """A session that was found, and its state and length in the database; None if the database does not know it."""

    session: int
    opening: str
    ending: str | None
    state: str | None
    bytes: int | None


class Scanned(Repository):
    """The temporary tables of one rebuild, on the connection that rebuilds."""

    def make_tables(self) -> None:
        """Make the tables; called once, first of all."""
        for statement in _TABLES.split(";"):
            self._sql.execute(statement)

    # --- filling the tables -------------------------------------------------------------------------------------------

    def add_members(self, disk: int, sessions: Iterable[int]) -> None:
        """Record that a disk has member files of these sessions."""
        rows = ((session, disk) for session in sessions)
        self._sql.execute_many("INSERT OR IGNORE INTO present VALUES (?, ?)", rows)

    def add_headers(self, headers: Iterable[Header]) -> None:
        """Record headers of member files."""
        rows = ((one.session, one.disk, one.document) for one in headers)
        self._sql.execute_many("INSERT INTO header VALUES (?, ?, ?)", rows)

    def add_records(self, found: Iterable[Found]) -> None:
        """Record records of extents, data and parity, and the data extents that parity describes."""
        data, parity, described = [], [], []
        for extent, members in ((one.extent, one.members) for one in found):
            where = (extent.disk, extent.position, extent.stored, extent.blake3)
            stripe = (extent.session, extent.stripe)
            if extent.is_parity:
                parity.append((*stripe, extent.place, *where))
                described += [
                    (*stripe, place, one.offset, one.bytes, one.codec, one.stored, one.blake3)
                    for place, one in enumerate(members)
                ]
            else:
                data.append((*stripe, extent.place, extent.offset, extent.bytes, extent.codec, *where))
        self._sql.execute_many("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)", data)
        self._sql.execute_many("INSERT INTO parity_record VALUES (?, ?, ?, ?, ?, ?, ?, 0)", parity)
        self._sql.execute_many("INSERT OR IGNORE INTO described VALUES (?, ?, ?, ?, ?, ?, ?, ?)", described)

    def headers(self) -> Iterator[Header]:
        """Return all headers by session and disk. Each row is fetched when the iterator comes to it."""
        rows = self._sql.execute("SELECT session, disk, document FROM header ORDER BY session, disk")
        return (Header(*row) for row in rows)

    def add_sessions(self, sessions: Iterable[FoundSession]) -> None:
        """Record sessions whose headers can be believed."""
        self._sql.execute_many(
            "INSERT INTO found VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    *(one.session, one.medium, one.volume, one.opened_at, one.drive, one.opening, one.ending),
                    *(one.tape_file, one.released_at, one.rule_mode and str(one.rule_mode), one.rule_seconds),
                    *((None, None) if one.retention is None else (str(one.retention.mode), one.retention.until)),
                )
                for one in sessions
            ),
        )

    def add_part(self, session: int, part: PartOf, *, goes_on: bool) -> None:
        """Record of which stream the headers of a session say that it is a part, and whether a further one follows."""
        self._sql.execute("INSERT INTO part_of VALUES (?, ?, ?, ?, ?, ?, ?)", session, *astuple(part), goes_on)

    def leave_out_member(self, session: int, disk: int) -> None:
        """Forget a session's member file on a disk, all but its header."""
        for table in ("record", "parity_record", "present"):
            self._sql.execute(f"DELETE FROM {table} WHERE session = ? AND disk = ?", session, disk)

    def leave_out(self, session: int) -> None:
        """Forget a session, since its headers can't be believed."""
        for table in ("found", "part_of"):
            self._sql.execute(f"DELETE FROM {table} WHERE session = ?", session)

    def leave_out_reclaimed(self) -> None:
        """Forget the sessions whose stored bytes the database has as deleted: what is left of them means nothing."""
        self._sql.execute("DELETE FROM found WHERE session IN (SELECT id FROM main.session WHERE reclaimed)")

    # --- sessions -----------------------------------------------------------------------------------------------------

    def sessions(self) -> Iterator[Known]:
        """Return the sessions by their identifiers. Each row is fetched when the iterator comes to it."""
        rows = self._sql.execute(
            "SELECT session, opening, ending, state, bytes FROM found LEFT JOIN main.session ON id = session"
            " ORDER BY session"
        )
        return (Known(*row) for row in rows)

    def strangers(self) -> list[int]:
        """Return the sessions whose rows in the database contradict their headers.

        The times are compared for equality only: row and header were written with one and the same reading of a clock.
        """
        rows = self._sql.execute(
            "SELECT session FROM found JOIN main.session ON id = session"
            " WHERE (access, session.medium, session.opened_at) <> ('write', found.medium, found.opened_at)"
        )
        return [row[0] for row in rows]

    def headless(self) -> list[tuple[int, int, str]]:
        """Return session, disk and opening of member files without a readable header, if another disk has one."""
        return self._sql.execute(
            "SELECT session, disk, opening FROM header JOIN found USING (session) WHERE document IS NULL"
        ).fetchall()

    def summary(self) -> tuple[int, int, str | None]:
        """Return how many drives sessions name, how many sessions there are, and when the first was opened."""
        drives, sessions, first = self._sql.one(
            "SELECT coalesce(max(drive), -1) + 1, count(*), (SELECT opened_at FROM found ORDER BY session LIMIT 1)"
            " FROM found"
        )
        return drives, sessions, first

    def ended_on(self, barcode: str, volume: int) -> Iterator[tuple[int, str]]:
        """Return session and ending of the sessions of a volume that have ended, and are still open in the database.

        In the order of their tape files; sessions without a tape file come first. Each row is fetched when the iterator
        comes to it.
        """
        return self._sql.execute(
            "SELECT session, ending FROM found JOIN main.session ON id = session WHERE found.medium = ?"
            " AND session.volume = ? AND ending IS NOT NULL AND state = 'open' ORDER BY found.tape_file, session",
            *(barcode, volume),
        )

    def endless_on(self, barcode: str, volume: int) -> list[tuple[int, int]]:
        """Return session and length of the open streams of a volume for which no header has an ending."""
        return self._sql.execute(
            "SELECT id, bytes FROM main.session WHERE medium = ? AND volume = ? AND state = 'open' AND access = 'write'"
            " AND bytes > 0 AND id NOT IN (SELECT session FROM found WHERE ending IS NOT NULL) ORDER BY id",
            *(barcode, volume),
        ).fetchall()

    def open_on(self, barcode: str, volume: int) -> list[int]:
        """Return the sessions that write to a volume, and are still open in the database."""
        rows = self._sql.execute(
            "SELECT id FROM main.session WHERE medium = ? AND volume = ? AND state = 'open' AND access = 'write'"
            " ORDER BY id",
            *(barcode, volume),
        )
        return [row[0] for row in rows]

    def least_parity(self) -> int:
        """Return the least parity of the sessions with a tape file in the database; 0 without such sessions."""
        row = self._sql.one("SELECT coalesce(min(parity), 0) FROM main.session WHERE tape_file IS NOT NULL")
        return int(row[0])

    # --- what is not there ------------------------------------------------------------------------------------------

    def incomplete(self) -> set[int]:
        """Return the sessions with a tape file for which a disk lacks its member file."""
        rows = self._sql.execute(
            "SELECT DISTINCT session.id FROM main.session AS session, json_each(session.disks) AS disk"
            " WHERE tape_file IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM present WHERE present.session = session.id AND present.disk = disk.value)"
        )
        return {row[0] for row in rows}

    def is_missed(self, disks: int) -> bool:
        """Tell whether a stripe lacks more data extents than can have been on so many disks that are not there.

        Asked are the sessions whose end a header tells of: what a power cut has taken does not count. Nor do volumes
        that nobody can read any more: they may be reclaimed in part.
        """
        query = (
            "SELECT 1 FROM main.extent JOIN found USING (session) WHERE position = ? AND ending IS NOT NULL"
            f" AND session NOT IN ({UNSHOWN})"
            " GROUP BY session, stripe HAVING count(*) > ? LIMIT 1"
        )
        return self._sql.first(query, NOWHERE, disks) is not None

    def widest_stripe(self) -> int:
        """Return on how many disks the stripe lies that is on most of them, whether they are there or not."""
        row = self._sql.one(
            "SELECT coalesce(max(width), 0) FROM (SELECT count(*) AS width FROM"
            " (SELECT session, stripe FROM main.extent UNION ALL SELECT session, stripe FROM main.parity)"
            " GROUP BY session, stripe)"
        )
        return int(row[0])

    def count_extents(self, session: int) -> int:
        """Return how many data extents of a session have a record."""
        return int(self._sql.one("SELECT count(DISTINCT offset) FROM record WHERE session = ?", session)[0])

    def count_lost(self, session: int) -> tuple[int, int]:
        """Return how many data extents a session has, and how many of them are lost.

        An extent is lost if it lies in no member file that was found, and the parity that was found can't restore it.
        """
        row = self._sql.one(
            "SELECT coalesce(sum(there), 0), coalesce(sum(gone) FILTER (WHERE gone > (SELECT count(*) FROM main.parity"
            " JOIN present USING (session, disk) WHERE session = ?1 AND parity.stripe = data.stripe)), 0)"
            " FROM (SELECT extent.stripe, count(*) AS there, sum(position = ?2 OR present.disk IS NULL) AS gone"
            " FROM main.extent LEFT JOIN present USING (session, disk) WHERE session = ?1 GROUP BY extent.stripe)"
            " AS data",
            *(session, NOWHERE),
        )
        return int(row[0]), int(row[1])
