"""Missing runs: a time of the schedule that has no run is reported, whatever became of the scheduler."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from automations.alert_service import AlertService, automations_in_files
from sensors.alerts.overdue_runs import MissingRuns
from sensors.alerts.reconcile import MissedAlerts
from sensors.ledger import Ledger
from sensors.runs.api import ApiError, PrefectApi
from sensors.runs.facts import read_run_facts
from tests.postings import NOW, at
from tests.prefect_server import LONG_AGO, PrefectServer

HOURLY = {"id": "s-1", "active": True, "updated": LONG_AGO, "schedule": {"cron": "0 * * * *", "timezone": "UTC"}}
HOUR = 3600.0


@pytest.fixture
def missing(server: PrefectServer, ringer: AlertService, ledger: Ledger) -> MissingRuns:
    """Make one that has looked a minute before nine."""
    server.know_deployment(schedules=[HOURLY])
    made = started(server, ringer, ledger)
    look(made, -60)
    return made


def started(server: PrefectServer, ringer: AlertService, ledger: Ledger) -> MissingRuns:
    api = PrefectApi(server.url, None)
    return MissingRuns(api, MissedAlerts(api, ringer, ledger, "http://127.0.0.1:4200", automations_in_files()))


def look(missing: MissingRuns, seconds: float) -> None:
    missing.step(read_run_facts(missing.api, at(seconds)), at(seconds))


def reported(server: PrefectServer) -> list[tuple[str, int]]:
    """Return the first due time of each event, and how many more there were."""
    events = {one["id"]: one for one in server.emitted if one["event"] == "run.missing"}
    return [(one["payload"]["due"][:16], one["payload"]["more"]) for one in events.values()]


def run_at(server: PrefectServer, moment: datetime) -> None:
    server.failed_run(f"at-{moment}", moment, "Completed", expected_start_time=moment.isoformat())


def test_a_run_that_does_not_exist_is_reported_within_half_a_minute_and_once(
    missing: MissingRuns, server: PrefectServer
) -> None:
    for seconds in range(-50, 15, 10):
        look(missing, seconds)
    assert reported(server) == []
    for seconds in range(20, 600, 10):
        look(missing, seconds)
        assert reported(server) == [("2026-11-24T09:00", 0)]


def test_a_run_that_exists_in_whatever_state_is_not_missing(missing: MissingRuns, server: PrefectServer) -> None:
    run_at(server, NOW)
    look(missing, 60)
    assert reported(server) == []


def test_an_event_of_which_no_alert_came_is_rung_for(
    missing: MissingRuns, server: PrefectServer, ringer: AlertService
) -> None:
    look(missing, 20)
    look(missing, 40)
    [alert] = ringer.bell.outbox.rows("SELECT * FROM alerts")
    due = f"{NOW.astimezone():%Y-%m-%d %H:%M %Z}"
    assert alert["subject"] == f"Does not exist: Enterprise Data Pipeline/production-etl, run of {due}"
    assert "`just prefect deployment run 'Enterprise Data Pipeline/production-etl'`" in alert["body"]
    assert "Schedule: 0 * * * * UTC" in alert["body"]


def test_what_was_missed_while_the_server_was_down_for_hours_is_one_report(
    missing: MissingRuns, server: PrefectServer
) -> None:
    run_at(server, at(HOUR))
    server.status = 500
    with pytest.raises(ApiError):
        look(missing, 3 * HOUR)
    server.status = 200
    for seconds in range(0, 100, 10):
        look(missing, 5 * HOUR + 20 + seconds)
    assert reported(server) == [("2026-11-24T09:00", 4)]


@pytest.mark.parametrize("pause", [20.0, 3 * HOUR])
def test_a_sensor_that_was_started_anew_goes_on_where_it_was_and_reports_nothing_twice(
    missing: MissingRuns, server: PrefectServer, ringer: AlertService, ledger: Ledger, pause: float
) -> None:
    look(missing, 20)
    run_at(server, at(HOUR))
    run_at(server, at(2 * HOUR))
    run_at(server, at(3 * HOUR))
    again = started(server, ringer, ledger)
    for seconds in range(0, 60, 10):
        look(again, pause + 20 + seconds)
    assert reported(server) == [("2026-11-24T09:00", 0)]
    assert len(ringer.bell.outbox.rows("SELECT 1 FROM alerts")) == 1


def test_at_its_first_start_a_sensor_does_not_look_back(
    server: PrefectServer, ringer: AlertService, ledger: Ledger
) -> None:
    server.know_deployment(schedules=[HOURLY])
    look(started(server, ringer, ledger), 600)
    assert reported(server) == []


@pytest.mark.parametrize(
    "more",
    [
        {"schedules": [{**HOURLY, "active": False}]},
        {"schedules": [HOURLY], "paused": True},
        {"schedules": []},
        {"schedules": [{**HOURLY, "schedule": {"cron": "30 * * * *"}}]},
        {"schedules": [{**HOURLY, "updated": at(-10).isoformat()}]},  # changed just before, to nine o'clock
        {"schedules": [HOURLY], "updated": at(15).isoformat()},  # resumed just after
    ],
)
def test_a_paused_or_changed_schedule_wants_what_it_wants_from_now_on(
    missing: MissingRuns, server: PrefectServer, more: dict[str, Any]
) -> None:
    server.know_deployment(**more)
    look(missing, 60)
    assert reported(server) == []


def test_each_deployment_is_looked_at_by_itself_and_with_all_of_its_schedules(
    missing: MissingRuns, server: PrefectServer
) -> None:
    half = {**HOURLY, "id": "s-2", "schedule": {"cron": "1 * * * *", "timezone": "UTC"}}
    other = {**server.stored["deployments"][0], "id": "deployment-2", "name": "other", "schedules": [HOURLY, half]}
    server.stored["deployments"].append(other)
    run_at(server, NOW)
    look(missing, 60 + 20)
    assert reported(server) == [("2026-11-24T09:00", 1)]


def test_in_the_hour_that_the_clock_is_set_nothing_is_reported(
    server: PrefectServer, ringer: AlertService, ledger: Ledger
):
    half_past_one = {**HOURLY, "schedule": {"cron": "30 1 * * *", "timezone": "America/Chicago"}}
    server.know_deployment(schedules=[half_past_one], updated="2026-01-01T00:00:00+00:00")
    made = started(server, ringer, ledger)
    begin = (datetime.fromisoformat("2026-11-01T00:00:00-05:00") - NOW).total_seconds()
    look(made, begin)
    look(made, begin + timedelta(hours=8).total_seconds())
    assert reported(server) == []
    look(made, begin + timedelta(hours=33).total_seconds())
    assert reported(server) == [("2026-11-02T07:30", 0)]
