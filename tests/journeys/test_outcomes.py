"""What people do with runs on Prefect's page, and with arrivals at the terminal, reaches the books."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sensors.ledger import Ledger
from tests.journeys.stack import Stack, wait_until
from tests.receiver import Receiver

POOL = "/work_pools/local-process-pool"


@contextmanager
def paused(stack: Stack) -> Iterator[None]:
    """Keep the worker from starting runs, as the switch on the work pool's page does."""
    stack.api.patch(POOL, json={"is_paused": True}).raise_for_status()
    try:
        yield
    finally:
        stack.api.patch(POOL, json={"is_paused": False}).raise_for_status()


def arrival_of(stack: Stack, name: str) -> dict[str, str]:
    """Return what the ledger has of the latest arrival that a file is in."""
    with Ledger(stack.state_dir / "ledger.db", read_only=True) as ledger:
        found = ledger.rows(
            "SELECT a.*, f.state AS file_state, f.reason AS file_reason FROM files f"
            " JOIN arrivals a ON a.id = f.arrival_id WHERE f.name = ? ORDER BY f.id DESC LIMIT 1",
            (name,),
        )
    return dict(found[0]) if found else {}


def run_of(stack: Stack, name: str) -> str:
    return wait_until(lambda: arrival_of(stack, name).get("run_id"), f"{name} has a run", 60)


def wait_for_state(stack: Stack, name: str, state: str) -> dict[str, str]:
    def reached() -> dict[str, str] | None:
        arrival = arrival_of(stack, name)
        return arrival if arrival.get("state") == state else None

    return wait_until(reached, f"the arrival of {name} is {state}", 90)


def rows(stack: Stack, column: str) -> list[object]:
    found = stack.rows(f"SELECT {column} FROM public.daily_metrics WHERE {column} IS NOT NULL ORDER BY 1")
    return [row[0] for row in found]


def test_a_cancelled_run_has_failed_with_that_reason_and_a_deleted_one_is_started_again(stack: Stack):
    with paused(stack):
        stack.drop("cancelled.csv", "cancelled\n1\n")
        cancelled = run_of(stack, "cancelled.csv")
        stack.drop("deleted.csv", "deleted\n1\n")
        deleted = run_of(stack, "deleted.csv")
        state = {"type": "CANCELLED", "message": "Somebody cancelled it."}
        stack.api.post(f"/flow_runs/{cancelled}/set_state", json={"state": state}).raise_for_status()
        stack.api.delete(f"/flow_runs/{deleted}").raise_for_status()
        first = wait_for_state(stack, "cancelled.csv", "failed")
        wait_until(lambda: arrival_of(stack, "deleted.csv")["run_id"] not in {None, deleted}, "it has another run", 90)
    assert first["file_reason"] == "Cancelled: Somebody cancelled it."
    shown = stack.state_dir / "failed" / "arrivals" / first["id"]
    assert (shown / "links" / "cancelled.csv").read_text() == "cancelled\n1\n"
    reported = stack.command("sensors", "status").stdout
    assert f"failed in inbox metrics: cancelled.csv: {first['file_reason']}; `just retry {first['id']}`" in reported

    done = stack.command("sensors", "retry", first["id"])
    assert done.stdout == f"arrival {first['id']} (1 file) is announced again; it was failed\n", done.stderr
    wait_for_state(stack, "cancelled.csv", "loaded")
    wait_for_state(stack, "deleted.csv", "loaded")
    assert (rows(stack, "cancelled"), rows(stack, "deleted")) == ([1], [1])
    assert not shown.exists()


def test_a_failed_run_that_is_retried_on_the_page_and_succeeds_flips_the_outcome(stack: Stack):
    stack.drop("mended.csv", "mended\n1\n2,too many\n")
    failed = wait_for_state(stack, "mended.csv", "failed")
    assert failed["file_state"] == "rejected"
    assert "line 3" in failed["file_reason"]
    # A person mends the file where it lies for good, and presses Retry on the run's page.
    (Path(failed["folder"]) / "mended.csv").write_text("mended\n1\n2\n")
    state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
    stack.api.post(f"/flow_runs/{failed['run_id']}/set_state", json={"state": state, "force": True}).raise_for_status()
    loaded = wait_for_state(stack, "mended.csv", "loaded")
    assert (loaded["run_id"], loaded["file_state"]) == (failed["run_id"], "loaded")
    assert rows(stack, "mended") == [1, 2]


def test_a_replay_of_a_loaded_file_does_nothing_and_a_reload_replaces_its_rows(stack: Stack):
    stack.drop("replayed.csv", "replayed\n1\n")
    loaded = wait_for_state(stack, "replayed.csv", "loaded")
    (Path(loaded["folder"]) / "replayed.csv").write_text("replayed\n7\n8\n")

    def replay(*options: str) -> None:
        before = arrival_of(stack, "replayed.csv")["attempt"]
        done = stack.command("sensors", "replay", "replayed.csv", *options)
        assert done.returncode == 0, done.stderr

        def again() -> bool:
            now = arrival_of(stack, "replayed.csv")
            return now["attempt"] > before and now["state"] == "loaded"

        wait_until(again, "it was loaded again", 90)

    replay()
    assert rows(stack, "replayed") == [1]
    replay("--reload")
    assert rows(stack, "replayed") == [7, 8]
    replay()
    assert rows(stack, "replayed") == [7, 8]


def test_a_rejected_file_sends_an_alert(stack: Stack, receiver: Receiver):
    stack.drop("report.pdf", "%PDF")
    (message,) = wait_until(lambda: receiver.naming("report.pdf"), "the notification came", 60)
    assert message["title"] == "1 file rejected in inbox metrics"
    assert "report.pdf: inbox 'metrics' takes *.csv" in message["message"]
    (stack.inbox / "report.pdf").unlink()
