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
        chosen = _encoding(marked, encoding)
        text = io.TextIOWrapper(rest, encoding=chosen or "utf-8", errors="strict", newline="")
        yield _checked_lines(text, chosen or "utf-8", guard)
        text.detach()


def _encoding(marked: str | None, given: str | None) -> str | None:
    """Return the encoding of a text by its mark and its rule. Raises RejectionError if they do not go together."""
    if marked and given and not given.startswith("utf"):
        raise RejectionError(f"line 1: its byte order mark says {marked}, and `encoding` says {given}; change the rule")
    if not marked and given in {"utf-16", "utf-32"}:
        raise RejectionError(f"line 1: {given} without a byte order mark; set `encoding` to {given}-le or {given}-be")
    return marked if marked and (given is None or given.startswith(("utf-8", "utf-16"))) else given


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
    ahead: deque[tuple[int, str]] = field(default_factory=deque[tuple[int, str]])
    """Lines to take before the others."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        while (found := self.ahead.popleft() if self.ahead else next(self.lines, None)) is not None:
            number, line = found
            if self.is_fresh:
                if self.is_comment(line):
                    continue
                self.first, self.taken, self.is_fresh = number, [], False
            self.taken.append(line)
            return line
        raise StopIteration

    def is_comment(self, line: str) -> bool:
        """Return whether a line that begins a record is left out."""
        return self.comment is not None and line.startswith(self.comment)

    def put_back(self, kept: int) -> None:
        """Give the lines of the record again, but for the first ones."""
        self.ahead.extendleft(reversed(list(enumerate(self.taken[kept:], self.first + kept))))
        del self.taken[kept:]

    def following(self, at: int) -> str | None:
        """Return one of the lines after the record, counted from 0, without taking it; None after the last."""
        while len(self.ahead) <= at:
            if (found := next(self.lines, None)) is None:
                return None
            self.ahead.append(found)
        return self.ahead[at][1]


def without_ends(lines: Iterable[str], skip: int, footer: int, delimiter: str = "") -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers, without those to skip and without the footer.

    Lines of blanks at the end do not count as the footer; a blank delimiter is none.
    """
    numbered = ((number, line) for number, line in enumerate(lines, 1) if number > skip)
    if not footer:
        yield from numbered
        return
    blanks = "".join(one for one in " \t\r\n" if one not in delimiter)
    waiting, filled = deque[tuple[int, str]](), 0
    for number, line in numbered:
        waiting.append((number, line))
        filled += bool(line.strip(blanks))
        while filled > footer:
            first = waiting.popleft()
            filled -= bool(first[1].strip(blanks))
            yield first
    if filled < footer:
        raise RejectionError(f"expected a footer of {footer} lines, and the file has fewer lines")


def delimited(lines: Iterator[str], rules: CsvFormat, delimiter: str) -> Table:
    """Return the names and records of delimited text. Raises RejectionError."""
    header = rules.header_lines if rules.names is None or rules.header_lines else ()
    numbered = without_ends(lines, rules.skip, rules.footer, delimiter)
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
        if not parts and record.line != first and header[0] > 1:
            raise RejectionError(f"line {first}: expected the columns' names, as `header` says; the line is empty")
        parts.append([value or "" for value in record.values])
    if len({len(part) for part in parts}) > 1:
        raise RejectionError(f"line {first}: the {len(parts)} lines of the header have different numbers of columns")
    names = tuple(" ".join(filter(None, (one.strip() for one in several))) for several in zip(*parts, strict=True))
    if rules.names is not None and len(rules.names) != len(names):
        raise RejectionError(f"line {first}: expected {len(rules.names)} columns, as `names` says, got {len(names)}")
    records = reader.records(len(names))
    # In a file of one column, the name may be a value.
    records = _once(records, [list(part) for part in parts]) if len(names) > 1 else records
    return Table(rules.names or names, 0 if rules.names else first, records)


def _once(records: Iterator[Record | BadRecord], header: Sequence[list[str]]) -> Iterator[Record | BadRecord]:
    """Yield records. Raises RejectionError if one repeats the columns' names, as in concatenated files."""
    for record in records:
        if isinstance(record, Record) and any(record.values) and [value or "" for value in record.values] in header:
            raise RejectionError(f"line {record.line}: the columns' names again; expected them once")
        yield record


def _before(number: int, line: str, rest: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield number, line
    yield from rest


_FARTHEST = 1_000_000
"""How many characters after a stray quote are searched for the next quote."""


class _Reader:
    """Divides lines into records with Python's csv module, and checks what it lets pass."""

    def __init__(self, source: _Lines, rules: CsvFormat, delimiter: str) -> None:
        csv.field_size_limit(_LONGEST_FIELD)
        self._source, self._delimiter, self._quote = source, delimiter, rules.quote
        self._escape = None if rules.escape == rules.quote else rules.escape
        self._is_long, self._columns = len(delimiter) > 1, 0
        self._special = tuple(filter(None, (rules.quote, self._escape)))
        self._ends = set[bool]()
        trim = rules.trim and delimiter != " "
        lines: Iterable[str] = map(self._with_stand_in, source) if self._is_long else source
        self._csv = csv.reader(
            lines,
            delimiter=_STAND_IN if self._is_long else delimiter,
            quotechar=rules.quote or None,
            quoting=csv.QUOTE_MINIMAL if rules.quote else csv.QUOTE_NONE,
            escapechar=self._escape,
            doublequote=self._escape is None,
            skipinitialspace=trim,
            strict=True,
        )
        self._proper, self._field = _patterns(delimiter, rules.quote, self._escape, trim)

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
            except csv.Error as error:
                too_long = "field larger" in str(error)
                yield self._bad(
                    f"a value of more than {_LONGEST_FIELD:,} characters, or a quote that is opened and not closed"
                    if too_long
                    else "a quote is opened and not closed, or closed too early"
                )
                continue
            self._check_end()
            if not values:
                continue
            if self._is_long:
                values = [one.replace(_STAND_IN, self._delimiter) for one in values]
            empties = frozenset[int]()
            if any(one in line for line in self._source.taken for one in self._special):
                raw = "".join(self._source.taken)
                if not self._proper.fullmatch(raw):
                    yield self._bad(self._why_improper(raw))
                    continue
                if self._quote and self._quote * 2 in raw:
                    empties = self._quoted_empties(raw)
            yield Record(self._source.first, [one if one or at in empties else None for at, one in enumerate(values)])

    def records(self, columns: int | None) -> Iterator[Record | BadRecord]:
        """Yield the rows of this many columns, and all others as bad ones; None takes the number of the first row."""
        self._columns = columns or 0
        for row in self.rows():
            if isinstance(row, BadRecord):
                yield row
                continue
            self._columns = self._columns or len(row.values)
            if len(row.values) == self._columns:
                yield row
            elif len(row.values) == 1 and not "".join(self._source.taken).strip():
                continue  # a line of blanks
            else:
                yield self._bad(f"expected {columns_of(self._columns)}, got {len(row.values)}")

    def _check_end(self) -> None:
        """Raise RejectionError if some lines end with a carriage return alone, and others with a line feed."""
        last = self._source.taken[-1]
        if last.endswith(("\r", "\n")):
            self._ends.add(last.endswith("\n"))
            if len(self._ends) > 1:
                raise RejectionError(
                    f"line {self._source.first}: some lines end with a carriage return alone, others with a line feed"
                )

    def _why_improper(self, raw: str) -> str:
        if self._escape and self._escape in raw:
            return f"a quote within a value that is not quoted, or {self._escape} before a character that needs none"
        return "a quote within a value that is not quoted"

    def _bad(self, reason: str) -> BadRecord:
        """Return the last record as a bad one, and give those lines again that are no part of it.

        A stray quote opens a value that goes on in the lines below, or it does not. The next line with quotes shows it:
        if that line is a row by itself, it is the row after the bad one, and so are the lines before it. Otherwise all
        lines up to the one that closes the value are the bad record, so that no part of it is taken for a row.
        """
        source = self._source
        if self._quote and self._quotes(source.taken[0]) % 2:
            source.put_back(1)
            ends = self._end_of_bad()
            for _ in range(ends):
                next(source)
        return BadRecord(source.first, "".join(source.taken).rstrip("\r\n"), reason)

    def _end_of_bad(self) -> int:
        """Return how many of the lines below belong to a bad line with a quote too many."""
        odd, seen, at = 1, 0, 0
        while seen < _FARTHEST and (line := self._source.following(at)) is not None:
            at, seen = at + 1, seen + len(line)
            quotes = self._quotes(line)
            if not quotes and self._quote not in line:
                continue
            if self._is_row(line):
                return 0
            odd = (odd + quotes) % 2
            if not odd:
                return at
        return 0

    def _is_row(self, line: str) -> bool:
        return (
            self._proper.fullmatch(line) is not None
            and (len(self._field.findall(line)) == self._columns or not self._columns)
        ) or self._source.is_comment(line)

    def _quotes(self, line: str) -> int:
        if self._escape:
            line = re.sub(re.escape(self._escape) + ".", "", line, flags=re.DOTALL)
        return line.count(self._quote)

    def _quoted_empties(self, raw: str) -> frozenset[int]:
        """Return the positions of empty texts in quotes, which are no missing values."""
        return frozenset(at for at, one in enumerate(self._field.findall(raw)) if one.strip(" \r\n") == self._quote * 2)


@cache
def _patterns(delimiter: str, quote: str, escape: str | None, trim: bool) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of a whole record and of one of its fields."""
    q, d, e = re.escape(quote), re.escape(delimiter), re.escape(escape or "")
    blank = " *" if trim else ""
    escaped = rf"|{e}(?:{'|'.join(filter(None, (q, d, e)))})" if e else ""
    other = rf"(?!{d})[^{q}{e}\r\n]" if len(delimiter) > 1 else rf"[^{q}{e}{d}\r\n]"
    plain = rf"(?:{other}{escaped})*+"
    within = rf"[^{q}{e}]{escaped}" if e else rf"[^{q}]|{q}{q}"
    one = rf"(?:{q}(?:{within})*+{q}|{plain})" if quote else plain
    return (
        re.compile(rf"{blank}{one}(?:{d}{blank}{one})*+[\r\n]*", re.DOTALL),
        re.compile(rf"(?:(?<={d})|\A){blank}({one})(?={d}|[\r\n]*\Z)", re.DOTALL),
    )


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


_DELIMITERS = (",", ";", "\t", "|")
_SAMPLE = 200
"""How many lines show the delimiter."""


def delimiter_in(path_lines: Callable[[], Iterator[str]], rules: CsvFormat) -> str:
    """Return the delimiter of a text whose rules give none: the one that divides most lines as it divides the first.

    Raises RejectionError if that is none or several.
    """
    first = max(rules.skip, (rules.header_lines or (1,))[0] - 1)
    lines = [line for _, line in zip(range(first + _SAMPLE + rules.footer), path_lines(), strict=False)]
    below = "".join(lines[first : max(first, len(lines) - rules.footer)])
    if rules.quote:
        q = re.escape(rules.quote)
        below = re.sub(rf"{q}(?:[^{q}]|{q}{q})*+{q}", "", below)
    bare = [line for line in re.split(r"\r\n|\r|\n", below) if line.strip(" ")]
    bare = [line for line in bare if not (rules.comment and line.startswith(rules.comment))]
    if not any(one in line for line in bare for one in _DELIMITERS):
        return ","
    counts = {one: [line.count(one) for line in bare] for one in _DELIMITERS if one in bare[0]}
    alike = {one: sum(number == found[0] for number in found) for one, found in counts.items()}
    best = [one for one, number in alike.items() if number == max(alike.values()) and 2 * number > len(bare)]
    if len(best) != 1:
        what = "several delimiters divide all lines alike" if best else "no delimiter divides the lines alike"
        raise RejectionError(f"line {first + 1}: {what}; set `delimiter` in the inbox's format")
    return best[0]


def columns_of(number: int) -> str:
    """Return a number of columns in words."""
    return "1 column" if number == 1 else f"{number:,} columns"
