"""Which arrival a person means."""

from datetime import UTC, datetime, timedelta

import pytest

from sensors.cli.history import find_arrival
from sensors.stack.errors import StackError
from tests.dropped_arrivals import record_arrival, record_waiting

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


@pytest.fixture
def ledger(ledger):
    record_arrival(ledger, "metrics-20261124-01", NOW, {"a.csv": "loaded", "b.csv": "loaded"})
    record_arrival(ledger, "metrics-20261124-02", NOW + timedelta(hours=1), {"a.csv": "loaded"})
    record_arrival(ledger, "metrics-20261125-01", NOW + timedelta(days=1), {"c.csv": "loaded"})
    record_waiting(ledger, "late.csv", NOW)
    return ledger


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("metrics-20261124-01", "metrics-20261124-01"),
        ("metrics-20261125", "metrics-20261125-01"),
        ("b.csv", "metrics-20261124-01"),
        ("a.csv", "metrics-20261124-02"),  # the latest of them
    ],
)
def test_an_id_a_unique_beginning_of_it_or_a_files_name_will_do(ledger, wanted, found):
    assert find_arrival(ledger, wanted) == found


@pytest.mark.parametrize(
    ("wanted", "reported"),
    [
        ("metrics-20261124", "several arrivals begin with metrics-20261124: metrics-20261124-02, metrics-20261124-01"),
        ("late.csv", "late.csv is in no arrival: it is seen in inbox metrics"),
        ("metrics-%", "there is no arrival metrics-%, and no file of that name; `just history` lists the latest"),
        ("x\x1b[2J", r"there is no arrival x\\x1b\[2J"),
        ("", "there is no arrival"),
    ],
)
def test_what_is_not_found_is_reported_with_what_there_is(ledger, wanted, reported):
    with pytest.raises(StackError, match=reported):
        find_arrival(ledger, wanted)


def test_a_beginning_is_looked_up_in_the_index(ledger):
    said: list[str] = []
    ledger._connection.set_trace_callback(said.append)
    find_arrival(ledger, "metrics-20261125")
    ledger._connection.set_trace_callback(None)
    for statement in said:
        plan = [row["detail"] for row in ledger.rows(f"EXPLAIN QUERY PLAN {statement}")]
        assert not any(step.startswith("SCAN") for step in plan), plan
