-- The outbox of alerts: what is to be told, on which channels, and what became of it. No credential is in it.
CREATE TABLE alerts (
    cause         TEXT PRIMARY KEY, -- nobody is told twice of the same
    block         TEXT NOT NULL,    -- the name of the notification block: which of the lists of URLs
    kind          TEXT NOT NULL,
    group_name    TEXT NOT NULL,
    tags          TEXT NOT NULL,    -- JSON list
    type          TEXT NOT NULL CHECK (type IN ('info', 'success', 'warning', 'failure')),
    subject       TEXT NOT NULL,
    body          TEXT NOT NULL,
    state         TEXT NOT NULL
                  CHECK (state IN ('waiting', 'gathered', 'pending', 'delivered', 'summed up', 'cancelled')),
    occurred_at   TEXT NOT NULL,
    posted_at     TEXT NOT NULL,
    told_at       TEXT,             -- since when it is to be delivered: what bounds a storm counts from then
    unless        TEXT,             -- JSON: the event that makes it needless
    wait_until    TEXT,             -- how long that event is waited for
    told_by       TEXT,             -- the cause of the digest that tells of it
    delivered_at  TEXT,             -- when the first channel took it
    CHECK ((state IN ('pending', 'delivered')) <= (told_at IS NOT NULL)),
    CHECK ((state = 'waiting') <= (unless IS NOT NULL AND wait_until IS NOT NULL))
) STRICT;

CREATE INDEX alerts_open ON alerts (state) WHERE state IN ('waiting', 'gathered', 'pending');
CREATE INDEX alerts_of_group ON alerts (group_name, told_at);
CREATE INDEX alerts_by_time ON alerts (posted_at);

CREATE TABLE deliveries (
    cause         TEXT NOT NULL REFERENCES alerts (cause) ON DELETE CASCADE,
    channel       TEXT NOT NULL,
    is_fallback   INTEGER NOT NULL CHECK (is_fallback IN (0, 1)),
    state         TEXT NOT NULL CHECK (state IN ('pending', 'sending', 'delivered')),
    attempts      INTEGER NOT NULL DEFAULT 0,
    next_at       TEXT NOT NULL,
    claimed_until TEXT,
    failure       TEXT,
    delivered_at  TEXT,
    PRIMARY KEY (cause, channel),
    CHECK ((state = 'sending') = (claimed_until IS NOT NULL)),
    CHECK ((state = 'delivered') = (delivered_at IS NOT NULL))
) STRICT;

CREATE INDEX deliveries_due ON deliveries (channel, attempts) WHERE state <> 'delivered';

-- How the channels are: one that fails rests for a while, whatever waits for it.
CREATE TABLE channels (
    channel       TEXT PRIMARY KEY,
    name          TEXT NOT NULL,    -- its position and service, never its URL
    failures      INTEGER NOT NULL, -- in a row
    rest_until    TEXT NOT NULL,
    failing_since TEXT NOT NULL,
    failure       TEXT NOT NULL,
    told_at       TEXT              -- when Prefect was told that alerts are not delivered
) STRICT;

-- Where alerts are gathered at the moment, and when the next digest tells of them.
CREATE TABLE gatherings (
    group_name    TEXT PRIMARY KEY,
    why           TEXT NOT NULL CHECK (why IN ('storm', 'silence')),
    opened_at     TEXT NOT NULL,
    due_at        TEXT NOT NULL,
    digests       INTEGER NOT NULL DEFAULT 0,
    summed_up     INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Troubles that somebody was told of and that are not over.
CREATE TABLE troubles (
    key           TEXT PRIMARY KEY,
    cause         TEXT NOT NULL,
    opened_at     TEXT NOT NULL
) STRICT;

-- How far the past was looked through for what should have led to an alert.
CREATE TABLE progress (
    what          TEXT PRIMARY KEY,
    until         TEXT NOT NULL
) STRICT;
