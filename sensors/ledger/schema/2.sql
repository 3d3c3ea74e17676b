-- Version 2: duplicates, retry and replay, what a person is told, files that are expected, subfolders.
-- SQLite cannot change a CHECK, so both tables are written anew.

CREATE TABLE arrivals_2 (
    id              TEXT PRIMARY KEY,
    inbox           TEXT NOT NULL,
    folder          TEXT NOT NULL,
    state           TEXT NOT NULL
                    CHECK (state IN ('staging', 'staged', 'announced', 'running', 'loaded', 'failed', 'skipped')),
    is_duplicate    INTEGER NOT NULL DEFAULT 0 CHECK (is_duplicate IN (0, 1)), -- its files are, so it is skipped
    attempt         INTEGER NOT NULL DEFAULT 0, -- how often it was announced
    given_up        INTEGER NOT NULL DEFAULT 0, -- attempts of earlier tries, before a person had it tried again
    announce_after  TEXT,                       -- not to be announced (again) before this time
    reload          TEXT,                       -- JSON list of the files whose rows are to be replaced
    reason          TEXT,
    created_at      TEXT NOT NULL,
    staged_at       TEXT,
    announced_at    TEXT,
    receipt_at      TEXT,
    ended_at        TEXT,
    run_id          TEXT,
    run_name        TEXT
) STRICT;

INSERT INTO arrivals_2 (id, inbox, folder, state, attempt, announce_after, reason, created_at, staged_at,
                        announced_at, receipt_at, ended_at, run_id, run_name)
SELECT id, inbox, folder, state, attempt, announce_after, reason, created_at, staged_at,
       announced_at, receipt_at, ended_at, run_id, run_name FROM arrivals;

CREATE TABLE files_2 (
    id          INTEGER PRIMARY KEY,
    inbox       TEXT NOT NULL,
    path        TEXT NOT NULL, -- where it was dropped
    name        TEXT NOT NULL, -- below its inbox, and below its arrival's folder
    device      TEXT NOT NULL, -- as text: a file system may use all 64 bits, SQLite has 63
    inode       TEXT NOT NULL,
    size        INTEGER NOT NULL,
    mtime_ns    INTEGER NOT NULL,
    sha256      TEXT,          -- of its content, where the inbox looks for duplicates
    state       TEXT NOT NULL
                CHECK (state IN ('seen', 'settled', 'staging', 'staged', 'loaded', 'rejected', 'failed',
                                 'skipped', 'withdrawn')),
    arrival_id  TEXT REFERENCES arrivals (id),
    rows        INTEGER,
    reason      TEXT,
    seen_at     TEXT NOT NULL,
    settled_at  TEXT,
    staged_at   TEXT,
    ended_at    TEXT,
    UNIQUE (arrival_id, name),
    CHECK ((arrival_id IS NULL) = (state IN ('seen', 'settled', 'withdrawn')) OR state = 'rejected')
) STRICT;

INSERT INTO files_2 (id, inbox, path, name, device, inode, size, mtime_ns, state, arrival_id, rows, reason,
                     seen_at, settled_at, staged_at, ended_at)
SELECT id, inbox, path, name, device, inode, size, mtime_ns, state, arrival_id, rows, reason,
       seen_at, settled_at, staged_at, ended_at FROM files;

DROP TABLE files;
DROP TABLE arrivals;
ALTER TABLE arrivals_2 RENAME TO arrivals;
ALTER TABLE files_2 RENAME TO files;

CREATE INDEX arrivals_unfinished ON arrivals (inbox, state) WHERE state NOT IN ('loaded', 'failed', 'skipped');
CREATE INDEX arrivals_failed ON arrivals (ended_at) WHERE state = 'failed';
-- One waiting file a path: what is found there later is a new file only once this one was taken.
CREATE UNIQUE INDEX files_waiting ON files (path) WHERE state IN ('seen', 'settled');
CREATE INDEX files_by_state ON files (inbox, state);
CREATE INDEX files_by_name ON files (name);
CREATE INDEX files_by_time ON files (inbox, seen_at);
CREATE INDEX files_by_content ON files (inbox, sha256) WHERE sha256 IS NOT NULL;

-- What a person is to be told: an event each, kept until the server has it.
CREATE TABLE notices (
    key         TEXT PRIMARY KEY, -- what it is about; nobody is told twice
    event_id    TEXT NOT NULL UNIQUE,
    event       TEXT NOT NULL,
    inbox       TEXT NOT NULL,
    payload     TEXT NOT NULL,    -- JSON
    created_at  TEXT NOT NULL,
    sent_at     TEXT
) STRICT;

CREATE INDEX notices_unsent ON notices (created_at) WHERE sent_at IS NULL;

-- The inboxes that expect files: up to which due time they were looked at, and since when files are overdue.
CREATE TABLE expectations (
    inbox          TEXT PRIMARY KEY,
    rule           TEXT NOT NULL, -- as configured; another one begins anew
    checked_until  TEXT NOT NULL,
    overdue_since  TEXT
) STRICT;
