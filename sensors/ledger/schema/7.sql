-- Version 7: what an arrival's files hold: each one's SHA-256 is in `files`, and that of their list is here.

ALTER TABLE arrivals ADD COLUMN manifest TEXT; -- SHA-256 of the manifest beside the files; NULL for arrivals before 1.1
