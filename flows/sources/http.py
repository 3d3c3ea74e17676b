"""Download an `http(s)://` source to the spool, following the pages of a JSON API; no body is held in memory.

A JSON page is an array of records, or `{"data": [...], "next": url}`. The records of all pages go into one NDJSON file.
Credentials are sent to the source's own origin only, and are in no message.
"""

import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import ijson

from flows.errors import PermanentError, RejectionError, TemporaryError, one_line
from flows.readers.guard import HttpLimits
from flows.readers.json_text import JsonLayout, JsonOutline, as_lines, json_layout, records_of
from flows.source_file import Compression, FileFormat, SourceFile, format_of
from flows.sources.redact_url import redact_url, source_name

_ARRAY, _OBJECT = b"[", b"{"
_WHITESPACE = b" \t\r\n"


def append_records(page: Path, records: BinaryIO, address: str) -> int:
    """Append a page's records, with their values as written, to an NDJSON file and return how many there are.

    `address` is for messages. Raises PermanentError for anything but a page of records, so that `{"error": ...}` does
    not count as an empty page.
    """

    def check() -> None:
        """Check nothing: downloads have their own limits."""

    outline = JsonOutline()
    open_ = partial(page.open, "rb")
    try:
        layout, name = json_layout(open_, check)
        if layout is not JsonLayout.OBJECTS:
            records.writelines(as_lines(records_of(open_, layout, name, check), outline))
    except RejectionError as error:
        raise PermanentError(f"{address}: {error}") from None
    if layout is JsonLayout.OBJECTS:
        raise PermanentError(f'{address}: expected a JSON array or {{"data": [...], "next": url}}')
    return outline.records


def next_link(page: Path, address: str) -> str | None:
    """Return the link to the next page as the page has it; None on the last page. Raises PermanentError."""
    if _root(page) == _ARRAY:
        return None
    link = next(_items(page, "next", address), None)
    if link is not None and not isinstance(link, str):
        raise PermanentError(f'{address}: expected "next" to be a URL or null, got {one_line(repr(link))}')
    return link or None


def _root(page: Path) -> bytes:
    """Return the page's first byte that is not whitespace."""
    with page.open("rb") as body:
        while (character := body.read(1)) in _WHITESPACE and character:
            pass
    return character


def _items(page: Path, prefix: str, address: str) -> Generator[Any, None, None]:
    with _json_explained(address), page.open("rb") as body:
        yield from ijson.items(body, prefix)


@contextmanager
def _json_explained(address: str) -> Generator[None, None, None]:
    try:
        yield
    except (ijson.JSONError, UnicodeError) as error:
        raise PermanentError(f"{address}: malformed JSON: {one_line(str(error).split(chr(10))[0])}") from None


TIMEOUT = httpx.Timeout(30.0, connect=10.0)
"""In seconds; a read that receives no data for this long fails."""

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
_ENCODINGS = ("gzip", "deflate")
_GZIP = b"\x1f\x8b"

# httpx logs every request with its whole URL, and a query may hold credentials.
logging.getLogger("httpx").setLevel(logging.WARNING)


@dataclass(frozen=True)
class _Body:
    path: Path
    url: httpx.URL
    """The URL after redirects."""
    format: FileFormat


@dataclass
class _Client:
    """Downloads from one source; sends the credentials to the source's own origin and nowhere else."""

    http: httpx.Client
    source: httpx.URL
    auth: httpx.BasicAuth | None
    limits: HttpLimits
    deadline: float
    """Monotonic seconds."""
    bytes: int = 0
    """Bytes received so far, of all pages, after content decoding."""

    def save(self, url: httpx.URL, path: Path) -> _Body:
        """Download a body, following redirects. Raises TemporaryError or PermanentError."""
        for _ in range(self.limits.max_redirects + 1):
            found = self._saved(url, path)
            if isinstance(found, _Body):
                return found
            url = found
        raise _over(url, "redirects of one page", self.limits.max_redirects, "HTTP_MAX_REDIRECTS")

    def check_host(self, url: httpx.URL, at: httpx.URL) -> None:
        """Raise PermanentError if the source may not lead from the URL `at` to `url`."""
        if _origin(url) == _origin(self.source) or self._is_upgrade(url):
            return
        port = _origin(url)[2]
        if self.source.scheme == "https" and url.scheme != "https":
            problem = f"leads from https:// to {redact_url(str(url))}, where anyone can read along"
        elif {url.host, f"{url.host}:{port}"} & self.limits.allowed_hosts:
            return
        else:
            problem = (
                f"leads to another host, {url.host}:{port}; add {url.host} to HTTP_ALLOWED_HOSTS if the source may"
                " send us there"
            )
        raise PermanentError(f"GET {redact_url(str(at))}: {problem}")

    def _is_upgrade(self, url: httpx.URL) -> bool:
        """Return whether a URL is the source's own host with https instead of http, both on their default ports."""
        return _origin(self.source) == ("http", url.host, 80) and _origin(url) == ("https", url.host, 443)

    def _saved(self, url: httpx.URL, path: Path) -> _Body | httpx.URL:
        """Download a body, or return the URL that the response redirects to."""
        auth = self.auth if _origin(url) == _origin(self.source) or self._is_upgrade(url) else None
        with _explained(url), self.http.stream("GET", url, auth=auth) as response:
            if response.has_redirect_location:
                return self._redirected(url, response.headers["location"])
            _check_status(response, url)
            _check_encoding(response, url)
            with path.open("wb") as body:
                for chunk in response.iter_bytes():
                    self._count(len(chunk), url)
                    body.write(chunk)
            return _Body(path, url, _format(response, url))

    def _redirected(self, url: httpx.URL, location: str) -> httpx.URL:
        target = _joined(url, location, "a redirect to")
        self.check_host(target, url)
        return target

    def _count(self, size: int, url: httpx.URL) -> None:
        self.bytes += size
        if self.bytes > self.limits.max_bytes:
            raise _over(url, "bytes", self.limits.max_bytes, "HTTP_MAX_BYTES")
        if time.monotonic() > self.deadline:
            raise _over(url, "seconds", self.limits.max_seconds, "HTTP_MAX_SECONDS")


def download(source_url: str, folder: Path, limits: HttpLimits | None = None) -> SourceFile:
    """Download a source into a folder, with all its pages, and return the file that contains its rows.

    Raises TemporaryError for an error that may be over soon (no connection, timeout, 408, 425, 429, 5xx), else
    PermanentError.
    """
    limits = limits or HttpLimits()
    with _explained(source_url):
        given = httpx.URL(source_url)
        url = given.copy_with(userinfo=b"", fragment=None)
    auth = httpx.BasicAuth(given.username, given.password) if given.userinfo else None
    headers = {"Accept": _ACCEPT, "Accept-Encoding": ", ".join(_ENCODINGS)}
    with httpx.Client(timeout=TIMEOUT, follow_redirects=False, headers=headers) as http:
        client = _Client(http, url, auth, limits, time.monotonic() + limits.max_seconds)
        body = client.save(url, folder / "body")
        if body.format is FileFormat.JSON and not _is_gzipped(body.path):
            return _source_file(source_url, _all_pages(client, url, body), FileFormat.NDJSON)
        return _source_file(source_url, body.path, body.format)


def _all_pages(client: _Client, url: httpx.URL, page: _Body) -> Path:
    """Write the records of a page and of all following pages into one NDJSON file and return its path."""
    path = page.path.with_name("records.ndjson")
    seen = {url, page.url}
    pages = 1
    with path.open("wb") as records:
        append_records(page.path, records, redact_url(str(url)))
        while link := next_link(page.path, redact_url(str(url))):
            url = _joined(page.url, link, "the next page at")
            client.check_host(url, page.url)
            if url in seen:
                raise PermanentError(f"{redact_url(str(url))}: the page that comes next has been read before")
            pages += 1
            if pages > client.limits.max_pages:
                raise _over(url, "pages", client.limits.max_pages, "HTTP_MAX_PAGES")
            page = client.save(url, page.path)
            seen |= {url, page.url}
            append_records(page.path, records, redact_url(str(url)))
    return path


def _joined(base: httpx.URL, link: str, what: str) -> httpx.URL:
    """Return the absolute URL of a link, without credentials and fragment. Raises PermanentError."""
    with _explained(base):
        url = base.join(link)
        if url.scheme not in {"http", "https"} or not url.host:
            raise PermanentError(f"{redact_url(str(base))}: expected {what} http(s)://, got {url.scheme}")
        return url.copy_with(userinfo=b"", fragment=None)


def _over(url: httpx.URL, what: str, limit: float, setting: str) -> PermanentError:
    return PermanentError(
        f"GET {redact_url(str(url))}: the source sends more than {limit:,.10g} {what}; raise {setting} to load it"
    )


def _source_file(source_url: str, path: Path, file_format: FileFormat) -> SourceFile:
    compression = Compression.GZIP if _is_gzipped(path) else None
    return SourceFile(path, source_name(source_url), path.stat().st_size, file_format, compression)


def _is_gzipped(path: Path) -> bool:
    """Check the first bytes: neither name nor content type shows whether a server has already unpacked a `.csv.gz`."""
    with path.open("rb") as body:
        return body.read(len(_GZIP)) == _GZIP


def _format(response: httpx.Response, url: httpx.URL) -> FileFormat:
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type.endswith("+json"):
        return FileFormat.JSON
    # An HTML page is a login or an error, whatever the suffix of its URL.
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


def _check_encoding(response: httpx.Response, url: httpx.URL) -> None:
    """Raise PermanentError for an encoding that was not requested: it may decompress to any size in one chunk."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {*_ENCODINGS, "identity", ""}:
        raise PermanentError(
            f"GET {redact_url(str(url))}: expected the content-encoding {' or '.join(_ENCODINGS)}, got {encoding:.40}"
        )


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


@contextmanager
def _explained(url: httpx.URL | str) -> Generator[None, None, None]:
    """Raise httpx's errors as TemporaryError or PermanentError, without credentials in the message."""
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
