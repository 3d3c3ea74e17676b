"""Run deadlines: what an automation waits for in vain rings by the runs' states, once for each run."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from automations.alert_service import AlertService, automations_in_files
from sensors.alerts.overdue_runs import AFTER_OUTAGE, RunDeadlines
from sensors.alerts.reconcile import MissedAlerts
from sensors.ledger import Ledger
from sensors.runs.api import PrefectApi
from sensors.runs.facts import read_run_facts
from tests.hand_clock import HandClock
from tests.postings import NOW, at, posting
from tests.prefect_server import PrefectServer

MINUTE = timedelta(minutes=1)
Look = Callable[[float], None]


@pytest.fixture
def deadlines(server: PrefectServer, ringer: AlertService, ledger: Ledger, hand_clock: HandClock) -> RunDeadlines:
    """Make one that has watched for an hour."""
    api = PrefectApi(server.url, None)
    missed = MissedAlerts(api, ringer, ledger, "http://127.0.0.1:4200", automations_in_files())
    made = RunDeadlines(api, missed, hand_clock.clock)
    look(made, -3600)
    return made


def look(deadlines: RunDeadlines, seconds: float) -> None:
    """Look so many seconds after nine."""
    deadlines.step(read_run_facts(deadlines.api, at(seconds)), at(seconds))


def rung(ringer: AlertService) -> list[tuple[str, str]]:
    rows = ringer.bell.outbox.rows("SELECT kind, cause FROM alerts ORDER BY rowid")
    return [(row["kind"], row["cause"]) for row in rows]


def unstarted(server: PrefectServer, name: str = "Late", since: datetime = NOW, **more: Any) -> dict[str, Any]:
    """Add the run of nine o'clock, which the schedule made and which has not started."""
    due = {"expected_start_time": NOW.isoformat(), "next_scheduled_start_time": NOW.isoformat()}
    run = server.failed_run("r1", since, name, **{**due, "end_time": None, "run_count": 0, "tags": ["auto-scheduled"]})
    run.update(more)
    run["state_type"] = run["state"]["type"] = more.get("state_type", "SCHEDULED")
    return run


LATE = [("run-late", "state-r1/alert-on-late-run")]


def test_a_run_that_has_not_started_after_five_minutes_rings_within_half_a_minute_and_once(
    deadlines: RunDeadlines, server: PrefectServer, ringer: AlertService
) -> None:
    unstarted(server, since=at(15))
    for seconds in range(0, 311, 10):
        look(deadlines, seconds)
    assert rung(ringer) == []
    for seconds in range(320, 1200, 10):
        look(deadlines, seconds)
        assert rung(ringer) == LATE


def test_the_automation_and_the_look_ring_for_the_same_alert(
    deadlines: RunDeadlines, server: PrefectServer, ringer: AlertService
) -> None:
    unstarted(server, since=at(15))
    ringer.post(posting("state-r1/alert-on-late-run", kind="run-late"), at(301))
    look(deadlines, 400)
    assert rung(ringer) == LATE


def test_a_run_that_was_marked_late_long_after_its_time_rings_five_minutes_after_its_time(
    deadlines: RunDeadlines, server: PrefectServer, ringer: AlertService
) -> None:
    unstarted(server, since=at(280))
    look(deadlines, 320)
    assert rung(ringer) == LATE


def test_a_run_that_prefect_never_called_late_rings_once_also_when_it_does_so_later(
    deadlines: RunDeadlines, server: PrefectServer, ringer: AlertService
) -> None:
    run = unstarted(server, "Scheduled", since=at(-100))
    look(deadlines, 320)
    run["state"] |= {"id": "late-now", "name": "Late"}
    look(deadlines, 340)
    assert [kind for kind, _ in rung(ringer)] == ["run-late"]


def test_a_run_that_a_worker_took_and_never_started_is_late_too(
    deadlines: RunDeadlines, server: PrefectServer, ringer: AlertService
) -> None:
    unstarted(server, "Pending", since=at(2), state_type="PENDING", next_scheduled_start_time=None)
    look(deadlines, 320)
    assert [kind for kind, _ in rung(ringer)] == ["run-late"]


@pytest.mark.parametrize(
    "more",
    [
        {"tags": []},  # by hand, or for an arrival
        {"deployment_id": None},
        {"next_scheduled_start_time": at(3600).isoformat()},  # someone has moved it
    ],
)
def test_a_run_that_the_automation_is_not_about_or_that_is_not_due_does_not_ring(
    deadlines: RunDeadlines, server: PrefectServer, ringer: AlertService, more: dict[str, Any]
) -> None:
    unstarted(server, since=at(15), **more)
    look(deadlines, 400)
    assert rung(ringer) == []


def test_after_an_outage_of_the_server_a_run_may_start_before_it_rings(
    deadlines: RunDeadlines, server: PrefectServer, ringer: AlertService
) -> None:
    unstarted(server, since=at(1000))
    deadlines.api.unreached_at = at(1000)
    look(deadlines, 1000 + AFTER_OUTAGE.seconds)
    assert rung(ringer) == []
    look(deadlines, 1000 + AFTER_OUTAGE.seconds + 20)
    assert rung(ringer) == LATE


def test_a_sensor_that_was_started_anew_rings_for_a_run_that_is_late_and_not_twice(
    server: PrefectServer, ringer: AlertService, ledger: Ledger, hand_clock: HandClock
) -> None:
    unstarted(server, since=at(15))
    for start in (1000, 2000):
        api = PrefectApi(server.url, None)
        missed = MissedAlerts(api, ringer, ledger, "http://127.0.0.1:4200", automations_in_files())
        made = RunDeadlines(api, missed, hand_clock.clock)
        for seconds in range(0, 60, 10):
            look(made, start + seconds)
    assert rung(ringer) == LATE


def running(server: PrefectServer, *states: tuple[str, str, float], **more: Any) -> None:
    """Add a run of the schedule with a history of states: type, name, and when."""
    run = unstarted(server, run_count=1, **more)
    history = [
        {"id": f"s{n}", "type": kind, "name": name, "timestamp": at(seconds).isoformat(), "message": None}
        for n, (kind, name, seconds) in enumerate(states)
    ]
    server.histories["r1"] = history
    run["state"], run["state_type"], run["state_name"] = history[-1], history[-1]["type"], history[-1]["name"]


BEGUN = (("SCHEDULED", "Scheduled", -100.0), ("PENDING", "Pending", 1.0), ("RUNNING", "Running", 2.0))
LONG = [("run-long", "s2/alert-on-long-run")]


@pytest.mark.parametrize(
    "states",
    [
        BEGUN,
        (*BEGUN, ("SCHEDULED", "AwaitingRetry", 100.0)),
        (*BEGUN, ("SCHEDULED", "AwaitingRetry", 100.0), ("RUNNING", "Retrying", 200.0)),
        (*BEGUN, ("PAUSED", "Suspended", 100.0)),
    ],
)
def test_a_run_that_has_not_completed_an_hour_after_it_started_rings_once(
    deadlines: RunDeadlines, server: PrefectServer, ringer: AlertService, states: Any
) -> None:
    running(server, *states)
    look(deadlines, 3600)
    assert rung(ringer) == []
    for seconds in range(3620, 4000, 10):
        look(deadlines, seconds)
    assert rung(ringer) == LONG


def test_a_run_that_a_person_tries_again_the_next_day_has_its_hour_anew(
    deadlines: RunDeadlines, server: PrefectServer, ringer: AlertService
) -> None:
    day = 86_400.0
    again = (("SCHEDULED", "Scheduled", day), ("RUNNING", "Running", day + 5))
    running(server, *BEGUN, ("FAILED", "Failed", 100.0), *again)
    look(deadlines, day + 3500)
    assert rung(ringer) == []
    look(deadlines, day + 3700)
    assert rung(ringer) == [("run-long", "s5/alert-on-long-run")]


def test_a_history_is_read_once_for_each_state(deadlines: RunDeadlines, server: PrefectServer) -> None:
    running(server, *BEGUN)
    server.asked.clear()
    for seconds in range(10, 100, 10):
        look(deadlines, seconds)
    assert len([path for path in server.asked if path.startswith("/api/flow_run_states")]) == 1
