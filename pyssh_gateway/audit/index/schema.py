"""The tables of the index.

The index has no fact that the log lacks, so there is no migration: an index of another version is made anew. Events
themselves stay in the log's files, and a connection has the range of lines to look for them in.
"""

from zlib import crc32

_MEANING = 3
"""To be counted up when the same columns get another meaning."""

APPLICATION = 0x50534758
"""Marks the file as ours ("PSGX"), so that no other program's database is ever replaced."""

TABLES = """
CREATE TABLE state (
    next INTEGER NOT NULL,      -- the index of the first line that is not in here yet
    first INTEGER NOT NULL,     -- the index of the first line that is
    last BLOB NOT NULL,         -- the hash of the line before `next`: whether this is still the same log
    file INTEGER NOT NULL,      -- the first index of the file in which the last line was, and where that line ended,
    offset INTEGER NOT NULL,    -- if the file was not compressed; else 0
    size INTEGER NOT NULL,      -- the length of the last line, with its newline
    damaged INTEGER NOT NULL,   -- lines that are no events
    broken INTEGER NOT NULL,    -- files that can't be read to their end
    time REAL NOT NULL          -- of the last event
);
CREATE TABLE connections (
    id INTEGER PRIMARY KEY,
    conn TEXT NOT NULL,         -- its name in the log; older logs use a name again after a start
    line INTEGER NOT NULL,      -- the indexes of its first and its last line
    last_line INTEGER NOT NULL,
    opened REAL NOT NULL,
    ended REAL,                 -- NULL while it is open; of a lost one: the last event before the next start
    state TEXT NOT NULL,        -- open, closed, lost
    peer TEXT NOT NULL,
    port INTEGER,
    proxy TEXT NOT NULL,
    user TEXT NOT NULL,         -- the account, or the one that was asked for
    authenticated REAL,         -- when; NULL: nobody logged in
    person TEXT NOT NULL,
    person_id INTEGER,
    fingerprint TEXT NOT NULL,
    source TEXT NOT NULL,
    client TEXT NOT NULL,       -- what the client calls itself, and the fingerprint of its software
    hassh TEXT NOT NULL,
    cipher TEXT NOT NULL,
    reason TEXT NOT NULL,       -- of its end
    bytes_in INTEGER,
    bytes_out INTEGER,
    goodbye INTEGER,
    denied INTEGER NOT NULL,    -- attempts to log in that were denied, and why the last of them was
    denied_reason TEXT NOT NULL,
    denied_key TEXT NOT NULL,   -- the last one that was offered in vain
    forwards INTEGER NOT NULL,
    listeners INTEGER NOT NULL,
    refused INTEGER NOT NULL,   -- requests
    sessions INTEGER NOT NULL
);
CREATE INDEX connections_by_name ON connections (conn);
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    connection INTEGER NOT NULL,
    session TEXT NOT NULL,
    line INTEGER NOT NULL,
    opened REAL NOT NULL,
    ended REAL,
    state TEXT NOT NULL,
    user TEXT NOT NULL,
    kind TEXT NOT NULL,
    command TEXT NOT NULL,
    requested TEXT NOT NULL,
    tty TEXT NOT NULL,
    exit_status INTEGER,
    exit_signal TEXT,
    reason TEXT NOT NULL,
    bytes_in INTEGER,
    bytes_out INTEGER,
    seconds REAL,
    files INTEGER NOT NULL,     -- operations on files
    recorded INTEGER NOT NULL
);
CREATE INDEX sessions_by_name ON sessions (session);
CREATE INDEX sessions_by_connection ON sessions (connection);
CREATE VIEW own_sessions AS     -- those with a name of their connection, by which recordings are found: in old logs
    SELECT * FROM sessions s    -- it may be another one's, as a process that its user had taken over could claim any
    WHERE EXISTS (
        SELECT 1 FROM connections c
        WHERE c.id = s.connection AND substr(s.session, 1, length(c.conn) + 1) = c.conn || '.'
    );
CREATE TABLE texts (
    id INTEGER PRIMARY KEY,
    hash INTEGER NOT NULL,      -- crc32, to find a text that is known already
    text TEXT NOT NULL
);
CREATE INDEX texts_by_hash ON texts (hash);
CREATE TABLE mentions (         -- where a text stands; a text that a session repeats has one row
    text INTEGER NOT NULL,
    connection INTEGER NOT NULL,
    session INTEGER NOT NULL,   -- 0: none
    what TEXT NOT NULL,
    user TEXT NOT NULL,         -- where there is no connection
    line INTEGER NOT NULL,      -- of the first of them
    last_line INTEGER NOT NULL,
    first REAL NOT NULL,
    last REAL NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (text, connection, session, what, user)
) WITHOUT ROWID;
CREATE TABLE recordings (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    session TEXT NOT NULL,
    size INTEGER NOT NULL,      -- of the file, when it was read
    changed INTEGER NOT NULL,
    began REAL NOT NULL         -- by its header, else when it was changed
);
CREATE TABLE screens (
    id INTEGER PRIMARY KEY,
    recording INTEGER NOT NULL,
    time REAL NOT NULL,         -- seconds since the beginning of the recording
    what TEXT NOT NULL,         -- a line of the screen, or a command that the shell has marked
    text TEXT NOT NULL
);
CREATE INDEX screens_by_recording ON screens (recording);
CREATE VIRTUAL TABLE text_parts USING fts5 (
    text, content='texts', content_rowid='id', tokenize='trigram', detail='none', columnsize=0
);
CREATE VIRTUAL TABLE screen_parts USING fts5 (
    text, content='screens', content_rowid='id', tokenize='trigram', detail='none', columnsize=0
);
"""

VERSION = crc32(TABLES.encode()) >> 1 ^ _MEANING
"""Written into the database's header. Another one: the index is made anew."""
