"""Rules for media and their tape files: lengths, places, and the order of release."""

from vtlfs.engine.tracking.rules.rule import Rule

MEDIA = (
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

ORDER = (
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
