"""An inbox at a glance: today's files, what waits longest, what came last."""

from datetime import UTC, datetime, timedelta

from sensors.reports.arrivals import InboxActivity, activity_of
from tests.dropped_arrivals import record_arrival, record_waiting

MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_an_empty_inbox_has_nothing(ledger):
    assert activity_of(ledger, "metrics", MIDNIGHT) == InboxActivity()


def test_only_what_was_loaded_today_counts_for_today(ledger):
    record_arrival(ledger, "m-1", MIDNIGHT - HOUR, {"a.csv": "loaded"})
    record_arrival(ledger, "m-2", MIDNIGHT + HOUR, {"b.csv": "loaded", "c.csv": "rejected"}, state="failed")
    record_arrival(ledger, "o-1", MIDNIGHT + HOUR, {"d.csv": "loaded"}, inbox="orders")
    glance = activity_of(ledger, "metrics", MIDNIGHT)
    assert (glance.files_today, glance.rows_today) == (1, 10)


def test_an_arrival_taken_before_midnight_and_loaded_after_it_counts(ledger):
    record_arrival(ledger, "m-1", MIDNIGHT - timedelta(seconds=0.5), {"a.csv": "loaded"})
    assert activity_of(ledger, "metrics", MIDNIGHT).files_today == 1


def test_the_file_that_has_waited_longest_and_the_one_that_came_last_are_reported(ledger):
    record_waiting(ledger, "old.csv", MIDNIGHT)
    record_waiting(ledger, "new.csv", MIDNIGHT + HOUR)
    glance = activity_of(ledger, "metrics", MIDNIGHT)
    assert (glance.oldest_waiting, glance.last_name, glance.last_seen) == (MIDNIGHT, "new.csv", MIDNIGHT + HOUR)
