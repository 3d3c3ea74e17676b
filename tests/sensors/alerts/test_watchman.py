"""The watchman: heartbeats, missing alerts, needless ones, failing channels and the server itself, step by step."""

from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from automations.alert_service import AlertService, AlertSettings, Dispatcher
from automations.delivery import deliver
from automations.delivery.enqueue import post
from sensors.alerts.server_watch import ServerWatch
from sensors.config.settings import Auth, Settings
from sensors.ledger import Ledger
from sensors.runs.api import PrefectApi
from tests.conftest import HandClock
from tests.postings import LOCAL, policy, posting
from tests.prefect_server import PrefectServer

OTHER = "json://127.0.0.1/other"


@pytest.fixture
def bell(tmp_path: Path) -> Generator[Dispatcher, None, None]:
    bell = Dispatcher(tmp_path / "alerts.db", tmp_path / "alerts.log", policy())
    yield bell
    bell.close()


@pytest.fixture
def watchman(
    tmp_path: Path, server: PrefectServer, bell: Dispatcher, hand_clock: HandClock
) -> Generator[ServerWatch, None, None]:
    settings = Settings(_env_file=None, state_dir=tmp_path, api_port=server.port, auth=Auth.OFF)  # pyright: ignore[reportCallIssue]
    Ledger(settings.ledger_path).close()
    watchman = ServerWatch(settings, bell, hand_clock.clock, AlertSettings())
    put_block(server, bell)
    yield watchman
    watchman.close()


def put_block(server: PrefectServer, bell: Dispatcher, urls: str = LOCAL, **data: Any) -> None:
    block = {"urls": urls, "outbox": str(bell.outbox.path), **data}
    server.stored["block_documents"] = [{"id": "b", "name": "alerts", "data": block}]


def put_automation(server: PrefectServer) -> None:
    action = {
        "type": "send-notification",
        "block_document_id": "b",
        "subject": "Failed: {{ event.resource.name }}",
        "body": "x\nbell: {{ {'id': event.id ~ '/' ~ automation.name} | tojson }}",
    }
    trigger = {"type": "event", "posture": "Reactive", "expect": ["prefect.flow-run.*"], "threshold": 1}
    server.stored["automations"] = [{"name": "mine", "trigger": trigger, "actions": [action]}]


def walk(watchman: ServerWatch, hand_clock: HandClock, seconds: int) -> None:
    """Let the watchman make its round once a second."""
    for _ in range(seconds):
        watchman.step()
        hand_clock.turn(1)


def alerts(bell: Dispatcher) -> dict[str, str]:
    rows = bell.outbox.rows("SELECT cause, kind, state FROM alerts WHERE kind <> 'server-back' ORDER BY rowid")
    return {row["cause"] if row["kind"] == "alert" else row["kind"]: row["state"] for row in rows}


def emitted(server: PrefectServer) -> list[str]:
    return [one["event"] for one in server.emitted]


def test_it_sends_heartbeats(watchman: ServerWatch, server: PrefectServer, hand_clock: HandClock) -> None:
    walk(watchman, hand_clock, 21)
    assert emitted(server) == ["sensor.heartbeat"] * 3


def test_the_dispatcher_follows_what_was_changed_on_the_servers_page(
    watchman: ServerWatch, server: PrefectServer, bell: Dispatcher, hand_clock: HandClock
) -> None:
    walk(watchman, hand_clock, 1)
    put_block(server, bell, OTHER, storm="1/1h")
    walk(watchman, hand_clock, 11)
    assert bell.policy == policy(OTHER, storm="1/1h")


def test_a_block_that_cannot_be_read_leaves_the_dispatcher_as_it_is(
    watchman: ServerWatch, server: PrefectServer, bell: Dispatcher, hand_clock: HandClock
) -> None:
    put_block(server, bell, OTHER, storm="often")
    walk(watchman, hand_clock, 11)
    assert bell.policy == policy()


def test_it_rings_for_what_an_automation_of_the_server_has_missed(
    watchman: ServerWatch, server: PrefectServer, bell: Dispatcher, hand_clock: HandClock
) -> None:
    put_automation(server)
    walk(watchman, hand_clock, 1)
    server.failed_run("r1", hand_clock.now)
    walk(watchman, hand_clock, 30)
    assert alerts(bell) == {"state-r1/mine": "pending"}


def test_of_a_server_whose_dispatcher_another_sensor_has_nothing_is_reported_twice(
    watchman: ServerWatch, server: PrefectServer, bell: Dispatcher, hand_clock: HandClock
) -> None:
    put_automation(server)
    put_block(server, bell, outbox="/elsewhere/alerts.db")
    walk(watchman, hand_clock, 1)
    server.failed_run("r1", hand_clock.now)
    walk(watchman, hand_clock, 30)
    assert alerts(bell) == {}


def wait(bell: Dispatcher, hand_clock: HandClock) -> None:
    unless = {
        "event": "sensor.heartbeat",
        "resource": "sensor.a",
        "after": hand_clock.now.isoformat(),
        "wait_seconds": 15,
    }
    ringer = AlertService(bell)
    ringer.post(posting(unless=unless), hand_clock.now)
    ringer.close()


def heartbeat(hand_clock: HandClock, seconds: float) -> dict[str, Any]:
    return {
        "event": "sensor.heartbeat",
        "occurred": (hand_clock.now + timedelta(seconds=seconds)).isoformat(),
        "resource": {"prefect.resource.id": "sensor.a"},
    }


@pytest.mark.parametrize(("seconds", "state"), [(0, "pending"), (0.01, "cancelled"), (-60, "pending")])
def test_only_a_later_event_makes_an_alert_needless(
    watchman: ServerWatch, server: PrefectServer, bell: Dispatcher, hand_clock: HandClock, seconds: float, state: str
) -> None:
    server.events = [heartbeat(hand_clock, seconds)]
    wait(bell, hand_clock)
    walk(watchman, hand_clock, 17)
    assert alerts(bell) == {"c-1": state}


def test_a_silent_server_is_reported_after_a_minute_and_when_it_is_back(
    watchman: ServerWatch, server: PrefectServer, bell: Dispatcher, hand_clock: HandClock
) -> None:
    walk(watchman, hand_clock, 5)
    server.status = 500
    walk(watchman, hand_clock, 200)
    assert alerts(bell) == {"server-silent": "pending"}
    server.status = 200
    walk(watchman, hand_clock, 5)
    rows = bell.outbox.rows("SELECT state FROM alerts WHERE kind = 'server-back' AND state <> 'cancelled'")
    assert [row["state"] for row in rows] == ["pending"]


def test_while_the_server_is_silent_what_waits_for_an_event_is_reported_in_the_end(
    watchman: ServerWatch, server: PrefectServer, bell: Dispatcher, hand_clock: HandClock
) -> None:
    wait(bell, hand_clock)
    server.status = 503
    walk(watchman, hand_clock, 80)
    assert alerts(bell)["c-1"] == "pending"


def fail_channel(bell: Dispatcher, hand_clock: HandClock) -> None:
    [channel] = bell.policy.channels("alerts", ())
    post(bell.outbox, posting(), bell.policy, hand_clock.now)
    claimed = deliver.claim(bell.outbox, channel.id, hand_clock.now)
    assert claimed is not None
    deliver.record_failed(bell.outbox, claimed, channel, "refused", hand_clock.now)


def test_a_channel_that_does_not_take_its_alerts_is_reported_to_prefect_once(
    watchman: ServerWatch, server: PrefectServer, bell: Dispatcher, hand_clock: HandClock
) -> None:
    fail_channel(bell, hand_clock)
    walk(watchman, hand_clock, 30)
    assert "alert.undelivered" not in emitted(server)
    walk(watchman, hand_clock, 100)
    [reported] = [one for one in server.emitted if one["event"] == "alert.undelivered"]
    assert reported["resource"]["prefect.resource.name"] == "1 (JSON)"
    assert reported["payload"]["reason"] == "refused"
    assert reported["payload"]["waiting"] == 1


def test_a_failing_channel_is_reported_once_also_while_the_outbox_cannot_be_written(
    watchman: ServerWatch, server: PrefectServer, bell: Dispatcher, hand_clock: HandClock
) -> None:
    fail_channel(bell, hand_clock)
    bell.outbox.change("CREATE TRIGGER full BEFORE UPDATE ON channels BEGIN SELECT RAISE (FAIL, 'full'); END")
    walk(watchman, hand_clock, 60)
    assert emitted(server).count("alert.undelivered") == 1


def test_it_is_reported_later_if_the_server_is_silent(
    watchman: ServerWatch, server: PrefectServer, bell: Dispatcher, hand_clock: HandClock
) -> None:
    fail_channel(bell, hand_clock)
    server.status = 500
    walk(watchman, hand_clock, 40)
    server.status = 200
    server.emitted.clear()
    walk(watchman, hand_clock, 1)
    assert "alert.undelivered" in emitted(server)


def test_what_is_a_month_old_is_forgotten(
    watchman: ServerWatch, server: PrefectServer, bell: Dispatcher, hand_clock: HandClock
) -> None:
    fail_channel(bell, hand_clock)
    bell.outbox.change("UPDATE alerts SET state = 'delivered'")
    hand_clock.turn(31 * 86_400)
    walk(watchman, hand_clock, 1)
    assert alerts(bell) == {}


def test_it_closes_what_it_has_opened(
    tmp_path: Path, server: PrefectServer, bell: Dispatcher, hand_clock: HandClock
) -> None:
    settings = Settings(_env_file=None, state_dir=tmp_path, api_port=server.port, auth=Auth.OFF)  # pyright: ignore[reportCallIssue]
    Ledger(settings.ledger_path).close()
    watchman = ServerWatch(settings, bell, hand_clock.clock, AlertSettings())
    watchman.close()
    assert isinstance(watchman._api, PrefectApi)
    assert watchman._api._client.is_closed
