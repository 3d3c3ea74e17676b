"""An `http(s)://` source: downloaded to the spool as a stream, never a whole body in memory.

A page of JSON is an array of records, or `{"data": [...], "next": url}`.
"""

import json
import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import ijson

from flows.errors import PermanentError, TemporaryError, one_line
from flows.source_file import FileFormat, SourceFile, format_of
from flows.sources.redact_url import redact_url, source_name

_ARRAY, _OBJECT = b"[", b"{"
_WHITESPACE = b" \t\r\n"


def append_records(page: Path, records: BinaryIO, address: str) -> int:
    """Append a page's records to an NDJSON file and return how many they are; `address` is for messages.

    Raises PermanentError for anything but a page of objects, so that `{"error": ...}` is not taken for no data.
    """
    prefix = "item" if _root(page) == _ARRAY else "data.item"
    count = 0
    for record in _items(page, prefix, address):
        count += 1
        if not isinstance(record, dict):
            raise PermanentError(f"{address}: expected JSON objects, record {count} is {one_line(repr(record))}")
        # Numbers with a fraction come as Decimal, which JSON has no word for.
        records.write(json.dumps(record, default=float, separators=(",", ":")).encode() + b"\n")
    if not count and not _has_list(page, prefix.removesuffix(".item").removesuffix("item"), address):
        raise PermanentError(f'{address}: expected a JSON array or {{"data": [...], "next": url}}')
    return count


def next_link(page: Path, address: str) -> str | None:
    """Return what a page says is the next one, as it stands there; None on the last page. Raises PermanentError."""
    if _root(page) == _ARRAY:
        return None
    link = next(_items(page, "next", address), None)
    if link is not None and not isinstance(link, str):
        raise PermanentError(f'{address}: expected "next" to be a URL or null, got {one_line(repr(link))}')
    return link or None


def _root(page: Path) -> bytes:
    """Return the page's first character."""
    with page.open("rb") as body:
        while (character := body.read(1)) in _WHITESPACE and character:
            pass
    return character


def _items(page: Path, prefix: str, address: str) -> Generator[Any, None, None]:
    with _json_explained(address), page.open("rb") as body:
        yield from ijson.items(body, prefix)


def _has_list(page: Path, prefix: str, address: str) -> bool:
    """Tell whether a page, which has no records, has a list for them."""
    with _json_explained(address), page.open("rb") as body:
        return any(where == prefix and event == "start_array" for where, event, _ in ijson.parse(body))


@contextmanager
def _json_explained(address: str) -> Generator[None, None, None]:
    try:
        yield
    except (ijson.JSONError, UnicodeError) as error:
        raise PermanentError(f"{address}: malformed JSON: {one_line(str(error).split(chr(10))[0])}") from None


TIMEOUT = httpx.Timeout(30.0, connect=10.0)
"""In seconds; a read that brings nothing for that long fails."""

_ACCEPT = "application/json, application/x-ndjson, text/csv, */*;q=0.1"
_RETRIED = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_FORMATS = {
    "application/json": FileFormat.JSON,
    "text/csv": FileFormat.CSV,
    "application/csv": FileFormat.CSV,
    "text/tab-separated-values": FileFormat.TSV,
    "application/vnd.apache.parquet": FileFormat.PARQUET,
    **dict.fromkeys(
        [f"application/{name}" for name in ("ndjson", "x-ndjson", "jsonl", "x-jsonl", "jsonlines", "json-lines")],
        FileFormat.NDJSON,
    ),
}
_GZIP = b"\x1f\x8b"

# httpx logs every request with its whole URL, and a query may hold credentials.
logging.getLogger("httpx").setLevel(logging.WARNING)


@dataclass(frozen=True)
class _Body:
    """A downloaded body."""

    path: Path
    url: httpx.URL
    """Where it came from in the end, after redirects."""
    format: FileFormat


@dataclass(frozen=True)
class _Client:
    """Downloads from one source; its credentials go to the source's own origin and nowhere else."""

    http: httpx.Client
    origin: tuple[str, str, int | None]
    auth: httpx.BasicAuth | None

    def save(self, url: httpx.URL, path: Path) -> _Body:
        """Download a body; raises TemporaryError or PermanentError."""
        auth = self.auth if _origin(url) == self.origin else None
        with _explained(url), self.http.stream("GET", url, auth=auth) as response:
            _check_status(response, url)
            with path.open("wb") as body:
                for chunk in response.iter_bytes():
                    body.write(chunk)
            return _Body(path, response.url, _format(response, url))


def download(source_url: str, folder: Path) -> SourceFile:
    """Download a source into a folder, all its pages if it has several, and return the file that holds its rows.

    Raises TemporaryError for what may be over soon (no connection, time-out, 5xx, 429), else PermanentError.
    """
    with _explained(source_url):
        given = httpx.URL(source_url)
        url = given.copy_with(userinfo=b"", fragment=None)
    auth = httpx.BasicAuth(given.username, given.password) if given.userinfo else None
    with httpx.Client(timeout=TIMEOUT, follow_redirects=True, headers={"Accept": _ACCEPT}) as http:
        client = _Client(http, _origin(url), auth)
        body = client.save(url, folder / "body")
        if body.format is FileFormat.JSON and not _is_gzipped(body.path):
            return _source_file(source_url, _all_pages(client, url, body), FileFormat.NDJSON)
        return _source_file(source_url, body.path, body.format)


def _all_pages(client: _Client, url: httpx.URL, page: _Body) -> Path:
    """Write the records of a page and of all that follow it into one NDJSON file and return its path."""
    path = page.path.with_name("records.ndjson")
    seen = {url}
    with path.open("wb") as records:
        append_records(page.path, records, redact_url(str(url)))
        while link := next_link(page.path, redact_url(str(url))):
            url = _following(page.url, link)
            if url in seen:
                raise PermanentError(f"{redact_url(str(url))}: the page that comes next has been read before")
            seen.add(url)
            page = client.save(url, page.path)
            append_records(page.path, records, redact_url(str(url)))
    return path


def _following(base: httpx.URL, link: str) -> httpx.URL:
    with _explained(base):
        url = base.join(link)
        if url.scheme not in {"http", "https"} or not url.host:
            raise PermanentError(f"{redact_url(str(base))}: expected the next page at http(s)://, got {url.scheme}")
        return url.copy_with(userinfo=b"", fragment=None)


def _source_file(source_url: str, path: Path, file_format: FileFormat) -> SourceFile:
    return SourceFile(path, source_name(source_url), path.stat().st_size, file_format, _is_gzipped(path))


def _is_gzipped(path: Path) -> bool:
    """Ask the bytes: whether a server has already unpacked a `.csv.gz` shows neither in its name nor its type."""
    with path.open("rb") as body:
        return body.read(len(_GZIP)) == _GZIP


def _format(response: httpx.Response, url: httpx.URL) -> FileFormat:
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type.endswith("+json"):
        return FileFormat.JSON
    # A page in HTML is a login or an error, whatever its address ends in.
    by_suffix = None if media_type == "text/html" else format_of(url.path)
    found = _FORMATS.get(media_type) or (by_suffix and by_suffix[0])
    if found is None:
        raise PermanentError(
            f"{redact_url(str(url))}: expected one of {', '.join(_FORMATS)}, or a path with a known suffix;"
            f" got the content type {media_type or 'none'!r}"
        )
    return found


def _check_status(response: httpx.Response, url: httpx.URL) -> None:
    if response.is_success:
        return
    kind = TemporaryError if response.is_server_error or response.status_code in _RETRIED else PermanentError
    raise kind(f"GET {redact_url(str(url))}: {response.status_code} {response.reason_phrase}")


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


@contextmanager
def _explained(url: httpx.URL | str) -> Generator[None, None, None]:
    """Turn httpx's errors into ours, in words that hold no credentials."""
    address = redact_url(str(url))
    try:
        yield
    except httpx.TimeoutException:
        raise TemporaryError(f"GET {address}: no answer within {TIMEOUT.read:g} s") from None
    except (httpx.InvalidURL, ValueError):
        raise PermanentError(f"expected a URL, got one that cannot be read: {address}") from None
    except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.DecodingError) as error:
        raise PermanentError(f"GET {address}: {error}") from None
    except httpx.HTTPError as error:
        raise TemporaryError(f"GET {address}: {str(error) or type(error).__name__}") from None
