"""Bringing a tracking database up to what lies on the disks: sessions that it does not know, or knows as open only.

The database is one that nobody else uses yet: the newest copy that was kept, or an empty one. What was found on the
disks is kept in temporary tables of its connection, so that memory does not grow with the library. Everything happens
in one transaction of the caller's.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby

from blake3 import blake3

from vtlfs.config import MAX_STRIPE_UNIT
from vtlfs.disks.base import Disk
from vtlfs.disks.scan import Batch
from vtlfs.engine import headers, recover
from vtlfs.engine.headers import Ending, Opening
from vtlfs.engine.tracking import Tracking
from vtlfs.errors import DamagedUnit, DiskError
from vtlfs.model import Access, Mount, Opener, Session, State, StripeUnit

SPARE_SESSIONS = 100_000  # identifiers that are left out, for some that were given are on no disk
SPARE_SNAPSHOTS = 100  # numbers likewise
MAX_TOLD = 1000  # of each kind of note
MAX_GAP = 1 << 47  # bytes of a medium of which nothing is left; more is not believed
MAX_UNSEEN = 100_000  # units likewise
UNKNOWN = bytes(32)  # in place of a BLAKE3

_TABLES = """
    CREATE TEMP TABLE present (session INTEGER, disk INTEGER, PRIMARY KEY (session, disk)) WITHOUT ROWID;
    CREATE TEMP TABLE header (session INTEGER, disk INTEGER, document TEXT);
    CREATE INDEX temp.header_session ON header (session, disk);
    CREATE TEMP TABLE record (
        session INTEGER, unit INTEGER, bytes INTEGER, disk INTEGER, slot INTEGER, blake3 BLOB, trusted INTEGER
    );
    CREATE INDEX temp.record_unit ON record (session, unit, bytes);
    CREATE TEMP TABLE found (
        session INTEGER PRIMARY KEY, medium TEXT, opened_at TEXT, drive INTEGER, opening TEXT, ending TEXT,
        tape_file INTEGER, start INTEGER
    );
    CREATE INDEX temp.found_medium ON found (medium, tape_file);
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
    """What a replay has to tell. `recovered` are the sessions whose end nobody knew."""

    members: int = 0
    replayed: int = 0
    recovered: list[Session] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def tell(self, damaged: Iterable[str] = (), ignored: Iterable[str] = ()) -> None:
        """Add notes, as far as somebody may read them all."""
        self.damaged += damaged
        self.ignored += list(ignored)[: max(0, MAX_TOLD - len(self.ignored))]


class Replay:
    """One replay. `disks` are those that there are, by number; `at` is the time."""

    def __init__(self, tracking: Tracking, disks: dict[int, Disk], complete: bool, at: str) -> None:
        """`complete`: `disks` are all that the library has."""
        self._tracking = tracking
        self._disks = disks
        self._complete = complete
        self._at = at
        self._placeholders: set[int] = set()
        self.findings = Findings()
        for statement in _TABLES.split(";"):
            tracking.execute(statement)

    # --- what the disks say -----------------------------------------------------------------------------------------

    def take_in(self, batch: Batch) -> None:
        """Keep what was found on a disk."""
        add = self._tracking.execute
        for session in batch.present:
            add("INSERT OR IGNORE INTO present VALUES (?, ?)", session, batch.disk)
        for session, header in batch.headers:
            text = None if header is None else json.dumps(header)
            add("INSERT INTO header VALUES (?, ?, ?)", session, batch.disk, text)
        for record in batch.records:
            place = (record.session, record.unit, record.bytes, batch.disk, record.slot, record.blake3)
            add("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, 0)", *place)
        self.findings.members += len(batch.present)
        self.findings.tell(batch.damaged, batch.ignored)

    def headless(self) -> list[tuple[int, int, int]]:
        """Return session, disk and stripe unit of member files without a header, where another disk has one."""
        self._merge()
        return [
            (session, disk, _opening(text).stripe_unit)
            for session, disk, text in self._tracking.execute(
                "SELECT session, disk, opening FROM header JOIN found USING (session) WHERE document IS NULL"
            ).fetchall()
        ]

    def most_disks(self) -> int:
        """Return over how many disks the streams were dealt, as far as headers tell; 0 where there are none."""
        return int(self._tracking.one("SELECT coalesce(max(json_extract(opening, '$.disks')), 0) FROM found")[0])

    def _merge(self) -> None:
        """Have one row in `found` for each session whose headers can be believed."""
        rows = self._tracking.execute("SELECT session, disk, document FROM header ORDER BY session, disk")
        for session, group in groupby(rows, key=lambda row: row[0]):
            members = [(disk, json.loads(document)) for _, disk, document in group if document is not None]
            opening, ending, strangers = headers.agreed(members)
            if opening is not None and not self._is_likely(session, opening, ending):
                self.findings.tell([f"session {session}: its header tells of far more than there is"])
                ending = None
            for disk in strangers:
                self.findings.tell([f"disk {disk}: session {session}: its header is not right; it is left out"])
                self._tracking.execute("DELETE FROM record WHERE session = ? AND disk = ?", session, disk)
                self._tracking.execute("DELETE FROM present WHERE session = ? AND disk = ?", session, disk)
            if opening is None:
                self.findings.tell([f"session {session}: no disk has a header that says whose it is"])
                continue
            said = (json.dumps(asdict(opening)), None if ending is None else json.dumps(asdict(ending)))
            place = (None, None) if ending is None else (ending.tape_file, ending.start)
            values = (session, opening.medium, opening.opened_at, opening.drive, *said, *place)
            self._tracking.execute("INSERT INTO found VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *values)

    def _is_likely(self, session: int, opening: Opening, ending: Ending | None) -> bool:
        """Tell whether a length can be, for each unit that is missing gets a row."""
        units = -(-((ending.bytes or 0) if ending else 0) // opening.stripe_unit)
        known = self._tracking.one("SELECT count(DISTINCT unit) FROM record WHERE session = ?", session)[0]
        return bool(units <= MAX_UNSEEN + 4 * known)

    # --- into the database ------------------------------------------------------------------------------------------

    def run(self) -> Findings:
        """Bring the database up to what was taken in."""
        self._skip_numbers()
        self._tracking.execute("UPDATE medium SET reserved = 0 WHERE reserved > 0")
        self._tracking.execute("UPDATE session SET reserved = 0 WHERE reserved > 0")
        self._add_sessions()
        self._add_units()
        for (barcode,) in self._tracking.execute("SELECT DISTINCT medium FROM found ORDER BY medium").fetchall():
            self._add_tape_files(barcode)
        for mount in self._tracking.mounts():
            ended = recover.close_books(self._tracking, mount, self._at)
            self.findings.recovered += [session for session in ended if session.access is Access.WRITE]
        self._note_losses()
        return self.findings

    def _skip_numbers(self) -> None:
        """Leave out numbers that may have been given to sessions and snapshots that left no trace."""
        self._tracking.execute(
            "UPDATE library SET epoch = epoch + ?, next_session = ? + max(next_session,"
            " (SELECT coalesce(max(id), 0) + 1 FROM session), (SELECT coalesce(max(session), 0) + 1 FROM found))",
            *(SPARE_SNAPSHOTS, SPARE_SESSIONS),
        )

    def _add_sessions(self) -> None:
        """Add the media, the drives and the sessions that the database does not know, all of them open."""
        add = self._tracking.execute
        strangers = (
            "FROM found JOIN main.session ON id = session"
            " WHERE (access, session.medium, session.opened_at) <> ('write', found.medium, found.opened_at)"
        )
        for (session,) in add(f"SELECT session {strangers}").fetchall():
            self.findings.tell([f"session {session}: the copy of the tracking database says something else of it"])
            add("DELETE FROM found WHERE session = ?", session)
        add(
            "INSERT INTO medium (barcode, added_at) SELECT medium, min(opened_at) FROM found"
            " WHERE medium NOT IN (SELECT barcode FROM main.medium) GROUP BY medium ORDER BY 2, 1"
        )
        self._tracking.set_drives(int(self._tracking.one("SELECT coalesce(max(drive), -1) + 1 FROM found")[0]))
        new = "FROM found WHERE session NOT IN (SELECT id FROM main.session)"
        self.findings.replayed = int(self._tracking.one("SELECT count(*) FROM found")[0])
        if not self.findings.replayed:
            return
        mount = self._unknown_mount()
        for session, text in self._tracking.execute(f"SELECT session, opening {new} ORDER BY session"):
            opening = _opening(text)
            self._tracking.open_session(
                *(session, mount, opening.opener, Access.WRITE, opening.drive, opening.medium, opening.stripe_unit),
                opening.opened_at,
            )

    def _unknown_mount(self) -> int:
        """Add the mount that stands for those that nobody knows any more."""
        first = self._tracking.one("SELECT min(opened_at) FROM found")[0]
        return self._tracking.add_mount(Mount(0, None, "?", 0, 0, "?", "", "mounted", first, None))

    def _add_units(self) -> None:
        """Record where the stripe units of the sessions lie."""
        rows = self._tracking.execute("SELECT session, opening, ending FROM found ORDER BY session")
        for session, text, ending in rows:
            opening = _opening(text)
            length = None if ending is None else (_ending(ending).bytes or 0)
            self._record(session, opening.stripe_unit, length, opening.disks)

    def _record(self, session: int, stripe_unit: int, length: int | None, disks: int) -> None:
        """Record a session's units anew: those of its first `length` bytes; None: those that are whole, up to a gap.

        `disks`: over how many it was dealt.
        """
        execute = self._tracking.execute
        execute(
            "INSERT INTO record SELECT session, unit, bytes, disk, slot, blake3, 1 FROM main.stripe_unit"
            " WHERE session = ?",
            session,
        )
        execute("DELETE FROM main.stripe_unit WHERE session = ?", session)
        chosen = self._chosen(session, stripe_unit, length)
        if length is not None:
            chosen = _filled_up(session, chosen, stripe_unit, length, self._dealt(session, disks))
        size, used = 0, set()
        for unit in chosen:
            execute("INSERT INTO main.stripe_unit VALUES (?, ?, ?, ?, ?, ?)", session, *_place(unit))
            size = unit.unit * stripe_unit + unit.bytes
            used.add(unit.disk)
        known = json.dumps(sorted(used), separators=(",", ":"))
        execute("UPDATE main.session SET bytes = ?, disks = ? WHERE id = ?", size, known, session)

    def _dealt(self, session: int, disks: int) -> "Dealt":
        """Return where units were dealt to of which nothing is left, and slots there that no other unit has."""
        first = self._tracking.first("SELECT disk - unit FROM record WHERE session = ? LIMIT 1", session)
        slots = dict(
            self._tracking.execute("SELECT disk, max(slot) + 1 FROM record WHERE session = ? GROUP BY disk", session)
        )
        missing = min(set(range(disks)) - set(self._disks), default=0)
        return Dealt(max(disks, 1), first[0] if first else missing, slots)

    def _chosen(self, session: int, stripe_unit: int, length: int | None) -> Iterator[StripeUnit]:
        """Yield the units of a stream in order, those that are missing left out where its length is known."""
        rows = self._tracking.execute(
            "SELECT unit, bytes, disk, slot, blake3, trusted FROM record WHERE session = ?"
            " ORDER BY unit, bytes DESC, trusted DESC, disk, slot",
            session,
        )
        following = 0
        for number, group in groupby(rows, key=lambda row: row[0]):
            candidates = [(StripeUnit(session, row[0], row[2], row[3], row[1], row[4]), row[5]) for row in group]
            if length is None:
                unit = self._largest_whole(candidates, stripe_unit) if number == following else None
                if unit is None:
                    return
                yield unit
                if unit.bytes < stripe_unit:
                    return
                following += 1
            elif (wanted := min(stripe_unit, length - number * stripe_unit)) > 0:
                unit = self._of_size([one for one, _ in candidates], stripe_unit, wanted)
                if unit is not None:
                    yield unit

    def _largest_whole(self, candidates: list[tuple[StripeUnit, int]], stripe_unit: int) -> StripeUnit | None:
        """Return the candidate with the most bytes that are there. What the database had recorded is believed."""
        return next((unit for unit, trusted in candidates if trusted or self._is_whole(unit, stripe_unit)), None)

    def _of_size(self, candidates: list[StripeUnit], stripe_unit: int, wanted: int) -> StripeUnit | None:
        """Return the candidate of so many bytes, or the first so many bytes of a longer one; None without one."""
        exact = list({(one.disk, one.slot): one for one in candidates if one.bytes == wanted}.values())
        if len(exact) > 1:
            exact = [one for one in exact if self._is_whole(one, stripe_unit)] or exact
        if exact:
            return exact[0]
        for one in candidates:
            if one.bytes > wanted and one.disk in self._disks:
                try:
                    data = self._disks[one.disk].read(one, stripe_unit)
                except (DamagedUnit, DiskError):
                    continue
                return replace(one, bytes=wanted, blake3=blake3(data[:wanted]).digest())
        return None

    def _is_whole(self, unit: StripeUnit, stripe_unit: int) -> bool:
        try:
            self._disks[unit.disk].read(unit, stripe_unit)
        except (KeyError, DamagedUnit, DiskError):
            return False
        return True

    # --- tape files -------------------------------------------------------------------------------------------------

    def _add_tape_files(self, barcode: str) -> None:
        """Put the sessions that have ended on their medium, each where it was; then those that left no tape file."""
        rows = self._tracking.execute(
            "SELECT session, ending FROM found WHERE medium = ? AND ending IS NOT NULL ORDER BY tape_file, session",
            barcode,
        )
        for session, text in rows:
            ending = _ending(text)
            if ending.tape_file is None:
                self._end(session, ending)
            elif self._reach(barcode, ending):
                self._place(session, ending)
            else:
                self.findings.tell(
                    [f"session {session}: tape file {ending.tape_file:04d} of {barcode} is another's; it comes last"]
                )

    def _reach(self, barcode: str, ending: Ending) -> bool:
        """Fill up what lies before a tape file, so that it comes where it was. Return False where it can't be there."""
        medium = self._tracking.medium(barcode)
        count, size = (ending.tape_file or 0) - medium.tape_files, (ending.start or 0) - medium.bytes
        if count == size == 0:
            return medium.capacity is None or medium.bytes + (ending.bytes or 0) <= medium.capacity
        if count <= 0 or size < count or size > MAX_GAP or count > MAX_TOLD * MAX_TOLD:
            return False
        if medium.capacity is not None and medium.bytes + size + (ending.bytes or 0) > medium.capacity:
            return False
        for session, length in self._fitting(barcode, count, size):
            number, start = medium.tape_files, medium.bytes
            if session is None:
                session = self._placeholder(barcode, number, length)
            else:
                self._note_guess(session, barcode, number)
            self._place(session, Ending(State.RECOVERED, None, self._at, number, start, length))
            medium = self._tracking.medium(barcode)
        return True

    def _fitting(self, barcode: str, count: int, size: int) -> list[tuple[int | None, int]]:
        """Return which sessions fill a gap of so many tape files and bytes, and their lengths; None: nobody knows.

        A power cut can take the last headers, but not what was acknowledged: then a stream without an end fits exactly.
        """
        open_ones = self._tracking.execute(
            "SELECT id, bytes FROM main.session WHERE medium = ? AND state = 'open' AND access = 'write' AND bytes > 0"
            " AND id NOT IN (SELECT session FROM found WHERE ending IS NOT NULL) ORDER BY id",
            barcode,
        ).fetchall()
        exact = [(session, length) for session, length in open_ones if length == size]
        if count == 1 and exact:
            return exact[:1]
        if count == len(open_ones) and sum(length for _, length in open_ones) == size:
            return open_ones
        longer = [(session, length) for session, length in open_ones if length > size]
        if count == 1 and self._complete and len(longer) == 1:
            session = longer[0][0]
            stripe_unit = self._tracking.session(session).stripe_unit
            self._tracking.execute("DELETE FROM record WHERE session = ? AND trusted", session)
            self._record(session, stripe_unit, size, len(self._disks))
            return [(session, size)]
        return [*[(None, 1)] * (count - 1), (None, size - count + 1)]

    def _note_guess(self, session: int, barcode: str, number: int) -> None:
        self.findings.recovered.append(replace(self._tracking.session(session), tape_file=number))

    def _placeholder(self, barcode: str, number: int, size: int) -> int:
        """Add a session for a tape file of which nothing is left, so that those behind it stay where they are."""
        session = self._tracking.lease_sessions(1)[0]
        mount = self._tracking.mounts()[-1].id
        nobody = Opener("unknown", 0, 0, 0, "?")
        self._tracking.open_session(session, mount, nobody, Access.WRITE, 0, barcode, MAX_STRIPE_UNIT, self._at)
        disks = int(self._tracking.one("SELECT count(*) FROM disk")[0])
        self._record(session, MAX_STRIPE_UNIT, size, disks)
        self._placeholders.add(session)
        self.findings.lost.append(Lost(barcode, number, None, size, 0, 0))
        return session

    def _place(self, session: int, ending: Ending) -> None:
        """Make a session that has ended the next tape file of its medium."""
        self._tracking.execute("UPDATE main.session SET bytes = ? WHERE id = ?", ending.bytes, session)
        self._tracking.release_session(session, ending.state, ending.error, ending.released_at, ending.requests)

    def _end(self, session: int, ending: Ending) -> None:
        """End a session that left no tape file."""
        self._tracking.execute("UPDATE main.session SET bytes = 0 WHERE id = ?", session)
        self._tracking.release_session(session, ending.state, ending.error, ending.released_at, ending.requests)

    # --- what is not there ------------------------------------------------------------------------------------------

    def _note_losses(self) -> None:
        """Find the tape files of which a stripe unit lies on no disk that is there."""
        suspects = """
            SELECT DISTINCT session.id FROM main.session AS session, json_each(session.disks) AS disk
            WHERE tape_file IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM present WHERE present.session = session.id AND present.disk = disk.value)
            UNION SELECT session FROM found JOIN main.session ON id = session WHERE session.tape_file IS NOT NULL
        """
        for (number,) in self._tracking.execute(suspects).fetchall():
            if number in self._placeholders:
                continue
            session = self._tracking.session(number)
            there = self._tracking.one(
                "SELECT count(*) FROM main.stripe_unit AS unit JOIN present USING (session, disk)"
                " WHERE session = ? AND blake3 <> ?",
                *(number, UNKNOWN),
            )[0]
            units = -(-session.bytes // session.stripe_unit)
            if there < units:
                lost = Lost(session.medium, session.tape_file or 0, number, session.bytes, units, units - there)
                self.findings.lost.append(lost)
        self.findings.lost.sort(key=lambda lost: (lost.medium, lost.tape_file))


@dataclass(slots=True)
class Dealt:
    """How a stream was dealt: unit N to disk (first + N) mod `disks`. `slots`: the next free one on each disk."""

    disks: int
    first: int
    slots: dict[int, int]

    def place(self, unit: int) -> tuple[int, int]:
        """Return the disk of a unit and a slot that no other has."""
        disk = (self.first + unit) % self.disks
        slot = self.slots.get(disk, 0)
        self.slots[disk] = slot + 1
        return disk, slot


def _filled_up(
    session: int, chosen: Iterable[StripeUnit], stripe_unit: int, length: int, dealt: Dealt
) -> Iterator[StripeUnit]:
    """Yield the units of a stream of `length` bytes, those of which nothing is left with a BLAKE3 that none has."""
    following = 0

    def lacking(end: int) -> Iterator[StripeUnit]:
        for number in range(following, end):
            size = min(stripe_unit, length - number * stripe_unit)
            yield StripeUnit(session, number, *dealt.place(number), size, UNKNOWN)

    for unit in chosen:
        yield from lacking(unit.unit)
        yield unit
        following = unit.unit + 1
    yield from lacking(-(-length // stripe_unit))


def _opening(text: str) -> Opening:
    said = json.loads(text)
    return Opening(**said | {"opener": Opener(**said["opener"])})


def _ending(text: str) -> Ending:
    said = json.loads(text)
    return Ending(**said | {"state": State(said["state"])})


def _place(unit: StripeUnit) -> tuple[int, int, int, int, bytes]:
    return unit.unit, unit.disk, unit.slot, unit.bytes, unit.blake3
