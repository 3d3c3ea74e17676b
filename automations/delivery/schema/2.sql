-- Version 2: what an alert is about may have another name, under which it was told already.
ALTER TABLE alerts ADD COLUMN alias TEXT;
CREATE INDEX alerts_by_alias ON alerts (alias) WHERE alias IS NOT NULL;
