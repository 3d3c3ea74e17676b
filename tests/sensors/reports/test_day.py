"""A day at a glance: its hours, also where a clock is changed, and what they sum up to."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from sensors.reports.days import read_day
from tests.dropped_arrivals import record_arrival

BERLIN = ZoneInfo("Europe/Berlin")
DAY = date(2026, 11, 24)
NINE = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def test_an_empty_day_has_24_hours_with_nothing_in_them(ledger):
    day = read_day(ledger, DAY, UTC)
    assert [hour.start.hour for hour in day.hours] == list(range(24))
    assert (day.total.arrivals, day.total.median_to_run, day.p95_to_run) == (0, None, None)


def test_an_arrival_counts_for_the_local_hour_in_which_it_was_taken(ledger):
    record_arrival(ledger, "m-1", NINE, {"a.csv": "loaded", "b.csv": "rejected"}, state="failed")
    day = read_day(ledger, DAY, BERLIN)
    (hour,) = (hour for hour in day.hours if hour.arrivals)
    assert hour.start == datetime(2026, 11, 24, 10, tzinfo=BERLIN)
    assert (hour.arrivals, hour.files, hour.rows, hour.failures) == (1, 2, 10, 1)


def test_the_day_begins_and_ends_at_local_midnight(ledger):
    record_arrival(ledger, "before", datetime(2026, 11, 23, 22, 59, 59, tzinfo=UTC), {"a.csv": "loaded"})
    record_arrival(ledger, "first", datetime(2026, 11, 23, 23, 0, tzinfo=UTC), {"a.csv": "loaded"})
    record_arrival(ledger, "last", datetime(2026, 11, 24, 22, 59, 59, tzinfo=UTC), {"a.csv": "loaded"})
    record_arrival(ledger, "after", datetime(2026, 11, 24, 23, 0, tzinfo=UTC), {"a.csv": "loaded"})
    day = read_day(ledger, DAY, BERLIN)
    assert (day.total.arrivals, day.hours[0].arrivals, day.hours[-1].arrivals) == (2, 1, 1)


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25)])
def test_a_day_on_which_the_clock_is_changed_has_an_hour_less_or_more(ledger, day, hours):
    assert len(read_day(ledger, day, BERLIN).hours) == hours


def test_latencies_are_reported_by_median_slowest_and_the_95th_of_100(ledger):
    for n in range(1, 21):
        record_arrival(ledger, f"m-{n}", NINE + timedelta(minutes=n), {"a.csv": "loaded"}, seconds_to_run=n / 10 + 0.1)
    day = read_day(ledger, DAY, UTC)
    assert day.total.median_to_run == pytest.approx(1.15)
    assert day.total.slowest_to_run == pytest.approx(2.1)
    assert day.p95_to_run == pytest.approx(2.0, abs=0.06)


def test_one_inbox_can_be_asked_for(ledger):
    record_arrival(ledger, "m-1", NINE, {"a.csv": "loaded"})
    record_arrival(ledger, "o-1", NINE, {"a.csv": "loaded"}, inbox="orders")
    assert read_day(ledger, DAY, UTC, "orders").total.arrivals == 1
