"""Split the text of a JSON or NDJSON file into records, and collect their keys.

DuckDB drops keys that it does not know in advance, and reports faults by record, not by line (measured, 2.0.0). So this
module divides the text into records, and DuckDB then has to find as many.

A `.json` file is an array of objects, an object that wraps one (`{"data": [...], "next": null}`), a single object,
which is one record, or several objects in sequence. An http source uses the same definition of a wrapper: `wrapper_of`.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from io import BytesIO
from typing import Any, BinaryIO

from flows.errors import RejectionError
from flows.readers.json_record import KINDS, LONGEST_RECORD, CutShortError, JsonRecord, examined, parsed

MOST_KEYS = 100_000
"""A file with more different keys is rejected before its end is read."""
_AT_ONCE = 1 << 20
_SHAPES = 1000
_SHOWN_NAMES = 12
_BOUNDARY = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*\{")
_BOUNDARIES = 8
"""How many possible places to cut an array are tried."""
_WRAPPERS = frozenset({
    "data", "results", "result", "records", "rows", "items", "value", "values", "entries", "content", "list",
})  # fmt: skip
"""Usual names of the list in a wrapper."""
_ABOUT_THE_PAGE = frozenset({
    "next", "previous", "prev", "first", "last", "self", "count", "total", "total_count", "totalcount", "page", "pages",
    "page_size", "pagesize", "per_page", "perpage", "size", "limit", "offset", "cursor", "next_cursor", "nextcursor",
    "nextpagetoken", "next_page_token", "nextlink", "next_url", "has_more", "hasmore", "meta", "metadata", "links",
    "_links", "pagination", "paging", "status", "code", "success", "ok", "error", "errors", "message", "warnings",
    "version", "kind", "etag", "@odata.context", "@odata.count", "@odata.nextlink", "@context", "request_id",
    "requestid", "timestamp",
})  # fmt: skip
"""Names of members beside the list in a wrapper that describe the page, not a record."""


@dataclass
class JsonOutline:
    """The keys and the number of a file's records."""

    keys: dict[str, set[type]] = field(default_factory=dict[str, set[type]])
    """The keys in their order, and the types of their values."""
    records: int = 0
    is_plain: bool = True
    """Whether DuckDB can read the file's text unchanged."""
    _seen: set[tuple[object, ...]] = field(default_factory=set[tuple[object, ...]], init=False)
    """Combinations of keys and types seen so far; not all of them if a file has many."""

    def add(self, record: JsonRecord) -> bytes:
        """Count a record, and return its text in a form that DuckDB reads correctly. Raises RejectionError."""
        text = record.text
        value = parsed(text)
        if value is None:
            found = examined(record)
            value, text = found.value, found.text
        if not isinstance(value, dict):
            raise record.rejected(0, f"expected an object, one for each row, got {KINDS[type(value)]}")
        members: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        if "" in members:
            raise record.rejected(0, "a field with an empty name; give it one")
        self.add_members(members)
        if text is not record.text:
            self.is_plain = False
        return text

    def add_members(self, members: Mapping[str, Any]) -> None:
        """Count a record with these members, none of which has an empty name."""
        self.records += 1
        shape = (*members, *map(type, members.values()))
        if shape in self._seen:
            return
        if len(self._seen) < _SHAPES:
            self._seen.add(shape)
        for key, value in members.items():
            self.keys.setdefault(key, set()).add(type(value))  # pyright: ignore[reportUnknownArgumentType]
        if len(self.keys) > MOST_KEYS:
            raise RejectionError(f"more than {MOST_KEYS:,} different fields")


def lines_of(stream: BinaryIO, check: Callable[[], None], first: int = 1) -> Iterator[JsonRecord]:
    """Yield the record of each line that is not blank; the first line has the number `first`.

    Raises RejectionError for a record that is too long.
    """
    number = first - 1
    while line := stream.readline(LONGEST_RECORD + 2):
        number += 1
        if not number % 4096:
            check()
        if number == 1 and line.startswith(codecs.BOM_UTF8):
            line = line[len(codecs.BOM_UTF8) :]
        if len(line) > LONGEST_RECORD:
            raise RejectionError(f"line {number}: {_TOO_LONG}")
        if text := line.strip(b" \t\r\n"):
            yield JsonRecord(text, number)


_TOO_LONG = f"a record of more than {LONGEST_RECORD:,} bytes; split it"
_DECODER = json.JSONDecoder(strict=False)
_NUMBER_SO_FAR = re.compile(r"[0-9.eE+-]*+")
_SPACE = re.compile(r"[ \t\r\n]*+")


class _Cursor:
    """Iterates over a JSON text of any length, of which only a part is in memory."""

    def __init__(self, stream: BinaryIO, check: Callable[[], None]) -> None:
        self._stream = stream
        self._check = check
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._is_over = False
        self._line, self._column = 1, 1
        self._fill(_AT_ONCE)
        if self._text.startswith("\ufeff"):
            self._at = 1

    def peek(self) -> str:
        """Skip blanks and return the next character; empty at the end."""
        while True:
            blanks = _SPACE.match(self._text, self._at)
            self._pass(blanks.end() if blanks else self._at)
            if self._at < len(self._text) or self._is_over:
                return self._text[self._at : self._at + 1]
            self._fill(_AT_ONCE)

    def skip(self) -> None:
        """Skip blanks and the next character."""
        self.peek()
        self._pass(self._at + 1)

    def value(self) -> JsonRecord:
        """Return the next value unchanged. Raises RejectionError if there is none."""
        self.peek()
        size = _AT_ONCE
        while True:
            try:
                _, end = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError):
                end = None
            # A number may continue in the part not read yet.
            if end is not None and (self._is_over or not _NUMBER_SO_FAR.fullmatch(self._text, end)):
                return self._taken(end)
            if self._is_over or len(self._text) - self._at > LONGEST_RECORD:
                break
            self._fill(size)
            size *= 2
        return self._taken(self._end_of_value())

    def fault(self, expected: str) -> RejectionError:
        """Return the rejection for the next character."""
        found = self.peek()
        rest = JsonRecord(self._text[self._at : self._at + 200].encode(), self._line, self._column)
        if not found:
            return rest.rejected(0, f"expected {expected}, and the file ends; it was cut short")
        if found in "'/#":
            examined(rest, is_piece=True)
        return rest.rejected(0, f"expected {expected}, got {found!r}")

    def _taken(self, end: int) -> JsonRecord:
        text = self._text[self._at : end].encode()
        record = JsonRecord(text, self._line, self._column)
        if len(text) > LONGEST_RECORD:
            raise RejectionError(f"line {self._line}: {_TOO_LONG}")
        self._pass(end)
        return record

    def _end_of_value(self) -> int:
        """Return the end of a value that Python's parser does not accept, or that is nested too deeply for it.

        Raises RejectionError if the value is not valid.
        """
        text = self._text[self._at :].encode()
        try:
            found = examined(JsonRecord(text, self._line, self._column), is_piece=True)
        except CutShortError:
            if self._is_over:
                raise
            raise RejectionError(f"line {self._line}: {_TOO_LONG}") from None
        return self._at + len(text[: found.end].decode())

    def _pass(self, end: int) -> None:
        passed = self._text[self._at : end]
        breaks = passed.count("\n")
        self._line += breaks
        self._column = len(passed) - passed.rfind("\n") if breaks else self._column + len(passed)
        self._at = end

    def _fill(self, size: int) -> None:
        self._check()
        content = self._stream.read(size)
        self._is_over = not content
        try:
            more = self._decoder.decode(content, final=not content)
        except UnicodeDecodeError as error:
            before = self._text[self._at :].encode() + content[: max(0, error.start)]
            raise JsonRecord(before, self._line, self._column).rejected(
                len(before), "not UTF-8 text; save the file as UTF-8"
            ) from None
        self._text = self._text[self._at :] + more
        self._at = 0


@dataclass(frozen=True)
class Member:
    """A member of an object that may be a wrapper."""

    is_list: bool
    objects: int
    """The number of objects in the list; -1 if it also has other items."""

    @property
    def is_list_of_objects(self) -> bool:
        """Whether it is a list of objects, at least one."""
        return self.objects > 0


def wrapper_of(members: Mapping[str, Member]) -> str | None:
    """Return the name of the list whose objects are the records; None if the object itself is a record.

    That list must be the object's only list of objects. It is the only member, or all others describe the page, such as
    `next` and `count`. A list named `data` may have any other members beside it. An empty list counts if it has a usual
    name or is the only member. Raises RejectionError if the meaning is unclear.
    """
    lists = [name for name, member in members.items() if member.is_list_of_objects]
    if len(lists) > 1:
        raise RejectionError(
            f'an object with several lists of objects, "{lists[0]}" and "{lists[1]}"; write the one that has the rows'
            " alone"
        )
    if not lists:
        empty = [name for name, member in members.items() if member.is_list and not member.objects]
        lists = [name for name in empty if name.lower() in _WRAPPERS or len(members) == 1]
        if len(lists) != 1:
            return None
    (name,) = lists
    others = [other for other in members if other != name and other.lower() not in _ABOUT_THE_PAGE]
    if not others or name == "data":
        return name
    if name.lower() in _WRAPPERS and members[name].objects:
        raise RejectionError(
            f'an object with the list "{name}" beside "{others[0]}": unclear whether it is one row, or the list has the'
            " rows; write the list alone, or the object within [ ]"
        )
    return None


class JsonLayout(StrEnum):
    """How the records of a file are written."""

    ARRAY = "array"
    LINES = "newline_delimited"
    WRAPPED = "wrapped"
    OBJECTS = "objects"
    """In sequence, with or without line ends."""


def outline_of(
    open_: Callable[[], BinaryIO], layout: JsonLayout, path: Sequence[str], check: Callable[[], None]
) -> JsonOutline:
    """Return the outline of a JSON text of this layout. Raises RejectionError."""
    if layout is JsonLayout.LINES:
        with open_() as stream:
            return _outline_of_lines(stream, check)
    if layout is JsonLayout.ARRAY:
        with open_() as stream:
            outline = _outline_of_array(stream, check)
        if outline is not None:
            return outline
    outline = JsonOutline()
    for record in records_of(open_, layout, path, check):
        outline.add(record)
    return outline


def _outline_of_lines(stream: BinaryIO, check: Callable[[], None]) -> JsonOutline:
    outline = JsonOutline()
    number = 1
    while block := stream.read(_AT_ONCE):
        check()
        block += stream.readline(LONGEST_RECORD + 2)
        if number == 1:
            block = block.removeprefix(codecs.BOM_UTF8)
        lines = [line for line in block.split(b"\n") if line and not line.isspace()]
        # Parsing all lines as one array takes a fifth of the time.
        items = parsed(b"[" + b",".join(lines) + b"]")
        if not _added(outline, items, len(lines)):
            for record in lines_of(BytesIO(block), check, number):
                outline.add(record)
        number += block.count(b"\n")
    return outline


def _outline_of_array(stream: BinaryIO, check: Callable[[], None]) -> JsonOutline | None:
    """Return the outline of an array of objects; None for other texts, a fault, or an array that is hard to cut."""
    outline = JsonOutline()
    rest = stream.read(_AT_ONCE).removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")
    if not rest.startswith(b"["):
        return None
    rest = rest[1:]
    while block := stream.read(_AT_ONCE):
        check()
        rest += block
        # Cut where the part before is a list of whole objects: a cut within an object would leave brackets open.
        cuts = [found.start() + 1 for found in _BOUNDARY.finditer(rest)][-_BOUNDARIES:]
        cut = next((at for at in reversed(cuts) if _added(outline, parsed(b"[" + rest[:at] + b"]"))), None)
        if cut is None:
            return None
        rest = rest[cut:].lstrip(b" \t\r\n").removeprefix(b",")
    return outline if _added(outline, parsed(b"[" + rest)) else None


def _added(outline: JsonOutline, items: object, count: int | None = None) -> bool:
    """Add objects to the outline; return False if any is no object, has an empty name, or their number differs."""
    if not isinstance(items, list):
        return False
    objects: list[Any] = items  # pyright: ignore[reportUnknownVariableType]
    if count is not None and len(objects) != count:
        return False
    if not all(isinstance(item, dict) and "" not in item for item in objects):
        return False
    for item in objects:
        outline.add_members(item)
    return True


def as_lines(records: Iterable[JsonRecord], outline: JsonOutline) -> Iterator[bytes]:
    """Yield each record on one line, and add it to the outline. Raises RejectionError."""
    for record in records:
        # In a JSON text, line ends occur only between tokens.
        yield outline.add(record).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"


def json_layout(open_: Callable[[], BinaryIO], check: Callable[[], None]) -> tuple[JsonLayout, Sequence[str]]:
    """Return the layout of a JSON text, and, for a wrapper, the path of the member with its records.

    Raises RejectionError.
    """
    with open_() as stream:
        cursor = _Cursor(stream, check)
        first = cursor.peek()
        if first == "[":
            return JsonLayout.ARRAY, ()
        if first != "{":
            return JsonLayout.OBJECTS, ()
        name = wrapper_of(_members(cursor))
        if cursor.peek():
            return JsonLayout.OBJECTS, ()
        return (JsonLayout.OBJECTS, ()) if name is None else (JsonLayout.WRAPPED, (name,))


def records_of(
    open_: Callable[[], BinaryIO], layout: JsonLayout, path: Sequence[str], check: Callable[[], None]
) -> Iterator[JsonRecord]:
    """Yield the records of a JSON text of this layout. Raises RejectionError."""
    with open_() as stream:
        if layout is JsonLayout.LINES:
            yield from lines_of(stream, check)
            return
        cursor = _Cursor(stream, check)
        if layout is JsonLayout.OBJECTS:
            if not cursor.peek():
                raise RejectionError("expected JSON, got a file without any")
            while cursor.peek():
                yield cursor.value()
            return
        if layout is JsonLayout.WRAPPED:
            yield from _items_at(cursor, path)
        else:
            yield from _items(cursor)
        if cursor.peek():
            raise cursor.fault("the end of the file")


def _items_at(cursor: _Cursor, path: Sequence[str], above: Sequence[str] = ()) -> Iterator[JsonRecord]:
    """Yield the items of the list to which a path of names leads. Raises RejectionError if there is none."""
    where = f'"{".".join(above)}"' if above else "the document"
    found = cursor.peek()
    if not path:
        if found != "[":
            raise cursor.fault(f"a list at {where}, as `records` says")
        yield from _items(cursor)
        return
    if found != "{":
        raise cursor.fault(f'an object with "{path[0]}" at {where}, as `records` says')
    names = list[str]()
    is_there = False
    for name in _keys(cursor):
        if name == path[0]:
            is_there = True
            yield from _items_at(cursor, path[1:], (*above, name))
        else:
            cursor.value()
        if len(names) < _SHOWN_NAMES:
            names.append(name)
    if not is_there:
        there = f"it has {', '.join(names)}" if names else "it is empty"
        raise RejectionError(f'expected "{path[0]}" in {where}, as `records` says; {there}')


def _members(cursor: _Cursor) -> dict[str, Member]:
    """Return the members of an object, counting the items of lists without reading a list as a whole."""
    members = dict[str, Member]()
    for name in _keys(cursor):
        is_list = cursor.peek() == "["
        objects = 0
        if is_list:
            kinds = [record.text[:1] == b"{" for record in _items(cursor)]
            objects = len(kinds) if all(kinds) else -1
        else:
            cursor.value()
        members[name] = Member(is_list, objects)
    return members


def _keys(cursor: _Cursor) -> Iterator[str]:
    """Yield the names of an object's members; after each, the caller must consume the value at the cursor."""
    cursor.skip()
    seen = set[str]()
    while cursor.peek() != "}" or seen:
        if cursor.peek() != '"':
            raise cursor.fault("a name in double quotes")
        record = cursor.value()
        name: str = json.loads(record.text)
        if name in seen:
            raise record.rejected(0, f'the field "{name:.80}" is there more than once')
        seen.add(name)
        if cursor.peek() != ":":
            raise cursor.fault('":"')
        cursor.skip()
        yield name
        if cursor.peek() not in {",", "}"}:
            raise cursor.fault('"," or "}"')
        if cursor.peek() == "}":
            break
        cursor.skip()
    cursor.skip()


def _items(cursor: _Cursor) -> Iterator[JsonRecord]:
    cursor.skip()
    if cursor.peek() == "]":
        cursor.skip()
        return
    while True:
        yield cursor.value()
        found = cursor.peek()
        if found not in {",", "]"}:
            raise cursor.fault('"," or "]"')
        cursor.skip()
        if found == "]":
            return
        if cursor.peek() == "]":
            raise cursor.fault("another record after the comma")
