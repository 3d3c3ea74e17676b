"""The same deployment, run by hand from the command line."""

import json
import re

import pytest

from tests.journeys.stack import DEPLOYMENT, FLOW, Stack
from tests.receiver import Receiver


def run_by_hand(stack: Stack, *arguments: str) -> str:
    """Run the deployment as the README says and return the run's id."""
    done = stack.prefect("deployment", "run", f"{FLOW}/{DEPLOYMENT}", *arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    return re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", done.stdout)[0]


@pytest.fixture
def source(receiver: Receiver) -> str:
    """An HTTP source of two pages."""
    days = [{"metric_day": f"2026-11-{day:02}", "visits": day} for day in range(1, 25)]
    receiver.pages["/metrics"] = (
        "application/json",
        json.dumps({"data": days[:20], "next": "/metrics?page=2"}).encode(),
    )
    receiver.pages["/metrics?page=2"] = ("application/json", json.dumps({"data": days[20:], "next": None}).encode())
    return receiver.page("/metrics")


def test_parameters_given_one_by_one_are_used_and_every_page_is_loaded(stack: Stack, source: str):
    stack.know_one_of(["visits"], "BIGINT")
    run_id = run_by_hand(stack, "--param", "batch_size=5", "--param", f"source_url={source}")
    run = stack.wait_for_end(run_id)
    assert run["state_name"] == "Completed", run["state"]
    assert run["parameters"]["batch_size"] == 5
    loaded = stack.rows(f"SELECT count(*), sum(visits) FROM public.daily_metrics WHERE _arrival_id = '{run_id}'")
    assert loaded == [(24, sum(range(1, 25)))]


def test_parameters_given_as_json_are_used(stack: Stack):
    run_id = run_by_hand(stack, "--params", '{"batch_size": 200}')
    run = stack.run(run_id)
    assert run["parameters"] == {
        "source_url": "https://api.internal.prod/v1/metrics",
        "target_table": "warehouse.public.daily_metrics",
        "batch_size": 200,
    }
    stack.api.post(f"/flow_runs/{run_id}/set_state", json={"state": {"type": "CANCELLING"}, "force": False})


def test_without_parameters_the_deployments_own_are_used(stack: Stack):
    run_id = run_by_hand(stack)
    assert stack.run(run_id)["parameters"]["source_url"] == "https://api.internal.prod/v1/metrics"
    stack.api.post(f"/flow_runs/{run_id}/set_state", json={"state": {"type": "CANCELLING"}, "force": False})
