-- Version 3: an alert that was sent without an answer is perhaps delivered; and when each pause began, since a pause that
-- began in the future is of a clock that was set back.
ALTER TABLE deliveries ADD COLUMN perhaps_at TEXT;
ALTER TABLE deliveries ADD COLUMN tried_at TEXT;
ALTER TABLE channels ADD COLUMN failed_at TEXT;
