"""The tables of the member index, `members.db` in the library's directory. docs/find.md describes them.

The index is thrown away and made anew whenever it is damaged, of another version, or of another library.
"""

VERSION = 2  # of the tables: PRAGMA user_version

TABLES = """
-- One row: of which catalogue the index tells.
CREATE TABLE catalogue (
    uuid TEXT NOT NULL,              -- of the library
    ordinal INTEGER NOT NULL,        -- tape files up to this ordinal have a row of stream
    session INTEGER NOT NULL,        -- of the tape file with that ordinal: changes when the catalogue is rebuilt
    event INTEGER NOT NULL           -- reclaimed volumes up to this event are forgotten
) STRICT;

-- A stream of the library: one tape file, or those of one stream that went through a pool.
CREATE TABLE stream (
    session INTEGER PRIMARY KEY,     -- identifier of its first session
    bytes INTEGER NOT NULL,          -- its length when it was looked at; pending: 0
    state TEXT NOT NULL CHECK (state IN ('pending', 'indexed', 'unknown')),
    note TEXT,                       -- why it is unknown, or what of it can't be read; NULL: nothing to say
    members INTEGER NOT NULL DEFAULT 0,
    first INTEGER NOT NULL DEFAULT 0,  -- its members are those with ids from here on ...
    last INTEGER NOT NULL DEFAULT -1   -- ... up to here
) STRICT;
CREATE INDEX stream_pending ON stream (session) WHERE state = 'pending';

-- An archive in a stream.
CREATE TABLE archive (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES stream (session),
    start INTEGER NOT NULL,          -- offset in the stream of its first byte; compressed: of the compressed data
    format TEXT NOT NULL,            -- tar, cpio
    compression TEXT NOT NULL,       -- none, gzip, zstd, xz, ...
    first INTEGER NOT NULL UNIQUE    -- its members have ids from here on, up to those of the next archive
) STRICT;
CREATE INDEX archive_stream ON archive (stream);

-- A directory that occurs in a path of an archive: each text once, whatever the streams.
CREATE TABLE directory (
    id INTEGER PRIMARY KEY,
    parent INTEGER,                  -- NULL: of the root, whose path is empty
    path TEXT NOT NULL UNIQUE        -- with the slash at its end, as it stands in the archive; the root: ''
) STRICT;
CREATE INDEX directory_parent ON directory (parent);

-- A path: each one once.
CREATE TABLE path (
    id INTEGER PRIMARY KEY,
    directory INTEGER NOT NULL REFERENCES directory (id),
    name TEXT NOT NULL,              -- the last component; directory.path || name is the path
    UNIQUE (directory, name)
) STRICT;

-- An archive member, in the order of the stream.
CREATE TABLE member (
    id INTEGER PRIMARY KEY,
    path INTEGER NOT NULL REFERENCES path (id),
    kind TEXT NOT NULL,              -- letter of `ls -l`; h: a hard link
    size INTEGER NOT NULL,
    mtime INTEGER,                   -- seconds since 1970; NULL: unknown
    start INTEGER NOT NULL,          -- of its first header: offset in the stream, or in the decompressed data
    length INTEGER NOT NULL,         -- up to the next header
    link TEXT                        -- what a link points to; NULL: no link
) STRICT;
CREATE INDEX member_path ON member (path);

-- Which directories occur in a stream, with those above them.
CREATE TABLE occurrence (
    stream INTEGER NOT NULL REFERENCES stream (session),
    directory INTEGER NOT NULL REFERENCES directory (id),
    PRIMARY KEY (stream, directory)
) STRICT, WITHOUT ROWID;
CREATE INDEX occurrence_directory ON occurrence (directory);

-- Which paths have which three characters in a row; rowid: path.id. The text is the path between a slash and ENDS, so
-- that one or two characters begin three in a row wherever they stand, and so that the first and last ones can be told.
CREATE VIRTUAL TABLE trigram USING fts5 (path, tokenize = 'trigram', content = '', detail = none, columnsize = 0);
-- All that occur: three characters a row, in their order.
CREATE VIRTUAL TABLE gram USING fts5vocab (trigram, instance);
"""
