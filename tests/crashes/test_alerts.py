"""Failing runs are alerted exactly once each, though the server is killed and the receiver is down now and then."""

import random
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest

from sensors.stack.services import Service
from tests.crashes.installation import Installation, copy_of
from tests.journeys.stack import Stack, wait_until
from tests.receiver import Receiver, receiving

UP_SECONDS, DOWN_SECONDS = 8.0, 4.0
"""The receiver is down a third of the time."""


@contextmanager
def faltering(receiver: Receiver) -> Generator[None, None, None]:
    """Have a receiver refuse what it gets, a third of the time."""
    over = Event()

    def falter() -> None:
        while not over.wait(UP_SECONDS):
            receiver.status = 503
            over.wait(DOWN_SECONDS)
            receiver.status = 200

    thread = Thread(target=falter)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        receiver.status = 200


@pytest.fixture(scope="module")
def alarmed(
    tmp_path_factory: pytest.TempPathFactory, database: Path, new_stack: Callable[..., Stack]
) -> Generator[tuple[Installation, Receiver], None, None]:
    """A server and a sensor, without a worker, and where their alerts go."""
    with receiving() as receiver:
        installation = Installation(Stack(tmp_path_factory.mktemp("alarmed") / "state", NOTIFY_URLS=receiver.url()))
        copy_of(database, installation.settings.prefect_home)
        try:
            installation.prepare()
            yield installation, receiver
        finally:
            installation.stop()


@pytest.fixture
def failing(alarmed: tuple[Installation, Receiver]) -> tuple[Installation, Receiver]:
    """Have both run again, whatever the test before has killed."""
    installation, receiver = alarmed
    receiver.status = 200
    for service in (Service.SERVER, Service.SENSOR):
        installation.ensure(service)
    wait_until(installation.server_answers, "the server answers", 120)
    return alarmed


def fail(installation: Installation, number: int) -> str:
    """Have a run of the deployment fail as its engine would report it, and return its id."""
    stack = installation.stack
    body = {"parameters": {"source_url": f"invalid://{number}"}, "state": {"type": "PENDING"}}
    answer = stack.api.post(f"/deployments/{stack.deployment()['id']}/create_flow_run", json=body)
    run_id = answer.raise_for_status().json()["id"]
    for state in ({"type": "RUNNING"}, {"type": "FAILED", "message": f"failure {number}"}):
        stack.api.post(f"/flow_runs/{run_id}/set_state", json={"state": state}).raise_for_status()
    return run_id


@pytest.mark.parametrize(
    ("runs", "kills"),
    [pytest.param(20, 2, id="short"), pytest.param(100, 5, id="long", marks=pytest.mark.slow)],
)
def test_each_of_many_failing_runs_is_alerted_once_however_often_server_and_receiver_go_down(
    failing: tuple[Installation, Receiver], runs: int, kills: int
):
    installation, receiver = failing
    chance = random.Random(4)
    kill_at = set(chance.sample(range(2, runs), kills))
    failed: list[str] = []
    with faltering(receiver):
        for number in range(runs):
            failed.append(fail(installation, number))
            if number in kill_at:
                # Right after a failure: what the server has of it in memory only is lost.
                time.sleep(chance.choice([0.0, 0.05, 0.3]))
                installation.kill(Service.SERVER)
                installation.start(Service.SERVER)
                wait_until(installation.server_answers, "the server answers again", 120)
        wait_until(lambda: reported(receiver, failed) >= {*failed}, "every failure was reported", 300, pause=0.5)
    # What would come twice comes with the next looks at what was missed, which are seconds apart.
    quiet_until = time.monotonic() + 20
    while time.monotonic() < quiet_until:
        assert times_taken(receiver, failed) == Counter(dict.fromkeys(failed, 1))
        time.sleep(1)
    rung = installation.log(Service.SENSOR).count("the server sent no alert")
    print(f"{runs} runs, {kills} kills of the server: each reported once, {rung} of them were missed by Prefect")


def reported(receiver: Receiver, runs: list[str]) -> set[str]:
    return {*times_taken(receiver, runs)}


def times_taken(receiver: Receiver, runs: list[str]) -> Counter[str]:
    """Count the alerts that the receiver has taken, by the run that they are about."""
    return Counter(run for body in receiver.taken() for run in runs if run in body["message"])


def test_an_alert_that_was_posted_when_everything_was_killed_is_delivered_after_the_next_start(
    failing: tuple[Installation, Receiver],
):
    installation, receiver = failing
    receiver.status = 503
    run_id = fail(installation, 0)
    wait_until(lambda: receiver.naming(run_id), "the bell has tried", 150)
    for service in (Service.SENSOR, Service.SERVER):
        installation.kill(service)
    receiver.status = 200
    installation.start(Service.SENSOR)
    wait_until(lambda: times_taken(receiver, [run_id])[run_id] == 1, "the alert has come without any server", 150)


@pytest.mark.slow
def test_a_receiver_that_was_down_for_ten_minutes_gets_the_alert_once_and_learns_that_it_is_late(
    failing: tuple[Installation, Receiver],
):
    installation, receiver = failing
    receiver.status = 503
    run_id = fail(installation, 10)
    down_until = time.monotonic() + 600
    wait_until(lambda: time.monotonic() > down_until, "ten minutes are over", 620, pause=1)
    attempts = len(receiver.naming(run_id))
    assert 5 < attempts < 30, "the pauses grow"
    receiver.status = 200
    wait_until(lambda: times_taken(receiver, [run_id])[run_id] == 1, "the alert has come", 150, pause=1)
    (message,) = [one for one in receiver.taken() if run_id in one["message"]]
    assert "Delivered late: 1" in message["message"]
    assert times_taken(receiver, [run_id])[run_id] == 1


def test_without_a_living_dispatcher_the_server_delivers_itself(failing: tuple[Installation, Receiver]):
    installation, receiver = failing
    wait_until(lambda: _is_alive(installation), "the bell is at work", 150)
    installation.kill(Service.SENSOR)
    wait_until(lambda: not _is_alive(installation), "no server counts on the dispatcher any more", 30)
    run_id = fail(installation, 0)
    wait_until(lambda: times_taken(receiver, [run_id])[run_id] == 1, "the alert has come", 150)


def _is_alive(installation: Installation) -> bool:
    mark = installation.settings.state_dir / "alerts.db.alive"
    return mark.exists() and time.time() - mark.stat().st_mtime < 10.5


def test_a_mended_credential_brings_through_what_has_waited(failing: tuple[Installation, Receiver]):
    installation, receiver = failing
    receiver.password = "right"
    wrong, right = (receiver.url(user=f"robot:{password}@") for password in ("wrong", "right"))
    installation.environment["NOTIFY_URLS"] = wrong
    installation.prepare_deployment()
    run_id = fail(installation, 0)
    wait_until(lambda: receiver.naming(run_id), "it was tried with the wrong one", 150)
    installation.environment["NOTIFY_URLS"] = right
    installation.prepare_deployment()
    wait_until(lambda: times_taken(receiver, [run_id])[run_id] == 1, "the alert has come", 150)
    receiver.password = None
    for log in installation.settings.logs_dir.glob("*.log"):
        assert "robot:wrong" not in log.read_text(errors="replace"), log
    outbox = installation.settings.state_dir / "alerts.db"
    assert not [text for text in ("robot:", "wrong@", "right@") if text.encode() in outbox.read_bytes()]


def test_a_silent_server_is_reported_by_the_sensor_alone(failing: tuple[Installation, Receiver]):
    installation, receiver = failing
    installation.kill(Service.SENSOR)
    installation.kill(Service.SERVER)
    installation.start(Service.SENSOR, SERVER_SILENT_SECONDS="5")
    wait_until(lambda: receiver.naming("The Prefect server is silent"), "the sensor has reported it", 150)
    with pytest.raises(httpx.ConnectError):
        installation.stack.api.get("/health")
