"""Rules for volumes: which is current, what retains them, and what is reclaimed."""

from vtlfs.engine.tracking.rules.rule import Rule

VOLUMES = (
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
