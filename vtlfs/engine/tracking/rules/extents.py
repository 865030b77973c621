"""Rules for extents, stripes and the disks that they are on."""

from collections.abc import Iterable

from vtlfs.disks.records import BLOCK
from vtlfs.engine.tracking.repositories.lacks import HEADERS
from vtlfs.engine.tracking.rows import DIGEST_BYTES
from vtlfs.engine.tracking.rules.rule import Rule
from vtlfs.model import NO_CODEC, NOWHERE

_EVERYWHERE = (
    "(SELECT session, stripe, disk, position, stored, bytes, blake3, offset, place, codec FROM extent UNION ALL"
    " SELECT session, stripe, disk, position, stored, 0, blake3, NULL, place, NULL FROM parity)"
)
"""All extents, of data and of parity."""

_PLACED = f"{_EVERYWHERE} WHERE position <> {NOWHERE}"

EXTENTS = (
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


def spread(disks: Iterable[int]) -> Rule:
    """Return the rule on which disks a session's extents are, of a library that has ever had these disks."""
    used = " || ".join(f"iif(max(disk = {number}), ',{number}', '')" for number in disks)
    return Rule(
        "session {0}: {1} bytes on disks {2}; its extents have {3} bytes on disks {4}",
        "SELECT id, session.bytes, disks, data, there FROM (SELECT session, sum(bytes) AS data,"
        f" '[' || ltrim({used}, ',') || ']' AS there FROM {_EVERYWHERE} GROUP BY session) JOIN session ON id = session"
        " WHERE NOT reclaimed AND (session.bytes <> data OR disks <> there OR access <> 'write')",
    )
