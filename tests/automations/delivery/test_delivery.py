"""Delivering an alert to Apprise URLs, with a real receiver on loopback."""

import logging
import socket
import time
from collections.abc import Generator

import pytest

from automations.delivery import send as delivery
from automations.delivery.models import Alert
from automations.delivery.send import deliver, misunderstood
from tests.receiver import Receiver, receiving

# Apprise's mail plugin imports it, on the Pythons that have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

ALERT = Alert("Failed: daily", "Run: otter\n<b>&amp; **bold** {{ 7 * 7 }} \\n")


@pytest.fixture
def receiver() -> Generator[Receiver, None, None]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_each_url_gets_the_alert_once_and_is_reported_by_position_and_service(receiver: Receiver) -> None:
    deliveries = deliver(ALERT, [receiver.url("one"), receiver.url("two")], "failure")
    assert [(d.channel, d.delivered) for d in deliveries] == [("1 (JSON)", True), ("2 (JSON)", True)]
    assert sorted(path for path, _ in receiver.posts) == ["/one", "/two"]


def test_the_text_arrives_letter_by_letter_and_no_markup_in_it_is_interpreted(receiver: Receiver) -> None:
    deliver(ALERT, [receiver.url()], "failure")
    [(_, post)] = receiver.posts
    assert (post["title"], post["message"], post["type"]) == (ALERT.subject, ALERT.body, "failure")


def test_one_url_that_fails_keeps_no_other_from_its_alert(receiver: Receiver, closed_port: int) -> None:
    urls = [f"json://127.0.0.1:{closed_port}/", receiver.url()]
    assert [d.delivered for d in deliver(ALERT, urls, "failure")] == [False, True]


def test_a_failure_shows_what_the_service_answered(receiver: Receiver) -> None:
    receiver.status = 500
    [delivery] = deliver(ALERT, [receiver.url()], "failure")
    assert "500" in (delivery.failure or "")


def test_no_part_of_a_failing_url_is_reported(closed_port: int) -> None:
    url = f"json://robot:hunter22@127.0.0.1:{closed_port}/hook/s3cr3tt0ken/?+X-Key=qwertz"
    [delivery] = deliver(ALERT, [url], "failure")
    reported = f"{delivery}"
    assert delivery.failure
    assert not [part for part in ("robot", "hunter22", "s3cr3tt0ken", "qwertz", "127.0.0.1") if part in reported]


def test_apprise_logs_no_url_on_our_behalf_at_any_level(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="apprise")
    receiver.status = 500
    misunderstood(["slack://hunter22", "nonsense://hunter22"])
    deliver(ALERT, [receiver.url("hunter22", user="me:hunter22@")], "failure")
    assert [record.name for record in caplog.records if record.name == "apprise"] == []


def test_apprise_logs_as_before_for_everybody_else(caplog: pytest.LogCaptureFixture) -> None:
    deliver(ALERT, ["nonsense://x"], "failure")
    logging.getLogger("apprise").warning("of another's making")
    assert "of another's making" in caplog.text


def test_a_service_that_does_not_answer_is_given_up_after_the_time_limit(receiver: Receiver) -> None:
    receiver.pause_seconds = 1.5
    started = time.monotonic()
    [delivery] = deliver(ALERT, [receiver.url()], "failure", time_limit=0.3)
    assert delivery.failure == "no answer within 0.3 s"
    assert time.monotonic() - started < 1.2


def test_urls_that_cannot_be_used_are_reported_by_position_only() -> None:
    problems = misunderstood(["json://127.0.0.1", "slakc://hunter22/x", "hunter22"])
    assert [problem.split()[1] for problem in problems] == ["2", "3"]
    assert "slakc://..." in problems[0]
    assert "hunter22" not in " ".join(problems)


def test_what_a_service_says_of_its_failure_is_kept_as_harmless_text() -> None:
    reported = delivery._without_secrets("no\x1b[2J r\ud800eply\n@everyone", "json://127.0.0.1/s3cr3t")
    assert reported.encode()
    assert reported == "no\N{REPLACEMENT CHARACTER}[2J r\N{REPLACEMENT CHARACTER}eply @\u2060everyone"
