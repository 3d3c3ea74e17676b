"""What is pending: waiting files, arrivals on their way, alerts."""

from datetime import UTC, datetime, timedelta

from sensors.reports.days import PendingAlerts, PendingCounts, read_pending, read_pending_alerts
from tests.dropped_arrivals import record_arrival, record_waiting
from tests.postings import posting

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def test_an_inbox_in_which_nothing_happens_has_nothing_pending(ledger):
    assert read_pending(ledger, ["metrics"], NOW) == {"metrics": PendingCounts()}


def test_the_oldest_file_that_waits_counts_be_it_settled_or_not(ledger):
    record_waiting(ledger, "a.csv", NOW - timedelta(seconds=40))
    record_waiting(ledger, "b.csv", NOW - timedelta(seconds=10))
    ledger.change("UPDATE files SET state = 'settled' WHERE name = 'a.csv'")
    assert read_pending(ledger, ["metrics"], NOW)["metrics"].oldest_waiting == 40


def test_arrivals_on_their_way_are_counted_with_the_age_of_the_oldest_also_in_an_inbox_that_is_gone(ledger):
    record_arrival(ledger, "m-1", NOW - timedelta(seconds=30), {"a.csv": "staged"}, state="running")
    record_arrival(ledger, "m-2", NOW - timedelta(seconds=20), {"b.csv": "staged"}, state="staged")
    record_arrival(ledger, "m-3", NOW - timedelta(seconds=90), {"c.csv": "loaded"})
    record_arrival(ledger, "o-1", NOW - timedelta(seconds=5), {"d.csv": "staged"}, inbox="old", state="running")
    assert read_pending(ledger, ["metrics"], NOW) == {
        "metrics": PendingCounts(0.0, 2, 30.0),
        "old": PendingCounts(0.0, 1, 5.0),
    }


def test_no_look_reads_a_whole_table(ledger):
    said: list[str] = []
    ledger._connection.set_trace_callback(said.append)
    read_pending(ledger, ["metrics"], NOW)
    ledger._connection.set_trace_callback(None)
    plans = [row["detail"] for one in said for row in ledger.rows(f"EXPLAIN QUERY PLAN {one}")]
    assert [step for step in plans if step.startswith(("SCAN files", "SCAN arrivals")) and "INDEX" not in step] == []


def test_alerts_that_no_one_has_are_counted(ringer, tmp_path):
    assert read_pending_alerts(tmp_path / "none.db") == PendingAlerts()
    ringer.post(posting("one"), NOW)
    ringer.post(posting("two"), NOW)
    assert read_pending_alerts(tmp_path / "alerts.db") == PendingAlerts(alerts=2)


def test_an_outbox_that_cannot_be_read_has_no_number(tmp_path):
    (tmp_path / "alerts.db").write_bytes(b"rubbish" * 1000)
    assert read_pending_alerts(tmp_path / "alerts.db") is None
