"""The invariants of the tracking database, as rules: each is a query that finds the rows that break it.

`vtlfs check` runs all rules, a mount those of QUICK. Each rule is one statement, which sees one state of the database
while others write. No rule says that one time is before another, since clocks jump. Times are compared with copies of
themselves only.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vtlfs.disks.records import BLOCK
from vtlfs.engine.tracking.database import Tracking
from vtlfs.engine.tracking.repositories.lacks import HEADERS
from vtlfs.engine.tracking.rows import DIGEST_BYTES
from vtlfs.engine.tracking.schema.tables import VERSIONED
from vtlfs.model import NO_CODEC, NOWHERE

MOST = 1000  # rows that one rule reports


@dataclass(frozen=True, slots=True)
class Rule:
    """`sql` finds rows that break the rule; `problem` describes one, whose columns are `{0}`, `{1}` and so on."""

    problem: str
    sql: str


SOUND = Rule(
    "SQLite finds it damaged: {0}",
    "SELECT replace(quick_check, char(10), ' ') FROM pragma_quick_check WHERE quick_check <> 'ok'",
)
"""The rule that is checked first: no other rule can be relied on in a damaged database."""

_COUNTED = Rule(
    "the library's counters are {0} media, {1} sessions, {2} tape files, {3} bytes; there are {4}, {5}, {6}, {7}",
    "SELECT * FROM (SELECT media, sessions, tape_files, bytes,"
    " (SELECT count(*) FROM medium WHERE state <> 'removed') AS a,"
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
        "there are {0} disks that have not retired; two or more are needed",
        "SELECT count(*) AS disks FROM disk WHERE state <> 'retired' HAVING disks < 2",
    ),
    Rule(
        "disk {0}: number {1} is the one that the next disk gets",
        "SELECT number, disks FROM disk, library WHERE number < 0 OR number >= disks",
    ),
    Rule(
        "disk {0}: it is {1}, since {2}, and disk {3} replaces it",
        "SELECT number, state, state_at, successor FROM disk WHERE (state = 'in use') <> (state_at IS NULL)"
        " OR successor IS NOT NULL AND (state = 'in use' OR successor = number"
        " OR successor NOT IN (SELECT number FROM disk))",
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
    Rule(
        "stream {0} of pool {1}: part {2} is session {3}, and does not follow the part before",
        "SELECT stream, pool, place, session FROM part WHERE place < 0 OR (session = stream AND place <> 0)"
        # A first session that wrote nothing is on no disk: after a rebuild, the stream begins with a later one.
        " OR (place = 0 AND session <> stream AND (session < stream OR stream IN (SELECT id FROM session)))"
        " OR (place > 0 AND NOT EXISTS (SELECT 1 FROM part AS before WHERE before.stream = part.stream"
        " AND before.place = part.place - 1 AND before.pool = part.pool AND before.session < part.session))",
    ),
    Rule(
        "job {0}: {1} of {2} bytes are done; its end is {3}, its result {4}",
        "SELECT name, done, total, ended_at, result FROM job"
        " WHERE done < 0 OR total < 0 OR (ended_at IS NULL) <> (result IS NULL)",
    ),
)

_MEDIA = (
    Rule(
        "medium {0}: volume {1} has {2} bytes in {3} tape files, but its tape files are {4} bytes in {5}",
        "SELECT * FROM (SELECT volume.medium, volume.number,"
        " iif(ended IS NULL, medium.bytes, volume.bytes) AS size,"
        " iif(ended IS NULL, medium.tape_files, volume.tape_files) AS files, coalesce(b, 0) AS b, coalesce(n, 0) AS n"
        " FROM volume JOIN medium ON barcode = volume.medium LEFT JOIN (SELECT medium, volume, sum(bytes) AS b,"
        " count(*) AS n FROM tape_file GROUP BY medium, volume) AS there"
        " ON there.medium = volume.medium AND there.volume = volume.number) WHERE size <> b OR files <> n",
    ),
    Rule(
        "medium {0}: tape file {1} begins at {2}, but {3} tape files with {4} bytes are before it",
        "SELECT * FROM (SELECT medium, number, start, row_number() OVER files - 1 AS n, sum(bytes) OVER files - bytes"
        " AS b FROM tape_file WINDOW files AS (PARTITION BY medium, volume ORDER BY number))"
        " WHERE number <> n OR start <> b",
    ),
    Rule(
        "medium {0}: it was last written {1}, its last tape file {2}",
        "SELECT barcode, written_at, tape_file.released_at FROM medium LEFT JOIN tape_file"
        " ON tape_file.medium = barcode AND tape_file.volume = medium.volume AND number = tape_files - 1"
        " WHERE written_at IS NOT tape_file.released_at",
    ),
    Rule(
        "medium {0}: {1} bytes are promised, but {2} to open sessions",
        "SELECT barcode, medium.reserved, coalesce(r, 0) FROM medium LEFT JOIN (SELECT medium, sum(reserved) AS r"
        " FROM session WHERE state = 'open' GROUP BY medium) ON medium = barcode"
        " WHERE medium.reserved <> coalesce(r, 0)",
    ),
    Rule(
        "medium {0}: it is {1}, and its slot is {2}",
        "SELECT barcode, state, slot FROM medium WHERE (state = 'removed') <> (slot IS NULL) OR slot < 1",
    ),
    Rule(
        "slot {0}: it is that of {1} media: {2}",
        "SELECT slot, count(*) AS media, group_concat(barcode, ', ') FROM medium WHERE slot IS NOT NULL GROUP BY slot"
        " HAVING media > 1",
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
        "SELECT * FROM (SELECT medium, number, ordinal, lag(ordinal) OVER (PARTITION BY medium ORDER BY volume, number)"
        " AS before FROM tape_file) WHERE before > ordinal",
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
        " OR session.medium <> tape_file.medium OR session.volume <> tape_file.volume"
        " OR session.bytes <> tape_file.bytes"
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


_EVERYWHERE = (
    "(SELECT session, stripe, disk, position, stored, bytes, blake3, offset, place, codec FROM extent UNION ALL"
    " SELECT session, stripe, disk, position, stored, 0, blake3, NULL, place, NULL FROM parity)"
)
"""All extents, of data and of parity."""

_PLACED = f"{_EVERYWHERE} WHERE position <> {NOWHERE}"

_EXTENTS = (
    Rule(
        "session {0}: the extent at offset {1} is at place {2} of stripe {3}; before it is the one up to offset {4}, at"
        " place {5} of stripe {6}",
        "SELECT session, offset, place, stripe, before, place_before, stripe_before FROM"
        " (SELECT session, offset, stripe, place, lag(offset + bytes, 1, 0) OVER stream AS before,"
        " lag(place, 1, -1) OVER stream AS place_before,"
        " lag(stripe, 1, -1) OVER stream AS stripe_before FROM extent"
        " WINDOW stream AS (PARTITION BY session ORDER BY offset)) AS one"
        " WHERE offset <> before OR place <> iif(stripe = stripe_before, place_before + 1, 0)"
        " AND EXISTS (SELECT 1 FROM parity WHERE session = one.session AND stripe = one.stripe)",
    ),
    Rule(
        "session {0}: {3} extents are at place {2} of stripe {1}",
        "SELECT session, stripe, place, count(*) AS extents FROM extent GROUP BY session, stripe, place"
        " HAVING extents > 1",
    ),
    Rule(
        "session {0}: the extent at offset {1} has {2} bytes, and reaches beyond its stripe unit",
        "SELECT session, offset, extent.bytes FROM extent JOIN session ON id = session"
        " WHERE offset / stripe_unit <> (offset + extent.bytes - 1) / stripe_unit",
    ),
    Rule(
        "session {0}: an extent of stripe {1}, at position {2} on disk {3}, can't be so: place {4}, offset {5}, {6}"
        " bytes, {7} stored, BLAKE3 of {8} bytes, codec {9}",
        "SELECT session, stripe, position, disk, place, offset, bytes, stored, length(blake3), codec"
        f" FROM {_EVERYWHERE} WHERE length(blake3) <> {DIGEST_BYTES} OR position < {NOWHERE} OR position % {BLOCK} <> 0"
        f" OR stripe < 0 OR place < 0 OR offset < 0 OR codec <> '{NO_CODEC}' OR offset IS NOT NULL AND stored <> bytes",
    ),
    Rule(
        "session {0}: two extents overlap on disk {1}, at position {2}",
        f"SELECT session, disk, position FROM (SELECT session, disk, position, lag(position + stored + {BLOCK}, 1, 0)"
        f" OVER member AS before FROM {_PLACED} WINDOW member AS (PARTITION BY session, disk ORDER BY position))"
        " WHERE position < before",
    ),
    Rule(
        "session {0}: {3} extents of stripe {1} are on disk {2}",
        f"SELECT session, stripe, disk, count(*) AS extents FROM {_PLACED} GROUP BY session, stripe, disk"
        " HAVING extents > 1",
    ),
    Rule(
        "session {0}: the parity of stripe {1} has {2} bytes, and the longest of its extents {3}",
        "SELECT parity.session, parity.stripe, parity.stored, longest FROM parity LEFT JOIN"
        " (SELECT session, stripe, max(stored) AS longest FROM extent GROUP BY session, stripe) AS data"
        " ON data.session = parity.session AND data.stripe = parity.stripe WHERE parity.stored IS NOT longest",
    ),
    Rule(
        "session {0}: stripe {1} has parity of row {2}, but stripes are to have {3} parity extents",
        "SELECT session, stripe, place, session.parity FROM parity JOIN session ON id = session"
        " WHERE place >= session.parity",
    ),
    Rule(
        "session {0}: {1} bytes are recorded, but no extent",
        "SELECT id, bytes FROM session WHERE access = 'write' AND bytes > 0 AND NOT reclaimed"
        " AND NOT EXISTS (SELECT 1 FROM extent WHERE session = id)",
    ),
    Rule(
        "disk {0}: {1} extents with {2} bytes are counted on it, and {3} with {4} are recorded",
        "SELECT disk, sum(extents) AS e, sum(bytes) AS b, sum(n) AS there, sum(size) AS stored FROM"
        " (SELECT disk, extents, bytes, 0 AS n, 0 AS size FROM stored UNION ALL"
        f" SELECT disk, 0, 0, count(*), sum(stored) FROM {_EVERYWHERE} GROUP BY disk)"
        " GROUP BY disk HAVING e <> there OR b <> stored",
    ),
    Rule(
        "disk {0}: it has retired, with {1} extents on it",
        "SELECT number, extents FROM disk JOIN stored ON disk = number WHERE state = 'retired' AND extents <> 0",
    ),
    Rule(
        "session {0}: its stripe {1} is said to lack {2} of {3} parity extents, damaged {4}, of {5} bytes",
        "SELECT session, stripe, lack.parity, session.parity, damaged, lack.bytes"
        f" FROM lack JOIN session ON id = session WHERE stripe < {HEADERS}"
        " OR lack.parity NOT BETWEEN 0 AND session.parity OR damaged NOT IN (0, 1)"
        " OR lack.bytes < 0 OR access <> 'write'",
    ),
    Rule(
        "session {0}: its stripe {1} is said to lack something, and it has no extents",
        f"SELECT session, stripe FROM lack WHERE stripe > {HEADERS} EXCEPT SELECT session, stripe FROM extent",
    ),
)


def _spread(disks: Iterable[int]) -> Rule:
    """Return the rule on which disks a session's extents are, of a library that has ever had these disks."""
    used = " || ".join(f"iif(max(disk = {number}), ',{number}', '')" for number in disks)
    return Rule(
        "session {0}: {1} bytes on disks {2}; its extents have {3} bytes on disks {4}",
        "SELECT id, session.bytes, disks, data, there FROM (SELECT session, sum(bytes) AS data,"
        f" '[' || ltrim({used}, ',') || ']' AS there FROM {_EVERYWHERE} GROUP BY session) JOIN session ON id = session"
        " WHERE NOT reclaimed AND (session.bytes <> data OR disks <> there OR access <> 'write')",
    )


_VOLUMES = (
    Rule(
        "medium {0}: its current volume is {1}; it has {2} volumes, of which the last is {3}",
        "SELECT barcode, volume, n, last FROM medium LEFT JOIN (SELECT medium, count(*) AS n, max(number) AS last,"
        " min(number) AS first FROM volume GROUP BY medium) ON medium = barcode"
        " WHERE last IS NOT volume OR n IS NOT volume OR first IS NOT 1",
    ),
    Rule(
        "session {0}: it is of volume {1} of {2}, which has {3}",
        "SELECT session.id, session.volume, barcode, medium.volume FROM session JOIN medium ON barcode = medium"
        " WHERE session.volume NOT BETWEEN 1 AND medium.volume",
    ),
    Rule(
        "session {0}: it writes to volume {1} of {2}, whose current volume is {3}",
        "SELECT session.id, session.volume, barcode, medium.volume FROM session JOIN medium ON barcode = medium"
        " WHERE session.state = 'open' AND access = 'write' AND session.volume <> medium.volume",
    ),
    Rule(
        "medium {0}: its volume {1} began in epoch {2} and ended in epoch {3}, at {4}; the current one is {5}",
        "SELECT volume.medium, number, begun, ended, ended_at, medium.volume FROM volume JOIN medium"
        " ON barcode = volume.medium JOIN library WHERE (ended IS NULL) <> (number = medium.volume)"
        " OR (ended IS NULL) <> (ended_at IS NULL) OR begun > coalesce(ended, epoch) OR ended > epoch",
    ),
    Rule(
        "medium {0}: its volume {1} is said to be reclaimed, and the bytes of session {2} are there",
        "SELECT volume.medium, volume.number, session.id FROM volume JOIN session ON session.medium = volume.medium"
        " AND session.volume = volume.number WHERE reclaimed_at IS NOT NULL AND tape_file IS NOT NULL"
        " AND NOT reclaimed",
    ),
    Rule(
        "medium {0}: {2} stored bytes are counted in its volume {1}, and {3} are recorded",
        "SELECT medium, number, sum(counted) AS c, sum(size) AS there FROM (SELECT medium, number, stored AS counted,"
        " 0 AS size FROM volume UNION ALL SELECT medium, volume, 0, stored FROM"
        " (SELECT session, sum(stored) AS stored FROM (SELECT session, stored FROM extent UNION ALL"
        " SELECT session, stored FROM parity) GROUP BY session) JOIN session ON id = session)"
        " GROUP BY medium, number HAVING c <> there",
    ),
    Rule(
        "session {0}: members of it are said to be left, and it is not reclaimed",
        "SELECT DISTINCT id FROM leftover JOIN session ON id = session WHERE NOT reclaimed AND (tape_file IS NOT NULL"
        " OR access <> 'write' OR state = 'open')",
    ),
    Rule(
        "medium {0}: its volume {1} is retained until {2}, and tape file {3} until {4}",
        "SELECT volume.medium, volume.number, volume.retain_until, tape_file.number, tape_file.retain_until"
        " FROM volume JOIN tape_file ON tape_file.medium = volume.medium AND tape_file.volume = volume.number"
        " WHERE volume.retain_mode IS NOT 'worm' AND tape_file.retain_until > coalesce(volume.retain_until, '')",
    ),
    Rule(
        "session {0}: it is said to be reclaimed, with extents or disks, or without a tape file of an ended volume",
        "SELECT id FROM session WHERE reclaimed AND (disks <> '[]' OR tape_file IS NULL"
        " OR volume = (SELECT volume FROM medium WHERE barcode = session.medium)"
        " OR (EXISTS (SELECT 1 FROM extent WHERE session = id UNION ALL SELECT 1 FROM parity WHERE session = id)"
        " AND NOT EXISTS (SELECT 1 FROM leftover WHERE session = id)))",
    ),
)

_PAST = (
    Rule(
        "snapshot {0}: it is not before the epoch {1}",
        "SELECT id, epoch FROM snapshot, library WHERE id >= epoch",
    ),
    Rule(
        "snapshot {0}: it counts less than the one before it, or more than there is",
        "SELECT id FROM (SELECT *, lag(sessions) OVER past AS s FROM snapshot"
        " WINDOW past AS (ORDER BY id)) AS then_, library WHERE s > then_.sessions"
        " OR open_sessions > then_.sessions OR then_.sessions > library.sessions",
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
"""The rules that a mount checks before it serves; they take less than a second with a hundred thousand sessions.

They find pages of different moments: a database has such pages if its write-ahead log was lost while SQLite folded it
in.
"""


def rules(tracking: Tracking) -> list[Rule]:
    """Return all rules but SOUND, the slowest first."""
    disks = [int(row[0]) for row in tracking.sql.execute("SELECT number FROM disk ORDER BY number")]
    histories = [rule for table, (key, _) in VERSIONED.items() for rule in _history(table, key)]
    return [_spread(disks), *_EXTENTS, *_LIBRARY, *_MEDIA, *_VOLUMES, *_ORDER, *_SESSIONS, *_PAST, *histories]


def broken(tracking: Tracking, rule: Rule) -> Iterator[str]:
    """Yield a text for each row that breaks the rule, at most MOST. Raises TrackingError."""
    for row in tracking.sql.execute(f"{rule.sql} LIMIT {MOST}"):
        yield rule.problem.format(*row)
