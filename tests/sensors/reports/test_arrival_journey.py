"""The whole journey of an arrival: steps, files, announcements."""

from datetime import UTC, datetime, timedelta

from sensors.reports.arrivals import arrival_journey
from tests.dropped_arrivals import record_arrival

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def test_there_is_none_of_an_arrival_that_never_was(ledger):
    assert arrival_journey(ledger, "m-1") is None


def test_every_step_has_its_time(ledger):
    record_arrival(ledger, "m-1", NOW, {"a.csv": "loaded"})
    journey = arrival_journey(ledger, "m-1")
    assert [name for name, _ in journey.steps()] == ["seen", "settled", "staged", "announced", "run", "loaded"]
    assert [round((at - NOW).total_seconds(), 1) for _, at in journey.steps()] == [-0.1, 0, 0, 0, 0.4, 1]


def test_a_step_that_is_not_reached_has_none(ledger):
    record_arrival(ledger, "m-1", NOW, {"a.csv": "staged"}, state="staged")
    assert dict(arrival_journey(ledger, "m-1").steps()) == {
        "seen": NOW - timedelta(seconds=0.1),
        "settled": NOW,
        "staged": NOW,
        "announced": None,
        "run": None,
        "outcome": None,
    }


def test_the_files_that_need_a_person_come_first_and_not_more_than_asked_for(ledger):
    names = {f"{n}.csv": "loaded" for n in range(9)}
    record_arrival(ledger, "m-1", NOW, {**names, "z.csv": "rejected"}, state="failed")
    journey = arrival_journey(ledger, "m-1", max_files=2)
    assert [(file.name, file.reason) for file in journey.files] == [("z.csv", "line 3: no number"), ("0.csv", None)]
    assert journey.arrival.files == 10


def test_each_announcement_shows_what_it_led_to(ledger):
    record_arrival(ledger, "m-1", NOW, {"a.csv": "loaded"})
    for attempt, failure, run_id in [(1, "no such deployment", None), (2, None, "r")]:
        ledger.change(
            "INSERT INTO announcements VALUES (?, 'm-1', ?, ?, NULL, ?, ?)",
            (f"e{attempt}", attempt, NOW.isoformat(), failure, run_id),
        )
    reported = [(one.attempt, one.failure, one.run_id) for one in arrival_journey(ledger, "m-1").announcements]
    assert reported == [(1, "no such deployment", None), (2, None, "r")]
