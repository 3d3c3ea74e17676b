-- Version 3: what a person looks at: the arrivals of a day and the latest of all, without reading the others.

CREATE INDEX arrivals_by_time ON arrivals (created_at);
