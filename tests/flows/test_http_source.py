"""An HTTP source is downloaded as a stream, with its pages, and without telling anybody its credentials."""

import base64
import gzip
import json
import logging
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flows.errors import PermanentError, TemporaryError
from flows.readers.guard import HttpLimits
from flows.source_file import FileFormat, SourceFile
from flows.sources import http
from flows.sources.http import download
from tests.web import Answer, Web, serving

JSON = "application/json"
BASIC = "Basic " + base64.b64encode(b"me:s3cret").decode()


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as running:
        yield running


def page(data: Any, following: object = None) -> Answer:
    return Answer(json.dumps({"data": data, "next": following}).encode())


def records(file: SourceFile) -> list[Any]:
    assert file.format is FileFormat.NDJSON
    return [json.loads(line) for line in file.path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'[{"a": 1}, {"a": 2.5}]', [{"a": 1}, {"a": 2.5}]),
        (b' \n[{"a": "\\u00fc", "b": {"c": [1, null]}}]', [{"a": "ü", "b": {"c": [1, None]}}]),
        (b'{"data": [{"a": 1}], "next": null}', [{"a": 1}]),
        (b'{"next": "", "data": [{"a": 1}]}', [{"a": 1}]),
        (b'{"meta": {"next": 5}, "data": [{"a": 1}]}', [{"a": 1}]),
        (b'[{"a": 123456789012345678901234567890}]', [{"a": 123456789012345678901234567890}]),
        (b"[]", []),
        (b'{"data": []}', []),
    ],
)
def test_an_array_and_a_page_give_their_records(web: Web, tmp_path: Path, body: bytes, expected: list[Any]):
    web.answers["/v1"] = Answer(body)
    file = download(web.url("/v1"), tmp_path)
    assert records(file) == expected
    assert (file.name, file.size) == ("127.0.0.1/v1", file.path.stat().st_size)


def test_pages_are_followed_by_relative_and_absolute_links(web: Web, tmp_path: Path):
    web.answers = {
        "/v1/metrics?page=1": page([{"n": 1}], "metrics?page=2"),
        "/v1/metrics?page=2": page([{"n": 2}], "/v1/metrics?page=3"),
        "/v1/metrics?page=3": page([], web.url("/v2/last")),
        "/v2/last": Answer(b'[{"n": 4}]'),
    }
    assert records(download(web.url("/v1/metrics?page=1"), tmp_path)) == [{"n": 1}, {"n": 2}, {"n": 4}]


@pytest.mark.parametrize(
    ("following", "said"),
    [
        ("/v1", "has been read before"),
        ("?", "has been read before"),
        ("/v1#fragment", "has been read before"),
        ("file:///etc/passwd", r"expected the next page at http\(s\)://, got file"),
        ("ftp://host/x", "got ftp"),
        (5, 'expected "next" to be a URL or null, got 5'),
        (["x"], 'expected "next" to be a URL or null'),
        ("http://host:x/", "cannot be read"),
    ],
)
def test_a_next_page_that_leads_nowhere_good_is_an_error(web: Web, tmp_path: Path, following: object, said: str):
    web.answers["/v1"] = page([{"n": 1}], following)
    with pytest.raises(PermanentError, match=said):
        download(web.url("/v1"), tmp_path)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": "down for maintenance"}', 'expected a JSON array or {"data": [...], "next": url}'),
        (b'{"data": {"a": 1}}', "expected a JSON array or"),
        (b"5", "expected a JSON array or"),
        (b"[1, 2]", "line 1, column 2: expected an object, one for each row, got a number"),
        (b'[{"a": 1}', 'line 1, column 10: expected "," or "]", and the file ends; it was cut short'),
        (b'[{"a": 1}] x', "line 1, column 12: expected the end of the file, got 'x'"),
        (b"", "expected a JSON array or"),
        (b"<html>", "expected a JSON array or"),
    ],
)
def test_json_that_is_no_page_is_never_taken_for_no_data(web: Web, tmp_path: Path, body: bytes, said: str):
    web.answers["/v1"] = Answer(body)
    with pytest.raises(PermanentError) as caught:
        download(web.url("/v1?key=s3cret"), tmp_path)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "content_type", "expected"),
    [
        ("/x", "text/csv; charset=utf-8", FileFormat.CSV),
        ("/x.json", "Text/CSV", FileFormat.CSV),
        ("/x", "application/x-ndjson", FileFormat.NDJSON),
        ("/x", "application/jsonl", FileFormat.NDJSON),
        ("/x", "application/vnd.apache.parquet", FileFormat.PARQUET),
        ("/x.csv", "application/octet-stream", FileFormat.CSV),
        ("/x.ndjson?v=1", "text/plain", FileFormat.NDJSON),
        ("/x.tsv", None, FileFormat.TSV),
    ],
)
def test_the_content_type_shows_the_format_and_else_the_suffix(
    web: Web, tmp_path: Path, path: str, content_type: str | None, expected: FileFormat
):
    web.answers[path] = Answer(b"a,b\n1,2\n", content_type)
    file = download(web.url(path), tmp_path)
    assert (file.format, file.compression, file.path.read_bytes()) == (expected, None, b"a,b\n1,2\n")


@pytest.mark.parametrize(("path", "content_type"), [("/x", "application/octet-stream"), ("/x.csv", "text/html")])
def test_an_unknown_content_type_is_an_error_that_says_what_was_expected(
    web: Web, tmp_path: Path, path: str, content_type: str
):
    web.answers[path] = Answer(b"x", content_type)
    with pytest.raises(
        PermanentError, match=rf"expected one of application/json.*got the content type '{content_type}'"
    ):
        download(web.url(path), tmp_path)


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}])
def test_gzip_is_known_by_its_bytes_whether_the_transfer_unpacked_it_or_not(
    web: Web, tmp_path: Path, headers: dict[str, str]
):
    web.answers["/x.csv.gz"] = Answer(gzip.compress(b"a\n1\n"), "application/gzip", headers=headers)
    file = download(web.url("/x.csv.gz"), tmp_path)
    assert file.format is FileFormat.CSV
    assert (file.compression is None) is bool(headers)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_worth_trying_again(web: Web, tmp_path: Path, status: int):
    web.answers["/v1"] = Answer(status=status)
    with pytest.raises(TemporaryError, match=rf"GET http://127.0.0.1:{web.port}/v1: {status} "):
        download(web.url("/v1?key=s3cret", "me:s3cret@"), tmp_path)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_any_other_refusal_is_permanent(web: Web, tmp_path: Path, status: int):
    web.answers["/v1"] = Answer(status=status)
    with pytest.raises(PermanentError, match=f"/v1: {status} ") as caught:
        download(web.url("/v1?key=s3cret", "me:s3cret@"), tmp_path)
    assert "s3cret" not in str(caught.value)


def test_a_body_that_breaks_off_is_worth_trying_again(web: Web, tmp_path: Path):
    web.answers["/v1"] = Answer(b"a\n1\n", "text/csv", cut=True)
    with pytest.raises(TemporaryError):
        download(web.url("/v1"), tmp_path)


def test_a_server_that_is_not_there_is_worth_trying_again(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(TemporaryError, match="refused"):
        download(f"http://me:s3cret@127.0.0.1:{port}/x", tmp_path)


def test_a_server_that_says_nothing_is_given_up_after_the_time_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http, "TIMEOUT", http.httpx.Timeout(0.2))
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(TemporaryError, match=r"no answer within 0\.2 s"),
    ):
        download(f"http://127.0.0.1:{silent.getsockname()[1]}/x", tmp_path)


def test_credentials_go_with_every_page_of_the_source_and_to_no_other_host(web: Web, tmp_path: Path):
    with serving() as other:
        web.answers["/v1"] = page([{"n": 1}], "/v2")
        web.answers["/v2"] = page([{"n": 2}], other.url("/v3", "you:theirs@"))
        other.answers["/v3"] = page([{"n": 3}], web.url("/v4"))
        web.answers["/v4"] = page([{"n": 4}])
        allowed = HttpLimits(frozenset({f"127.0.0.1:{other.port}"}))
        assert len(records(download(web.url("/v1", "me:s3cret@"), tmp_path, allowed))) == 4
    assert web.requests == [("/v1", BASIC), ("/v2", BASIC), ("/v4", BASIC)]
    assert other.requests == [("/v3", None)]


def test_credentials_do_not_follow_a_redirect_to_another_host(web: Web, tmp_path: Path):
    with serving() as other:
        other.answers["/x"] = Answer(b'[{"n": 1}]')
        web.answers["/v1"] = Answer(status=302, headers={"Location": other.url("/x")})
        download(web.url("/v1", "me:s3cret@"), tmp_path, HttpLimits(frozenset({"127.0.0.1"})))
    assert other.requests == [("/x", None)]


def test_a_redirect_to_something_else_than_http_is_an_error(web: Web, tmp_path: Path):
    web.answers["/v1"] = Answer(status=302, headers={"Location": "file:///etc/passwd"})
    with pytest.raises(PermanentError):
        download(web.url("/v1"), tmp_path)


def test_no_log_and_no_name_holds_credentials(web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    web.answers["/v1?key=s3cret"] = page([{"n": 1}])
    file = download(web.url("/v1?key=s3cret", "me:s3cret@"), tmp_path)
    assert "s3cret" not in caplog.text
    assert "s3cret" not in repr(file)


@pytest.mark.parametrize("content_type", ["application/json", "text/csv"])
def test_a_body_is_never_held_in_memory_as_a_whole(web: Web, tmp_path: Path, content_type: str):
    row = b'{"a": "%s"}' % (b"x" * 1000)
    web.answers["/v1"] = Answer(b"[" + b",".join([row] * 20_000) + b"]", content_type)
    tracemalloc.start()
    try:
        file = download(web.url("/v1"), tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert file.size > 20_000_000
    assert peak < 5_000_000


LEADS = pytest.mark.parametrize("lead", ["redirect", "next"])


def lead_to(web: Web, lead: str, url: str) -> None:
    web.answers["/v1"] = page([{"n": 1}], url) if lead == "next" else Answer(status=302, headers={"Location": url})


@LEADS
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "[::ffff:127.0.0.1]"])
def test_no_link_and_no_redirect_leads_to_another_host_or_port(web: Web, tmp_path: Path, lead: str, host: str):
    with serving() as inside:
        inside.answers["/secret"] = page([{"n": 2}])
        lead_to(web, lead, inside.url("/secret", host=host))
        with pytest.raises(PermanentError, match=r"leads to another host.*HTTP_ALLOWED_HOSTS"):
            download(web.url("/v1", "me:s3cret@"), tmp_path)
    assert inside.requests == []


@LEADS
def test_the_same_port_of_another_name_is_another_host(web: Web, tmp_path: Path, lead: str):
    lead_to(web, lead, web.url("/secret", host="localhost"))
    with pytest.raises(PermanentError, match="leads to another host, localhost"):
        download(web.url("/v1"), tmp_path)
    assert [path for path, _ in web.requests] == ["/v1"]


@LEADS
def test_a_host_that_is_allowed_is_reached_without_credentials_and_may_lead_no_further(
    web: Web, tmp_path: Path, lead: str
):
    with serving() as other, serving() as third:
        third.answers["/z"] = page([{"n": 3}])
        other.answers["/y"] = Answer(status=307, headers={"Location": third.url("/z")})
        lead_to(web, lead, other.url("/y", "you:theirs@"))
        with pytest.raises(PermanentError, match=f"another host, 127.0.0.1:{third.port}"):
            download(web.url("/v1", "me:s3cret@"), tmp_path, HttpLimits(frozenset({f"127.0.0.1:{other.port}"})))
    assert other.requests == [("/y", None)]
    assert third.requests == []


def test_a_source_that_is_encrypted_leads_to_nothing_that_is_not():
    limits = HttpLimits(frozenset({"example.com", "other.com"}))
    client = http._Client(http.httpx.Client(), http.httpx.URL("https://example.com/a"), None, limits, 0)
    for url in ("http://example.com/b", "http://other.com/b"):
        with pytest.raises(PermanentError, match="where anyone can read along"):
            client.check_host(http.httpx.URL(url), client.source)
    client.check_host(http.httpx.URL("https://other.com/b"), client.source)


def test_a_source_may_lead_to_its_own_host_by_https():
    client = http._Client(http.httpx.Client(), http.httpx.URL("http://example.com/a"), None, HttpLimits(), 0)
    client.check_host(http.httpx.URL("https://example.com/b"), client.source)
    with pytest.raises(PermanentError):
        client.check_host(http.httpx.URL("https://example.com:8443/b"), client.source)


def test_redirects_within_the_source_are_followed_up_to_the_limit(web: Web, tmp_path: Path):
    web.answers["/v1"] = Answer(status=302, headers={"Location": "/v2"})
    web.answers["/v2"] = Answer(status=307, headers={"Location": web.url("/v3")})
    web.answers["/v3"] = page([{"n": 1}])
    assert records(download(web.url("/v1", "me:s3cret@"), tmp_path, HttpLimits(max_redirects=2))) == [{"n": 1}]
    assert web.requests == [("/v1", BASIC), ("/v2", BASIC), ("/v3", BASIC)]
    with pytest.raises(PermanentError, match="more than 1 redirects of one page; raise HTTP_MAX_REDIRECTS"):
        download(web.url("/v1"), tmp_path, HttpLimits(max_redirects=1))


def test_a_redirect_in_a_circle_ends(web: Web, tmp_path: Path):
    web.answers["/v1"] = Answer(status=302, headers={"Location": "/v1"})
    with pytest.raises(PermanentError, match="HTTP_MAX_REDIRECTS"):
        download(web.url("/v1"), tmp_path)


def test_a_next_page_that_redirects_to_one_read_before_is_a_circle(web: Web, tmp_path: Path):
    web.answers["/v1"] = page([{"n": 1}], "/v2")
    web.answers["/v2"] = Answer(status=302, headers={"Location": "/v3"})
    web.answers["/v3"] = page([{"n": 2}], "/v3")
    with pytest.raises(PermanentError, match="has been read before"):
        download(web.url("/v1"), tmp_path)


def test_pages_without_an_end_are_too_many(web: Web, tmp_path: Path):
    for number in range(1, 9):
        web.answers[f"/v{number}"] = page([{"n": number}], f"/v{number + 1}")
    with pytest.raises(PermanentError, match="more than 5 pages; raise HTTP_MAX_PAGES"):
        download(web.url("/v1"), tmp_path, HttpLimits(max_pages=5))
    assert len(web.requests) == 5


@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_bytes_count_after_decompression_and_over_all_pages(web: Web, tmp_path: Path, encoding: str | None):
    def packed(body: bytes) -> Answer:
        if encoding is None:
            return Answer(body)
        return Answer(gzip.compress(body), headers={"Content-Encoding": encoding})

    for number in (1, 2):
        following = json.dumps({"data": [{"n": "x" * 60_000}], "next": f"/v{number + 1}" if number == 1 else None})
        web.answers[f"/v{number}"] = packed(following.encode())
    assert len(records(download(web.url("/v1"), tmp_path, HttpLimits(max_bytes=200_000)))) == 2
    with pytest.raises(PermanentError, match="more than 100,000 bytes; raise HTTP_MAX_BYTES"):
        download(web.url("/v1"), tmp_path, HttpLimits(max_bytes=100_000))


def test_an_encoding_that_was_not_asked_for_is_an_error(web: Web, tmp_path: Path):
    web.answers["/v1"] = Answer(b"x", headers={"Content-Encoding": "br"})
    with pytest.raises(PermanentError, match="expected the content-encoding gzip or deflate, got br"):
        download(web.url("/v1"), tmp_path)


def test_a_download_that_drips_ends_with_its_time(tmp_path: Path):
    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(10_000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: 100000\r\n\r\n")
            while True:
                connection.sendall(b"x")
                time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        with pytest.raises(PermanentError, match=r"more than 0\.3 seconds; raise HTTP_MAX_SECONDS"):
            download(f"http://127.0.0.1:{listener.getsockname()[1]}/x", tmp_path, HttpLimits(max_seconds=0.3))
        thread.join()
