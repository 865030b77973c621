"""Rules for the library as a whole: its counters, disks, drives, mounts, pools and jobs."""

from vtlfs.engine.tracking.rules.rule import Rule

COUNTED = Rule(
    "the library's counters are {0} media, {1} sessions, {2} tape files, {3} bytes; there are {4}, {5}, {6}, {7}",
    "SELECT * FROM (SELECT media, sessions, tape_files, bytes,"
    " (SELECT count(*) FROM medium WHERE state <> 'removed') AS a,"
    " (SELECT count(*) FROM session) AS b, (SELECT count(*) FROM tape_file) AS c,"
    " (SELECT coalesce(sum(bytes), 0) FROM tape_file) AS d FROM library)"
    " WHERE media <> a OR sessions <> b OR tape_files <> c OR bytes <> d",
)

LIBRARY = (
    Rule("a row of {0} names a row of {1} that is not there", 'SELECT "table", parent FROM pragma_foreign_key_check'),
    Rule("the table library has {0} rows instead of 1", "SELECT count(*) FROM library HAVING count(*) <> 1"),
    Rule("the table copy has {0} rows instead of 1", "SELECT count(*) FROM copy HAVING count(*) <> 1"),
    COUNTED,
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
    Rule(
        "incident {0}: it is about {1}, of the kind {2}, with session {3}, and lasts: {4}",
        "SELECT number, about, kind, session, lasts FROM incident WHERE number < 1 OR session IS NOT NULL AND lasts"
        " OR (about IN ('streams', 'reads')) <> (session IS NOT NULL)",
    ),
    Rule(
        "by {0}, people were told of {1} up to incident {2}, which is yet to come; or it failed {3} times, {4}, at {5}",
        "SELECT way, about, told, tries, error, tried_at FROM telling WHERE told > (SELECT coalesce(max(number), 0)"
        " FROM incident) OR tries < 0 OR (tries = 0) <> (error IS NULL) OR (tries = 0) <> (tried_at IS NULL)",
    ),
)
