"""Arrivals at a glance: the latest, those of one inbox, those that have no outcome."""

from datetime import UTC, datetime, timedelta

import pytest

from sensors.reports.arrivals import latest
from tests.dropped_arrivals import record_arrival

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


@pytest.fixture
def ledger(ledger):
    record_arrival(ledger, "m-1", NOW, {"b.csv": "loaded", "a.csv": "rejected", "c.csv": "loaded"}, state="failed")
    record_arrival(ledger, "o-1", NOW + timedelta(hours=1), {"x.json": "loaded"}, inbox="orders")
    record_arrival(ledger, "m-2", NOW + timedelta(hours=2), {"d.csv": "staged"}, state="running")
    return ledger


def test_the_newest_comes_first(ledger):
    assert [one.id for one in latest(ledger, 10)] == ["m-2", "o-1", "m-1"]
    assert [one.id for one in latest(ledger, 2)] == ["m-2", "o-1"]


def test_one_inbox_and_what_is_further_back_can_be_asked_for(ledger):
    assert [one.id for one in latest(ledger, 10, inbox="metrics")] == ["m-2", "m-1"]
    assert [one.id for one in latest(ledger, 10, before=NOW + timedelta(hours=1))] == ["m-1"]


def test_it_counts_its_files_bytes_rows_and_those_that_went_wrong(ledger):
    (one,) = (one for one in latest(ledger, 10) if one.id == "m-1")
    assert (one.files, one.bad, one.size, one.rows) == (3, 1, 300, 20)


def test_it_is_called_by_the_file_that_was_seen_first_and_the_number_of_others(ledger):
    assert [one.title for one in latest(ledger, 10)] == ["d.csv", "x.json", "b.csv +2"]


def test_its_latency_counts_from_the_moment_its_first_file_was_seen(ledger):
    (one,) = latest(ledger, 10, inbox="orders")
    assert one.seconds_to_run == pytest.approx(0.5)
    assert one.seconds_to_end == pytest.approx(1.1)


def test_one_that_is_under_way_has_no_outcome_yet(ledger):
    (one,) = (one for one in latest(ledger, 10) if not one.has_ended)
    assert (one.id, one.has_ended, one.seconds_to_end, one.rows) == ("m-2", False, None, None)


@pytest.mark.parametrize(
    "query", ["SELECT id FROM arrivals WHERE created_at < '2027' ORDER BY created_at DESC LIMIT 9"]
)
def test_the_latest_are_read_off_an_index(ledger, query):
    assert "arrivals_by_time" in ledger.rows(f"EXPLAIN QUERY PLAN {query}")[0]["detail"]
