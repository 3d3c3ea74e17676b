"""The records of a CSV file as bytes: find where each begins and ends, divide it into fields, and rewrite it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from mmap import mmap

from flows.errors import RejectionError

LONGEST_LINE = 1_000_000
"""Maximum length of the header in bytes."""
LONGEST_QUOTED = 64_000_000
"""Maximum length in bytes of consecutive lines within which a quote is open."""
CHUNK_BYTES = 16_000_000
LINE_END = re.compile(rb"\r\n|\n|\r")

Content = bytes | mmap


@dataclass(frozen=True)
class Dialect:
    """How records are divided into fields."""

    delimiter: str
    quote: str = '"'
    """Empty if quotes have no meaning."""
    has_blanks: bool = False
    """Whether a blank follows each delimiter."""


@dataclass(frozen=True)
class CsvLayout:
    """The layout of one file."""

    dialect: Dialect
    names: tuple[str, ...]
    """As written in the header, with quotes resolved."""
    header_line: int
    """Counted from 1; 2 after a line `sep=;`."""
    data_start: int
    """The offset in bytes of the first record after the header."""
    rows: int
    """The number of records after the header; empty lines count only if there is a single column."""
    is_plain: bool
    """Whether DuckDB can read the file itself; otherwise it reads the output of `rewritten`."""
    is_plain_within: bool = True
    """Whether apostrophes within single quotes are doubled, and double quotes are not."""


def lines_of(text: bytes) -> list[bytes]:
    """Return the lines of a text, without their line ends and without empty lines at the end."""
    return LINE_END.split(text.rstrip(b"\r\n"))


def line_end(content: Content, start: int, longest: int = LONGEST_QUOTED) -> int:
    """Return the end of the line that begins at `start`, including its line end."""
    found = LINE_END.search(content, start, start + longest)
    return found.end() if found else min(len(content), start + longest)


def line_at(content: Content, at: int) -> int:
    """Return the number of the line that contains a byte."""
    return 1 + sum(1 for _ in LINE_END.finditer(content, 0, at))


def record_end(content: Content, start: int, quote: bytes, longest: int = LONGEST_QUOTED) -> int:
    """Return the end of the record that begins at `start`, judged by its double quotes."""
    end = line_end(content, start, longest)
    if quote == b'"' and content[start:end].count(quote) % 2:
        return quote_closes(content, start, end, longest)
    return end


def quote_closes(content: Content, start: int, end: int, longest: int = LONGEST_QUOTED) -> int:
    """Return the end of the first line, from `end` on, that closes the double quote that is open at `end`."""
    while (at := content.find(b'"', end, start + longest)) >= 0:
        end = line_end(content, at, longest)
        if content[at:end].count(b'"') % 2:
            return end
    return min(len(content), start + longest)


def fields_of(record: str, dialect: Dialect) -> tuple[str, ...]:
    """Return the fields of a record; none if a quote is not where a field begins or ends."""
    one = _field(dialect)
    names: list[str] = []
    at = 0
    while found := one.match(record, at):
        quoted, plain, end = found.groups()
        names.append(plain if quoted is None else quoted.replace(dialect.quote * 2, dialect.quote))
        if not end:
            return tuple(names)
        at = found.end()
    return ()


@cache
def _field(dialect: Dialect) -> re.Pattern[str]:
    delimiter, quote = re.escape(dialect.delimiter), dialect.quote
    # An apostrophe within an unquoted value is an ordinary character.
    plain = rf"[^{quote}{delimiter}][^{delimiter}]*" if quote == "'" else rf"[^{quote}{delimiter}]+"
    blank = " ?+" if dialect.has_blanks else ""
    within = r"[^\r\n]*?" if quote == "'" else r'(?:[^"]|"")*+'
    return re.compile(rf"{blank}(?:{quote}({within}){quote}|({plain}|))({delimiter}|\Z)", re.DOTALL)


def records(content: Content, start: int, line: int, dialect: Dialect) -> Iterator[tuple[int, int]]:
    """Yield each record's line and number of fields, 0 for an empty line, from the byte `start` of `line` on."""
    quote, delimiter = dialect.quote.encode(), dialect.delimiter.encode()
    at = start
    while at < len(content):
        end = record_end(content, at, quote)
        body = b"\n" + content[at:end]
        bare = quoted_field(dialect).sub(b"x", body) if quote else body
        text = bare.strip(b"\r\n")
        yield line, text.count(delimiter) + 1 if text else 0
        line += len(LINE_END.findall(body)) - 1
        at = end


def _opening(dialect: Dialect) -> bytes:
    """Return the pattern of the text before a quote that opens a field."""
    delimiter = re.escape(dialect.delimiter).encode()
    at_start = rb"(?<=[\n\r%b])" % delimiter
    return rb"(?:%b|(?<=%b ))" % (at_start, delimiter) if dialect.has_blanks else at_start


@cache
def quoted_field(dialect: Dialect) -> re.Pattern[bytes]:
    """Return the pattern of a quoted field that begins and ends where a field does.

    Between single quotes an apostrophe need not be doubled, and the text is on one line.
    """
    quoted = rb"'[^\r\n]*?'" if dialect.quote == "'" else rb'"(?:[^"]|"")*+"'
    return re.compile(rb"%b%b(?=[\n\r%b]|\Z)" % (_opening(dialect), quoted, re.escape(dialect.delimiter).encode()))


@cache
def quoted_properly(dialect: Dialect) -> re.Pattern[bytes]:
    """Return the pattern of a text in which each double quote opens or closes a field, or is doubled within one."""
    quoted = rb'%b"[^"]*+(?:""[^"]*+)*+"(?=[\n\r%b]|\Z)' % (_opening(dialect), re.escape(dialect.delimiter).encode())
    return re.compile(rb'[^"]*+(?:%b[^"]*+)*+' % quoted)


def chunks(content: Content, start: int, quote: bytes) -> Iterator[bytes]:
    """Yield the content in chunks that end with a line, and outside quotes. Raises RejectionError."""
    while start < len(content):
        end = min(start + CHUNK_BYTES, len(content))
        if end < len(content):
            last = max(content.rfind(b"\n", start, end), content.rfind(b"\r", start, end - 1))
            end = last + 1 if last >= 0 else line_end(content, end)
            if content[end - 1 : end + 1] == b"\r\n":
                end += 1
        chunk = content[start:end]
        if quote == b'"' and chunk.count(quote) % 2 and end < len(content):
            end = quote_closes(content, start, end, CHUNK_BYTES + LONGEST_QUOTED)
            chunk = content[start:end]
            if chunk.count(quote) % 2 and end < len(content):
                raise RejectionError(f"line {line_at(content, start)} or below: a quote is opened and not closed")
        yield chunk
        start = end


def check_names_once(content: Content, layout: CsvLayout) -> None:
    """Raise RejectionError if a row repeats the columns' names, as in concatenated files.

    Files with one column are not checked: there the name may be a value.
    """
    if len(layout.names) == 1:
        return
    dialect = layout.dialect
    quote = dialect.quote.encode()
    name = layout.names[0].encode()
    first = {name, quote + name.replace(quote, quote * 2) + quote} if quote else {name}
    ends = (b"\n", b"\r") if content.find(b"\r") >= 0 else (b"\n",)
    for begin in (end + one for end in ends for one in first):
        at = layout.data_start - 1
        while (at := content.find(begin, at)) >= 0:
            record = content[at + 1 : record_end(content, at + 1, quote)]
            if fields_of(record.decode("utf-8", "replace").rstrip("\r\n"), dialect) == layout.names:
                raise RejectionError(f"line {line_at(content, at + 1)}: the columns' names again; expected them once")
            at += 1


def rewritten(content: Content, layout: CsvLayout) -> Iterator[bytes]:
    """Yield the records after the header in the plainest dialect: double quotes, `\\n`, no blanks after delimiters.

    Text within quotes stays unchanged.
    """
    dialect = layout.dialect
    quote = dialect.quote.encode()
    for chunk in chunks(content, layout.data_start, quote):
        body = b"\n" + chunk
        at = 1
        for found in quoted_field(dialect).finditer(body) if quote and quote in chunk else ():
            yield _plainer(body[at : found.start()], dialect)
            text = found.group()[1:-1]
            if quote == b"'" and layout.is_plain_within:
                text = text.replace(b"''", b"'").replace(b'"', b'""')
            yield b'"%b"' % text
            at = found.end()
        yield _plainer(body[at:], dialect)


def _plainer(text: bytes, dialect: Dialect) -> bytes:
    text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    delimiter = dialect.delimiter.encode()
    return text.replace(delimiter + b" ", delimiter) if dialect.has_blanks else text


def line_of(content: Content, layout: CsvLayout, row: int) -> int:
    """Return the line on which a record after the header begins; both are counted from 1."""
    line = 1 + len(LINE_END.findall(content[: layout.data_start]))
    found = records(content, layout.data_start, line, layout.dialect)
    lines = (line for line, size in found if size or len(layout.names) == 1)
    return next(islice(lines, row - 1, None), line)


def first_rows(content: Content, layout: CsvLayout, most: int) -> Iterator[tuple[str, ...]]:
    """Yield the values of up to `most` records after the header; empty lines are skipped."""
    at = layout.data_start
    quote = layout.dialect.quote.encode()
    while at < len(content) and most:
        end = record_end(content, at, quote)
        text = content[at:end].decode("utf-8", "replace").rstrip("\r\n")
        if text:
            yield fields_of(text, layout.dialect)
            most -= 1
        at = end
