"""An installation moves from the embedded to the scale profile with files at every step of their journey."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sensors.ledger import Ledger
from tests.journeys.stack import CREDENTIALS, Stack, wait_until
from tests.postgres import postgres_server
from tests.receiver import Receiver
from tests.redis_server import redis_server

ROWS = 5
LOADED = ("before.csv", "running.csv", "announced.csv", "between.csv", "after.csv")


@pytest.fixture
def shared_servers() -> Iterator[dict[str, str]]:
    """Give the settings for an empty PostgreSQL and an empty Redis, with one process of each kind."""
    counts = dict.fromkeys(["API_SERVERS", "SERVICE_PROCESSES", "WORKERS"], "1")
    with postgres_server() as postgres, redis_server() as redis:
        databases = {"DATABASE_URL": postgres.create("prefect"), "WAREHOUSE_URL": postgres.create("warehouse")}
        yield {"PROFILE": "scale", "REDIS_URL": redis.url, **databases, **counts}


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def drop(stack: Stack, *names: str) -> None:
    for name in names:
        stack.drop(f"{name}.csv", "moved\n" + "1\n" * ROWS)


def arrival_of(stack: Stack, name: str) -> dict[str, Any]:
    """Return what the ledger has of the arrival that a file is in."""
    with Ledger(stack.state_dir / "ledger.db", read_only=True) as ledger:
        found = ledger.rows(
            "SELECT a.*, f.reason AS file_reason FROM files f JOIN arrivals a ON a.id = f.arrival_id WHERE f.name = ?",
            (f"{name}.csv",),
        )
    return dict(found[0]) if found else {}


def wait_for(stack: Stack, name: str, state: str, seconds: float = 120) -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        arrival = arrival_of(stack, name)
        return arrival if arrival.get("state") == state else None

    return wait_until(reached, f"the arrival of {name} is {state}", seconds)


def hold_two_half_way(stack: Stack) -> None:
    """Have one arrival that has a run, and one that is announced and has none, and nothing that would go on."""
    stack.api.patch("/work_pools/local-process-pool", json={"is_paused": True}).raise_for_status()
    drop(stack, "running")
    wait_for(stack, "running", "running")
    for automation in stack.api.post("/automations/filter", json={}).raise_for_status().json():
        if automation["name"] == "run-on-arrival":
            stack.api.patch(f"/automations/{automation['id']}", json={"enabled": False}).raise_for_status()
    drop(stack, "announced")
    wait_for(stack, "announced", "announced")


def reported(receiver: Receiver, what: str) -> list[str]:
    return [body["title"] for body in receiver.taken() if what in f"{body['title']} {body['message']}"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_file_is_lost_or_loaded_twice_when_an_installation_moves_from_embedded_to_scale(
    tmp_path: Path, new_stack: Callable[..., Stack], receiver: Receiver, shared_servers: dict[str, str]
):
    stack = new_stack(tmp_path / "state", NOTIFY_URLS=receiver.url()).start(300)
    try:
        drop(stack, "before")
        wait_for(stack, "before", "loaded")
        stack.drop("bad.csv", "moved\n1\n2,too many\n")
        bad = wait_for(stack, "bad", "failed")
        wait_until(lambda: reported(receiver, "bad.csv"), "the bad file is reported")
        hold_two_half_way(stack)
    finally:
        stack.stop()
    told_before = reported(receiver, "bad.csv")
    drop(stack, "between")
    stack = Stack(stack.state_dir, NOTIFY_URLS=receiver.url(), PREFECT_API_AUTH_STRING=CREDENTIALS, **shared_servers)
    moved = stack.command("flows.migrate.run")
    assert moved.returncode == 0, moved.stdout + moved.stderr
    warehouse = shared_servers["WAREHOUSE_URL"]
    assert rows(warehouse, "SELECT count(*) FROM public.daily_metrics") == [(ROWS,)]
    stack.start(300)
    try:
        said = stack.terminal.read_text()
        assert "started again" not in said, said
        drop(stack, "after")
        for name in LOADED:
            wait_for(stack, name.removesuffix(".csv"), "loaded", 480)
        query = "SELECT _file_name, count(*) FROM public.daily_metrics WHERE moved = 1 GROUP BY 1"
        assert dict(rows(warehouse, query)) == dict.fromkeys(LOADED, ROWS)
        books = stack.books()
        assert (books["seen"], books["waiting"], books["in_flight"]) == (len(LOADED) + 1, 0, 0)

        # What had failed before has failed still, is told once only, and can be tried again on the new server.
        after = arrival_of(stack, "bad")
        assert (after["state"], after["run_id"], after["file_reason"]) == ("failed", bad["run_id"], bad["file_reason"])
        assert reported(receiver, "bad.csv") == told_before
        (Path(bad["folder"]) / "bad.csv").write_text("moved\n2\n")
        assert stack.command("sensors", "retry", bad["id"]).returncode == 0
        wait_for(stack, "bad", "loaded")
        assert rows(warehouse, "SELECT count(*) FROM public.daily_metrics WHERE moved = 2") == [(1,)]
    finally:
        stack.stop()
