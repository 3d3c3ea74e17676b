"""The notification block with an outbox: with a living bell it posts, without one it delivers."""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.abstract import NotificationError

from automations import block as ringing
from automations.block import START_GRACE, AppriseAlerts, with_grace
from automations.delivery.outbox import Outbox
from automations.sqlite_file import stamp
from tests.postings import NOW, posting
from tests.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Generator[Receiver, None, None]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def _the_server_runs_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ringing, "server_started_at", lambda: datetime.now(UTC) - timedelta(days=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alerts.db"


def block(path: Path, urls: str, *, name: str = "alerts", **fields: Any) -> AppriseAlerts:
    """Make the block as the server does when it loads it by its name."""
    log = str(path.with_suffix(".log"))
    made = AppriseAlerts.model_validate({"urls": urls, "outbox": str(path), "log_file": log, **fields})
    made._block_document_name = name  # pyright: ignore[reportPrivateUsage]
    return made


def body(cause: str = "c-1", text: str = "Run: otter", **more: Any) -> str:
    return f"{text}\nbell: {json.dumps({'id': cause, 'kind': 'run-failed', **more})}"


def bell_at(path: Path, moment: float) -> None:
    Path(f"{path}.alive").touch()
    os.utime(f"{path}.alive", (moment, moment))


def states(path: Path) -> dict[str, str]:
    with Outbox(path) as outbox:
        return {row["cause"].partition("/")[0]: row["state"] for row in outbox.rows("SELECT * FROM alerts")}


def test_a_living_dispatcher_is_left_to_deliver_it(receiver: Receiver, path: Path) -> None:
    bell_at(path, time.time())
    block(path, receiver.url()).notify(body(), "Failed")
    assert receiver.posts == []
    assert states(path) == {"c-1": "pending"}


@pytest.mark.parametrize("died", [-3600, 3600, None])
def test_without_a_living_one_it_is_delivered_here_and_now(receiver: Receiver, path: Path, died: int | None) -> None:
    if died is not None:
        bell_at(path, time.time() + died)
    block(path, receiver.url()).notify(body(), "Failed")
    assert [alert["message"] for _, alert in receiver.posts] == ["Run: otter"]
    assert states(path) == {"c-1": "delivered"}


def test_the_same_cause_is_delivered_once_however_often_the_block_is_asked(receiver: Receiver, path: Path) -> None:
    for _ in range(3):
        block(path, receiver.url()).notify(body(), "Failed")
    assert len(receiver.posts) == 1


def test_what_fails_waits_for_the_dispatcher_and_is_reported_without_a_secret(receiver: Receiver, path: Path) -> None:
    receiver.status = 500
    secret = receiver.url("s3cr3tt0ken", user="me:hunter22@")
    with pytest.raises(NotificationError) as failure:
        block(path, secret).notify(body(), "Failed")
    assert "URL 1 (JSON): " in failure.value.log
    assert states(path) == {"c-1": "pending"}
    kept = b"".join(one.read_bytes() for one in path.parent.glob("alerts*"))
    for word in ("hunter22", "s3cr3tt0ken"):
        assert word not in failure.value.log
        assert word.encode() not in kept


def test_each_url_that_failed_is_reported_and_the_others_have_the_alert(receiver: Receiver, path: Path) -> None:
    with pytest.raises(NotificationError) as failure:
        block(path, f"json://127.0.0.1:1/closed {receiver.url()}").notify(body(), "Failed")
    assert "URL 1 (JSON)" in failure.value.log
    assert "URL 2" not in failure.value.log
    assert len(receiver.posts) == 1


def test_what_a_dispatcher_has_left_when_it_died_is_delivered_with_the_next_alert(
    receiver: Receiver, path: Path
) -> None:
    bell_at(path, time.time())
    block(path, receiver.url()).notify(body("left"), "Failed")
    bell_at(path, time.time() - 60)
    block(path, receiver.url()).notify(body("next"), "Failed")
    assert states(path) == {"left": "delivered", "next": "delivered"}
    assert len(receiver.posts) == 2


def silent(seconds: float) -> str:
    """Return the body of an alert that a heartbeat makes needless if it comes in time."""
    moment = datetime.now(UTC).isoformat()
    unless = {"event": "sensor.heartbeat", "resource": "sensor.a", "after": moment, "wait_seconds": seconds}
    return body("silent", unless=unless, opens="sensor.a")


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def test_without_a_dispatcher_an_alert_waits_for_its_event_and_is_sent_when_the_time_is_over(
    receiver: Receiver, path: Path
) -> None:
    block(path, receiver.url()).notify(silent(1), "Silent")
    assert (receiver.posts, states(path)) == ([], {"silent": "waiting"})
    until(lambda: states(path) == {"silent": "delivered"})
    assert [alert["title"] for _, alert in receiver.posts] == ["Silent"]


def test_a_dispatcher_that_is_there_again_by_then_decides_whether_it_is_needless(
    receiver: Receiver, path: Path
) -> None:
    block(path, receiver.url()).notify(silent(0), "Silent")
    bell_at(path, time.time() + 5)
    time.sleep(2)  # longer than the wait
    assert (receiver.posts, states(path)) == ([], {"silent": "waiting"})


def test_a_server_that_has_just_started_waits_longer_as_nothing_could_be_heard_before(
    receiver: Receiver, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = datetime.now(UTC)
    monkeypatch.setattr(ringing, "server_started_at", lambda: started)
    block(path, receiver.url()).notify(silent(15), "Silent")
    with Outbox(path) as outbox:
        [row] = outbox.rows("SELECT wait_until FROM alerts")
    assert datetime.fromisoformat(row["wait_until"]) - started >= START_GRACE
    assert receiver.posts == []


@pytest.mark.parametrize(("age", "wait"), [(0, 180), (100, 80), (170, 15), (10_000, 15), (-10_000, 3600)])
def test_the_grace_of_a_start_ends_and_a_clock_that_was_set_back_makes_it_no_longer_than_an_hour(
    age: float, wait: float
) -> None:
    unless = {"event": "e", "resource": "r", "after": "2026-11-24T09:00:00Z", "wait_seconds": 15}
    graced = with_grace(posting(unless=unless), NOW, NOW - timedelta(seconds=age)).cause.unless
    assert graced is not None
    assert graced.wait_seconds == wait


def test_without_a_dispatcher_the_hours_of_silence_hold_nothing_back_as_nothing_would_report_it_afterwards(
    receiver: Receiver, path: Path
) -> None:
    block(path, receiver.url(), silence="00:00-24:00 UTC").notify(body(), "Silent")
    assert len(receiver.posts) == 1


def test_without_a_dispatcher_a_storm_is_bounded_and_its_digest_comes_with_a_later_alert(
    receiver: Receiver, path: Path
) -> None:
    alerts = block(path, receiver.url(), storm="2/1s")
    for number in range(5):
        alerts.notify(body(f"c-{number}", group="daily"), f"Failed {number}")
    assert len(receiver.posts) == 2
    with Outbox(path) as outbox:
        outbox.change("UPDATE gatherings SET due_at = opened_at")
    alerts.notify(body("other"), "Failed elsewhere")
    assert [alert["title"] for _, alert in receiver.posts][2:] == ["Failed elsewhere", "3 alerts of daily"]


def test_without_a_dispatcher_the_fallback_leaves_the_others_alerts_to_those_who_know_where_they_go(
    receiver: Receiver, path: Path
) -> None:
    bell_at(path, time.time())
    unless = {"event": "e", "resource": "r", "after": "2026-11-24T09:00:00Z", "wait_seconds": 0}
    alerts = block(path, receiver.url(), storm="1/1s")
    alerts.notify(body("waiting", unless=unless), "Silent")
    for number in range(3):
        alerts.notify(body(f"c-{number}", group="daily"), "Failed")
    with Outbox(path) as outbox:
        outbox.change("UPDATE gatherings SET due_at = opened_at")
    bell_at(path, 0)
    block(path, receiver.url("reserve"), name="fallback").notify(body("undelivered"), "Undelivered")
    assert states(path) == {
        "waiting": "waiting",
        "c-0": "pending",
        "c-1": "gathered",
        "c-2": "gathered",
        "undelivered": "delivered",
    }
    with Outbox(path) as outbox:
        outbox.change("UPDATE alerts SET wait_until = ? WHERE state = 'waiting'", (stamp(datetime.now(UTC)),))
    alerts.notify(body("next"), "Failed elsewhere")
    assert {*states(path).values()} == {"delivered", "summed up"}
    assert sorted(where for where, _ in receiver.posts) == ["/alerts"] * 4 + ["/reserve"]


def test_what_is_void_is_not_reported(receiver: Receiver, path: Path) -> None:
    block(path, receiver.url()).notify(body(void=True), "Late")
    assert receiver.posts == []


def test_a_broken_outbox_keeps_no_alert_from_being_sent(receiver: Receiver, path: Path) -> None:
    path.write_text("this is no database, however long it is " * 100)
    block(path, receiver.url()).notify(body(), "Failed")
    assert [alert["message"] for _, alert in receiver.posts] == ["Run: otter"]


def test_a_result_that_cannot_be_written_down_does_not_have_it_sent_again(receiver: Receiver, path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.change(
            "CREATE TRIGGER full BEFORE UPDATE OF delivered_at ON deliveries BEGIN SELECT RAISE(FAIL, 'disk full'); END"
        )
    with pytest.raises(NotificationError, match="disk full"):
        block(path, receiver.url()).notify(body(), "Failed")
    assert len(receiver.posts) == 1


def test_an_alert_that_a_bell_has_left_and_whose_delivery_cannot_be_recorded_is_logged(
    receiver: Receiver, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bell_at(path, time.time())
    block(path, receiver.url()).notify(body("left"), "Failed")
    with Outbox(path) as outbox:
        outbox.change(
            "CREATE TRIGGER full BEFORE UPDATE OF delivered_at ON deliveries WHEN NEW.cause = 'left'"
            " BEGIN SELECT RAISE(FAIL, 'disk full'); END"
        )
    bell_at(path, time.time() - 60)
    block(path, receiver.url()).notify(body("next"), "Failed")
    assert len(receiver.posts) == 2
    assert [one.getMessage() for one in caplog.records if one.name == "automations.block"] == [
        "an earlier alert is not delivered to 1 (JSON): IntegrityError: disk full"
    ]


def test_a_block_of_another_name_tries_each_alert_once_without_the_outbox(receiver: Receiver, path: Path) -> None:
    block(path, receiver.url(), name="mine").notify(body(), "Failed")
    assert [alert["message"] for _, alert in receiver.posts] == ["Run: otter"]
    assert not path.exists()


def test_the_fallback_block_sends_to_its_own_urls(receiver: Receiver, path: Path) -> None:
    block(path, receiver.url("reserve"), name="fallback").notify(body(), "Undelivered")
    assert [where for where, _ in receiver.posts] == ["/reserve"]


def test_an_alert_finds_the_channel_of_its_tag(receiver: Receiver, path: Path) -> None:
    routes = f"env:prod={receiver.url('prod')} alert:run-failed={receiver.url('failed')}"
    alerts = block(path, receiver.url("others"), routes=routes)
    alerts.notify(body("a", tags=["env:prod"], kind="file-rejected"), "A")
    alerts.notify(body("b"), "B")
    alerts.notify(body("c", kind="file-rejected"), "C")
    assert [where for where, _ in receiver.posts] == ["/prod", "/failed", "/others"]


def test_a_locked_outbox_is_waited_for(receiver: Receiver, path: Path) -> None:
    Outbox(path).close()
    another = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    another.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, another.execute, ["COMMIT"]).start()
    block(path, receiver.url()).notify(body(), "Failed")
    another.close()
    assert states(path) == {"c-1": "delivered"}
