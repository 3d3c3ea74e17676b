"""What is said about a server that cannot be used."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    temporary_settings,
)

from automations.as_code.references import read_catalogue
from automations.as_code.server import connected
from automations.errors import ConfigurationError, Problem


@contextmanager
def answering(status: int, body: bytes) -> Generator[str, None, None]:
    """Run a server that gives one answer to everything, and give its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - the name is the base class's

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reported(url: str | None, credentials: str | None = None) -> str:
    settings = {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: credentials}
    with temporary_settings(settings), pytest.raises(ConfigurationError) as failure, connected() as client:
        read_catalogue(client)
    [problem] = failure.value.problems
    return str(problem)


def test_a_missing_server_is_reported_with_the_address_and_what_to_do() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        message = reported(f"http://127.0.0.1:{port}/api")
    assert message.startswith(f"http://127.0.0.1:{port}/api: no Prefect server answers")
    assert message.endswith("start it with `just up`, or set API_PORT")


def test_no_address_does_not_start_a_server_that_would_be_thrown_away() -> None:
    with temporary_settings({PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True}):
        assert reported(None).startswith("PREFECT_API_URL: expected the address of a Prefect API, got nothing")


@pytest.mark.parametrize(
    ("credentials", "expected"),
    [(None, "the server asks for credentials"), ("admin:hunter22", "the server refuses our credentials")],
)
def test_credentials_that_are_missing_or_wrong_are_distinguished_and_not_shown(
    credentials: str | None, expected: str
) -> None:
    with answering(401, b'{"exception_message": "Unauthorized"}') as url:
        message = reported(url, credentials)
    assert expected in message
    assert "hunter22" not in message


@pytest.mark.parametrize(("status", "body"), [(404, b"{}"), (200, b"<html>"), (200, b'{"not": "a list"}')])
def test_something_else_that_answers_is_reported(status: int, body: bytes) -> None:
    with answering(status, body) as url:
        assert "what answers is not" in reported(url)


def test_what_the_server_refuses_is_reported_with_its_reason() -> None:
    with answering(422, b'{"detail": "no such filter"}') as url:
        message = reported(url)
    assert "the server answered 422 to GET /api/" in message
    assert message.endswith(": no such filter")


def test_what_is_not_on_the_server_any_more_is_not_taken_for_another_server() -> None:
    with answering(404, b'{"exception_message": "The requested resource was not found"}') as url:
        message = reported(url)
    assert "the server answered 404 to " in message
    assert message.endswith(": The requested resource was not found")


def test_what_the_server_repeats_of_our_request_is_not_shown() -> None:
    body = b"""{"exception_message": "Invalid request received.", "request_body": {"urls": "json://me:hunter22@x"},
        "exception_detail": [{"loc": ["body", "urls"], "msg": "too long", "input": "json://me:hunter22@x"}]}"""
    with answering(422, body) as url:
        assert reported(url).endswith(": body.urls: too long")


def test_credentials_in_the_address_are_not_shown() -> None:
    assert "hunter22" not in reported("http://me:hunter22@127.0.0.1:1/api")


def test_problems_that_are_known_already_are_reported_together_with_it() -> None:
    known = [Problem("a.yaml", "wrong")]
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}),
        pytest.raises(ConfigurationError) as failure,
        connected(known) as client,
    ):
        read_catalogue(client)
    assert failure.value.problems[0] is known[0]
    assert len(failure.value.problems) == 2
