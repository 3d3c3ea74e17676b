"""Arrivals that are followed from scrape to scrape: their times, each once, and their repeated announcements."""

from datetime import UTC, datetime, timedelta

import pytest

from sensors.ledger.database import stamp
from sensors.reports.days import OVERLAP, FollowedArrivals
from tests.dropped_arrivals import record_arrival

START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
LATER = START + timedelta(minutes=5)


@pytest.fixture
def followed():
    return FollowedArrivals(START)


def timed(followed, ledger):
    return {(one.inbox, one.span.value): round(one.seconds, 1) for one in followed.look(ledger).timings}


def advance(ledger, arrival_id, **columns):
    settings = ", ".join(f"{name} = ?" for name in columns)
    ledger.change(f"UPDATE arrivals SET {settings} WHERE id = ?", (*columns.values(), arrival_id))


def test_an_arrival_that_came_and_ended_between_two_looks_has_all_its_times(followed, ledger):
    record_arrival(ledger, "m-1", LATER, {"a.csv": "loaded"})
    expected = {("metrics", "staging"): 0.0, ("metrics", "seen_to_run"): 0.5, ("metrics", "seen_to_outcome"): 1.1}
    assert timed(followed, ledger) == expected


def test_each_time_is_reported_once_as_soon_as_it_is_there(followed, ledger):
    record_arrival(ledger, "m-1", LATER, {"a.csv": "staged"}, state="running")
    assert timed(followed, ledger) == {("metrics", "staging"): 0.0, ("metrics", "seen_to_run"): 0.5}
    assert timed(followed, ledger) == {}
    advance(ledger, "m-1", state="loaded", ended_at=stamp(LATER + timedelta(seconds=8)))
    assert timed(followed, ledger) == {("metrics", "seen_to_outcome"): 8.1}
    assert timed(followed, ledger) == {}


def test_what_was_taken_before_the_start_has_no_times(followed, ledger):
    record_arrival(ledger, "m-1", START - timedelta(hours=1), {"a.csv": "staged"}, state="running")
    assert timed(followed, ledger) == {}
    advance(ledger, "m-1", state="loaded", ended_at=stamp(LATER))
    assert timed(followed, ledger) == {}


def test_one_that_gets_into_the_ledger_late_is_found_all_the_same(followed, ledger):
    record_arrival(ledger, "m-2", LATER, {"b.csv": "loaded"})
    followed.look(ledger)
    record_arrival(ledger, "o-1", LATER - OVERLAP / 2, {"a.csv": "loaded"}, inbox="orders")
    assert {inbox for inbox, _ in timed(followed, ledger)} == {"orders"}


def test_a_retry_of_what_has_ended_has_no_times_of_its_own(followed, ledger):
    record_arrival(ledger, "m-1", LATER, {"a.csv": "failed"}, state="failed")
    followed.look(ledger)
    advance(ledger, "m-1", state="staged", ended_at=None, given_up=1)
    record_arrival(ledger, "m-2", LATER + 2 * OVERLAP, {"b.csv": "staged"}, state="staged")
    followed.look(ledger)
    advance(ledger, "m-1", state="loaded", attempt=2, ended_at=stamp(LATER + timedelta(hours=1)))
    assert timed(followed, ledger) == {}


def test_duplicates_that_are_skipped_are_not_timed(followed, ledger):
    record_arrival(ledger, "m-1", LATER, {"a.csv": "skipped"}, state="skipped")
    assert timed(followed, ledger) == {}


def test_announcements_after_the_first_are_repetitions(followed, ledger):
    record_arrival(ledger, "m-1", LATER, {"a.csv": "staged"}, state="announced")
    assert followed.look(ledger).repeated == []
    advance(ledger, "m-1", attempt=3)
    assert followed.look(ledger).repeated == [("metrics", 2)]
    assert followed.look(ledger).repeated == []


def test_what_was_repeated_before_the_start_does_not_count_and_what_comes_then_does(followed, ledger):
    record_arrival(ledger, "m-1", START - timedelta(hours=1), {"a.csv": "staged"}, state="announced")
    advance(ledger, "m-1", attempt=3)
    assert followed.look(ledger).repeated == []
    advance(ledger, "m-1", attempt=4)
    assert followed.look(ledger).repeated == [("metrics", 1)]


def test_a_replay_is_no_repetition(followed, ledger):
    followed.look(ledger)
    record_arrival(ledger, "m-1", START - timedelta(days=1), {"a.csv": "staged"}, state="announced")
    advance(ledger, "m-1", attempt=3, given_up=2)
    assert followed.look(ledger).repeated == []


def test_an_arrival_that_was_taken_back_is_forgotten(followed, ledger):
    record_arrival(ledger, "m-1", LATER, {}, state="staging")
    followed.look(ledger)
    ledger.change("DELETE FROM arrivals")
    followed.look(ledger)
    assert followed._open == {}


def test_a_look_reads_what_is_new_and_what_is_on_its_way_off_the_indexes(followed, ledger):
    record_arrival(ledger, "m-1", LATER, {"a.csv": "loaded"})
    said: list[str] = []
    ledger._connection.set_trace_callback(said.append)
    followed.look(ledger)
    ledger._connection.set_trace_callback(None)
    plans = [row["detail"] for one in said for row in ledger.rows(f"EXPLAIN QUERY PLAN {one}")]
    assert len(plans) >= 5
    scans = [step for step in plans if step.startswith("SCAN") and "INDEX" not in step]
    assert [step for step in scans if "json_each" not in step] == []
