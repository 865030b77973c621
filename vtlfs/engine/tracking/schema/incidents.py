"""The tables of what went wrong by itself, and of what people were told of it: the step `incidents` makes them."""

INCIDENTS = """
-- What went wrong by itself, or is well again, in the order in which it came. Not versioned.
CREATE TABLE incident (
    number INTEGER PRIMARY KEY,      -- from 1
    at TEXT NOT NULL,                -- for people: the order is that of the numbers
    kind TEXT NOT NULL,              -- stream failed, disk failed, disk back, ...
    about TEXT NOT NULL,             -- what it is about, such as streams, or disk 1
    session INTEGER,                 -- the session that failed; NULL: it is about no session
    what TEXT NOT NULL,              -- in words; of a session: the name of its errno, or recovered
    advice TEXT,                     -- what to do about it; NULL: nothing, or it is told when it is shown
    lasts INTEGER NOT NULL DEFAULT 0 CHECK (lasts IN (0, 1))  -- 1: it has not ended
) STRICT;
CREATE UNIQUE INDEX incident_lasts ON incident (about) WHERE lasts;
CREATE INDEX incident_about ON incident (about, number);

-- How far people were told of incidents, by each way, by what these are about. Not versioned.
CREATE TABLE telling (
    way TEXT NOT NULL,               -- command, or url
    about TEXT NOT NULL,             -- '': of whatever has no row of its own
    told INTEGER NOT NULL,           -- number of the last incident that was told, or need not be
    told_at TEXT,                    -- when; NULL: nothing was told yet
    tried_at TEXT,                   -- when telling failed last; NULL: it has not failed since told_at
    tries INTEGER NOT NULL DEFAULT 0,  -- how often it has, since then
    error TEXT,                      -- why it did; NULL: it did not
    PRIMARY KEY (way, about)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER session_failed AFTER UPDATE OF state ON session
WHEN OLD.state = 'open' AND NEW.state <> 'open' AND NEW.origin IS NULL
    AND (NEW.error IS NOT NULL OR NEW.access = 'write' AND NEW.state = 'recovered') BEGIN
    INSERT INTO incident (at, kind, about, session, what)
    VALUES (NEW.released_at, iif(NEW.access = 'write', 'stream failed', 'read failed'),
            iif(NEW.access = 'write', 'streams', 'reads'), NEW.id, coalesce(NEW.error, NEW.state));
END;

"""

KNOWN = """
    INSERT INTO incident (at, kind, about, session, what)
    SELECT released_at, iif(access = 'write', 'stream failed', 'read failed'),
           iif(access = 'write', 'streams', 'reads'), id, coalesce(error, state)
    FROM session WHERE state <> 'open' AND origin IS NULL AND (error IS NOT NULL OR access = 'write'
                                                               AND state = 'recovered')
    ORDER BY id
"""
"""The sessions that had failed before there was a table of incidents."""
