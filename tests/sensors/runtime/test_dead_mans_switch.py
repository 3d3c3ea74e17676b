"""The address outside this machine that is called while everything is well."""

import http.server
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sensors.config.settings import Settings
from sensors.runtime.dead_mans_switch import EVERY_SECONDS, FAILING_SECONDS, DeadMansSwitch, call, masked_address
from tests.hand_clock import HandClock

SECRET = "0b7f9a1e-secret"


class Service:
    """A real HTTP server as healthchecks.io and others are."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.status = 200
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.called.append(self.path)
                self.send_response(service.status)
                self.send_header("Location", f"/elsewhere/{SECRET}")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"OK")

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/{SECRET}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


class Wrong:
    """What is wrong, as a test says."""

    now = ""


@pytest.fixture
def switch(service: Service, hand_clock: HandClock) -> DeadMansSwitch:
    Wrong.now = ""
    return DeadMansSwitch(service.url, f"{service.url}/fail", lambda: Wrong.now, hand_clock.clock.monotonic)


def walk(switch: DeadMansSwitch, hand_clock: HandClock, seconds: int) -> None:
    for _ in range(seconds // 10):
        switch.step()
        hand_clock.turn(10)


def test_it_is_called_each_minute_while_all_is_well(
    switch: DeadMansSwitch, service: Service, hand_clock: HandClock
) -> None:
    walk(switch, hand_clock, 300)
    assert service.called == [f"/{SECRET}"] * 5


def test_while_something_is_wrong_it_is_not_called_and_the_address_for_that_is_after_a_minute(
    switch: DeadMansSwitch, service: Service, hand_clock: HandClock
) -> None:
    Wrong.now = "worker: not running"
    walk(switch, hand_clock, round(FAILING_SECONDS))
    assert service.called == []
    walk(switch, hand_clock, 2 * round(EVERY_SECONDS))
    assert service.called == [f"/{SECRET}/fail"] * 2
    Wrong.now = ""
    walk(switch, hand_clock, 10)
    assert service.called[2:] == [f"/{SECRET}"]


def test_without_an_address_for_failures_it_is_just_not_called(service: Service, hand_clock: HandClock) -> None:
    switch = DeadMansSwitch(service.url, "", lambda: "wrong", hand_clock.clock.monotonic)
    walk(switch, hand_clock, 600)
    assert service.called == []


@pytest.mark.parametrize("status", [301, 404, 500])
def test_an_answer_that_did_not_take_the_call_is_logged_once_without_the_address_and_it_is_tried_again(
    switch: DeadMansSwitch, service: Service, hand_clock: HandClock, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    service.status = status
    walk(switch, hand_clock, 60)
    assert len(service.called) == 6
    service.status = 200
    walk(switch, hand_clock, 10)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert [f"it answered {status}" in one for one in said] == [True, False]
    assert "is called again" in said[1]
    assert SECRET not in "".join(said)


def test_one_that_cannot_be_reached_is_no_error_and_shows_no_address(hand_clock: HandClock) -> None:
    assert call(f"http://127.0.0.1:9/{SECRET}") == "ConnectError"
    assert SECRET not in call(f"http://no-such-host.invalid/{SECRET}")


@pytest.mark.parametrize(
    "url", ["hc-ping.com/x", "ftp://hc-ping.com/x", "https://", f"https://a b/{SECRET}", f"http://h:99999/{SECRET}"]
)
def test_what_cannot_be_called_is_a_mistake_that_does_not_show_it(url: str) -> None:
    with pytest.raises(ValidationError) as mistake:
        Settings(_env_file=None, heartbeat_url=url)  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert "expected an address such as https://hc-ping.com/your-uuid" in str(mistake.value)
    assert SECRET not in str(mistake.value)


def test_the_profile_shows_only_where_it_is(tmp_path: Path) -> None:
    url = f"https://user:{SECRET}@hc-ping.com:8443/{SECRET}?{SECRET}"
    settings = Settings(_env_file=None, state_dir=tmp_path, heartbeat_url=url)  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert settings.heartbeat_urls == {"HEARTBEAT_URL": "https://hc-ping.com:8443/***"}
    assert masked_address(url) == "https://hc-ping.com:8443/***"
    assert SECRET not in repr(settings)
