"""A deployment that is gone: its arrivals get no run, a person is told why, and a retry loads them when it is back."""

import json
import subprocess
import sys

import pytest

from sensors.stack.services import Service
from tests.crashes.installation import Installation
from tests.journeys.stack import ROOT, wait_until
from tests.receiver import Receiver


@pytest.mark.slow  # five attempts with their pauses take a minute
def test_without_its_deployment_an_arrival_fails_with_the_reason_and_is_loaded_by_a_retry(
    installation: Installation, receiver: Receiver
):
    stack = installation.stack
    for service in (Service.WORKER, Service.SENSOR):
        installation.ensure(service)
    stack.api.delete(f"/deployments/{stack.deployment()['id']}").raise_for_status()
    stack.drop("homeless.csv", "homeless\n1\n")

    def state() -> object:
        rows = installation.ledger_rows("SELECT state FROM files WHERE name = 'homeless.csv'")
        return rows[0][0] if rows else None

    wait_until(lambda: state() == "failed", "the arrival has failed", 180, pause=0.5)
    ((arrival_id, reason, attempts),) = installation.ledger_rows(
        "SELECT a.id, a.reason, a.attempt FROM arrivals a JOIN files f ON f.arrival_id = a.id"
        " WHERE f.name = 'homeless.csv'"
    )
    assert attempts == 5
    assert str(reason).startswith("no run was started, 5 times: ")
    (message,) = wait_until(lambda: receiver.naming(str(arrival_id)), "the alert has come", 60)
    assert message["title"] == f"Arrival {arrival_id} has no run"
    assert f"just retry {arrival_id}" in json.dumps(message)

    installation.prepare_deployment()
    done = subprocess.run(
        [sys.executable, "-m", "sensors", "retry", str(arrival_id)],
        cwd=ROOT,
        env=installation.environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "is announced again; it was failed" in done.stdout
    wait_until(lambda: state() == "loaded", "it is loaded", 120, pause=0.5)
    assert stack.rows("SELECT count(*) FROM public.daily_metrics WHERE homeless = 1") == [(1,)]
