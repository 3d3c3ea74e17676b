-- Version 6: files that wait because they may not be moved. All of it holds for waiting files only.

ALTER TABLE files ADD COLUMN blocked_since TEXT;       -- since when it cannot be moved; NULL when it can, or was
ALTER TABLE files ADD COLUMN blocked_reason TEXT;      -- why, and what to do
ALTER TABLE files ADD COLUMN blocked_as TEXT;          -- the arrival's id at the first attempt: in a store its claim
ALTER TABLE files ADD COLUMN blocked_reported_at TEXT; -- when a notice was written

CREATE INDEX files_blocked ON files (inbox, blocked_since) WHERE blocked_since IS NOT NULL;
