"""What always holds in the tracking database, as queries that find nothing while it does.

Each rule is one statement, and so looks at one state of the database, whatever is written meanwhile. No rule says that
a time is before another: clocks jump. Times are only compared with copies of themselves.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.schema.tables import VERSIONED

MOST = 1000  # rows that a rule tells of


@dataclass(frozen=True, slots=True)
class Rule:
    """`sql` finds what breaks the rule; `problem` says it with the row's columns `{0}`, `{1}` and on."""

    problem: str
    sql: str


SOUND = Rule(
    "SQLite finds it damaged: {0}",
    "SELECT replace(quick_check, char(10), ' ') FROM pragma_quick_check WHERE quick_check <> 'ok'",
)
"""Where this finds something, nothing else can be relied on."""

_COUNTED = Rule(
    "the library's counters are {0} media, {1} sessions, {2} tape files, {3} bytes; there are {4}, {5}, {6}, {7}",
    "SELECT * FROM (SELECT media, sessions, tape_files, bytes, (SELECT count(*) FROM medium) AS a,"
    " (SELECT count(*) FROM session) AS b, (SELECT count(*) FROM tape_file) AS c,"
    " (SELECT coalesce(sum(bytes), 0) FROM tape_file) AS d FROM library)"
    " WHERE media <> a OR sessions <> b OR tape_files <> c OR bytes <> d",
)

_LIBRARY = (
    Rule("a row of {0} names a row of {1} that is not there", 'SELECT "table", parent FROM pragma_foreign_key_check'),
    Rule("the table library has {0} rows instead of 1", "SELECT count(*) FROM library HAVING count(*) <> 1"),
    Rule("the table copy has {0} rows instead of 1", "SELECT count(*) FROM copy HAVING count(*) <> 1"),
    _COUNTED,
    Rule(
        "there are {0} disks, but their numbers end with {1}",
        "SELECT count(*) AS disks, max(number) AS last FROM disk HAVING disks < 2 OR last <> disks - 1",
    ),
    Rule(
        "disk {0}: its fault is {1}, since {2}",
        "SELECT number, fault, fault_at FROM disk WHERE (fault IS NULL) <> (fault_at IS NULL)",
    ),
    Rule(
        "drive {0}: loaded is {1}, since {2}",
        "SELECT number, loaded, loaded_at FROM drive WHERE (loaded IS NULL) <> (loaded_at IS NULL)",
    ),
    Rule(
        "mount {0}: it is {1}, and its end {2}",
        "SELECT id, state, unmounted_at FROM mount WHERE (state = 'mounted') <> (unmounted_at IS NULL)",
    ),
)

_MEDIA = (
    Rule(
        "medium {0}: it has {1} bytes in {2} tape files, but its tape files are {3} bytes in {4}",
        "SELECT barcode, medium.bytes, tape_files, coalesce(b, 0), coalesce(n, 0) FROM medium LEFT JOIN"
        " (SELECT medium, sum(bytes) AS b, count(*) AS n FROM tape_file GROUP BY medium) ON medium = barcode"
        " WHERE medium.bytes <> coalesce(b, 0) OR tape_files <> coalesce(n, 0)",
    ),
    Rule(
        "medium {0}: tape file {1} begins at {2}, but {3} tape files with {4} bytes are before it",
        "SELECT * FROM (SELECT medium, number, start, row_number() OVER files - 1 AS n, sum(bytes) OVER files - bytes"
        " AS b FROM tape_file WINDOW files AS (PARTITION BY medium ORDER BY number)) WHERE number <> n OR start <> b",
    ),
    Rule(
        "medium {0}: it was last written {1}, its last tape file {2}",
        "SELECT barcode, written_at, tape_file.released_at FROM medium LEFT JOIN tape_file"
        " ON tape_file.medium = barcode AND number = tape_files - 1 WHERE written_at IS NOT tape_file.released_at",
    ),
    Rule(
        "medium {0}: {1} bytes are promised, but {2} to open sessions",
        "SELECT barcode, medium.reserved, coalesce(r, 0) FROM medium LEFT JOIN (SELECT medium, sum(reserved) AS r"
        " FROM session WHERE state = 'open' GROUP BY medium) ON medium = barcode"
        " WHERE medium.reserved <> coalesce(r, 0)",
    ),
)

_ORDER = (
    Rule(
        "tape file {1} of {0}: its ordinal is {2}; it came as number {3}",
        "SELECT * FROM (SELECT medium, number, ordinal, row_number() OVER (ORDER BY ordinal) AS place FROM tape_file)"
        " WHERE ordinal <> place",
    ),
    Rule(
        "tape file {1} of {0}: its ordinal is {2}, after {3} of the one before it on the medium",
        "SELECT * FROM (SELECT medium, number, ordinal, lag(ordinal) OVER (PARTITION BY medium ORDER BY number) AS"
        " before FROM tape_file) WHERE before > ordinal",
    ),
    Rule(
        "tape file {1} of {0}: it came in epoch {2}, after one in epoch {3} by their ordinals",
        "SELECT * FROM (SELECT medium, number, epoch, lag(epoch) OVER (ORDER BY ordinal) AS before FROM tape_file)"
        " WHERE before > epoch",
    ),
    Rule(
        "verification {0}: it goes up to tape file {1} in the order of release, which is yet to come",
        "SELECT id, last FROM verification, library WHERE last > library.tape_files",
    ),
    Rule(
        "session {0}: its last announcement of a close() is number {1}, which is yet to come",
        "SELECT id, session.announced FROM session, library WHERE session.announced > library.announced",
    ),
)

_SESSIONS = (
    Rule(
        "session {0}: it is {1}, with released_at {2}, tape file {3} and {4} bytes promised",
        "SELECT id, state, released_at, tape_file, reserved FROM session"
        " WHERE (state = 'open') <> (released_at IS NULL) OR state <> 'open' AND reserved <> 0"
        " OR (state = 'open' OR access = 'read') AND tape_file IS NOT NULL",
    ),
    Rule(
        "session {0}: {1} bytes are recorded, but it left no tape file",
        "SELECT id, bytes FROM session WHERE access = 'write' AND state <> 'open' AND bytes > 0 AND tape_file IS NULL",
    ),
    Rule(
        "{0} sessions say that they left a tape file, but there are {1}",
        "SELECT count(*) AS said, (SELECT count(*) FROM tape_file) AS there FROM session WHERE tape_file IS NOT NULL"
        " HAVING said <> there",
    ),
    Rule(
        "tape file {1} of {0}: {2} bytes, of session {3}, which wrote {4} bytes to {5} and is {6}",
        "SELECT tape_file.medium, number, tape_file.bytes, id, session.bytes, session.medium, state"
        " FROM tape_file JOIN session ON id = session WHERE state = 'open' OR access <> 'write'"
        " OR session.medium <> tape_file.medium OR session.bytes <> tape_file.bytes"
        " OR session.tape_file IS NOT number"
        " OR session.released_at <> tape_file.released_at",
    ),
    Rule(
        "session {0}: it is open, but its mount {1} is {2}",
        "SELECT session.id, mount.id, mount.state FROM session JOIN mount ON mount.id = mount"
        " WHERE session.state = 'open' AND mount.state <> 'mounted'",
    ),
    Rule(
        "session {0}: identifiers from {1} on have not been given yet",
        "SELECT max(id) AS last, next_session FROM library, session HAVING last >= next_session",
    ),
)


def _units(disks: int) -> tuple[Rule, ...]:
    """Return the rules for the stripe units, of a library with so many disks."""
    used = " || ".join(f"iif(max(disk = {number}), ',{number}', '')" for number in range(disks))
    return (
        Rule(
            "session {0}: {1} bytes on disks {2}; its stripe units are {3} with {4} bytes on disks {5}, or are not in"
            " order, or two are in one place",
            "SELECT id, session.bytes, disks, units, b, there FROM (SELECT session, count(*) AS units, sum(bytes) AS b,"
            " max(unit) AS last, min(unit) AS first, max(bytes) AS most, min(slot) AS slot,"
            " min(length(blake3)) AS hash, count(DISTINCT disk << 40 | slot) AS places,"
            f" '[' || ltrim({used}, ',') || ']' AS there"
            " FROM stripe_unit GROUP BY session) JOIN session ON id = session"
            " WHERE session.bytes <> b OR disks <> there OR access <> 'write' OR units <> last + 1 OR first <> 0"
            " OR most > stripe_unit OR b <= last * stripe_unit OR places <> units OR slot < 0 OR hash <> 32",
        ),
        Rule(
            "session {0}: stripe unit {1} has {2} bytes and is not the last one",
            "SELECT session, unit, stripe_unit.bytes FROM stripe_unit JOIN session ON id = session"
            " WHERE stripe_unit.bytes <> stripe_unit AND (unit + 1) * stripe_unit < session.bytes",
        ),
        Rule(
            "session {0}: {1} bytes are recorded, but no stripe unit",
            "SELECT id, bytes FROM session WHERE access = 'write' AND bytes > 0"
            " AND NOT EXISTS (SELECT 1 FROM stripe_unit WHERE session = id)",
        ),
    )


_PAST = (
    Rule(
        "snapshot {0}: it is not before the epoch {1}",
        "SELECT id, epoch FROM snapshot, library WHERE id >= epoch",
    ),
    Rule(
        "snapshot {0}: it counts less than the one before it, or more than there is",
        "SELECT id FROM (SELECT *, lag(media) OVER past AS m, lag(sessions) OVER past AS s FROM snapshot"
        " WINDOW past AS (ORDER BY id)) AS then_, library WHERE m > then_.media OR s > then_.sessions"
        " OR open_sessions > then_.sessions OR then_.media > library.media OR then_.sessions > library.sessions",
    ),
    Rule(
        "snapshot {0}: it counts {1} tape files with {2} bytes; of its time are {3} with {4}",
        "SELECT * FROM (SELECT id, tape_files, bytes, sum(n) OVER past AS files, sum(b) OVER past AS size FROM"
        " (SELECT id, tape_files, bytes, 0 AS n, 0 AS b, 1 AS kind FROM snapshot UNION ALL"
        " SELECT epoch, NULL, NULL, count(*), sum(bytes), 0 FROM tape_file GROUP BY epoch)"
        " WINDOW past AS (ORDER BY id, kind)) WHERE tape_files <> files OR bytes <> size",
    ),
    Rule(
        "tape file {1} of {0}: it came in epoch {2}, which is yet to come",
        "SELECT medium, number, tape_file.epoch FROM tape_file, library WHERE tape_file.epoch > library.epoch",
    ),
)


def _history(table: str, key: str) -> tuple[Rule, ...]:
    """Return the rules for a table with a history."""
    return (
        Rule(
            f"{table} {{0}}: it has been so since epoch {{1}}, which is yet to come",
            f"SELECT {key}, since FROM {table}, library WHERE coalesce(since > epoch, 1)",
        ),
        Rule(
            f"{table} {{0}}: its history from epoch {{1}} to {{2}} overlaps with what was before",
            f"SELECT {key}, since, until FROM (SELECT {key}, since, until, lag(until) OVER past AS earlier"
            f" FROM {table}_history WINDOW past AS (PARTITION BY {key} ORDER BY until))"
            " WHERE since >= until OR earlier > since",
        ),
        Rule(
            f"{table} {{0}}: its history ends with epoch {{1}}, after epoch {{2}}, in which it got its values",
            f"SELECT {table}.{key}, until, since FROM (SELECT {key} AS k, max(until) AS until FROM {table}_history"
            f" GROUP BY {key}) JOIN {table} ON {key} = k WHERE since < until",
        ),
    )


QUICK = (SOUND, _COUNTED, *_MEDIA)
"""What a mount asks before it serves: less than a second for a hundred thousand sessions.

It finds the pages of different moments that a database has whose write-ahead log was lost while it was folded in.
"""


def rules(tracking: Tracking) -> list[Rule]:
    """Return all rules but SOUND, the ones that take long first."""
    disks = int(tracking.sql.one("SELECT count(*) FROM disk")[0])
    histories = [rule for table, (key, _) in VERSIONED.items() for rule in _history(table, key)]
    return [*_units(disks), *_LIBRARY, *_MEDIA, *_ORDER, *_SESSIONS, *_PAST, *histories]


def broken(tracking: Tracking, rule: Rule) -> Iterator[str]:
    """Yield what breaks the rule, one text for each row, at most MOST. Raises TrackingError."""
    for row in tracking.sql.execute(f"{rule.sql} LIMIT {MOST}"):
        yield rule.problem.format(*row)
