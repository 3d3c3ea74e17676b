-- Version 4: files that were not loaded, which a person has dismissed: settled, and nobody needs to see to them.

ALTER TABLE files ADD COLUMN dismissed_at TEXT; -- holds until the file ends once more

CREATE INDEX files_dismissed ON files (inbox, dismissed_at) WHERE dismissed_at IS NOT NULL;
