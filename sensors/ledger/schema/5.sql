-- Version 5: runs that need attention, which a person has dismissed. The runs themselves are with Prefect.

CREATE TABLE dismissed_runs (
    what          TEXT PRIMARY KEY, -- a run's id, for a missing run its deployment's, or * for all until then
    dismissed_at  TEXT NOT NULL
) STRICT;
