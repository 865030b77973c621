"""What was found on the disks, kept in temporary tables of the connection to the database that is being rebuilt.

So memory does not grow with the library. A row of `found` is a session whose headers can be believed; `record` has
every record of its stripe units, those of older generations too.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from vtlfs.disks import headers
from vtlfs.disks.headers import Ending, Opening
from vtlfs.disks.scan import Batch
from vtlfs.engine.tracking.database import Tracking
from vtlfs.model import Session

MAX_TOLD = 1000  # things that were passed over
MAX_UNSEEN = 100_000  # units of a session of which nothing is left; more is not believed

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


@dataclass(slots=True)
class Lost:
    """A tape file of which something can't be read. `session` is None where not even that is known."""

    medium: str
    tape_file: int
    session: int | None
    bytes: int
    units: int
    missing: int

    def __str__(self) -> str:
        what = f"{self.medium} {self.tape_file:04d}"
        if self.session is None:
            return f"{what}: nothing of it was found; its {self.bytes} bytes keep their place"
        return f"{what} (session {self.session}): {self.missing} of {self.units} stripe units are not there"


@dataclass(slots=True)
class Findings:
    """What a replay has to tell. `recovered` are the sessions whose end nobody knew.

    `unfinished` are sessions of which one header says how they ended and another does not.
    """

    members: int = 0
    replayed: int = 0
    recovered: list[Session] = field(default_factory=list)
    unfinished: list[int] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def tell(self, damaged: Iterable[str] = (), ignored: Iterable[str] = ()) -> None:
        """Add notes, as far as somebody may read them all."""
        self.damaged += damaged
        self.ignored += list(ignored)[: max(0, MAX_TOLD - len(self.ignored))]


class Found:
    """What was found. One thread uses it, that of the database."""

    def __init__(self, tracking: Tracking, findings: Findings) -> None:
        """`findings` is told what is wrong with it."""
        self._tracking = tracking
        self._findings = findings
        for statement in _TABLES.split(";"):
            tracking.sql.execute(statement)

    def take_in(self, batch: Batch) -> None:
        """Keep what was found on a disk."""
        disk, add = batch.disk, self._tracking.sql.execute_many
        add("INSERT OR IGNORE INTO present VALUES (?, ?)", ((session, disk) for session in batch.present))
        texts = ((session, disk, None if said is None else json.dumps(said)) for session, said in batch.headers)
        add("INSERT INTO header VALUES (?, ?, ?)", texts)
        places = ((one.session, one.unit, one.bytes, disk, one.slot, one.blake3) for one in batch.records)
        add("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, 0)", places)
        self._findings.members += len(batch.present)
        self._findings.tell(batch.damaged, batch.ignored)

    def merge(self) -> None:
        """Find out what the headers of each session agree on, when all disks were taken in."""
        rows = self._tracking.sql.execute("SELECT session, disk, document FROM header ORDER BY session, disk")
        self._tracking.sql.execute_many("INSERT INTO found VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self._agreed(rows))

    def _agreed(self, rows: Iterable[tuple[int, int, str | None]]) -> Iterator[tuple[object, ...]]:
        for session, group in groupby(rows, key=lambda row: row[0]):
            texts = {disk: text for _, disk, text in group if text is not None}
            opening, ending, strangers = headers.agreed((disk, json.loads(text)) for disk, text in texts.items())
            for disk in strangers:
                self._findings.tell([f"disk {disk}: session {session}: its header is not right; it is left out"])
                self._tracking.sql.execute("DELETE FROM record WHERE session = ? AND disk = ?", session, disk)
                self._tracking.sql.execute("DELETE FROM present WHERE session = ? AND disk = ?", session, disk)
            if opening is None:
                self._findings.tell([f"session {session}: no disk has a header that says whose it is"])
                continue
            good = [text for disk, text in texts.items() if disk not in strangers]
            said = next((text for text in good if headers.ending(json.loads(text)) == ending), None) if ending else None
            if ending is not None and not self._is_likely(session, opening, ending):
                self._findings.tell([f"session {session}: its header tells of far more than there is"])
                said = None
            if said is not None and any(headers.ending(json.loads(text)) is None for text in good):
                self._findings.unfinished.append(session)
            number = ending.tape_file if ending is not None and said is not None else None
            yield session, opening.medium, opening.opened_at, opening.drive, opening.disks, good[0], said, number

    def _is_likely(self, session: int, opening: Opening, ending: Ending) -> bool:
        """Tell whether a length can be, for each unit that is missing gets a row."""
        units = -(-(ending.bytes or 0) // opening.stripe_unit)
        if units <= MAX_UNSEEN:
            return True
        known = self._tracking.sql.one("SELECT count(DISTINCT unit) FROM record WHERE session = ?", session)[0]
        return bool(units <= MAX_UNSEEN + 4 * known)

    def headless(self) -> list[tuple[int, int, int]]:
        """Return session, disk and stripe unit of member files without a header, where another disk has one."""
        rows = self._tracking.sql.execute(
            "SELECT session, disk, opening FROM header JOIN found USING (session) WHERE document IS NULL"
        )
        return [(session, disk, opening_of(text).stripe_unit) for session, disk, text in rows.fetchall()]

    def most_disks(self) -> int:
        """Return over how many disks the streams were dealt, as far as headers tell; 0 where there are none."""
        return int(self._tracking.sql.one("SELECT coalesce(max(disks), 0) FROM found")[0])

    def leave_out_strangers(self) -> None:
        """Leave out sessions of which the database says something else than their headers do.

        Their times are compared as names are: both were written from the same one, whatever clock it came from.
        """
        strangers = self._tracking.sql.execute(
            "SELECT session FROM found JOIN main.session ON id = session"
            " WHERE (access, session.medium, session.opened_at) <> ('write', found.medium, found.opened_at)"
        ).fetchall()
        for (session,) in strangers:
            self._findings.tell([f"session {session}: the copy of the tracking database says something else of it"])
            self._tracking.sql.execute("DELETE FROM found WHERE session = ?", session)


def opening_of(text: str) -> Opening:
    """Return the beginning that a header tells of; one of `found`, which has been checked."""
    found = headers.opening(json.loads(text))
    assert found is not None
    return found


def ending_of(text: str) -> Ending:
    """Return the end that a header tells of; one of `found`."""
    found = headers.ending(json.loads(text))
    assert found is not None
    return found
