"""A source that fails is tried again three times, and then somebody hears of it, once."""

import time
from datetime import datetime
from itertools import pairwise

from tests.journeys.stack import DEPLOYMENT, FLOW, Stack, wait_until
from tests.receiver import Receiver


def test_an_unknown_source_is_tried_four_times_2_s_apart_and_alerted_once(stack: Stack, receiver: Receiver):
    run_id = stack.run_now({"source_url": "invalid://url"})
    run = stack.wait_for_end(run_id)
    assert run["state_name"] == "Failed"

    tasks = stack.api.post("/task_runs/filter", json={"flow_runs": {"id": {"any_": [run_id]}}}).json()
    (extract,) = [task for task in tasks if task["name"].startswith("extract_data")]
    assert extract["run_count"] == 4

    def started_four_times() -> list[datetime] | None:
        # The server writes a task run's states down after the run itself has ended, from its events.
        states = stack.api.get("/task_run_states/", params={"task_run_id": extract["id"]}).json()
        found = sorted(datetime.fromisoformat(s["timestamp"]) for s in states if s["name"] in {"Running", "Retrying"})
        return found if len(found) >= 4 else None

    started = wait_until(started_four_times, "the server has written four attempts down")
    assert len(started) == 4
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(started)]
    assert all(2.0 <= pause < 4.0 for pause in pauses), pauses

    (message,) = wait_until(lambda: receiver.naming(run_id), "the notification came")
    for part in (FLOW, run["name"], "Failed", "invalid://url", f"/runs/flow-run/{run_id}"):
        assert part in f"{message['title']} {message['message']}", message
    # A second one, if it came, would come with the next event: another failing run's.
    other = stack.run_now({"source_url": "invalid://other"})
    stack.wait_for_end(other)
    wait_until(lambda: receiver.naming(other), "the other run's notification came")
    assert len(receiver.naming(run_id)) == 1


def test_a_mistyped_parameter_fails_at_once_and_says_what_was_expected(stack: Stack):
    began = time.monotonic()
    run = stack.wait_for_end(stack.run_now({"target_table": "daily_metrics; DROP TABLE x"}))
    assert run["state_name"] == "Failed"
    assert "catalog.schema.table" in run["state"]["message"]
    assert time.monotonic() - began < 30
    assert stack.deployment()["name"] == DEPLOYMENT
