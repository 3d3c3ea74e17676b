"""Lost runs: which running flows are reported, and how often."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from automations.alert_service import AlertService, automations_in_files
from sensors.alerts.overdue_runs import LOST, LostRunAlerts
from sensors.alerts.reconcile import GRACE, MissedAlerts
from sensors.ledger import Ledger
from sensors.runs.api import PrefectApi
from sensors.runs.facts import HEARTBEAT
from tests.postings import NOW, at
from tests.prefect_server import PrefectServer

PATIENCE = timedelta(seconds=120)


@pytest.fixture
def alerts(server: PrefectServer, ringer: AlertService, ledger: Ledger) -> LostRunAlerts:
    api = PrefectApi(server.url, None)
    missed = MissedAlerts(api, ringer, ledger, "http://127.0.0.1:4200", automations_in_files())
    return LostRunAlerts(api, missed, PATIENCE)


def running(server: PrefectServer, run_id: str, *heartbeats: datetime, **more: Any) -> None:
    """Add a run that has been at work since nine, and the heartbeats that came of it."""
    run = server.failed_run(run_id, NOW, "Running", **more)
    run["state_type"] = run["state"]["type"] = "RUNNING"
    for moment in heartbeats:
        resource = {"prefect.resource.id": f"prefect.flow-run.{run_id}"}
        server.events.append({"event": HEARTBEAT, "resource": resource, "occurred": moment.isoformat()})


def reported(server: PrefectServer) -> list[str]:
    return [event["resource"]["prefect.resource.id"] for event in server.emitted if event["event"] == LOST]


def test_a_run_whose_heartbeats_have_stopped_is_reported_once(alerts: LostRunAlerts, server: PrefectServer) -> None:
    running(server, "r1", at(0), at(30))
    for seconds in range(40, 600, 10):
        alerts.step(at(seconds))
        assert reported(server) == (["prefect.flow-run.r1"] if seconds > 150 else [])


def test_a_run_that_sends_heartbeats_is_not_reported(alerts: LostRunAlerts, server: PrefectServer) -> None:
    running(server, "r1", *(at(seconds) for seconds in range(0, 900, 30)))
    for seconds in range(40, 900, 10):
        alerts.step(at(seconds))
    assert reported(server) == []


def test_a_run_that_never_sends_heartbeats_and_a_run_without_a_deployment_are_not_reported(
    alerts: LostRunAlerts, server: PrefectServer
) -> None:
    running(server, "r1")
    running(server, "r2", at(0), deployment_id=None)
    alerts.step(at(3000))
    assert reported(server) == []


def test_after_an_outage_of_the_server_a_run_has_its_time_again(alerts: LostRunAlerts, server: PrefectServer) -> None:
    running(server, "r1", at(0))
    alerts.api.unreached_at = at(600)
    alerts.step(at(700))
    assert reported(server) == []
    alerts.step(at(730))
    assert reported(server) == ["prefect.flow-run.r1"]


def test_the_alert_of_an_event_that_the_server_missed_is_posted(
    alerts: LostRunAlerts, server: PrefectServer, ringer: AlertService
) -> None:
    running(server, "r1", at(0))
    alerts.step(at(200))
    alerts.step(at(200 + GRACE.seconds + 1))
    [alert] = ringer.bell.outbox.rows("SELECT * FROM alerts")
    assert (alert["kind"], alert["subject"]) == ("run-stuck", "No sign of life: Enterprise Data Pipeline, run run-r1")
    assert alert["cause"] == f"{server.emitted[0]['id']}/alert-on-stuck-run"
