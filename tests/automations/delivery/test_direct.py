"""Sending while the outbox cannot be written: once, within the limit, and recorded afterwards."""

import multiprocessing
import socket
import sqlite3
from collections.abc import Generator
from datetime import datetime
from pathlib import Path

import pytest

from automations.alert_service import AlertService, Dispatcher
from automations.delivery import direct
from automations.delivery.channels import Policy
from automations.delivery.deliver import drain
from automations.delivery.direct import DirectSender
from automations.delivery.enqueue import EnqueueResult, NewAlert, post
from automations.delivery.outbox import Outbox, SentRecord
from tests.postings import NOW, at, policy, posting
from tests.receiver import Receiver, receiving

SPAWN = multiprocessing.get_context("spawn")
TABLES = ("alerts", "deliveries", "channels", "gatherings", "troubles", "progress")


@pytest.fixture
def receiver() -> Generator[Receiver, None, None]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alerts.db"


def sender_at(path: Path) -> DirectSender:
    """Return a sender as a process makes it."""
    record = SentRecord(path.with_name("alerts.db.sent"))
    record.prepare()
    return DirectSender(path, path.with_suffix(".log"), record)


@pytest.fixture
def sender(path: Path) -> DirectSender:
    return sender_at(path)


def fill(path: Path) -> None:
    """Let the outbox take nothing any more, as on a full disk."""
    with Outbox(path) as outbox:
        for table in TABLES:
            for what in ("INSERT", "UPDATE", "DELETE"):
                outbox.change(
                    f"CREATE TRIGGER full_{table}_{what} BEFORE {what} ON {table}"
                    " BEGIN SELECT RAISE (FAIL, 'database or disk is full'); END"
                )


def make_room(path: Path) -> None:
    with Outbox(path) as outbox:
        for table in TABLES:
            for what in ("INSERT", "UPDATE", "DELETE"):
                outbox.change(f"DROP TRIGGER full_{table}_{what}")


def states(path: Path) -> dict[str, str]:
    with Outbox(path) as outbox:
        return {row["cause"]: row["state"] for row in outbox.rows("SELECT cause, state FROM alerts")}


def subjects(receiver: Receiver) -> list[str]:
    return [alert["title"] for _, alert in receiver.posts]


def test_an_alert_is_sent_once_however_often_it_is_posted(sender: DirectSender, receiver: Receiver, path: Path) -> None:
    fill(path)
    posted = [sender.post(posting("one"), policy(receiver.url()), at(second)) for second in range(30)]
    assert posted == [EnqueueResult.PENDING] + [EnqueueResult.KNOWN] * 29
    assert len(receiver.posts) == 1


def test_the_servers_and_the_sensors_process_send_it_once_between_them(
    sender: DirectSender, receiver: Receiver, path: Path
) -> None:
    fill(path)
    sender.post(posting("one"), policy(receiver.url()), NOW)
    assert sender_at(path).post(posting("one"), policy(receiver.url()), NOW) is EnqueueResult.KNOWN
    assert len(receiver.posts) == 1


@pytest.mark.parametrize("damage", ["corrupt", "a folder", "missing folder"])
def test_an_outbox_that_cannot_be_opened_keeps_no_alert_from_being_sent_once(
    receiver: Receiver, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "state" / "alerts.db"
    if damage == "missing folder":
        (tmp_path / "state").write_text("a file where the folder should be")
    else:
        path.parent.mkdir()
        path.mkdir() if damage == "a folder" else path.write_bytes(b"this is no database " * 1000)
    sender = sender_at(path)
    for second in range(5):
        sender.post(posting("one"), policy(receiver.url()), at(second))
    assert len(receiver.posts) == 1


def test_the_end_of_a_trouble_is_sent_once_and_only_after_its_beginning(
    sender: DirectSender, receiver: Receiver, path: Path
) -> None:
    fill(path)
    configured = policy(receiver.url())
    assert sender.post(posting("early", ends="sensor.a"), configured, NOW) is EnqueueResult.CANCELLED
    sender.post(posting("silent", opens="sensor.a"), configured, NOW)
    sender.post(posting("silent again", opens="sensor.a"), configured, at(1))
    for second in range(2, 30):
        sender.post(posting(f"back {second}", ends="sensor.a"), configured, at(second))
    assert subjects(receiver) == ["Failed: silent", "Failed: back 2"]


def test_the_end_of_a_trouble_is_sent_once_if_the_outbox_cannot_be_read(
    sender: DirectSender, receiver: Receiver, path: Path
) -> None:
    path.write_bytes(b"this is no database " * 1000)
    for second in range(29):
        sender.post(posting(f"over {second}", ends="sensor.a"), policy(receiver.url()), at(second))
    assert subjects(receiver) == ["Failed: over 0"]


def test_the_end_of_a_trouble_that_the_outbox_knows_is_sent_once(
    sender: DirectSender, receiver: Receiver, path: Path
) -> None:
    configured = policy(receiver.url())
    with Outbox(path) as outbox:
        post(outbox, posting("silent", opens="sensor.a"), configured, NOW)
    fill(path)
    for second in range(29):
        sender.post(posting(f"back {second}", ends="sensor.a"), configured, at(second))
    assert subjects(receiver) == ["Failed: back 0"]
    make_room(path)
    sender.post(posting("back 30", ends="sensor.a"), configured, at(30))
    assert states(path) == {"silent": "pending", "back 0": "delivered", "back 30": "cancelled"}


def test_what_was_sent_is_recorded_when_the_outbox_works_again_and_not_sent_again(
    sender: DirectSender, receiver: Receiver, path: Path
) -> None:
    configured = policy(receiver.url("one"), receiver.url("two"))
    fill(path)
    sender.post(posting("one"), configured, NOW)
    make_room(path)
    sender.post(posting("two"), configured, at(60))
    assert states(path) == {"one": "delivered", "two": "pending"}
    for channel in configured.channels("alerts", ()):
        drain(path, channel, None, lambda: False)
    assert sorted(subjects(receiver)) == ["Failed: one"] * 2 + ["Failed: two"] * 2


def test_a_process_that_was_killed_before_it_recorded_what_it_sent_has_it_sent_by_no_other(
    sender: DirectSender, receiver: Receiver, path: Path
) -> None:
    configured = policy(receiver.url())
    fill(path)
    sender.post(posting("one"), configured, NOW)
    make_room(path)
    with Outbox(path) as outbox:  # another process, which finds the failed run and knows no alert of it
        post(outbox, posting("one"), configured, at(60))
    assert states(path) == {"one": "delivered"}


def test_what_a_channel_did_not_take_is_tried_again_with_growing_pauses(
    sender: DirectSender, receiver: Receiver, path: Path
) -> None:
    fill(path)
    receiver.status = 500
    configured = policy(receiver.url())
    sender.post(posting("one"), configured, NOW)
    for second in range(1, 8):
        sender.retry(configured, at(second))
    assert receiver.answers == [500] * 4
    receiver.status = 200
    sender.retry(configured, at(60))
    sender.retry(configured, at(200))
    assert receiver.answers == [500] * 4 + [200]


def test_what_no_channel_took_is_the_bells_once_the_outbox_works_again(
    sender: DirectSender, receiver: Receiver, path: Path
) -> None:
    fill(path)
    receiver.status = 500
    configured = policy(receiver.url())
    sender.post(posting("one"), configured, NOW)
    make_room(path)
    with Outbox(path) as outbox:
        sender.record_sent(outbox, configured, at(10))
    assert states(path) == {"one": "pending"}


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_where_no_channel_takes_it_the_fallback_has_it(sender: DirectSender, receiver: Receiver, path: Path) -> None:
    fill(path)
    configured = policy(f"json://127.0.0.1:{closed_port()}/", fallback_urls=receiver.url("reserve"))
    for second in range(5):
        sender.post(posting("one"), configured, at(second))
        sender.retry(configured, at(second))
    assert [where for where, _ in receiver.posts] == ["/reserve"]


def post_some(sender: DirectSender, configured: Policy, count: int, when: datetime = NOW) -> list[EnqueueResult]:
    some: list[NewAlert] = [posting(f"c-{number}", group="daily") for number in range(count)]
    return [sender.post(one, configured, when) for one in some]


def test_a_storm_is_bounded_and_summed_up(sender: DirectSender, receiver: Receiver, path: Path) -> None:
    fill(path)
    configured = policy(receiver.url(), storm="2/10m")
    assert post_some(sender, configured, 40) == [EnqueueResult.PENDING] * 2 + [EnqueueResult.GATHERED] * 38
    sender.retry(configured, at(300))
    assert len(receiver.posts) == 2
    sender.retry(configured, at(601))
    sender.retry(configured, at(602))
    assert subjects(receiver)[2:] == ["38 alerts of daily"]
    make_room(path)
    with Outbox(path) as outbox:
        sender.record_sent(outbox, configured, at(700))
    assert sorted({*states(path).values()}) == ["delivered", "summed up"]


def test_what_was_held_back_is_posted_as_usual_if_the_outbox_works_before_its_digest(
    sender: DirectSender, receiver: Receiver, path: Path
) -> None:
    fill(path)
    configured = policy(receiver.url(), storm="2/10m")
    post_some(sender, configured, 5)
    make_room(path)
    with Outbox(path) as outbox:
        sender.record_sent(outbox, configured, at(10))
    assert sorted(states(path).values()) == ["delivered"] * 2 + ["gathered"] * 3


def test_memory_is_bounded(sender: DirectSender, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "UNRECORDED_LIMIT", 3)
    fill(path)
    post_some(sender, policy(storm="1/10m"), 10)
    make_room(path)
    with Outbox(path) as outbox:
        sender.record_sent(outbox, policy(), at(10))
    assert len(states(path)) == 3


def test_the_log_of_alerts_has_what_was_sent_and_what_was_not(
    sender: DirectSender, receiver: Receiver, path: Path
) -> None:
    fill(path)
    sender.post(posting("one"), policy(receiver.url(), "json://127.0.0.1:1/s3cr3t"), NOW)
    log = path.with_suffix(".log").read_text()
    assert "Failed: one" in log
    assert "delivered to 1 (JSON), without the outbox" in log
    assert "NOT delivered to 2 (JSON): " in log
    assert "s3cr3t" not in log


def test_a_delivery_that_cannot_be_recorded_is_not_made_again(receiver: Receiver, path: Path) -> None:
    configured = policy(receiver.url())
    [channel] = configured.channels("alerts", ())
    with Outbox(path) as outbox:
        post(outbox, posting("one"), configured, NOW)
        outbox.change(
            "CREATE TRIGGER full BEFORE UPDATE OF delivered_at ON deliveries BEGIN SELECT RAISE(FAIL, 'disk full'); END"
        )
    for _ in range(3):
        with pytest.raises(Exception, match="disk full"):
            drain(path, channel, None, lambda: False)
        with Outbox(path) as outbox:
            outbox.change("UPDATE deliveries SET claimed_until = ''")  # the claim of a killed or failed process ends
    assert len(receiver.posts) == 1


def test_what_waits_in_an_outbox_that_takes_nothing_any_more_is_sent_once(receiver: Receiver, path: Path) -> None:
    configured = policy(receiver.url(), storm="99/1s")
    [channel] = configured.channels("alerts", ())
    with Outbox(path) as outbox:
        for cause in ("one", "two"):
            post(outbox, posting(cause), configured, NOW)
    sender_at(path)
    fill(path)
    for _ in range(5):
        with pytest.raises(sqlite3.Error, match="full"):
            drain(path, channel, None, lambda: False)
    assert subjects(receiver) == ["Failed: one", "Failed: two"]
    make_room(path)
    drain(path, channel, None, lambda: False)
    assert states(path) == {"one": "delivered", "two": "delivered"}
    assert len(receiver.posts) == 2


def test_a_channel_that_fails_then_is_given_a_pause(receiver: Receiver, path: Path) -> None:
    configured = policy(receiver.url())
    [channel] = configured.channels("alerts", ())
    receiver.status = 500
    with Outbox(path) as outbox:
        post(outbox, posting("one"), configured, NOW)
    fill(path)
    for _ in range(5):
        with pytest.raises(sqlite3.Error, match="full"):
            drain(path, channel, None, lambda: False)
    assert len(receiver.posts) == 1


@pytest.fixture
def ringer(path: Path, receiver: Receiver) -> Generator[AlertService, None, None]:
    bell = Dispatcher(path, path.with_suffix(".log"), policy(receiver.url()))
    ringer = AlertService(bell)
    yield ringer
    ringer.close()
    bell.close()


def test_progress_that_cannot_be_written_is_remembered_until_it_can(ringer: AlertService, path: Path) -> None:
    ringer.record_progress("heartbeat", NOW)
    fill(path)
    ringer.record_progress("heartbeat", at(60))
    assert ringer.progress("heartbeat") == at(60)
    make_room(path)
    ringer.record_progress("heartbeat", at(70))
    with Outbox(path) as outbox:
        assert outbox.rows("SELECT until FROM progress")[0]["until"] == at(70).isoformat(timespec="microseconds")


def test_the_dispatcher_records_what_was_sent_without_it(ringer: AlertService, receiver: Receiver, path: Path) -> None:
    fill(path)
    ringer.post(posting("one"), NOW)
    make_room(path)
    ringer.bell.step(at(60))
    assert states(path) == {"one": "delivered"}
    assert len(receiver.posts) == 1
