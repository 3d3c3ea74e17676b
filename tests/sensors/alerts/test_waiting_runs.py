"""Waiting runs: what holds runs for five minutes is reported once, and once more when it is over."""

from typing import Any

import pytest

from automations.alert_service import AlertService, automations_in_files
from sensors.alerts.overdue_runs import WaitingRuns
from sensors.alerts.reconcile import MissedAlerts
from sensors.ledger import Ledger
from sensors.runs.api import PrefectApi
from sensors.runs.facts import read_run_facts
from tests.hand_clock import HandClock
from tests.postings import NOW, at, posting
from tests.prefect_server import PrefectServer

OURS = frozenset({"deployment-1"})


@pytest.fixture
def waiting(server: PrefectServer, ringer: AlertService, ledger: Ledger, hand_clock: HandClock) -> WaitingRuns:
    server.know_deployment()
    made = started(server, ringer, ledger, hand_clock)
    look(made, -3600)
    return made


def started(server: PrefectServer, ringer: AlertService, ledger: Ledger, hand_clock: HandClock) -> WaitingRuns:
    api = PrefectApi(server.url, None)
    missed = MissedAlerts(api, ringer, ledger, "http://127.0.0.1:4200", automations_in_files())
    return WaitingRuns(api, missed, hand_clock.clock)


def look(waiting: WaitingRuns, seconds: float) -> None:
    waiting.step(read_run_facts(waiting.api, at(seconds)), OURS, at(seconds))


def look_until(waiting: WaitingRuns, begin: int, end: int) -> None:
    for seconds in range(begin, end, 10):
        look(waiting, seconds)


def pause_pool(server: PrefectServer, *, is_paused: bool = True) -> None:
    server.stored["work_pools"][0]["is_paused"] = is_paused


def waits(server: PrefectServer, run_id: str = "r1", state: str = "Late", **more: Any) -> dict[str, Any]:
    """Add a run that was to start at nine and has not."""
    due = {"expected_start_time": NOW.isoformat(), "next_scheduled_start_time": NOW.isoformat(), "end_time": None}
    place = {"work_queue_id": "queue-1", "work_queue_name": "default", "work_pool_name": "local-process-pool"}
    run = server.failed_run(run_id, NOW, state, **{**due, **place, "run_count": 0, **more})
    run["state_type"] = run["state"]["type"] = more.get("state_type", "SCHEDULED")
    return run


def events(server: PrefectServer) -> list[tuple[str, str]]:
    return [
        (one["event"], one["payload"].get("reason", "")) for one in server.emitted if one["event"].startswith("run.")
    ]


PAUSED = ("run.waiting", "work pool local-process-pool is paused")


def test_a_paused_pool_is_reported_after_five_minutes_once_for_all_its_runs_and_when_it_is_over(
    waiting: WaitingRuns, server: PrefectServer, ringer: AlertService
) -> None:
    pause_pool(server)
    for number in range(3):
        waits(server, f"r{number}")
    look_until(waiting, 0, 300)
    assert events(server) == []
    look_until(waiting, 300, 1000)
    assert events(server) == [PAUSED]
    pause_pool(server, is_paused=False)
    server.runs.clear()
    look_until(waiting, 1000, 1100)
    assert events(server) == [PAUSED, ("run.released", "")]
    rows = ringer.bell.outbox.rows("SELECT subject, type FROM alerts ORDER BY rowid")
    assert [(row["subject"], row["type"]) for row in rows] == [
        ("Runs wait: work pool local-process-pool is paused", "failure"),
        ("Runs no longer wait", "success"),
    ]


def test_the_alert_says_how_many_wait_and_the_command_that_mends_it(
    waiting: WaitingRuns, server: PrefectServer, ringer: AlertService
) -> None:
    pause_pool(server)
    waits(server)
    waits(server, "r2")
    look_until(waiting, 300, 330)
    [alert] = ringer.bell.outbox.rows("SELECT * FROM alerts")
    assert alert["body"].splitlines()[0] == "Runs: 2, the first is run-r1 of Enterprise Data Pipeline/production-etl"
    assert "Next: `just prefect work-pool resume local-process-pool`" in alert["body"]
    assert '"env:prod"' in alert["tags"]


def test_a_sensor_that_was_started_anew_reports_nothing_twice_and_says_when_it_is_over(
    waiting: WaitingRuns, server: PrefectServer, ringer: AlertService, ledger: Ledger, hand_clock: HandClock
) -> None:
    pause_pool(server)
    waits(server)
    look_until(waiting, 300, 330)
    again = started(server, ringer, ledger, hand_clock)
    look_until(again, 400, 500)
    assert events(server) == [PAUSED]
    server.runs.clear()
    look_until(again, 500, 520)
    assert events(server) == [PAUSED, ("run.released", "")]


def test_a_pool_of_which_someone_knows_that_it_has_no_worker_is_not_reported_again(
    waiting: WaitingRuns, server: PrefectServer, ringer: AlertService
) -> None:
    server.stored["workers"] = []
    waits(server)
    ringer.post(posting("p", kind="no-worker", opens="prefect.work-pool.pool-1"), at(90))
    look_until(waiting, 300, 400)
    assert events(server) == []


def test_a_run_of_the_schedule_has_the_alert_for_late_runs_instead(waiting: WaitingRuns, server: PrefectServer) -> None:
    pause_pool(server)
    waits(server, tags=["auto-scheduled"])
    look_until(waiting, 300, 400)
    assert events(server) == []


@pytest.mark.parametrize(
    ("state", "state_type", "reason"),
    [
        ("Suspended", "PAUSED", "it is suspended, by its flow or by a person"),
        ("Cancelling", "CANCELLING", "it is to be cancelled, and no worker has ended its process"),
        ("Pending", "PENDING", "a worker has taken it, and its process has not started"),
        ("AwaitingRetry", "SCHEDULED", "no worker of work pool local-process-pool has taken it, though one is alive"),
    ],
)
def test_a_run_that_is_stuck_in_a_state_is_reported(
    waiting: WaitingRuns, server: PrefectServer, state: str, state_type: str, reason: str
) -> None:
    waits(server, state=state, state_type=state_type)
    look_until(waiting, 300, 400)
    assert events(server) == [("run.waiting", reason)]


def test_after_an_outage_of_the_server_a_run_may_start_before_it_is_reported(
    waiting: WaitingRuns, server: PrefectServer
) -> None:
    waits(server)
    waiting.api.unreached_at = at(1000)
    look_until(waiting, 1000, 1030)
    assert events(server) == []
    look(waiting, 1040)
    assert len(events(server)) == 1


def test_a_run_of_an_arrival_that_can_never_start_crashes_so_that_the_arrival_is_announced_again(
    waiting: WaitingRuns, server: PrefectServer
) -> None:
    gone = {"work_queue_id": None, "work_queue_name": "nightly", "work_pool_name": None}
    waits(server, **gone, parameters={"arrival_id": "m-1"})
    waits(server, "by-hand", **gone)
    waiting.give_up(read_run_facts(waiting.api, at(60)), OURS)
    assert [(run_id, state["message"]) for run_id, state in server.states_set] == [
        ("r1", "its work queue nightly was deleted")
    ]
