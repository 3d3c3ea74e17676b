"""Which runs start again when the worker was killed, and which are left alone."""

from datetime import timedelta

import pytest

from sensors.config.settings import Settings
from sensors.runs.outcomes import SILENT_FOR
from sensors.stack import processes
from sensors.stack.dead_runs import BETWEEN_LOOKS, GRACE, AbandonedRuns
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
def abandoned(api, living, tmp_path, hand_clock):
    return AbandonedRuns(Settings(state_dir=tmp_path, api_port=api.port), lambda: hand_clock.now)


def at(hand_clock, seconds):
    return (hand_clock.now + timedelta(seconds=seconds)).isoformat()


def started_again(api, run_id):
    return [state["name"] for of, state in api.states_set if of == run_id]


def test_runs_of_a_killed_worker_without_a_process_start_again_after_a_grace(abandoned, api, hand_clock):
    api.run("r1", "RUNNING", since=at(hand_clock, -60))
    api.run("r2", "PENDING", since=at(hand_clock, -1))
    abandoned.notice(RESTARTED)
    assert abandoned.look() == 0
    hand_clock.turn(GRACE.seconds)
    assert abandoned.look() == 2
    assert started_again(api, "r1") == started_again(api, "r2") == ["AwaitingRetry"]


def test_a_run_that_the_new_worker_is_starting_is_left_alone(abandoned, api, hand_clock):
    abandoned.notice(RESTARTED)
    api.run("r1", "PENDING", since=at(hand_clock, 1))
    hand_clock.turn(GRACE.seconds)
    assert abandoned.look() == 0
    assert started_again(api, "r1") == []


def test_an_orphan_is_left_alone_until_its_process_has_died(abandoned, api, living, hand_clock):
    living.add("r1")
    abandoned.notice(RESTARTED)
    api.run("r1", "RUNNING", since=at(hand_clock, 1))  # it was Pending when the worker died
    for _ in range(100):
        hand_clock.turn(BETWEEN_LOOKS.seconds)
        assert abandoned.look() == 0
    living.clear()
    hand_clock.turn(BETWEEN_LOOKS.seconds)
    assert abandoned.look() == 1
    assert started_again(api, "r1") == ["AwaitingRetry"]


def test_nobody_is_asked_while_no_worker_has_died_nor_when_all_has_been_seen_to(abandoned, api, hand_clock):
    abandoned.notice(Incident(Service.SENSOR, "sensor stopped; restarted"))
    abandoned.notice(Incident(Service.WORKER, "worker is given up", gave_up=True))
    abandoned.look()
    assert api.asked == []
    abandoned.notice(RESTARTED)
    for _ in range(3):
        hand_clock.turn(BETWEEN_LOOKS.seconds)
        abandoned.look()
    assert len(api.asked) == 1


def test_a_server_that_does_not_answer_is_asked_again(api, living, tmp_path, hand_clock):
    abandoned = AbandonedRuns(Settings(state_dir=tmp_path, api_port=1), lambda: hand_clock.now)
    api.run("r1", "RUNNING", since=at(hand_clock, -60))
    abandoned.notice(RESTARTED)
    hand_clock.turn(GRACE.seconds)
    assert abandoned.look() == 0
    abandoned.settings = Settings(state_dir=tmp_path, api_port=api.port)
    hand_clock.turn(BETWEEN_LOOKS.seconds)
    assert abandoned.look() == 1


def test_it_is_done_long_before_the_sensor_calls_a_run_lost():
    # Then the run is Scheduled, or in a state that it came into anew: neither is a lost run's.
    assert 10 * (GRACE + BETWEEN_LOOKS) < SILENT_FOR


def test_runs_of_other_workers_are_left_alone(api, living, tmp_path, hand_clock):
    given = {"profile": "scale", "database_url": "postgresql://db/prefect", "redis_url": "redis://cache"}
    settings = Settings(state_dir=tmp_path, api_port=api.port, api_servers=1, node_name="here", **given)
    abandoned = AbandonedRuns(settings, lambda: hand_clock.now)
    for worker in ("here-1", "here-2", "there-2"):
        api.run(worker, "RUNNING", since=at(hand_clock, -60))
        api.runs[-1]["labels"] = {"prefect.worker.name": worker}
    abandoned.notice(Incident(Service.WORKER, "worker-2 stopped; restarted", number=2))
    hand_clock.turn(GRACE.seconds)
    assert abandoned.look() == 1
    assert started_again(api, "here-2") == ["AwaitingRetry"]
