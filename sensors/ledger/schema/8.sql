-- Version 8: the rules by which an arrival's files are read and loaded, so that a replay reads them by the same ones.

ALTER TABLE arrivals ADD COLUMN rules TEXT; -- JSON; NULL without rules
