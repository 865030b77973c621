"""The tables of the tracking database as its first step makes them.

docs/tracking.md describes them for people who query. Times are ISO 8601 in UTC, sizes and offsets bytes. SQLite's
`STRICT` tables are used so that a wrong type is refused. No text of a table is edited any more, nor a comment in it:
SQLite keeps that text, and a database with another one is refused.
"""

TABLES = """
-- One row: the library itself. Not versioned.
CREATE TABLE library (
    uuid TEXT NOT NULL,              -- the same as in library.toml and on every disk's label
    created_at TEXT NOT NULL,
    epoch INTEGER NOT NULL,          -- the number that the next snapshot gets; see vtlfs/engine/tracking/history.py
    next_session INTEGER NOT NULL,   -- the lowest session identifier that no mount has been given
    media INTEGER NOT NULL DEFAULT 0,       -- not removed. Counters, kept by triggers: nothing counts a large table
    sessions INTEGER NOT NULL DEFAULT 0,
    tape_files INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,       -- in all tape files that there ever were
    commits INTEGER NOT NULL DEFAULT 0,     -- transactions that changed something: tells a database that went back
    announced INTEGER NOT NULL DEFAULT 0,   -- announcements of a close(), of all sessions: the number of the last one
    disks INTEGER NOT NULL DEFAULT 0,       -- the number that the next disk gets: none is ever used again
    moves INTEGER NOT NULL DEFAULT 0,       -- how often a repair has recorded that extents lie elsewhere
    latest TEXT NOT NULL DEFAULT ''         -- the highest time that was ever recorded: no retention ends by an earlier
) STRICT;

-- A random-access device that holds extents. Two or more that have not retired.
CREATE TABLE disk (
    number INTEGER PRIMARY KEY,      -- from 0, in the order of adding; on the disk's label
    uuid TEXT NOT NULL UNIQUE,       -- on the disk's label
    path TEXT NOT NULL,              -- where it was when it was last seen
    added_at TEXT NOT NULL,
    total INTEGER,                   -- size of its file system; NULL: never looked at
    free INTEGER,                    -- of that, what could be written when it was last looked at
    seen_at TEXT,                    -- when that was
    fault TEXT,                      -- what keeps a mount from using it; NULL: nothing
    fault_at TEXT,                   -- since when
    state TEXT NOT NULL DEFAULT 'in use' CHECK (state IN ('in use', 'retiring', 'retired')),
    state_at TEXT,                   -- when it began to retire, or had retired; NULL: in use
    successor INTEGER,               -- number of the disk that replaces it; NULL: none
    since INTEGER                    -- history: epoch of the last change
) STRICT;

-- A set of write options under a number. Never a lock.
CREATE TABLE drive (
    number INTEGER PRIMARY KEY,      -- from 0
    loaded TEXT REFERENCES medium (barcode),  -- what /drives/N/loaded points to; NULL: nothing
    loaded_at TEXT,                  -- NULL: nothing loaded
    since INTEGER
) STRICT;

-- A cartridge.
CREATE TABLE medium (
    id INTEGER PRIMARY KEY,          -- in the order of adding; inode numbers come from it
    barcode TEXT NOT NULL UNIQUE,
    capacity INTEGER,                -- NULL: no limit
    bytes INTEGER NOT NULL DEFAULT 0,        -- length of the medium: the sum of its current volume's tape files
    tape_files INTEGER NOT NULL DEFAULT 0,   -- how many: the number of the next one
    reserved INTEGER NOT NULL DEFAULT 0,     -- promised to open sessions; only where there is a capacity
    added_at TEXT NOT NULL,
    written_at TEXT,                 -- release of the current volume's last tape file; NULL: empty
    volume INTEGER NOT NULL DEFAULT 1,       -- number of the current volume
    begun_at TEXT NOT NULL,          -- when that began
    state TEXT NOT NULL DEFAULT 'in use' CHECK (state IN ('in use', 'retired', 'removed')),
    protected INTEGER NOT NULL DEFAULT 0 CHECK (protected IN (0, 1)),  -- 1: its write-protect tab is set
    since INTEGER,
    CHECK (bytes >= 0 AND reserved >= 0 AND (capacity IS NULL OR bytes + reserved <= capacity))
) STRICT;

-- One life of a medium. The current one has the highest number. Not versioned.
CREATE TABLE volume (
    medium TEXT NOT NULL REFERENCES medium (barcode),
    number INTEGER NOT NULL,         -- from 1
    begun_at TEXT NOT NULL,
    begun INTEGER NOT NULL,          -- epoch in which it began: snapshot S shows it if begun <= S < ended
    ended_at TEXT,                   -- when the medium was erased; NULL: it is the current volume
    ended INTEGER,                   -- epoch in which that was
    bytes INTEGER NOT NULL DEFAULT 0,       -- in its tape files, when it ended; of the current one: medium.bytes
    tape_files INTEGER NOT NULL DEFAULT 0,  -- how many, when it ended
    retain_mode TEXT CHECK (retain_mode IN ('governance', 'compliance', 'worm')),  -- NULL: no retention
    retain_seconds INTEGER,          -- for which each tape file is retained from its release; NULL: worm, or none
    retain_until TEXT,               -- before that the volume does not end; NULL: worm, none, or nothing written yet
    stored INTEGER NOT NULL DEFAULT 0,      -- stored bytes of its extents, parity included: kept with their rows
    deleted INTEGER NOT NULL DEFAULT 0,     -- stored bytes of it that are reclaimed so far
    reclaimed_at TEXT,               -- when the last of them was; NULL: some are there
    PRIMARY KEY (medium, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX volume_ended ON volume (ended) WHERE ended IS NOT NULL AND reclaimed_at IS NULL;

-- Legal holds: while a medium has one, its volume does not end. Not versioned: the events tell of the past.
CREATE TABLE hold (
    medium TEXT NOT NULL REFERENCES medium (barcode),
    name TEXT NOT NULL,
    reason TEXT NOT NULL,
    placed_at TEXT NOT NULL,
    uid INTEGER NOT NULL,            -- of who placed it
    host TEXT NOT NULL,              -- on which that was
    PRIMARY KEY (medium, name)
) STRICT, WITHOUT ROWID;

-- What was done to media, volumes, snapshots and pools, by whom and why. Rows never change and are never deleted.
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,                -- for people: the order is that of the identifiers
    epoch INTEGER NOT NULL,          -- in which it happened: snapshot S shows those with epoch <= S
    what TEXT NOT NULL,              -- erased, retired, removed, protected, held, released, reclaimed, ...
    medium TEXT,                     -- barcode; NULL: it is about no medium
    volume INTEGER,                  -- of the medium, to which it happened
    uid INTEGER NOT NULL,            -- of who did it
    host TEXT NOT NULL,              -- on which that was
    program TEXT NOT NULL,           -- with which: vtlfs, or what opened the medium
    reason TEXT,                     -- as given; NULL: none
    details TEXT NOT NULL DEFAULT '{}'  -- what else there is to know, a JSON object
) STRICT;
CREATE INDEX event_medium ON event (medium, id);
CREATE INDEX event_reclaimed ON event (at) WHERE what = 'reclaimed';

-- On which medium each pool of library.toml is. Not versioned.
CREATE TABLE pool (
    name TEXT PRIMARY KEY,
    medium TEXT REFERENCES medium (barcode),  -- NULL: on none yet
    is_full INTEGER NOT NULL DEFAULT 0 CHECK (is_full IN (0, 1)),  -- 1: a stream did not fit: the next takes another
    changed_at TEXT NOT NULL         -- when it came to that medium
) STRICT, WITHOUT ROWID;

-- The write sessions that were opened through a pool. A stream that goes on on a further medium has one for each.
CREATE TABLE part (
    session INTEGER PRIMARY KEY REFERENCES session (id) DEFERRABLE INITIALLY DEFERRED,
    pool TEXT NOT NULL,              -- name of the pool; library.toml may have it no longer
    stream INTEGER NOT NULL,         -- identifier of the stream's first session
    place INTEGER NOT NULL,          -- in the stream, from 0
    UNIQUE (stream, place)
) STRICT;
CREATE INDEX part_pool ON part (pool, stream);

-- One mounted process.
CREATE TABLE mount (
    id INTEGER PRIMARY KEY,
    host TEXT,                       -- what -o host= said; NULL: not said
    machine TEXT NOT NULL,           -- name of the machine
    pid INTEGER NOT NULL,            -- of the process that serves the mount
    uid INTEGER NOT NULL,
    mountpoint TEXT NOT NULL,
    options TEXT NOT NULL,           -- as given with -o
    state TEXT NOT NULL CHECK (state IN ('mounted', 'unmounted', 'dead')),  -- dead: ended without unmounting
    mounted_at TEXT NOT NULL,
    unmounted_at TEXT,               -- NULL: mounted; of a dead mount, when it was found dead
    since INTEGER
) STRICT;

CREATE INDEX mount_live ON mount (id) WHERE state = 'mounted';

-- What one open() started and its last close() ends. Those that write are the write commands.
CREATE TABLE session (
    id INTEGER PRIMARY KEY,          -- unique for ever; the inode number of the open file
    mount INTEGER NOT NULL REFERENCES mount (id),
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,            -- of the process that opened
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    program TEXT NOT NULL,           -- its name, '?' where it can't be told
    access TEXT NOT NULL CHECK (access IN ('write', 'read')),
    drive INTEGER NOT NULL REFERENCES drive (number),
    medium TEXT NOT NULL REFERENCES medium (barcode),
    state TEXT NOT NULL CHECK (state IN ('open', 'released', 'failed', 'recovered')),
    error TEXT,                      -- name of the errno that the program was given, such as ENOSPC; NULL: none
    opened_at TEXT NOT NULL,
    released_at TEXT,                -- NULL: open
    flushed_at TEXT,                 -- the last close() of a copy of its descriptor that had something to flush
    bytes INTEGER NOT NULL DEFAULT 0,     -- write: made durable so far; read: handed out, counted at release
    requests INTEGER NOT NULL DEFAULT 0,  -- write or read requests that reached vtlfs
    reserved INTEGER NOT NULL DEFAULT 0,  -- its share of medium.reserved
    stripe_unit INTEGER NOT NULL,    -- size of its stripe units
    parity INTEGER NOT NULL DEFAULT 0,    -- parity extents that its stripes were to have
    disks TEXT NOT NULL DEFAULT '[]',     -- numbers of the disks that hold its extents, a JSON array
    tape_file INTEGER,               -- what it left on the medium; NULL: nothing, or still open
    volume INTEGER NOT NULL DEFAULT 1,    -- of the medium, in which it writes or reads
    reclaimed INTEGER NOT NULL DEFAULT 0 CHECK (reclaimed IN (0, 1)),  -- 1: its stored bytes are deleted
    announced INTEGER,               -- number of its last announcement that it may be about to be released; NULL: none
    origin TEXT,                     -- imported: LIBRARY/SESSION, its UUID and identifier of then; NULL: not imported
    since INTEGER
) STRICT;
CREATE INDEX session_medium ON session (medium, id);
CREATE INDEX session_host ON session (host, id);
CREATE INDEX session_open ON session (medium, mount) WHERE state = 'open';
CREATE INDEX session_recovered ON session (mount) WHERE state = 'recovered';
CREATE INDEX session_written ON session (released_at, host, medium, bytes, tape_file) WHERE tape_file IS NOT NULL;

-- What a write session left on a medium. Rows never change.
CREATE TABLE tape_file (
    medium TEXT NOT NULL REFERENCES medium (barcode),
    volume INTEGER NOT NULL,         -- of the medium
    number INTEGER NOT NULL,         -- from 0, in the order of release
    session INTEGER NOT NULL UNIQUE REFERENCES session (id),
    start INTEGER NOT NULL,          -- offset on the medium of its first byte
    bytes INTEGER NOT NULL CHECK (bytes > 0),
    released_at TEXT NOT NULL,       -- for people: the order is that of the ordinals
    epoch INTEGER NOT NULL,          -- in which it came: snapshot S shows those with epoch <= S
    ordinal INTEGER NOT NULL UNIQUE, -- over all media, in the order of release: 1 to library.tape_files
    retain_mode TEXT,                -- retention as its member headers say it; NULL: none
    retain_until TEXT,               -- NULL: none, or for ever
    PRIMARY KEY (medium, volume, number),
    UNIQUE (medium, volume, start)
) STRICT, WITHOUT ROWID;
CREATE INDEX tape_file_epoch ON tape_file (epoch);

-- Where each piece of a session's stream lies. What it says of the stream never changes; the place does where a disk
-- is replaced or retired.
CREATE TABLE extent (
    session INTEGER NOT NULL REFERENCES session (id),
    offset INTEGER NOT NULL,         -- in the stream; an extent lies within one stripe unit
    bytes INTEGER NOT NULL CHECK (bytes > 0),  -- of the stream
    stripe INTEGER NOT NULL,         -- number of its stripe in the session, from 0; there are gaps
    place INTEGER NOT NULL,          -- in the stripe, from 0
    codec TEXT NOT NULL,             -- how the stored bytes become those of the stream; none: they are
    disk INTEGER NOT NULL REFERENCES disk (number),
    position INTEGER NOT NULL,       -- of its record in the session's member file on that disk; 0: not found by a
                                     -- rebuild: it is computed from its stripe, or nothing is known of it
    stored INTEGER NOT NULL CHECK (stored > 0),  -- bytes behind the record
    blake3 BLOB NOT NULL,            -- of the stored bytes, 32 bytes
    PRIMARY KEY (session, offset)
) STRICT, WITHOUT ROWID;

-- The parity of stripes: with it, lost extents of the same stripe are computed.
CREATE TABLE parity (
    session INTEGER NOT NULL REFERENCES session (id),
    stripe INTEGER NOT NULL,
    place INTEGER NOT NULL,          -- its row: 0 is the XOR of the stripe's data, 1 the second sum of RAID-6
    disk INTEGER NOT NULL REFERENCES disk (number),
    position INTEGER NOT NULL,
    stored INTEGER NOT NULL CHECK (stored > 0),
    blake3 BLOB NOT NULL,
    PRIMARY KEY (session, stripe, place)
) STRICT, WITHOUT ROWID;

-- What lies on each disk that ever had an extent: kept with the rows of extent and parity. Not versioned.
CREATE TABLE stored (
    disk INTEGER PRIMARY KEY REFERENCES disk (number),
    extents INTEGER NOT NULL,        -- rows of extent and parity that name it
    bytes INTEGER NOT NULL           -- their stored bytes
) STRICT;

-- Members of reclaimed sessions that may still be on a disk, until they are removed there. Not versioned.
CREATE TABLE leftover (
    disk INTEGER NOT NULL REFERENCES disk (number),
    session INTEGER NOT NULL REFERENCES session (id),
    PRIMARY KEY (disk, session)
) STRICT, WITHOUT ROWID;
CREATE INDEX leftover_session ON leftover (session);

-- Stripes that are known to lack something, until a repair has mended them. Not versioned.
CREATE TABLE lack (
    session INTEGER NOT NULL REFERENCES session (id),
    stripe INTEGER NOT NULL,         -- -1: headers of the session's member files
    found_at TEXT NOT NULL,          -- when it was written so, or a verification found it damaged
    bytes INTEGER NOT NULL,          -- stored bytes of its data extents
    parity INTEGER NOT NULL,         -- parity extents that it was written without
    damaged INTEGER NOT NULL,        -- 1: a verification found an extent, a record or a header damaged
    PRIMARY KEY (session, stripe)
) STRICT, WITHOUT ROWID;

-- Long work that mounts or commands do, one at a time of each kind: how far it is. Not versioned.
CREATE TABLE job (
    name TEXT PRIMARY KEY,           -- repair, or reclaim
    by TEXT NOT NULL,                -- who does it, or did it last: a mount, or a command
    begun_at TEXT NOT NULL,
    ended_at TEXT,                   -- NULL: it is under way, or was interrupted
    done INTEGER NOT NULL,           -- bytes
    total INTEGER NOT NULL,          -- bytes that there were to do at the beginning
    result TEXT                      -- what came of it, in words; NULL: it has not ended
) STRICT, WITHOUT ROWID;

-- A moment of the database that was kept. Its number is the epoch that it closed.
CREATE TABLE snapshot (
    id INTEGER PRIMARY KEY,
    name TEXT,                       -- what the one who took it called it; NULL: nothing
    taken_at TEXT NOT NULL,
    scheduled INTEGER NOT NULL CHECK (scheduled IN (0, 1)),  -- 1: taken by a mount, as library.toml says
    next_session INTEGER NOT NULL,   -- of the library at that moment, and so are the counters
    media INTEGER NOT NULL,
    sessions INTEGER NOT NULL,
    open_sessions INTEGER NOT NULL,
    tape_files INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX snapshot_name ON snapshot (name) WHERE name IS NOT NULL;

-- The copies of this database on the disks, see vtlfs/engine/backup/copies.py. One row. Not versioned.
CREATE TABLE copy (
    number INTEGER NOT NULL,         -- of the last one that was begun, from 1; 0: none was
    begun_at TEXT,                   -- when; NULL: never
    again_at TEXT,                   -- the next one is not begun before
    state TEXT                       -- what the library was like then; NULL: no disk has taken the last copy
) STRICT;
INSERT INTO copy (number) VALUES (0);

-- One run of `vtlfs verify`. Not versioned.
CREATE TABLE verification (
    id INTEGER PRIMARY KEY,
    started_at TEXT NOT NULL,
    ended_at TEXT,                   -- NULL: it is running, or was interrupted
    media TEXT,                      -- barcodes, a JSON array; NULL: all
    progress TEXT NOT NULL DEFAULT '{}',  -- by disk number the last [session, position] verified, a JSON object
    bytes INTEGER NOT NULL DEFAULT 0,       -- gone through so far, harmed or not
    damaged INTEGER NOT NULL DEFAULT 0,     -- extents that are not what was written
    unreadable INTEGER NOT NULL DEFAULT 0,  -- extents that could not be read, and disks that were not there
    metadata INTEGER NOT NULL DEFAULT 0,    -- headers and records that are wrong where the bytes are right
    replaceable INTEGER NOT NULL DEFAULT 0, -- of these extents, those that their stripes can replace
    mended INTEGER NOT NULL DEFAULT 0,      -- of all these, those that a repair has made whole again
    moves INTEGER NOT NULL DEFAULT 0,       -- library.moves when it was begun
    last INTEGER NOT NULL DEFAULT 0,        -- ordinal of the last tape file to verify
    unfinished TEXT NOT NULL DEFAULT '[]'   -- [disk, session] of headers without the session's end yet, a JSON array
) STRICT;

-- Tape files of which a verification found bytes lost. Not versioned.
CREATE TABLE hurt (
    verification INTEGER NOT NULL REFERENCES verification (id),
    session INTEGER NOT NULL REFERENCES session (id),
    bytes INTEGER NOT NULL,
    PRIMARY KEY (verification, session)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER medium_counted AFTER INSERT ON medium BEGIN
    UPDATE library SET media = media + 1;
END;
CREATE TRIGGER medium_removed AFTER UPDATE OF state ON medium BEGIN
    UPDATE library SET media = media + (OLD.state = 'removed') - (NEW.state = 'removed');
END;
CREATE TRIGGER medium_begun AFTER INSERT ON medium BEGIN
    INSERT INTO volume (medium, number, begun_at, begun)
    VALUES (NEW.barcode, NEW.volume, NEW.begun_at, (SELECT epoch FROM library));
END;
CREATE TRIGGER event_stays BEFORE DELETE ON event BEGIN
    SELECT raise(ABORT, 'events are never deleted');
END;
CREATE TRIGGER event_unchanged BEFORE UPDATE ON event BEGIN
    SELECT raise(ABORT, 'events never change');
END;
CREATE TRIGGER disk_counted AFTER INSERT ON disk BEGIN
    UPDATE library SET disks = max(disks, NEW.number + 1);
END;
CREATE TRIGGER session_counted AFTER INSERT ON session BEGIN
    UPDATE library SET sessions = sessions + 1;
END;
CREATE TRIGGER tape_file_counted AFTER INSERT ON tape_file BEGIN
    UPDATE library SET tape_files = tape_files + 1, bytes = bytes + NEW.bytes;
END;

"""

WRITE_COMMAND = """
    SELECT id AS session, host, drive, medium, opened_at AS intercepted_at, released_at AS completed_at, state, error,
           bytes, requests, disks, tape_file
    FROM session WHERE access = 'write'
"""
"""The write commands, of whatever `session` is: intercepted at open, completed at release."""

VERSIONED = {
    "disk": (
        "number",
        [
            "number",
            "uuid",
            "path",
            "added_at",
            "total",
            "free",
            "seen_at",
            "fault",
            "fault_at",
            "state",
            "state_at",
            "successor",
        ],
    ),
    "drive": ("number", ["number", "loaded", "loaded_at"]),
    "medium": (
        "barcode",
        [
            "id",
            "barcode",
            "capacity",
            "bytes",
            "tape_files",
            "reserved",
            "added_at",
            "written_at",
            "volume",
            "begun_at",
            "state",
            "protected",
            "slot",
        ],
    ),
    "mount": (
        "id",
        [
            "id",
            "host",
            "machine",
            "pid",
            "uid",
            "mountpoint",
            "options",
            "state",
            "mounted_at",
            "unmounted_at",
        ],
    ),
    "session": (
        "id",
        [
            "id",
            "mount",
            "host",
            "pid",
            "uid",
            "gid",
            "program",
            "access",
            "drive",
            "medium",
            "state",
            "error",
            "opened_at",
            "released_at",
            "flushed_at",
            "bytes",
            "requests",
            "reserved",
            "stripe_unit",
            "parity",
            "disks",
            "tape_file",
            "volume",
            "reclaimed",
            "announced",
            "origin",
            "sequence",
        ],
    ),
}
"""Tables with a history: their key and all their columns but `since`."""
