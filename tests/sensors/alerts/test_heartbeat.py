"""The sensor's heartbeat, and the word that it is back."""

import sqlite3
from contextlib import suppress
from datetime import datetime, timedelta

import pytest

from automations.alert_service import AlertService
from sensors.alerts.heartbeat import BACK, EVERY, HEARTBEAT, SILENT_FOR, Heartbeat, sensor_name
from sensors.runs.api import ApiError, PrefectApi
from tests.postings import NOW, posting
from tests.prefect_server import PrefectServer


def heartbeat(server: PrefectServer, ringer: AlertService) -> Heartbeat:
    return Heartbeat(PrefectApi(server.url, None), ringer, "machine-4201")


def events(server: PrefectServer) -> list[str]:
    return [one["event"] for one in server.emitted]


def test_it_is_sent_every_ten_seconds_each_as_an_event_of_its_own(server: PrefectServer, ringer: AlertService) -> None:
    beat = heartbeat(server, ringer)
    sent = [beat.step(NOW + timedelta(seconds=second)) for second in range(21)]
    assert [second for second, one in enumerate(sent) if one] == [0, 10, 20]
    assert timedelta(seconds=10) == EVERY
    assert events(server) == [HEARTBEAT] * 3
    assert len({one["id"] for one in server.emitted}) == 3
    assert {one["resource"]["prefect.resource.id"] for one in server.emitted} == {"sensor.machine-4201"}


def test_a_sensor_reports_that_it_is_back_after_a_pause_that_was_reported(
    server: PrefectServer, ringer: AlertService
) -> None:
    heartbeat(server, ringer).step(NOW)
    heartbeat(server, ringer).step(NOW + SILENT_FOR)
    assert BACK not in events(server)
    heartbeat(server, ringer).step(NOW + 2 * SILENT_FOR + timedelta(seconds=1))
    assert events(server)[-2:] == [HEARTBEAT, BACK]
    assert server.emitted[-1]["payload"]["since"].startswith("2026-11-24")


def test_it_reports_that_it_is_back_until_every_receiver_of_the_silence_has_it(
    server: PrefectServer, ringer: AlertService
) -> None:
    beat = heartbeat(server, ringer)
    beat.step(NOW)
    ringer.post(posting("silent", opens="sensor.machine-4201"), NOW)
    for seconds in (10, 20):
        beat.step(NOW + timedelta(seconds=seconds))
    ringer.post(posting("back", ends="sensor.machine-4201"), NOW)
    beat.step(NOW + timedelta(seconds=30))
    assert events(server) == [HEARTBEAT, HEARTBEAT, BACK, HEARTBEAT, BACK, HEARTBEAT]


def test_one_silence_is_one_event_however_often_its_end_is_reported(
    server: PrefectServer, ringer: AlertService
) -> None:
    beat = heartbeat(server, ringer)
    beat.step(NOW)
    ringer.post(posting("silent", opens="sensor.machine-4201"), NOW)
    for seconds in (10, 20, 30):
        beat.step(NOW + timedelta(seconds=seconds))
    assert len({one["id"] for one in server.emitted if one["event"] == BACK}) == 1


def test_while_the_outbox_cannot_be_written_the_sensor_is_back_once(
    server: PrefectServer, ringer: AlertService
) -> None:
    heartbeat(server, ringer).step(NOW)
    ringer.bell.outbox.change("CREATE TRIGGER full BEFORE UPDATE ON progress BEGIN SELECT RAISE (FAIL, 'full'); END")
    beat = heartbeat(server, ringer)
    for seconds in range(100, 130):
        beat.step(NOW + timedelta(seconds=seconds))
    assert events(server) == [HEARTBEAT, HEARTBEAT, BACK, HEARTBEAT, HEARTBEAT]


def test_the_first_heartbeat_ever_is_no_return(server: PrefectServer, ringer: AlertService) -> None:
    heartbeat(server, ringer).step(NOW)
    assert events(server) == [HEARTBEAT]


def test_one_that_the_server_does_not_take_is_sent_again_at_once_and_the_silence_counts(
    server: PrefectServer, ringer: AlertService
) -> None:
    beat = heartbeat(server, ringer)
    beat.step(NOW)
    server.status = 500
    for second in (10, 11, 60):
        with pytest.raises(ApiError):
            beat.step(NOW + timedelta(seconds=second))
    server.status = 200
    server.emitted.clear()
    beat.step(NOW + timedelta(seconds=61))
    assert events(server) == [HEARTBEAT, BACK]


@pytest.mark.parametrize("jump", [timedelta(hours=-2), timedelta(hours=2)])
def test_a_clock_that_is_set_stops_no_heartbeat(server: PrefectServer, ringer: AlertService, jump: timedelta) -> None:
    beat = heartbeat(server, ringer)
    beat.step(NOW)
    after: datetime = NOW + jump
    assert beat.step(after)
    assert not beat.step(after + timedelta(seconds=9))
    assert beat.step(after + timedelta(seconds=10))


def test_a_sensor_has_the_same_name_after_every_start_and_another_than_its_neighbour() -> None:
    assert sensor_name(4201) == sensor_name(4201) != sensor_name(4301)
    assert sensor_name(4201).endswith("-4201")


def test_while_the_outbox_cannot_be_written_it_is_sent_as_often_as_ever_and_its_return_is_reported_once(
    server: PrefectServer, ringer: AlertService
) -> None:
    heartbeat(server, ringer).step(NOW)
    beat, after = heartbeat(server, ringer), NOW + 2 * SILENT_FOR
    ringer._outbox.pragma("query_only = ON")  # pyright: ignore[reportPrivateUsage]
    for second in range(60):
        with suppress(sqlite3.OperationalError):
            beat.step(after + timedelta(seconds=second))
    assert events(server)[1:] == [HEARTBEAT, BACK, *[HEARTBEAT] * 5]
    ringer._outbox.pragma("query_only = OFF")  # pyright: ignore[reportPrivateUsage]
