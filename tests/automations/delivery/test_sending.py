"""Sending: what reaches the receiver, and when it says that it comes late."""

import multiprocessing
import time
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path

import pytest

from automations.delivery.deliver import DeliveryClaim, drain, with_late_note
from automations.delivery.dispatcher import read_undelivered
from automations.delivery.enqueue import post
from automations.delivery.outbox import Outbox
from tests.postings import NOW, policy, posting
from tests.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Generator[Receiver, None, None]:
    with receiving() as receiver:
        yield receiver


def claimed(occurred_before: timedelta) -> DeliveryClaim:
    return DeliveryClaim("c-1", "Failed", "Run: otter", "failure", NOW - occurred_before, 1, None)


@pytest.mark.parametrize(
    ("ago", "note"),
    [
        (timedelta(seconds=-5), None),
        (timedelta(seconds=59), None),
        (timedelta(seconds=60), "1 min"),
        (timedelta(minutes=119), "119 min"),
        (timedelta(hours=8, minutes=20), "8 h"),
    ],
)
def test_an_alert_that_comes_late_says_how_long_after(ago: timedelta, note: str | None) -> None:
    lines = with_late_note(claimed(ago), NOW).body.splitlines()
    assert lines[1:] == ([] if note is None else [f"Delivered late: {note} after it happened."])


def fill(path: Path, count: int, receiver: Receiver, where: str = "alerts"):
    [channel] = policy(receiver.url(where)).channels("alerts", ())
    with Outbox(path) as outbox:
        for number in range(count):
            some = posting(f"c-{number}", type="warning")
            post(outbox, some, policy(receiver.url(where), storm="99/1s"), NOW)
    return channel


def test_everything_that_is_due_is_brought_through_one_after_the_other(receiver: Receiver, tmp_path: Path) -> None:
    channel = fill(tmp_path / "alerts.db", 3, receiver)
    drain(tmp_path / "alerts.db", channel, tmp_path / "alerts.log", lambda: False)
    assert [alert["title"] for _, alert in receiver.posts] == ["Failed: c-0", "Failed: c-1", "Failed: c-2"]
    assert {alert["type"] for _, alert in receiver.posts} == {"warning"}
    assert (tmp_path / "alerts.log").read_text().count("delivered to 1 (JSON): Failed: c-") == 3


def test_after_a_failure_nothing_more_is_tried_and_it_is_reported_once(receiver: Receiver, tmp_path: Path) -> None:
    path, log = tmp_path / "alerts.db", tmp_path / "alerts.log"
    channel = fill(path, 3, receiver, "s3cr3tt0ken")
    receiver.status = 500
    drain(path, channel, log, lambda: False)
    assert len(receiver.posts) == 1
    with Outbox(path) as outbox:
        outbox.change("UPDATE deliveries SET attempts = attempts + 9 WHERE cause <> 'c-0'")
        outbox.change("UPDATE deliveries SET next_at = ''")
        outbox.change("DELETE FROM channels")
    drain(path, channel, log, lambda: False)
    assert len(receiver.posts) == 2
    assert log.read_text().count("NOT delivered to 1 (JSON), it is tried again: Failed: c-0") == 1
    assert "s3cr3tt0ken" not in log.read_text()


def test_a_dispatcher_that_is_stopped_begins_no_other_delivery(receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "alerts.db"
    channel = fill(path, 3, receiver)
    drain(path, channel, None, lambda: len(receiver.posts) == 1)
    assert len(receiver.posts) == 1
    with Outbox(path) as outbox:
        assert outbox.rows("SELECT 1 FROM deliveries WHERE state = 'sending'") == []


def _drain(path: Path, url: str) -> None:
    [channel] = policy(url).channels("alerts", ())
    drain(path, channel, None, lambda: False)


def test_what_a_process_was_sending_when_it_was_killed_is_sent_again_and_nothing_else(
    receiver: Receiver, tmp_path: Path
) -> None:
    path = tmp_path / "alerts.db"
    channel = fill(path, 4, receiver)
    receiver.pause_seconds = 2  # long enough for the kill to come before the answer
    process = multiprocessing.get_context("spawn").Process(target=_drain, args=(path, receiver.url()))
    process.start()
    deadline = time.monotonic() + 30
    while not receiver.posts and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.join()
    receiver.pause_seconds = 0
    drain(path, channel, None, lambda: False)
    with Outbox(path) as outbox:
        outbox.change("UPDATE deliveries SET claimed_until = '' WHERE state = 'sending'")
    drain(path, channel, None, lambda: False)
    titles = [alert["title"] for _, alert in receiver.posts]
    assert titles == ["Failed: c-0", "Failed: c-1", "Failed: c-2", "Failed: c-3", "Failed: c-0"]


def test_a_log_that_cannot_be_written_stops_no_alert(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    channel = fill(tmp_path / "alerts.db", 2, receiver)
    drain(tmp_path / "alerts.db", channel, tmp_path / "logs" / "alerts.log", lambda: False)
    assert len(receiver.posts) == 2
    assert "the alert log" in caplog.text


def test_an_alert_without_an_answer_is_perhaps_delivered_and_its_copy_says_so(
    receiver: Receiver, tmp_path: Path
) -> None:
    path, log = tmp_path / "alerts.db", tmp_path / "alerts.log"
    url = f"{receiver.url()}?rto=0.3"
    [channel] = policy(url).channels("alerts", ())
    with Outbox(path) as outbox:
        post(outbox, posting(), policy(url), NOW)
    receiver.pause_seconds = 1.5
    drain(path, channel, log, lambda: False)
    found = read_undelivered(path)
    assert (found.alerts, found.perhaps, found.perhaps_subject) == (0, 1, "Failed: c-1")
    assert "PERHAPS delivered to 1 (JSON), it is sent again at " in log.read_text()
    drain(path, channel, log, lambda: False)
    assert len(receiver.posts) == 1
    receiver.pause_seconds = 0
    with Outbox(path) as outbox:
        outbox.change("UPDATE deliveries SET next_at = ''")
        outbox.change("DELETE FROM channels")
    drain(path, channel, log, lambda: False)
    assert "Sent again: it may not have arrived when it was sent at " in receiver.posts[1][1]["message"]
    assert read_undelivered(path).perhaps == 0
