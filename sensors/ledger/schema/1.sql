-- The sensor's ledger: every file and every arrival and the step it has reached. Times are UTC, ISO 8601.
-- The lists of states mirror states.py; tests/sensors/ledger/test_ledger.py compares the two.

CREATE TABLE arrivals (
    id              TEXT PRIMARY KEY,
    inbox           TEXT NOT NULL,
    folder          TEXT NOT NULL,
    state           TEXT NOT NULL
                    CHECK (state IN ('staging', 'staged', 'announced', 'running', 'loaded', 'failed')),
    attempt         INTEGER NOT NULL DEFAULT 0, -- how often it was announced
    announce_after  TEXT,                       -- not to be announced (again) before this time
    reason          TEXT,
    created_at      TEXT NOT NULL,
    staged_at       TEXT,
    announced_at    TEXT,
    receipt_at      TEXT,
    ended_at        TEXT,
    run_id          TEXT,
    run_name        TEXT
) STRICT;

CREATE INDEX arrivals_unfinished ON arrivals (inbox, state) WHERE state NOT IN ('loaded', 'failed');

CREATE TABLE files (
    id          INTEGER PRIMARY KEY,
    inbox       TEXT NOT NULL,
    path        TEXT NOT NULL, -- where it was dropped
    name        TEXT NOT NULL,
    device      TEXT NOT NULL, -- as text: a file system may use all 64 bits, SQLite has 63
    inode       TEXT NOT NULL,
    size        INTEGER NOT NULL,
    mtime_ns    INTEGER NOT NULL,
    state       TEXT NOT NULL
                CHECK (state IN ('seen', 'settled', 'staging', 'staged', 'loaded', 'rejected', 'failed',
                                 'withdrawn')),
    arrival_id  TEXT REFERENCES arrivals (id),
    rows        INTEGER,
    reason      TEXT,
    seen_at     TEXT NOT NULL,
    settled_at  TEXT,
    staged_at   TEXT,
    ended_at    TEXT,
    CHECK ((arrival_id IS NULL) = (state IN ('seen', 'settled', 'withdrawn')) OR state = 'rejected')
) STRICT;

-- One waiting file a path: what is found there later is a new file only once this one was taken.
CREATE UNIQUE INDEX files_waiting ON files (path) WHERE state IN ('seen', 'settled');
CREATE INDEX files_of_arrival ON files (arrival_id);
CREATE INDEX files_by_state ON files (inbox, state);
CREATE INDEX files_by_name ON files (name);

-- Each announcement has an event id of its own: Prefect drops an event whose id it has seen.
CREATE TABLE announcements (
    event_id     TEXT PRIMARY KEY,
    arrival_id   TEXT NOT NULL REFERENCES arrivals (id),
    attempt      INTEGER NOT NULL,
    intended_at  TEXT NOT NULL, -- written before the event is sent
    confirmed_at TEXT,          -- the server has it
    failure      TEXT,          -- why its action failed, as Prefect tells it
    run_id       TEXT,
    UNIQUE (arrival_id, attempt)
) STRICT;
