"""What becomes of an alert at a service, with real receivers on the loopback: taken, not taken, or perhaps taken."""

import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from email.utils import formatdate

import pytest

from automations.delivery import send as delivery
from automations.delivery import transport
from automations.delivery.models import Alert
from automations.delivery.send import Delivery, deliver
from tests.mail_server import MailServer
from tests.receiver import Receiver, receiving

# Apprise's mail plugin imports it, on the Pythons that have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

ALERT = Alert("Failed: pipeline", "Run: brave-otter")
KINDS = ("json", "xml", "form", "gotify", "ntfy", "mmost")


@pytest.fixture
def receiver() -> Generator[Receiver, None, None]:
    with receiving() as receiver:
        yield receiver


def url(kind: str, receiver: Receiver, more: str = "") -> str:
    """Return an Apprise URL of a service that anybody can run, at the receiver."""
    where = f"127.0.0.1:{receiver.port}"
    paths = {
        "gotify": "/token0123456789",
        "ntfy": "/alerts",
        "mmost": "/3ccdd113474722377935511fc85d3dd4",
    }
    return f"{kind}://{where}{paths.get(kind, '/alerts')}{'?' if more else ''}{more}"


def send(to: str) -> Delivery:
    [delivery] = deliver(ALERT, [to], "failure")
    return delivery


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_that_answers_with_success_has_the_alert(receiver: Receiver, kind: str) -> None:
    assert send(url(kind, receiver)).delivered
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303])
@pytest.mark.parametrize("kind", KINDS)
def test_a_redirect_that_would_lose_the_alert_is_a_failure_that_names_the_new_address(
    receiver: Receiver, kind: str, status: int
) -> None:
    receiver.status = status
    receiver.headers = {"Location": f"http://me:hunter22@127.0.0.1:{receiver.port}/moved/here?token=s3cr3t"}
    receiver.pages["/moved/here?token=s3cr3t"] = ("text/plain", b"")
    one = send(url(kind, receiver))
    assert not one.delivered
    assert not one.is_open
    assert f"redirects ({status}) to http://127.0.0.1:{receiver.port}/moved/here; mend the URL" in (one.failure or "")
    assert "hunter22" not in f"{one}"
    assert "s3cr3t" not in f"{one}"
    assert len(receiver.requests) == 1


def test_a_redirect_shows_no_part_of_the_channels_own_path(receiver: Receiver) -> None:
    receiver.status = 302
    receiver.headers = {"Location": f"/new/s3cr3tt0ken/{'x' * 40}"}
    failure = send(f"json://127.0.0.1:{receiver.port}/s3cr3tt0ken").failure or ""
    assert "/new/***/***" in failure
    assert "s3cr3tt0ken" not in failure


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("kind", KINDS)
def test_a_redirect_on_the_same_host_that_keeps_the_message_is_followed(
    receiver: Receiver, kind: str, status: int
) -> None:
    first = url(kind, receiver)
    receiver.status = status
    receiver.headers = {"Location": "/moved"}
    receiver.statuses["/moved"] = 200
    assert send(first).delivered
    before, after = receiver.requests
    assert (after.method, after.path, after.body) == (before.method, "/moved", before.body)


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_to_another_host_or_port_is_not_followed(receiver: Receiver, status: int) -> None:
    with receiving() as another:
        receiver.status = status
        for target in (another.page("/alerts"), f"http://localhost:{receiver.port}/alerts", "ftp://127.0.0.1/x"):
            receiver.headers = {"Location": target}
            assert not send(receiver.url()).delivered
        assert another.requests == []


@pytest.mark.parametrize(
    ("old", "new", "may"),
    [
        ("http://host/a", "http://host/b?c", True),
        ("http://host/a", "https://host/a", True),
        ("http://host:8080/a", "https://host:8443/a", True),
        ("https://host/a", "https://HOST:443/a", True),
        ("https://host/a", "http://host/a", False),
        ("https://host/a", "https://host:8443/a", False),
        ("https://host/a", "https://host.evil.example/a", False),
        ("https://host/a", "https://user@other/a", False),
        ("https://host/a", "https://host:x/a", False),
    ],
)
def test_a_redirect_may_lead_to_the_same_place_or_from_http_to_https(old: str, new: str, may: bool) -> None:
    assert transport.may_follow(old, new) is may


def test_redirects_without_end_are_a_failure(receiver: Receiver) -> None:
    receiver.status = 307
    receiver.headers = {"Location": "/alerts"}
    assert "redirects (307)" in (send(receiver.url()).failure or "")
    assert len(receiver.requests) <= 5


def test_no_address_can_ask_that_redirects_be_followed_blindly(receiver: Receiver) -> None:
    receiver.status = 301
    receiver.headers = {"Location": "/moved"}
    receiver.pages["/moved"] = ("text/plain", b"")
    assert not send(f"{receiver.url()}?redirect=yes").delivered


def test_a_redirect_without_an_address_is_a_failure(receiver: Receiver) -> None:
    receiver.status = 304
    assert not send(receiver.url()).delivered


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_the_method_changes_nothing_about_that(receiver: Receiver, method: str) -> None:
    receiver.status = 302
    receiver.headers = {"Location": "/moved"}
    receiver.pages["/moved"] = ("text/plain", b"")
    assert not send(f"{receiver.url()}?method={method}").delivered


def test_a_receiver_that_answers_after_six_seconds_has_the_alert(receiver: Receiver) -> None:
    receiver.pause_seconds = 6
    assert send(receiver.url()).delivered


def test_the_time_that_an_address_sets_itself_stays(receiver: Receiver) -> None:
    receiver.pause_seconds = 3
    started = time.monotonic()
    assert not send(f"{receiver.url()}?rto=0.3").delivered
    assert time.monotonic() - started < 2.5


@pytest.mark.parametrize("kind", KINDS)
def test_an_alert_that_was_sent_without_an_answer_is_perhaps_delivered(receiver: Receiver, kind: str) -> None:
    receiver.pause_seconds = 2
    one = send(url(kind, receiver, "rto=0.3"))
    assert not one.delivered
    assert one.is_open
    assert "no answer came" in (one.failure or "")


def test_a_receiver_that_resets_the_connection_after_the_alert_has_perhaps_taken_it(receiver: Receiver) -> None:
    receiver.resets = True
    one = send(receiver.url())
    assert one.is_open
    assert "connection was lost" in (one.failure or "")


def test_an_answer_of_which_only_the_beginning_comes_is_as_good_as_its_status(receiver: Receiver) -> None:
    receiver.drips = True
    [one] = deliver(ALERT, [receiver.url()], "failure", time_limit=1)
    assert one.is_open
    receiver.status = 500
    receiver.drips = False
    assert not send(receiver.url()).is_open


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["json", "jsons"])
def test_an_alert_to_a_port_at_which_no_one_listens_was_not_sent(scheme: str) -> None:
    one = send(f"{scheme}://127.0.0.1:{closed_port()}/alerts")
    assert not one.delivered
    assert not one.is_open


def test_an_alert_to_a_name_that_does_not_exist_was_not_sent() -> None:
    one = send("json://no-such-host.invalid/alerts")
    assert not one.delivered
    assert not one.is_open


def test_an_alert_to_a_server_that_speaks_no_tls_was_not_sent(receiver: Receiver) -> None:
    one = send(f"jsons://127.0.0.1:{receiver.port}/alerts?cto=2&rto=2")
    assert not one.delivered
    assert not one.is_open


@contextmanager
def full_backlog() -> Generator[int]:
    """Give a port that accepts no connection and rejects none."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for one in (first, second):
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(listener.getsockname())
        yield listener.getsockname()[1]


def test_an_alert_to_a_host_that_accepts_no_connection_was_not_sent() -> None:
    with full_backlog() as port:
        one = send(f"json://127.0.0.1:{port}/alerts?cto=0.5")
    assert not one.delivered
    assert not one.is_open


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 502])
def test_a_service_that_answers_with_an_error_has_not_taken_it(receiver: Receiver, status: int) -> None:
    receiver.status = status
    one = send(receiver.url())
    assert not one.delivered
    assert not one.is_open
    assert str(status) in (one.failure or "")


@pytest.mark.parametrize("status", [429, 503])
def test_a_service_that_is_busy_is_given_the_time_that_it_asks_for(receiver: Receiver, status: int) -> None:
    receiver.status = status
    receiver.headers = {"Retry-After": "77"}
    assert send(receiver.url()).retry_after == 77
    receiver.headers = {"Retry-After": formatdate(time.time() + 100, usegmt=True)}
    assert 90 < send(receiver.url()).retry_after <= 100
    receiver.headers = {"Retry-After": "999999999"}
    assert send(receiver.url()).retry_after == 3600
    for nonsense in ("soon", "-5", "1e9", ""):
        receiver.headers = {"Retry-After": nonsense}
        assert send(receiver.url()).retry_after == 0


PAGES = [
    b"<!DOCTYPE html><html><body>Log in to the hotel's network</body></html>",
    b"\xef\xbb\xbf\n <HTML lang=en><head>",
    b"<?xml version='1.0'?><!-- portal --><!doctype HTML PUBLIC>",
]


@pytest.mark.parametrize("page", PAGES)
def test_a_web_page_is_no_answer_that_says_it_took_the_message(receiver: Receiver, page: bytes) -> None:
    receiver.body = page
    one = send(receiver.url())
    assert not one.delivered
    assert one.is_open
    assert "web page" in (one.failure or "")


@pytest.mark.parametrize("answer", [b"", b"ok", b"OK <br>", b'{"html": "<html>"}', b"<response>done</response>"])
def test_any_other_answer_with_success_does(receiver: Receiver, answer: bytes) -> None:
    receiver.body = answer
    assert send(receiver.url()).delivered


def test_a_failure_is_none_the_less_one_if_the_address_calls_it_optional(receiver: Receiver) -> None:
    receiver.status = 500
    assert not send(f"{receiver.url()}?optional=yes").delivered


def test_an_alert_without_an_answer_is_not_sent_again_at_once_if_the_address_asks_for_it(receiver: Receiver) -> None:
    receiver.pause_seconds = 1
    send(f"{receiver.url()}?retry=3&rto=0.2")
    assert len(receiver.requests) == 1


def test_what_is_late_makes_no_further_request_behind_our_back(receiver: Receiver) -> None:
    receiver.pause_seconds = 0.6
    to = f"ntfy://127.0.0.1:{receiver.port}/one/two/three"
    [one] = deliver(ALERT, [to], "failure", time_limit=0.3)
    assert one.is_open
    time_is_up = time.monotonic() + 3
    while threading.active_count() > 3 and time.monotonic() < time_is_up:
        time.sleep(0.05)
    assert len(receiver.requests) == 1


def test_requests_of_others_in_the_process_are_made_as_ever(receiver: Receiver) -> None:
    import requests

    send(receiver.url())
    receiver.status = 302
    receiver.headers = {"Location": "/moved"}
    receiver.pages["/moved"] = ("text/plain", b"here")
    assert requests.post(receiver.page("/alerts"), timeout=5).text == "here"


def test_ours_are_distinguished_by_the_wall_clock_only_while_they_last() -> None:
    assert delivery.CONNECT_SECONDS + delivery.ANSWER_SECONDS < delivery.TIME_LIMIT_SECONDS


@pytest.fixture
def mail_server() -> Generator[MailServer, None, None]:
    server = MailServer()
    yield server
    server.close()


def test_a_mail_that_the_server_took_is_delivered(mail_server: MailServer) -> None:
    assert send(mail_server.url()).delivered
    assert b"Subject: Failed: pipeline" in mail_server.mails[0]


def test_a_mail_that_only_some_of_its_recipients_have_is_perhaps_delivered(mail_server: MailServer) -> None:
    mail_server.fails_at, mail_server.how, mail_server.takes = "rcpt", "550 not there", 1
    one = send(f"mailto://127.0.0.1:{mail_server.port}/?from=p@example.org&to=ops@example.org,gone@example.org")
    assert len(mail_server.mails) == 1
    assert one.is_open
    assert "some of its recipients" in (one.failure or "")


def test_a_mail_of_which_the_server_rejects_some_recipients_is_perhaps_delivered_with_the_reason(
    mail_server: MailServer,
) -> None:
    mail_server.rejected = "gone@example.org"
    one = send(mail_server.url("cc=gone@example.org,here@example.org"))
    assert len(mail_server.mails) == 1
    assert not one.delivered
    assert one.is_open
    assert "1 of 3 recipients were rejected: g*** (550)" in (one.failure or "")
    assert "gone@example.org" not in (one.failure or "")


@pytest.mark.parametrize(
    ("fails_at", "how", "is_open"),
    [
        ("mail", "550 not you", False),
        ("rcpt", "550 not there", False),
        ("rcpt", "hang", False),
        ("data", "452 disk full", False),
        ("text", "554 spam", False),
        ("text", "hang", True),
        ("text", "reset", True),
    ],
)
def test_a_mail_is_perhaps_delivered_only_after_its_text_was_sent(
    mail_server: MailServer, fails_at: str, how: str, is_open: bool
) -> None:
    mail_server.fails_at, mail_server.how = fails_at, how
    one = send(mail_server.url("cto=1"))
    assert not one.delivered
    assert one.is_open is is_open
