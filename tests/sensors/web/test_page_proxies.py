"""The drop page behind a real Caddy and a real nginx, which are told what docs/page.md says, under its public name."""

import socket
import ssl
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from sensors.ledger import Ledger
from sensors.web import live
from tests.deploy_files import program, said
from tests.dropped_arrivals import record_arrival
from tests.journeys.stack import wait_until
from tests.proxies import ADDRESS, NAME, Proxy, caddy, nginx
from tests.served_page import AUTH, TOKEN, ServedPage, page_settings, served_page

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
MEGABYTE = bytes(2**20)
MOST = 8 * 2**20


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Generator[ServedPage]:
    folder = tmp_path_factory.mktemp("page") / "data"
    with served_page(page_settings(folder, drop_page_url=ADDRESS, max_upload_bytes=MOST)) as page:
        yield page


@pytest.fixture(scope="module", params=[caddy, nginx], ids=["Caddy", "nginx"])
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, page: ServedPage):
    with request.param(tmp_path_factory.mktemp("proxy"), page.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy):
    with proxy.client() as client:
        yield client


@pytest.fixture(autouse=True)
def _empty_again(page: ServedPage) -> Iterator[None]:
    yield
    for path in page.inbox.iterdir():
        path.unlink()
    with Ledger(page.settings.ledger_path) as ledger, ledger.transaction():
        ledger.change("DELETE FROM files")
        ledger.change("DELETE FROM arrivals")


def test_the_overview_is_shown_to_who_has_the_credentials(proxy, client):
    with proxy.client(None) as stranger:
        asked = stranger.get("/")
    assert (asked.status_code, "Basic" in asked.headers["WWW-Authenticate"]) == (401, True)
    shown = client.get("/", headers={"Accept": "text/html"})
    assert (shown.status_code, 'id="inbox-metrics"' in shown.text) == (200, True)
    assert client.get("/static/page.js").is_success


def test_what_curl_uploads_over_http_2_is_in_the_inbox(proxy, page, tmp_path: Path):
    (tmp_path / "orders.csv").write_bytes(b"id\n" + MEGABYTE * 5)
    answered = said(
        *(program("curl", "curl"), "--silent", "--cacert", str(proxy.certificate), "-u", ":".join(AUTH)),
        *("--connect-to", f"{NAME}:443:127.0.0.1:{proxy.port}", "--write-out", "%{http_code} %{http_version}"),
        *("-T", str(tmp_path / "orders.csv"), "--output", str(tmp_path / "answer"), f"{ADDRESS}/inbox/metrics/"),
    )
    assert answered == "201 2"
    assert (page.inbox / "orders.csv").read_bytes() == b"id\n" + MEGABYTE * 5


def partial_bytes(page: ServedPage) -> int:
    """Return how much of an upload lies in the inbox under its hidden name."""
    with suppress(FileNotFoundError):
        return sum(path.stat().st_size for path in page.inbox.glob(".*.uploading"))
    return 0


@pytest.mark.parametrize("is_length_told", [True, False])
def test_an_upload_is_passed_on_while_it_comes(client, page, is_length_told):
    def body() -> Iterator[bytes]:
        yield MEGABYTE * 3
        wait_until(lambda: partial_bytes(page) >= 2**20, "the first part lies in the inbox", 10, pause=0.01)
        yield MEGABYTE

    headers = {"Content-Length": str(4 * 2**20)} if is_length_told else {}
    assert client.put("/inbox/metrics/a.csv", content=body(), headers=headers).status_code == 201
    assert (page.inbox / "a.csv").stat().st_size == 4 * 2**20


def test_a_change_is_reported_immediately(client, page):
    with client.stream("GET", "/stream") as stream:
        lines = stream.iter_lines()
        next(line for line in lines if line == "event: inbox")
        with Ledger(page.settings.ledger_path) as ledger:
            record_arrival(ledger, "m-1", NOW, {"a.csv": "loaded"})
        changed = time.monotonic()
        next(line for line in lines if line == "event: arrival")
        assert time.monotonic() - changed < 2


def first_event(client: httpx.Client) -> str:
    with client.stream("GET", "/stream") as stream:
        return next(line for line in stream.iter_lines() if line.startswith("event: "))


def test_the_stream_of_a_page_that_was_closed_ends_behind_the_proxy_too(client, monkeypatch):
    monkeypatch.setattr(live, "MOST_PAGES", 2)
    wait_until(lambda: first_event(client) == "event: inbox", "the streams of other tests have ended", 10)
    assert first_event(client) in {"event: inbox", "event: full"}
    wait_until(lambda: first_event(client) == "event: inbox", "there is room again", 10)


def test_a_person_may_try_again_and_a_page_of_another_origin_may_not(client, page):
    with Ledger(page.settings.ledger_path) as ledger:
        record_arrival(ledger, "m-1", NOW, {"a.csv": "failed"}, state="failed")
    own = {"Origin": ADDRESS, "Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
    foreign = [{"Origin": "https://evil.example"}, {"Origin": f"{ADDRESS}.evil.example"}, {"Origin": "null"}]
    assert [client.post("/arrivals/m-1/retry", headers=one).status_code for one in foreign] == [403] * 3
    tried = client.post("/arrivals/m-1/retry", headers=own)
    assert (tried.status_code, tried.headers["Location"]) == (303, "/arrivals/m-1")


def test_under_another_name_nothing_of_the_page_is_shown(proxy, client):
    answer = client.get("/", headers={"Host": "evil.example"})
    if proxy.kind == "nginx":  # its only server is asked under every name
        assert (answer.status_code, "set DROP_PAGE_URL" in answer.text) == (421, True)
    else:
        assert answer.content == b""


def test_a_file_that_is_too_large_is_refused_with_the_reason(client, page):
    for content in (MEGABYTE * 20, (MEGABYTE for _ in range(20))):
        answer = client.put("/inbox/metrics/a.csv", content=content)
        assert answer.status_code == 413
        assert answer.json()["detail"].startswith("a.csv")
    assert list(page.inbox.iterdir()) == []


@contextmanager
def upload_begun(proxy: Proxy, size: int) -> Generator[ssl.SSLSocket]:
    """Ask for an upload of so many bytes, and send none of them yet."""
    head = f"PUT /inbox/metrics/cut.csv HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Bearer {TOKEN}\r\n"
    trusting = ssl.create_default_context(cafile=proxy.certificate)
    with (
        socket.create_connection(("127.0.0.1", proxy.port), 5) as connected,
        trusting.wrap_socket(connected, server_hostname=NAME) as encrypted,
    ):
        encrypted.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
        yield encrypted


@pytest.mark.parametrize("proxy", [nginx], indirect=True, ids=["nginx"])
def test_what_the_proxy_itself_takes_for_too_large_is_refused_in_the_same_way(proxy):
    with upload_begun(proxy, 2 * 2**30 + 1) as asking:
        assert asking.recv(12) == b"HTTP/1.1 413"


def test_of_an_upload_that_is_cut_off_nothing_is_left(proxy, page):
    with upload_begun(proxy, 4 * 2**20) as sending:
        sending.sendall(MEGABYTE * 2)
        wait_until(lambda: partial_bytes(page), "it has begun", 10, pause=0.01)
    wait_until(lambda: not any(page.inbox.iterdir()), "nothing is left of it", 10, pause=0.01)


@pytest.mark.parametrize("name", ["bücher 2026.csv", "100%.csv", "a?b#c;d.csv", "a+b&c.csv"])
def test_a_name_comes_as_it_is(client, page, name):
    assert client.put(f"/inbox/metrics/{quote(name, safe='')}", content=b"1").status_code == 201
    assert [path.name for path in page.inbox.iterdir()] == [name]


@pytest.mark.parametrize("name", ["..%2f..%2fx.csv", "%2e%2e%2fx.csv", "%2fetc%2fx.csv"])
def test_no_name_leads_elsewhere(client, page, name):
    assert client.put(f"/inbox/metrics/{name}", content=b"1").status_code in {400, 404, 405}
    assert list(page.inbox.iterdir()) == []


@pytest.mark.parametrize("path", ["/arrivals/", "/day/", "/static"])
def test_no_answer_leads_away_from_the_encrypted_name(client, path):
    answer = client.get(path, headers={"Accept": "text/html"})
    assert not answer.headers.get("Location", "").startswith("http")
