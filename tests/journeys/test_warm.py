"""Warm start in a whole stack: all that holds for a run with a Python of its own holds for one that is forked."""

from pathlib import Path
from typing import Any

import psutil
import pytest

from sensors.stack.processes import marked_processes
from tests.journeys.stack import Stack, process_of, wait_until
from tests.receiver import Receiver

pytestmark = pytest.mark.long

FLOW = """\
import os, signal, time
from prefect import flow
from prefect.states import Completed

@flow(name="warm journey")
def journey(seconds: float = 0, end: str = ""):
    print("begun", flush=True)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.05)
    if end:
        exec(end)
    return Completed(message=f"{VERSION} in {os.getcwd()}")
"""


class Journey:
    """A deployment of a flow of ours, run as the stack's own deployment is."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.write("first")
        own = stack.deployment()
        flow = stack.api.post("/flows/", json={"name": "warm journey"}).raise_for_status().json()
        body = {
            "name": "warm",
            "flow_id": flow["id"],
            "entrypoint": "journey.py:journey",
            "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}],
            "work_pool_name": own["work_pool_name"],
            "work_queue_name": own["work_queue_name"],
            "job_variables": own["job_variables"],
        }
        self._id = stack.api.post("/deployments/", json=body).raise_for_status().json()["id"]

    def write(self, version: str) -> None:
        """Edit the flow."""
        (self.folder / "journey.py").write_text(f"{FLOW}\nVERSION = {version!r}\n")

    def start(self, seconds: float = 0, end: str = "", **variables: str) -> str:
        """Start a run, with these variables in its environment, and return its id."""
        body = {
            "parameters": {"seconds": seconds, "end": end},
            "state": {"type": "SCHEDULED"},
            "job_variables": {"env": variables},
        }
        return (
            self.stack.api.post(f"/deployments/{self._id}/create_flow_run", json=body).raise_for_status().json()["id"]
        )

    def run(self, seconds: float = 0, end: str = "") -> dict[str, Any]:
        """Run it to its end."""
        return self.stack.wait_for_end(self.start(seconds, end))

    def wait_until_running(self, run_id: str) -> psutil.Process:
        """Return the process that the run is for everybody, as soon as its flow is under way."""
        wait_until(lambda: self.stack.run(run_id)["state_name"] == "Running", "the run is under way")
        process = process_of(run_id)
        assert process is not None
        return process


@pytest.fixture(scope="module")
def journey(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Journey:
    wait_until(lambda: warm_is_healthy(stack), "the warm server is healthy", pause=0.5)
    return Journey(stack, tmp_path_factory.mktemp("flow"))


def warm_is_healthy(stack: Stack) -> bool:
    return stack.status()["services"]["warm"]["healthy"]


def forked(stack: Stack) -> list[psutil.Process]:
    """Return the warm server's processes and those forked from it, the oldest first."""
    found = [one for one in marked_processes(stack.state_dir) if is_forked(one)]
    return sorted(found, key=lambda one: one.create_time())


def is_forked(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[-1:] == ["flows.forkserver.server"]
    except psutil.Error:  # it has just ended
        return False


def cold_starts(stack: Stack) -> int:
    """Return how many runs found no warm server, as the worker's log has it."""
    return (stack.state_dir / "logs" / "worker.log").read_text().count("No warm start")


def test_an_edited_flow_is_used_by_the_next_run(journey: Journey):
    before = cold_starts(journey.stack)
    journey.write("first")
    assert journey.run()["state"]["message"] == f"first in {journey.folder}"
    journey.write("second, longer")
    assert journey.run()["state"]["message"] == f"second, longer in {journey.folder}"
    assert cold_starts(journey.stack) == before


def test_a_runs_own_settings_of_prefect_are_heeded(journey: Journey):
    before = cold_starts(journey.stack)
    end = "from prefect.settings import get_current_settings as now; os._exit(40 + (now().logging.level == 'DEBUG'))"
    reported = [
        journey.stack.wait_for_end(run)["state"]["message"]
        for run in (journey.start(end=end), journey.start(end=end, PREFECT_LOGGING_LEVEL="DEBUG"))
    ]
    assert ["status code: 40" in reported[0], "status code: 41" in reported[1]] == [True, True], reported
    assert cold_starts(journey.stack) == before


def test_a_run_that_is_cancelled_on_the_page_ends_as_cancelled(journey: Journey):
    run_id = journey.start(seconds=60)
    process = journey.wait_until_running(run_id)
    flows = len(forked(journey.stack))
    journey.stack.api.post(f"/flow_runs/{run_id}/set_state", json={"state": {"type": "CANCELLING"}}).raise_for_status()
    assert journey.stack.wait_for_end(run_id)["state_name"] == "Cancelled"
    wait_until(lambda: not process.is_running(), "its client has ended", 10)
    wait_until(lambda: len(forked(journey.stack)) == flows - 2, "its flow and its keeper have ended", 10)


def test_runs_that_are_killed_have_crashed_and_send_an_alert(journey: Journey, receiver: Receiver):
    stack = journey.stack
    killed: dict[str, tuple[psutil.Process, ...]] = {}
    with receiver.holding("/killed") as url:
        for number in range(3):
            run_id = stack.run_now({"source_url": url})
            client = journey.wait_until_running(run_id)
            *_, keeper, flow = forked(stack)
            killed[run_id] = (client, keeper, flow)
            killed[run_id][number].kill()
        for run_id, processes in killed.items():
            run = stack.wait_for_end(run_id)
            assert (run["state_name"], run["run_count"]) == ("Crashed", 1)
            assert "-9" in run["state"]["message"]
            wait_until(lambda them=processes: not any(one.is_running() for one in them), "nothing is left", 10)
    for run_id in killed:
        wait_until(lambda run_id=run_id: receiver.naming(run_id), "the alert came")


def test_the_exit_status_of_the_flow_is_the_one_that_is_reported(journey: Journey):
    run = journey.run(end="os._exit(3)")
    assert run["state_name"] == "Crashed"
    assert "status code: 3" in run["state"]["message"]


def test_runs_go_on_once_when_the_warm_server_is_killed_and_it_is_started_again(journey: Journey):
    stack = journey.stack
    running = [journey.start(seconds=4) for _ in range(2)]
    for run_id in running:
        journey.wait_until_running(run_id)
    forked(stack)[0].kill()
    next_one = journey.start()  # there is no warm server yet
    runs = [stack.wait_for_end(run_id) for run_id in (*running, next_one)]
    assert [(run["state_name"], run["run_count"]) for run in runs] == [("Completed", 1)] * 3
    wait_until(lambda: warm_is_healthy(stack), "the warm server is back", pause=0.5)
    assert stack.status()["healthy"]


def test_runs_start_the_ordinary_way_while_there_is_no_warm_server(journey: Journey):
    before = cold_starts(journey.stack)
    socket = journey.stack.state_dir / "warm.sock"
    socket.rename(socket.with_suffix(".away"))
    try:
        status = journey.stack.status()
        assert (status["healthy"], status["services"]["warm"]["detail"]) == (True, "not running")
        assert journey.run()["state_name"] == "Completed"
    finally:
        socket.with_suffix(".away").rename(socket)
    wait_until(lambda: cold_starts(journey.stack) == before + 1, "the worker's log says so", 10)


def test_runs_that_start_together_are_all_forked_and_complete_once(journey: Journey):
    # Not twenty, as in test_warm_flow_process.py: Prefect's SQLite locks up for minutes then, however they start.
    before = cold_starts(journey.stack)
    started = [journey.start() for _ in range(5)]
    runs = [journey.stack.wait_for_end(run_id, 120) for run_id in started]
    assert [(run["state_name"], run["run_count"]) for run in runs] == [("Completed", 1)] * 5
    assert cold_starts(journey.stack) == before
