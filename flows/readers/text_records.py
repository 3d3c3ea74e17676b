"""Read the records of a file by the rules of its format: delimited text and text of fixed width.

Each record comes with the line on which it begins; a record that cannot be divided into fields comes as a `BadRecord`.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import BinaryIO

from flows.errors import RejectionError
from flows.readers.compression import opened
from flows.readers.guard import Guard, encoding_of
from flows.rules import CsvFormat, FixedWidthFormat
from flows.source_file import SourceFile

_STAND_IN = "\x1f"
"""Replaces a delimiter of several characters, which Python's csv module does not read."""
_LONGEST_FIELD = 64_000_000
Value = str | None
"""A text, or None for a missing value."""


@dataclass(frozen=True, slots=True)
class Record:
    """The values of one row."""

    line: int
    values: Sequence[Value]


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A row that cannot be divided into the file's columns."""

    line: int
    raw: str
    reason: str


@dataclass(frozen=True)
class Table:
    """The records of one file."""

    names: tuple[str, ...]
    """The columns' names as the file or the rules give them; none if those of the table are taken by position."""
    names_line: int
    """The line that the names are in; 0 if the rules give them."""
    records: Iterator[Record | BadRecord]
    """Raises RejectionError, OSError and UnicodeError."""


@contextmanager
def lines_of(file: SourceFile, encoding: str | None, guard: Guard) -> Generator[Iterator[str]]:
    """Open a text and yield its lines, with their line ends. Raises RejectionError that names the line."""
    with opened(file, guard) as content:
        head = content.read(4)
        marked = encoding_of(head)
        content.seek(0) if not file.compression else None
        rest = io.BufferedReader(_Joined(head, content)) if file.compression else content
        # A mark in the file counts before the rules, as both are about the same bytes.
        chosen = marked if marked and (encoding is None or encoding.startswith(("utf-8", "utf-16"))) else encoding
        text = io.TextIOWrapper(rest, encoding=chosen or "utf-8", errors="strict", newline="")
        yield _checked_lines(text, chosen or "utf-8", guard)
        text.detach()


class _Joined(io.RawIOBase):
    """The first bytes of a stream that were read already, and the rest of it."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        some, self._head = (self._head, b"") if self._head else (self._rest.read(len(buffer)), b"")
        buffer[: len(some)] = some
        return len(some)


def _checked_lines(text: io.TextIOWrapper, encoding: str, guard: Guard) -> Iterator[str]:
    number = 0
    try:
        for line in text:
            number += 1
            if number % 4096 == 0:
                guard.check()
            if "\0" in line:
                raise RejectionError(f"line {number}: a NUL character; the file is damaged, or is no {encoding} text")
            yield line
    except UnicodeError as error:
        what = ""
        if isinstance(error, UnicodeDecodeError) and len(error.object) > error.start:
            what = f", got the byte 0x{error.object[error.start]:02X}"
        raise RejectionError(
            f"line {number + 1} or a few below: expected {encoding} text{what}; set `encoding` in the inbox's format"
        ) from None


@dataclass
class _Lines:
    """Gives csv.reader the lines of one record at a time, and remembers them."""

    lines: Iterator[tuple[int, str]]
    comment: str | None
    is_fresh: bool = True
    taken: list[str] = field(default_factory=list[str])
    first: int = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        for number, line in self.lines:
            if self.is_fresh:
                if self.comment and line.startswith(self.comment):
                    continue
                self.first, self.taken, self.is_fresh = number, [], False
            self.taken.append(line)
            return line
        raise StopIteration


def without_ends(lines: Iterable[str], skip: int, footer: int) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers, without those to skip and without the footer.

    Empty lines at the end do not count as the footer.
    """
    waiting, filled = deque[tuple[int, str]](), 0
    for number, line in enumerate(lines, 1):
        if number <= skip:
            continue
        waiting.append((number, line))
        filled += bool(line.strip())
        while filled > footer:
            first = waiting.popleft()
            filled -= bool(first[1].strip())
            yield first
    if filled < footer:
        raise RejectionError(f"expected a footer of {footer} lines, and the file has fewer lines")
    if not footer:
        yield from waiting


def delimited(lines: Iterator[str], rules: CsvFormat, delimiter: str) -> Table:
    """Return the names and records of delimited text. Raises RejectionError."""
    header = rules.header_lines if rules.names is None or rules.header_lines else ()
    numbered = without_ends(lines, rules.skip, rules.footer)
    source = _Lines(numbered, rules.comment)
    reader = _Reader(source, rules, delimiter)
    if not header:
        return Table(rules.names or (), 0, reader.records(len(rules.names) if rules.names else None))
    parts, first = list[Sequence[str]](), header[0] if header[0] > rules.skip else rules.skip + header[0]
    for number, line in numbered:
        if number < first:
            continue
        source.lines = _before(number, line, numbered)
        break
    for _ in header:
        record = next(reader.rows(), None)
        if record is None or isinstance(record, BadRecord):
            why = "the file ends before it" if record is None else f"line {record.line}: {record.reason}"
            raise RejectionError(f"line {first}: expected the columns' names, as `header` says: {why}")
        parts.append([value or "" for value in record.values])
    if len({len(part) for part in parts}) > 1:
        raise RejectionError(f"line {first}: the {len(parts)} lines of the header have different numbers of columns")
    names = tuple(" ".join(filter(None, (one.strip() for one in several))) for several in zip(*parts, strict=True))
    if rules.names is not None and len(rules.names) != len(names):
        raise RejectionError(f"line {first}: expected {len(rules.names)} columns, as `names` says, got {len(names)}")
    return Table(rules.names or names, 0 if rules.names else first, reader.records(len(names)))


def _before(number: int, line: str, rest: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield number, line
    yield from rest


class _Reader:
    """Divides lines into records with Python's csv module, and checks what it lets pass."""

    def __init__(self, source: _Lines, rules: CsvFormat, delimiter: str) -> None:
        csv.field_size_limit(_LONGEST_FIELD)
        self._source, self._rules, self._delimiter = source, rules, delimiter
        self._is_long = len(delimiter) > 1
        lines: Iterable[str] = map(self._with_stand_in, source) if self._is_long else source
        self._csv = csv.reader(
            lines,
            delimiter=_STAND_IN if self._is_long else delimiter,
            quotechar=rules.quote or None,
            quoting=csv.QUOTE_MINIMAL if rules.quote else csv.QUOTE_NONE,
            escapechar=rules.escape,
            doublequote=rules.escape is None or rules.escape == rules.quote,
            skipinitialspace=rules.trim,
            strict=True,
        )

    def _with_stand_in(self, line: str) -> str:
        if _STAND_IN in line:
            raise RejectionError(f"line {self._source.first}: the control character U+001F; remove it")
        return line.replace(self._delimiter, _STAND_IN)

    def rows(self) -> Iterator[Record | BadRecord]:
        """Yield all rows that are not empty lines, of any number of values."""
        while True:
            self._source.is_fresh = True
            try:
                values = next(self._csv)
            except StopIteration:
                return
            except csv.Error:
                yield self._bad(
                    "a quote is opened and not closed, or closed too early, or within a value that is not quoted"
                )
                if self._is_open():
                    return
                continue
            if not values:
                continue
            if self._is_long:
                values = [one.replace(_STAND_IN, self._delimiter) for one in values]
            quote = self._rules.quote
            if quote and any(quote in line for line in self._source.taken):
                raw = "".join(self._source.taken)
                if self._is_open():
                    yield self._bad("a quote is opened and not closed")
                    return
                if self._rules.escape is None and not self._is_proper(raw):
                    yield self._bad("a quote within a value that is not quoted")
                    continue
                empties = self._quoted_empties(raw) if quote * 2 in raw else frozenset[int]()
                yield Record(
                    self._source.first,
                    [one if one or at in empties else None for at, one in enumerate(values)],
                )
            else:
                yield Record(self._source.first, [one or None for one in values])

    def records(self, columns: int | None) -> Iterator[Record | BadRecord]:
        """Yield the rows of this many columns, and all others as bad ones; None takes the number of the first row."""
        for row in self.rows():
            if isinstance(row, BadRecord):
                yield row
                continue
            columns = columns or len(row.values)
            if len(row.values) == columns:
                yield row
            elif len(row.values) == 1 and not (row.values[0] or "").strip():
                continue  # a line of blanks
            else:
                yield self._bad(f"expected {columns_of(columns)}, got {len(row.values)}")

    def _bad(self, reason: str) -> BadRecord:
        return BadRecord(self._source.first, "".join(self._source.taken).rstrip("\r\n"), reason)

    def _is_open(self) -> bool:
        """Whether the last record is without an end: its last quote is open where the file ends."""
        raw, quote = "".join(self._source.taken), self._rules.quote
        return not self._rules.escape and bool(quote) and raw.count(quote) % 2 == 1

    def _is_proper(self, raw: str) -> bool:
        return _proper(self._delimiter, self._rules.quote, self._rules.trim).fullmatch(raw) is not None

    def _quoted_empties(self, raw: str) -> frozenset[int]:
        """Return the positions of empty texts in quotes, which are no missing values."""
        quote, found = self._rules.quote, _fields(self._delimiter, self._rules.quote, self._rules.trim).findall(raw)
        return frozenset(at for at, one in enumerate(found) if one.strip(" \r\n") == quote * 2)


@cache
def _proper(delimiter: str, quote: str, trim: bool) -> re.Pattern[str]:
    one, end, blank = _parts(delimiter, quote, trim)
    return re.compile(rf"{blank}{one}(?:{end}{blank}{one})*[\r\n]*", re.DOTALL)


@cache
def _fields(delimiter: str, quote: str, trim: bool) -> re.Pattern[str]:
    one, end, blank = _parts(delimiter, quote, trim)
    return re.compile(rf"(?:(?<={end})|\A){blank}({one})(?={end}|[\r\n]*\Z)", re.DOTALL)


def _parts(delimiter: str, quote: str, trim: bool) -> tuple[str, str, str]:
    q, d = re.escape(quote), re.escape(delimiter)
    plain = rf"(?:(?!{d})[^{q}\r\n])*" if len(delimiter) > 1 else rf"[^{q}{d}\r\n]*"
    return rf"(?:{q}(?:[^{q}]|{q}{q})*+{q}{' *' if trim else ''}|{plain})", d, " *" if trim else ""


def fixed_width(lines: Iterator[str], rules: FixedWidthFormat) -> Table:
    """Return the names and records of text of fixed width."""
    return Table(tuple(rules.spans), 0, _fixed(without_ends(lines, rules.skip, rules.footer), rules))


def _fixed(lines: Iterator[tuple[int, str]], rules: FixedWidthFormat) -> Iterator[Record | BadRecord]:
    spans = tuple(rules.spans.values())
    end, shortest = max(last for _, last in spans), max(first for first, _ in spans)
    for number, line in lines:
        text = line.rstrip("\r\n")
        if not text.strip() or (rules.comment and text.startswith(rules.comment)):
            continue
        if len(text) <= shortest and len(spans) > 1:
            yield BadRecord(number, text, f"expected at least {shortest + 1} characters, got {len(text)}")
        elif text[end:].strip():
            yield BadRecord(number, text, f"expected at most {end} characters, got {len(text.rstrip())}")
        else:
            yield Record(number, [text[first:last] or None for first, last in spans])


def delimiter_in(path_lines: Callable[[], Iterator[str]], rules: CsvFormat) -> str:
    """Return the delimiter of a text whose rules give none: the one that divides the most lines alike.

    Raises RejectionError if two do.
    """
    counts: dict[str, set[int]] = {}
    lines = [
        line for _, line in zip(range(200 + rules.skip + max(rules.header_lines or (0,))), path_lines(), strict=False)
    ]
    below = lines[max(rules.skip, (rules.header_lines or (1,))[0] - 1) : len(lines) - rules.footer or None]
    for one in (",", ";", "\t", "|"):
        counts[one] = {line.count(one) for line in below if line.strip() and '"' not in line}
    alike = [one for one, found in counts.items() if len(found) == 1 and found != {0}]
    if len(alike) == 1:
        return alike[0]
    if len(alike) > 1:
        raise RejectionError("several delimiters divide all lines alike; set `delimiter` in the inbox's format")
    most = max(counts, key=lambda one: sum(counts[one]) if 0 not in counts[one] else 0)
    return most if sum(counts[most]) else ","


def columns_of(number: int) -> str:
    """Return a number of columns in words."""
    return "1 column" if number == 1 else f"{number:,} columns"
