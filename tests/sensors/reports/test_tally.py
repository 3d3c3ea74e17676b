"""The tally of an inbox's files: counted in two ways, and by nobody who is in a hurry."""

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sensors.ledger import Ledger, LedgerError
from sensors.reports import days as tallying
from sensors.reports.arrivals import InboxCounts
from sensors.reports.days import InboxTally, TallyKeeper, count
from tests.dropped_arrivals import record_arrival, record_waiting

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


@pytest.fixture
def ledger(ledger):
    record_arrival(ledger, "m-1", NOW, {"a.csv": "loaded", "b.csv": "rejected"}, state="failed")
    record_arrival(ledger, "m-2", NOW, {"c.csv": "staged"}, state="running")
    record_arrival(ledger, "o-1", NOW, {"d.csv": "skipped"}, inbox="orders", state="skipped")
    record_waiting(ledger, "e.csv", NOW)
    record_waiting(ledger, "gone.csv", NOW)
    ledger.change("UPDATE files SET state = 'withdrawn' WHERE name = 'gone.csv'")
    return ledger


def test_every_file_has_an_entry_and_one_that_its_owner_took_away_is_not_ours(ledger, hand_clock):
    inboxes = count(ledger, hand_clock.clock).inboxes
    assert inboxes["metrics"] == InboxTally(4, InboxCounts(seen=4, waiting=1, in_flight=1, loaded=1, rejected=1))
    assert inboxes["orders"] == InboxTally(1, InboxCounts(seen=1, loaded=1))
    assert [one.imbalance for one in inboxes.values()] == [0, 0]


def test_files_that_no_entry_has_are_an_imbalance(ledger, hand_clock, monkeypatch):
    monkeypatch.delitem(tallying.balance.__globals__["_ENTRY"], "rejected")
    assert count(ledger, hand_clock.clock).inboxes["metrics"].imbalance == 1


def test_both_counts_read_an_index_and_never_the_table(ledger):
    plan = [row["detail"] for row in ledger.rows(f"EXPLAIN QUERY PLAN {tallying._COUNTS}")]
    assert [step for step in plan if "files" in step] == [
        "SCAN files USING COVERING INDEX files_by_state",
        "SCAN files USING COVERING INDEX files_by_time",
    ]


@pytest.fixture
def keeper(ledger, tmp_path, hand_clock):
    keeper = TallyKeeper(tmp_path / "ledger.db", hand_clock.clock)
    yield keeper
    keeper.wait()


def seen(keeper, ledger):
    return keeper.tally(ledger).inboxes["metrics"].seen


def test_while_counting_is_quick_everybody_gets_a_new_tally(keeper, ledger):
    assert seen(keeper, ledger) == 4
    record_waiting(ledger, "f.csv", NOW)
    assert seen(keeper, ledger) == 5


def test_where_it_takes_long_the_last_one_is_given_and_the_next_made_aside(keeper, ledger, hand_clock, monkeypatch):
    monkeypatch.setattr(tallying, "QUICK_SECONDS", -1.0)  # every count takes long
    monkeypatch.setattr(tallying, "SHARE", 0.000_001)
    keeper.tally(ledger)
    keeper._last = tallying.Tally(hand_clock.now, 0.2, keeper._last.inboxes, hand_clock.seconds)
    record_waiting(ledger, "f.csv", NOW)
    assert seen(keeper, ledger) == 4
    assert keeper._counting is None  # it is not old yet
    hand_clock.turn(1 + tallying.LONGEST_PAUSE_SECONDS)
    assert seen(keeper, ledger) == 4
    keeper.wait()
    assert seen(keeper, ledger) == 5


def test_an_error_in_the_background_is_raised_to_the_next_caller(keeper, ledger, hand_clock, monkeypatch, tmp_path):
    monkeypatch.setattr(tallying, "QUICK_SECONDS", -1.0)
    keeper.tally(ledger)
    hand_clock.turn(3600)
    keeper._path = tmp_path / "none.db"
    keeper.tally(ledger)
    keeper.wait()
    with Ledger(tmp_path / "ledger.db") as closed:
        pass
    with pytest.raises((LedgerError, sqlite3.Error)):
        keeper.tally(closed)


def test_one_count_that_took_very_long_or_a_clock_set_back_leaves_no_figures_as_they_were(
    keeper, ledger, hand_clock, monkeypatch
):
    monkeypatch.setattr(tallying, "QUICK_SECONDS", -1.0)
    keeper.tally(ledger)
    keeper._last = replace(keeper._last, seconds=20.0)
    record_waiting(ledger, "f.csv", NOW)
    hand_clock.turn(61)
    hand_clock.now -= timedelta(hours=1)
    keeper.tally(ledger)
    keeper.wait()
    assert seen(keeper, ledger) == 5
