"""Failed runs as the server remembers them: each is the event that Prefect emits of it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from prefect.server.models import events as prefect_events
from prefect.server.schemas.core import CreatedBy, Deployment, Flow, FlowRun, WorkPool, WorkQueue
from prefect.server.schemas.responses import FlowRunResponse
from prefect.server.schemas.states import State, StateType

from sensors.alerts.reconcile import happening_of, read_failed_runs
from sensors.runs.api import PAGE, PrefectApi
from tests.prefect_server import PrefectServer

ENDED = datetime(2026, 11, 24, 9, 0, 12, 345678, tzinfo=UTC)
FLOW = Flow(id=UUID(int=1), name="Enterprise Data Pipeline", tags=["etl"])
DEPLOYMENT = Deployment(id=UUID(int=2), name="production-etl", flow_id=FLOW.id, tags=["env:prod", "etl"])
POOL = WorkPool(id=UUID(int=3), name="local", type="process", default_queue_id=UUID(int=4))
QUEUE = WorkQueue(id=UUID(int=4), name="default", work_pool_id=POOL.id)


def emitted(run: FlowRun, state: State, *, deployment: Deployment | None, queue: WorkQueue | None) -> dict[str, Any]:
    """Return the event that Prefect's own code makes of a run's state."""
    pool = POOL if queue else None
    known = prefect_events._as_resource_data(run, FLOW, deployment, queue, pool)  # pyright: ignore[reportPrivateUsage]
    prefect_events._flow_run_resource_data_cache[run.id] = known  # pyright: ignore[reportPrivateUsage]
    event = asyncio.run(
        prefect_events.flow_run_state_change_event(
            session=cast("Any", None),  # what it would be asked for is in the cache
            occurred=state.timestamp,
            flow_run=cast("Any", run),
            initial_state_id=None,
            initial_state=None,
            validated_state_id=state.id,
            validated_state=state,
        )
    )
    return event.model_dump(mode="json")


@pytest.mark.parametrize("kind", [StateType.FAILED, StateType.CRASHED])
@pytest.mark.parametrize("name", [None, "TimedOut", "Rejected by\nthe bank"])
@pytest.mark.parametrize("deployed", [True, False])
@pytest.mark.parametrize(
    "created_by",
    [
        None,
        CreatedBy(id=UUID(int=8), type="AUTOMATION", display_value="run-on-arrival"),
        CreatedBy(id=UUID(int=8), type="USER"),
    ],
)
def test_a_failed_run_is_the_event_that_prefect_emits_of_it(
    kind: StateType, name: str | None, created_by: CreatedBy | None, *, deployed: bool
) -> None:
    state = State(id=UUID(int=9), type=kind, name=name, message="boom", timestamp=cast("Any", ENDED))
    run = FlowRun(
        id=UUID(int=5),
        name="brave-otter",
        flow_id=FLOW.id,
        deployment_id=DEPLOYMENT.id if deployed else None,
        tags=["auto-scheduled"],
        run_count=3,
        state=state,
        work_queue_id=QUEUE.id if deployed else None,
        created_by=created_by,
    )
    theirs = emitted(run, state, deployment=DEPLOYMENT if deployed else None, queue=QUEUE if deployed else None)
    as_api = FlowRunResponse.model_validate(run.model_dump()).model_dump(mode="json")
    if deployed:
        as_api |= {"work_queue_name": QUEUE.name, "work_pool_id": str(POOL.id), "work_pool_name": POOL.name}
    ours = happening_of(as_api, FLOW.model_dump(mode="json"), DEPLOYMENT.model_dump(mode="json") if deployed else None)
    for one in theirs["related"]:
        one.pop("prefect.work-pool.type", None)  # the API does not tell it of a run
    assert (ours.id, ours.event, ours.occurred) == (theirs["id"], theirs["event"], ENDED)
    assert ours.resource == theirs["resource"]
    assert list(ours.related) == theirs["related"]


def read(server: PrefectServer, since: datetime) -> list[str]:
    with PrefectApi(server.url, None) as api:
        return [one.run["id"] for one in read_failed_runs(api, since)]


def test_those_are_read_that_have_failed_since_a_time(server: PrefectServer) -> None:
    server.failed_run("old", ENDED - timedelta(hours=1))
    server.failed_run("failed", ENDED)
    server.failed_run("crashed", ENDED, "Crashed")
    server.failed_run("timed-out", ENDED, "TimedOut")
    server.run("completed", "COMPLETED")
    server.runs[-1]["end_time"] = ENDED.isoformat()
    assert sorted(read(server, ENDED - timedelta(minutes=10))) == ["crashed", "failed", "timed-out"]


def test_there_may_be_more_than_a_page_of_them(server: PrefectServer) -> None:
    for number in range(PAGE + 3):
        server.failed_run(f"{number}", ENDED)
    assert len(set(read(server, ENDED))) == PAGE + 3


def test_a_run_without_a_state_or_whose_flow_is_gone_stops_nothing(server: PrefectServer) -> None:
    server.failed_run("stateless", ENDED, state="Failed")["state"] = None
    server.failed_run("orphan", ENDED, deployment_id=None)
    server.stored["flows"] = []
    assert read(server, ENDED) == ["orphan"]
