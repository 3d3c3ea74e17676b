"""The page under attack: over real sockets, by whoever reaches the loopback."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from sensors.web import app as connection
from sensors.web import app as lingering
from tests.served_page import AUTH, TOKEN, ServedPage, page_settings, served_page

IDLE = 0.5


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "IDLE_SECONDS", IDLE)
        with served_page(page_settings(tmp_path_factory.mktemp("page"), max_upload_bytes=64 * 2**20)) as page:
            yield page


@pytest.fixture(scope="module")
def operations(page: ServedPage) -> list[Any]:
    """Give all that the page's OpenAPI has, the stream left out, which does not end."""
    schema = schemathesis.openapi.from_dict(page.app.openapi()).exclude(path="/stream")
    return [found.ok() for found in schema.get_all_operations()]


def attack(operation: Any, examples: int, ask: Callable[[Any], object]) -> None:
    """Ask for an operation in many ways, half of which its schema forbids."""
    ways = operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    lenient = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))

    @lenient
    @given(case=ways)
    def attack_once(case: Any) -> None:
        ask(case)

    attack_once()


def test_whatever_is_asked_of_it_the_server_makes_no_error_of_its_own(operations, page):
    for operation in operations:
        attack(
            operation,
            60,
            lambda case: case.call_and_validate(base_url=page.url, auth=AUTH, checks=[not_a_server_error]),
        )


def test_whatever_is_asked_without_credentials_nothing_but_401_is_answered(operations, page):
    answers: set[int] = set()
    for operation in operations:
        attack(operation, 10, lambda case: answers.add(case.call(base_url=page.url, auth=None).status_code))
    assert answers <= {401, 400, 421, 405}


@pytest.mark.parametrize(
    "path", ["/api/day?day=9999-12-31", "/day?day=0001-01-01", "/api/arrivals?before=0001-01-01T00:00Z"]
)
def test_a_time_that_no_calendar_has_is_refused(page, path):
    with page.client() as client:
        assert client.get(path).status_code == 422


@pytest.fixture
def client(page: ServedPage):
    with page.client() as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/day", "/failed", "/arrivals/x", "/static/page.js", "/openapi.json", "/stream"])
def test_no_page_is_shown_without_credentials(page, path):
    with page.client(auth=None) as client:
        answer = client.get(path)
    assert (answer.status_code, answer.headers["WWW-Authenticate"][:5]) == (401, "Basic")
    with page.client(auth=("admin", "wrong")) as client:
        assert client.get(path).status_code == 401


def test_the_token_for_uploads_shows_nothing(page):
    with page.client(auth=None) as client:
        assert client.get("/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 401


@pytest.mark.parametrize("path", ["/", "/failed", "/static/page.js", "/nowhere", "/api/inboxes"])
def test_every_answer_forbids_the_browser_to_run_or_show_anything_of_elsewhere(client, path):
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


def test_a_form_on_another_page_changes_nothing(client):
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        for path in ("/arrivals/x/retry", "/files/1/dismiss", "/files/dismiss?until=2026-11-24T09:00:00Z"):
            assert client.post(path, headers=headers).status_code == 403
        assert client.put("/inbox/metrics/a.csv", content=b"x", headers=headers).status_code == 403


def test_no_other_origin_is_allowed_to_ask_by_script(client):
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
    answer = client.options("/inbox/metrics/a.csv", headers=asked)
    assert "access-control-allow-origin" not in answer.headers
    assert not answer.is_success


def test_a_name_that_was_pointed_at_the_loopback_gets_nothing(client):
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421


def raw(page: ServedPage, sent: bytes) -> bytes:
    """Send bytes as they are, and return what comes until the server hangs up or 5 s have passed."""
    with socket.create_connection(("127.0.0.1", page.port), 5) as connected:
        connected.sendall(sent)
        answer = b""
        while part := connected.recv(65536):
            answer += part
        return answer


@pytest.mark.parametrize(
    "path",
    [b"/static/../page.py", b"/static/%2e%2e/page.py", b"/static/..%2f..%2fsettings.py", b"/static//etc/passwd"],
)
def test_nothing_but_the_pages_own_files_is_read_off_the_disk(page, path):
    credentials = httpx.BasicAuth(*AUTH)._auth_header.encode()
    request = b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + credentials
    answer = raw(page, request + b"\r\nConnection: close\r\n\r\n")
    assert answer.split()[1] in {b"404", b"400"}


@settings(max_examples=50, deadline=None)
@given(rubbish=st.binary(min_size=1, max_size=200))
def test_what_is_no_http_ends_its_own_connection_and_nothing_else(page_url, rubbish):
    host, port = page_url
    with socket.create_connection((host, port), 5) as connected:
        connected.sendall(rubbish + b"\r\n\r\n")
        connected.shutdown(socket.SHUT_WR)
        while connected.recv(65536):
            pass
    assert httpx.get(f"http://{host}:{port}/", auth=AUTH, trust_env=False).is_success


@pytest.fixture(scope="module")
def page_url(page: ServedPage) -> tuple[str, int]:
    return "127.0.0.1", page.port


def test_headers_that_never_end_are_not_waited_for(page):
    with socket.create_connection(("127.0.0.1", page.port), 20) as connected:
        connected.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        begun = time.monotonic()
        while not hung_up(connected):
            assert time.monotonic() - begun < 10
            try:
                connected.sendall(b"x")
            except OSError:
                return


def hung_up(connected: socket.socket) -> bool:
    connected.settimeout(0.05)
    try:
        return connected.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_of_an_upload_that_is_cut_off_nothing_is_left(page):
    head = f"PUT /inbox/metrics/cut.csv HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    with socket.create_connection(("127.0.0.1", page.port), 5) as connected:
        connected.sendall(head.encode() + b"Content-Length: 1000\r\n\r\n" + b"x" * 100)
        until(lambda: any(page.inbox.iterdir()))
    until(lambda: not any(page.inbox.iterdir()))


@pytest.mark.parametrize(("authorization", "status"), [("Bearer wrong", 401), (f"Bearer {TOKEN}", 413)])
def test_a_client_that_sends_all_of_it_before_it_reads_learns_why_it_is_refused(page, authorization, status):
    head = f"PUT /inbox/metrics/a.csv HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n"
    size = 65 * 2**20
    answer = raw(page, head.encode() + f"Connection: close\r\nContent-Length: {size}\r\n\r\n".encode() + bytes(size))
    assert int(answer.split()[1]) == status


def test_who_does_not_stop_sending_is_cut_off(page, monkeypatch):
    monkeypatch.setattr(lingering, "LINGER_SECONDS", 0.2)
    head = b"PUT /inbox/metrics/a.csv HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", page.port), 5) as connected:
        connected.sendall(head)
        assert connected.recv(12) == b"HTTP/1.1 401"
        with pytest.raises(OSError):  # noqa: PT011 - a reset or a broken pipe
            until(lambda: connected.sendall(b"x"))


def until(holds, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_with_500_connections_that_ask_for_nothing_others_are_served_and_those_are_closed(page):
    with ExitStack() as all_of_them:
        idle = [all_of_them.enter_context(socket.create_connection(("127.0.0.1", page.port), 5)) for _ in range(500)]
        with page.client() as client:
            assert client.get("/").is_success
        until(lambda: all(map(hung_up, idle[:20])), 20)


def test_500_that_ask_at_once_are_all_answered(page):
    answers: list[int] = []

    def ask() -> None:
        answers.append(httpx.get(f"{page.url}/static/page.css", auth=AUTH, trust_env=False, timeout=60).status_code)

    threads = [threading.Thread(target=ask) for _ in range(500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == {200}
    assert len(answers) == 500


def test_a_large_upload_takes_no_memory_of_its_size(page, tmp_path: Path):
    part = bytes(2**20)
    before = psutil.Process().memory_info().rss
    with page.client() as client:
        answer = client.put("/inbox/metrics/large.csv", content=(part for _ in range(60)))
    assert answer.status_code == 201
    assert psutil.Process().memory_info().rss - before < 30 * 2**20
    (page.inbox / "large.csv").unlink()


def test_a_file_is_downloaded_and_never_shown_or_run(page, client, tmp_path: Path):
    from datetime import UTC, datetime

    from sensors.ledger import Ledger
    from tests.dropped_arrivals import record_arrival

    with Ledger(page.settings.ledger_path) as ledger:
        record_arrival(ledger, "m-1", datetime(2026, 11, 24, tzinfo=UTC), {"<b>ä.html": "rejected"}, state="failed")
        ledger.change("UPDATE arrivals SET folder = ? WHERE id = 'm-1'", (str(tmp_path),))
        (file_id,) = (row["id"] for row in ledger.rows("SELECT id FROM files"))
    assert client.get(f"/files/{file_id}").status_code == 404
    (tmp_path / "<b>ä.html").write_text("<script>alert(1)</script>")
    answer = client.get(f"/files/{file_id}")
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''%3Cb%3E%C3%A4.html"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.text == "<script>alert(1)</script>"
    (tmp_path / "<b>ä.html").unlink()
    (tmp_path / "<b>ä.html").symlink_to("/etc/passwd")
    assert client.get(f"/files/{file_id}").status_code == 404
