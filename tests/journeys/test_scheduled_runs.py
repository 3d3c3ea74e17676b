"""Runs that Prefect's scheduler made minutes before their time ring for what goes wrong with them.

The scheduler emits no Scheduled event, so Prefect holds the events that follow within five minutes back for up to
fifteen minutes. A run that is made by hand has all of its events and shows nothing of this.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.journeys.stack import DEPLOYMENT, FLOW, Stack, wait_until
from tests.receiver import Receiver, receiving

pytestmark = pytest.mark.long

SHORTENED = {"alert-on-late-run": 15, "alert-on-long-run": 10}
NEVER_TAKEN = "never-taken"
WITHIN = timedelta(seconds=30)
"""How long after it is due an alert may come."""
BUSY = 20.0
"""What a busy machine may add to that, in seconds."""


@dataclass
class Schedules:
    """A stack whose automations watch over several deployments, each with a schedule of its own."""

    stack: Stack
    receiver: Receiver
    names: dict[str, str] = field(default_factory=dict[str, str])
    """The deployments' ids by their names."""

    def watch_over(self, names: list[str]) -> None:
        """Have the automations watch over these deployments as well, and wait for less."""
        for one in self.stack.api.post("/automations/filter", json={}).raise_for_status().json():
            body = {name: one[name] for name in ("name", "description", "enabled", "tags", "trigger", "actions")}
            body["trigger"]["within"] = SHORTENED.get(one["name"], body["trigger"].get("within"))
            for related in body["trigger"].get("match_related") or []:
                if isinstance(related, dict) and related.get("prefect.resource.name") == DEPLOYMENT:
                    related["prefect.resource.name"] = [DEPLOYMENT, *names]
            self.stack.api.put(f"/automations/{one['id']}", json=body).raise_for_status()

    def deploy(self, name: str, cron: str, source_url: str | None = None, **more: Any) -> None:
        """Make a deployment of the flow that has a schedule."""
        known = self.stack.deployment()
        if source_url:
            more["parameters"] = {**known["parameters"], "source_url": source_url}
        copied = ("flow_id", "entrypoint", "path", "pull_steps", "job_variables", "work_pool_name", "parameters")
        schedule = {"schedule": {"cron": cron, "timezone": "UTC"}, "active": True}
        body = {**{key: known[key] for key in copied}, "name": name, "schedules": [schedule], **more}
        self.names[name] = self.stack.api.post("/deployments/", json=body).raise_for_status().json()["id"]

    def runs(self, name: str) -> list[dict[str, Any]]:
        """Return the runs of a deployment."""
        wanted = {"deployments": {"id": {"any_": [self.names[name]]}}}
        return self.stack.api.post("/flow_runs/filter", json=wanted).raise_for_status().json()

    def run_at(self, name: str, at: datetime) -> dict[str, Any] | None:
        """Return the run of a deployment that is planned for a time."""
        found = [run for run in self.runs(name) if datetime.fromisoformat(run["expected_start_time"]) == at]
        return found[0] if found else None

    def titles(self, *texts: str) -> list[str]:
        """Return the titles of the alerts in which all of these stand."""
        found = [post["title"] for post in self.receiver.naming(texts[0])]
        return [title for title in found if all(text in title for text in texts)]

    def times_reported(self, expected: dict[str, tuple[str, ...]]) -> dict[str, int]:
        """Return how many alerts have a title with all of the texts, by what each is about."""
        return {what: len(self.titles(*texts)) for what, texts in expected.items()}


@pytest.fixture(scope="module")
def schedules(tmp_path_factory: pytest.TempPathFactory, new_stack: Callable[..., Stack]) -> Iterator[Schedules]:
    with receiving() as receiver:
        stack = new_stack(tmp_path_factory.mktemp("schedules") / "state", NOTIFY_URLS=receiver.url()).start()
        try:
            yield Schedules(stack, receiver)
        finally:
            stack.stop()


@pytest.mark.timeout(600)
def test_runs_that_the_scheduler_made_two_minutes_ahead_ring_once_each_when_late_failed_long_or_missing(
    schedules: Schedules,
) -> None:
    stack = schedules.stack
    queue = {"name": NEVER_TAKEN, "is_paused": True}
    stack.api.post("/work_pools/local-process-pool/queues", json=queue).raise_for_status()
    schedules.watch_over(["is-late", "is-failed", "is-long", "is-missing", "is-paused", "is-well"])
    at = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=2)
    cron = f"{at.minute} {at.hour} * * *"
    with schedules.receiver.holding("/long") as url:
        schedules.deploy("is-late", cron, work_queue_name=NEVER_TAKEN)
        schedules.deploy("is-failed", cron, "invalid://at-nine")
        schedules.deploy("is-long", cron, url)
        schedules.deploy("is-missing", cron)
        schedules.deploy("is-paused", cron)
        deployed = ("is-late", "is-failed", "is-long", "is-missing", "is-paused")
        wait_until(lambda: all(schedules.run_at(one, at) for one in deployed), "the scheduler has planned the runs", 60)
        stack.api.post(f"/deployments/{schedules.names['is-paused']}/pause_deployment").raise_for_status()
        names = {one: run["name"] for one in deployed if (run := schedules.run_at(one, at))}

        def delete_the_missing() -> bool:
            """Delete the run until its time has passed: before that the scheduler would plan it anew."""
            if run := schedules.run_at("is-missing", at):
                stack.api.delete(f"/flow_runs/{run['id']}").raise_for_status()
            return datetime.now(UTC) > at + timedelta(seconds=2)

        wait_until(lambda: datetime.now(UTC) > at - timedelta(seconds=20), "it is nearly time", 150, pause=1)
        wait_until(delete_the_missing, "the time has passed", 60, pause=0.5)
        expected = {
            "failed": (f"Failed: {FLOW}/is-failed",),
            "missing": ("Does not exist", f"{FLOW}/is-missing"),
            "late": ("Not started", names["is-late"]),
            "long": ("Still running", names["is-long"]),
        }
        # The last of them, the late one, is due half a minute after its time.
        deadline = at + timedelta(seconds=30) + WITHIN
        seconds = max(1.0, (deadline - datetime.now(UTC)).total_seconds() + BUSY)
        with suppress(AssertionError):
            wait_until(lambda: all(schedules.times_reported(expected).values()), "all alerts have come", seconds)
        assert schedules.times_reported(expected) == dict.fromkeys(expected, 1)
        # What the automations and the sensor's own look say of the same is one alert.
        looked = datetime.now(UTC) + timedelta(seconds=30)
        wait_until(lambda: datetime.now(UTC) > looked, "the sensor has looked again", 60, pause=1)
    assert schedules.times_reported(expected) == dict.fromkeys(expected, 1)
    assert schedules.titles("is-paused") == []
    assert len(schedules.titles("Not started")) == len(schedules.titles("Does not exist")) == 1
