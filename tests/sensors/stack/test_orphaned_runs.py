"""Which runs start again when the worker was killed, and which are left alone."""

from datetime import timedelta

import pytest

from sensors.config.settings import Settings
from sensors.runs.facts import SILENT_FOR
from sensors.stack import processes
from sensors.stack.orphaned_runs import BETWEEN_LOOKS, GRACE, OrphanedRuns
from sensors.stack.services import Service
from sensors.stack.supervisor import Incident
from tests.prefect_server import prefect_answering

RESTARTED = Incident(Service.WORKER, "worker stopped (killed by SIGKILL); restarted")


@pytest.fixture
def api():
    with prefect_answering() as server:
        yield server


@pytest.fixture
def living(monkeypatch):
    """The runs that have a process; a test changes them."""
    found: set[str] = set()
    monkeypatch.setattr(processes, "flow_runs", lambda _: set(found))
    return found


@pytest.fixture
def orphaned(api, living, tmp_path, hand_clock):
    return OrphanedRuns(Settings(state_dir=tmp_path, api_port=api.port), lambda: hand_clock.now)


def at(hand_clock, seconds):
    return (hand_clock.now + timedelta(seconds=seconds)).isoformat()


def started_again(api, run_id):
    return [state["name"] for of, state in api.states_set if of == run_id]


def test_runs_of_a_killed_worker_without_a_process_start_again_after_a_grace(orphaned, api, hand_clock):
    api.run("r1", "RUNNING", since=at(hand_clock, -60))
    api.run("r2", "PENDING", since=at(hand_clock, -1))
    orphaned.notice(RESTARTED)
    assert orphaned.look() == 0
    hand_clock.turn(GRACE.seconds)
    assert orphaned.look() == 2
    assert started_again(api, "r1") == started_again(api, "r2") == ["AwaitingRetry"]


def test_a_run_that_the_new_worker_is_starting_is_left_alone(orphaned, api, hand_clock):
    orphaned.notice(RESTARTED)
    api.run("r1", "PENDING", since=at(hand_clock, 1))
    hand_clock.turn(GRACE.seconds)
    assert orphaned.look() == 0
    assert started_again(api, "r1") == []


def test_a_run_whose_process_survives_the_worker_is_left_alone_until_the_process_has_died(
    orphaned, api, living, hand_clock
):
    living.add("r1")
    orphaned.notice(RESTARTED)
    api.run("r1", "RUNNING", since=at(hand_clock, 1))  # it was Pending when the worker died
    for _ in range(100):
        hand_clock.turn(BETWEEN_LOOKS.seconds)
        assert orphaned.look() == 0
    living.clear()
    hand_clock.turn(BETWEEN_LOOKS.seconds)
    assert orphaned.look() == 1
    assert started_again(api, "r1") == ["AwaitingRetry"]


def test_the_server_is_not_asked_while_no_worker_has_died_nor_when_every_orphaned_run_was_restarted(
    orphaned, api, hand_clock
):
    orphaned.notice(Incident(Service.SENSOR, "sensor stopped; restarted"))
    orphaned.notice(Incident(Service.WORKER, "worker is given up", gave_up=True))
    orphaned.look()
    assert api.asked == []
    orphaned.notice(RESTARTED)
    for _ in range(3):
        hand_clock.turn(BETWEEN_LOOKS.seconds)
        orphaned.look()
    assert len(api.asked) == 1


def test_a_server_that_does_not_answer_is_asked_again(api, living, tmp_path, hand_clock):
    orphaned = OrphanedRuns(Settings(state_dir=tmp_path, api_port=1), lambda: hand_clock.now)
    api.run("r1", "RUNNING", since=at(hand_clock, -60))
    orphaned.notice(RESTARTED)
    hand_clock.turn(GRACE.seconds)
    assert orphaned.look() == 0
    orphaned.settings = Settings(state_dir=tmp_path, api_port=api.port)
    hand_clock.turn(BETWEEN_LOOKS.seconds)
    assert orphaned.look() == 1


def test_it_is_done_long_before_the_sensor_calls_a_run_lost():
    # Then the run is Scheduled, or in a state that it came into anew: neither is a lost run's.
    assert 10 * (GRACE + BETWEEN_LOOKS) < SILENT_FOR


def test_with_several_machines_only_runs_known_to_be_of_the_killed_worker_start_again(
    api, living, tmp_path, hand_clock
):
    given = {"profile": "scale", "database_url": "postgresql://db/prefect", "redis_url": "redis://cache"}
    settings = Settings(state_dir=tmp_path, api_port=api.port, api_servers=1, node_name="here", **given)
    orphaned = OrphanedRuns(settings, lambda: hand_clock.now)
    for worker in ("here-1", "here-2", "there-2"):
        api.run(worker, "RUNNING", since=at(hand_clock, -60))
        api.runs[-1]["labels"] = {"prefect.worker.name": worker}
    api.run("without a label", "PENDING", since=at(hand_clock, -1))
    orphaned.notice(Incident(Service.WORKER, "worker-2 stopped; restarted", number=2))
    hand_clock.turn(GRACE.seconds)
    assert orphaned.look() == 1
    assert [run_id for run_id, _ in api.states_set] == ["here-2"]
