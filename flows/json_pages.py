"""Pages of JSON: an array of records, or `{"data": [...], "next": url}`; read as a stream."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import ijson

from flows.failures import PermanentError
from flows.rejection_reason import one_line

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
    with _explained(address), page.open("rb") as body:
        yield from ijson.items(body, prefix)


def _has_list(page: Path, prefix: str, address: str) -> bool:
    """Tell whether a page, which has no records, has a list for them."""
    with _explained(address), page.open("rb") as body:
        return any(where == prefix and event == "start_array" for where, event, _ in ijson.parse(body))


@contextmanager
def _explained(address: str) -> Generator[None, None, None]:
    try:
        yield
    except (ijson.JSONError, UnicodeError) as error:
        raise PermanentError(f"{address}: malformed JSON: {one_line(str(error).split(chr(10))[0])}") from None
