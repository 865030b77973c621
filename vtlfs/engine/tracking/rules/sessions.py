"""Rules for sessions."""

from vtlfs.engine.tracking.rules.rule import Rule

SESSIONS = (
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
