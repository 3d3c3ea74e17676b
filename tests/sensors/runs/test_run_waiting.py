"""Why a run waits: what holds it, said with the command that mends that."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sensors.runs.facts import RunFacts, RunHold, hold_of
from sensors.runs.issues import waiting_issues

NINE = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
POOL = {"id": "p", "name": "local pool", "is_paused": False, "concurrency_limit": None, "active_slots": None}
QUEUE = {"id": "q", "name": "default", "is_paused": False, "work_pool_id": "p"}
DEPLOYMENT = {"id": "d", "name": "etl", "flow_id": "f", "work_queue_id": "q", "global_concurrency_limit": {"limit": 2}}


def run(state_type: str = "SCHEDULED", name: str = "Late", **more: Any) -> dict[str, Any]:
    stamp = NINE.isoformat()
    known = {
        "id": "r",
        "name": "otter",
        "deployment_id": "d",
        "state_type": state_type,
        "state_name": name,
        "state": {"timestamp": stamp},
        "expected_start_time": stamp,
        "next_scheduled_start_time": stamp,
        "work_queue_id": "q",
        "work_queue_name": "default",
        "parameters": {},
    }
    return {**known, **more}


def facts(
    *runs: dict[str, Any], pool: Any = (), queue: Any = (), deployment: Any = (), worker: bool = True
) -> RunFacts:
    return RunFacts(
        runs,
        {"f": {"id": "f", "name": "ETL"}},
        {"d": {**DEPLOYMENT, **dict(deployment)}},
        {"p": {**POOL, **dict(pool)}},
        {"q": {**QUEUE, **dict(queue)}},
        frozenset({"local pool"} if worker else ()),
    )


def hold(held: dict[str, Any], **more: Any) -> RunHold:
    found = hold_of(held, facts(held, **more))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("more", "reason", "mend"),
    [
        (
            {"pool": {"is_paused": True}, "queue": {"is_paused": True}},
            "work pool local pool is paused",
            "`just prefect work-pool resume 'local pool'`",
        ),
        (
            {"queue": {"is_paused": True}},
            "work queue default of work pool local pool is paused",
            "`just prefect work-queue resume default --pool 'local pool'`",
        ),
        ({"worker": False}, "work pool local pool has no live worker", "`just up` starts one"),
        (
            {"pool": {"concurrency_limit": 3, "active_slots": 3}},
            "work pool local pool has 3 of 3 runs at once, its concurrency limit",
            "`just prefect work-pool clear-concurrency-limit 'local pool'`",
        ),
        (
            {"pool": {"concurrency_limit": 0, "active_slots": 0}},
            "work pool local pool has 0 of 0 runs at once",
            "`just prefect work-pool clear-concurrency-limit 'local pool'`",
        ),
        (
            {"queue": {"concurrency_limit": 1, "active_slots": 1}},
            "work queue default has 1 of 1 runs at once",
            "`just prefect work-queue clear-concurrency-limit default --pool 'local pool'`",
        ),
        ({}, "no worker of work pool local pool has taken it, though one is alive", "`just logs worker`"),
    ],
)
def test_a_run_that_does_not_start_names_what_holds_it_and_what_mends_that(more: Any, reason: str, mend: str) -> None:
    found = hold(run(), **more)
    assert found.reason.startswith(reason)
    assert found.mend.startswith(mend)


@pytest.mark.parametrize(
    ("held", "reason", "mend"),
    [
        (run(name="AwaitingConcurrencySlot"), "ETL/etl has 2 of 2 runs at once", "the runs before it have to end"),
        (run("PENDING", "Pending"), "a worker has taken it, and its process has not started", "`just logs worker`"),
        (run("PAUSED", "Suspended"), "it is suspended, by its flow or by a person", "Resume on its page"),
        (run("CANCELLING", "Cancelling"), "it is to be cancelled", "`just logs worker` says why"),
    ],
)
def test_a_run_that_is_stuck_in_a_state_says_so(held: dict[str, Any], reason: str, mend: str) -> None:
    found = hold(held)
    assert found.reason.startswith(reason)
    assert found.mend.startswith(mend)


def test_a_run_whose_queue_was_deleted_can_never_start_once_its_deployment_has_another_one() -> None:
    held = run(work_queue_id=None, work_queue_name="nightly")
    assert hold(held).is_final
    assert hold(held).reason == "its work queue nightly was deleted"
    without = hold(held, deployment={"work_queue_id": None})
    assert not without.is_final
    assert without.reason == "ETL/etl has no work queue any more: nightly was deleted"
    assert "`just deploy`" in without.mend


def test_a_run_that_is_at_work_is_not_held() -> None:
    assert hold_of(run("RUNNING", "Running"), facts()) is None


def test_for_a_slot_a_run_waits_since_its_time_however_often_it_asks() -> None:
    later = (NINE + timedelta(minutes=9)).isoformat()
    assert hold(run(name="AwaitingConcurrencySlot", next_scheduled_start_time=later)).since == NINE
    assert hold(run(name="AwaitingRetry", next_scheduled_start_time=later)).since == NINE + timedelta(minutes=9)


def test_runs_that_the_same_thing_holds_are_one_issue() -> None:
    found = waiting_issues(
        facts(run(), run(id="r2", name="owl"), pool={"is_paused": True}), frozenset("d"), NINE + timedelta(minutes=1)
    )
    assert [(one.more, one.is_dismissable) for one in found] == [(1, False)]
    at = f"{NINE.astimezone():%Y-%m-%d %H:%M:%S %Z}"
    assert found[0].line == (
        f"run otter of ETL/etl waits since {at}, and 1 more: work pool local pool is paused; "
        "`just prefect work-pool resume 'local pool'`"
    )


@pytest.mark.parametrize(("more", "seconds"), [({"pool": {"is_paused": True}}, 60), ({}, 300)])
def test_what_may_end_by_itself_is_said_later(more: Any, seconds: int) -> None:
    held = facts(run(), **more)
    assert waiting_issues(held, frozenset("d"), NINE + timedelta(seconds=seconds - 1)) == []
    assert len(waiting_issues(held, frozenset("d"), NINE + timedelta(seconds=seconds))) == 1


def test_a_run_of_another_deployment_is_not_our_issue() -> None:
    assert waiting_issues(facts(run(), pool={"is_paused": True}), frozenset("x"), NINE + timedelta(hours=1)) == []
