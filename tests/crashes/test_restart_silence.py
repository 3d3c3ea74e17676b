"""A start after a planned stop is no silence of the sensor, and a sensor that does not start with its server is one."""

import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from sensors.stack.services import Service
from tests.crashes.installation import Installation, copy_of
from tests.journeys.stack import Stack, wait_until
from tests.receiver import Receiver, receiving

STOPPED_SECONDS = 75.0
"""Longer than the minute after which a sensor counts as silent."""
SILENT = "The sensor is silent"


@pytest.fixture
def alarmed(
    tmp_path: Path, database: Path, new_stack: Callable[..., Stack]
) -> Generator[tuple[Installation, Receiver], None, None]:
    with receiving() as receiver:
        installation = Installation(Stack(tmp_path / "state", NOTIFY_URLS=receiver.url()))
        copy_of(database, installation.settings.prefect_home)
        try:
            installation.prepare()
            installation.start(Service.SENSOR)
            wait_until(lambda: heartbeats(installation), "the server has heard of the sensor", 150)
            yield installation, receiver
        finally:
            installation.stop()


def heartbeats(installation: Installation) -> int:
    wanted = {"filter": {"event": {"name": ["sensor.heartbeat"]}}}
    return len(installation.stack.api.post("/events/filter", json=wanted).raise_for_status().json()["events"])


def stop_all_for(installation: Installation, seconds: float) -> None:
    for service in (Service.SENSOR, Service.SERVER):
        installation.processes[service].terminate()
    for service in (Service.SENSOR, Service.SERVER):
        installation.processes[service].wait(60)
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until, "the stop is over", seconds + 10, pause=1)


@pytest.mark.slow
def test_a_start_after_a_stop_of_over_a_minute_sends_nothing_and_a_sensor_that_stays_away_then_is_reported(
    alarmed: tuple[Installation, Receiver],
):
    installation, receiver = alarmed
    stop_all_for(installation, STOPPED_SECONDS)
    installation.start(Service.SERVER)
    wait_until(installation.server_answers, "the server answers", 120)
    until = time.monotonic() + 25  # as `just up` takes, on a slow machine, until the sensor is heard of
    wait_until(lambda: time.monotonic() > until, "the sensor is about to start", 40, pause=1)
    before = heartbeats(installation)
    installation.start(Service.SENSOR)
    wait_until(lambda: heartbeats(installation) > before, "the server hears of it", 150, pause=1)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        assert [body["title"] for _, body in receiver.posts] == []
        time.sleep(1)

    stop_all_for(installation, STOPPED_SECONDS)
    installation.start(Service.SERVER)
    wait_until(lambda: receiver.naming(SILENT), "a sensor that does not start is reported", 320, pause=1)
    assert len(receiver.posts) == 1
