"""Detect the layout of a CSV or TSV file from its bytes, without converting a value.

DuckDB's reader is fast and forgiving: it drops surplus empty fields, accepts a quote in the middle of a value, and
finds no rows at all if the header's line break differs from that of the rows (measured, 2.0.0). So this module accounts
for every separator, quote and line end of a file, and DuckDB then has to find as many rows. Files without quotes are
counted at 1,100 MB/s, those with many quotes at 100 MB/s (measured).

Files are read as RFC 4180 with these variations, each of which must hold for the whole file: the delimiter (comma,
semicolon, tab, bar), a blank after each delimiter, single instead of double quotes, any line ends, and a first line
`sep=;`, as Excel writes it. Anything else is rejected with a reason that names the line.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from itertools import islice

from flows.errors import RejectionError
from flows.readers.csv_records import (
    LINE_END,
    LONGEST_LINE,
    Content,
    CsvLayout,
    Dialect,
    chunks,
    fields_of,
    line_at,
    line_end,
    lines_of,
    quoted_field,
    quoted_properly,
    record_end,
    records,
)

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAMPLE_RECORDS = 200
"""Number of records that must agree on a delimiter if several are possible."""


@dataclass(frozen=True)
class _Header:
    line: int
    end: int
    text: bytes
    forced: str | None
    """The delimiter given by a line `sep=`."""

    @property
    def next_line(self) -> int:
        """The number of the line on which the next record begins."""
        return self.line + len(LINE_END.findall(self.text))

    @property
    def lines(self) -> list[bytes]:
        """The lines of the header: more than one if a quoted name contains a line end."""
        return lines_of(self.text)

    def first_line(self, content: Content) -> _Header:
        """Return the header of a file in which quotes have no meaning: its first line."""
        start = self.end - len(self.text)
        end = line_end(content, start, LONGEST_LINE)
        return replace(self, end=end, text=content[start:end])


@dataclass(frozen=True)
class _Candidate:
    """A possible way to divide a file into fields, and the resulting column names."""

    dialect: Dialect
    names: tuple[str, ...]


@dataclass
class _Count:
    """Counts of characters: outside quotes in the records after the header, and within single quotes."""

    separators: int = 0
    newlines: int = 0
    """Line ends `\\n`, without those of `\\r\\n`."""
    pairs: int = 0
    """Line ends `\\r\\n`."""
    returns: int = 0
    """Line ends `\\r`, without those of `\\r\\n`."""
    blank_lines: int = 0
    unended: int = 0
    """1 if the last line has no line end."""
    hides: bool = False
    """Whether a separator or a line end is within double quotes."""
    blanks: int = 0
    """Separators followed by a blank; counted only if the header has blanks."""
    doubled: int = 0
    apostrophes: int = 0
    """Single apostrophes within single quotes; `doubled` counts the doubled ones."""
    quotes: set[bytes] = field(default_factory=set[bytes])
    """Which of `"` and `""` are within single quotes."""

    @property
    def lines(self) -> int:
        return self.newlines + self.pairs + self.returns + self.unended

    @property
    def is_plain_within(self) -> bool | None:
        """Whether text within single quotes is literal, with apostrophes doubled; None if that is unclear.

        If apostrophes are not doubled, double quotes are: some program has replaced the double quotes around values by
        single ones.
        """
        if self.doubled and self.apostrophes:
            return None
        if self.apostrophes:
            return None if b'"' in self.quotes else False
        return None if b'""' in self.quotes and not self.doubled else True

    @property
    def records(self) -> int:
        return self.lines - self.blank_lines


def layout_of(content: Content, *, is_tsv: bool) -> CsvLayout:
    """Return the layout of a file with this content. Raises RejectionError with the line."""
    if (at := content.find(b"\0")) >= 0:
        raise RejectionError(f"line {line_at(content, at)}: a NUL character; the file is damaged, or is no text")
    header = _header(content)
    candidates = _candidates(header.text, header.line, header.forced, is_tsv=is_tsv)
    if len(candidates) > 1 or (len(candidates[0].names) == 1 and not (header.forced or is_tsv)):
        candidates = _agreeing(content, header, candidates)
    chosen = candidates[0]
    header = _checked_header(content, header, chosen, is_tsv=is_tsv)
    if chosen.dialect.delimiter == "\t":
        header, chosen, count = _with_or_without_quotes(content, header, chosen)
    else:
        count = _counted(content, header.end, chosen.dialect)
        if chosen.dialect.has_blanks and (count is None or count.blanks < count.separators):
            # Blanks only in the header do not belong to the dialect.
            without = replace(chosen.dialect, has_blanks=False)
            if other := _counted(content, header.end, without):
                chosen, count = _Candidate(without, chosen.names), other
            elif count is not None:
                raise RejectionError(_misplaced_quote(content, header, without))
    if count is None:
        raise RejectionError(_misplaced_quote(content, header, chosen.dialect))
    return _accounted(content, header, chosen, count)


_PAIR = b"\0"
"""Replaces `\\r\\n` where other characters are removed; no accepted file contains a NUL."""
_WRAPPED = re.compile(rb"""(?:\A|[\t\r\n]) ?(["'])[^\t\r\n]*\1(?:\Z|[\t\r\n])""")
_SEP_LINE = re.compile(rb'(?i)"?sep=(.)"?\r?\n')
_DOUBLE_QUOTE_OPENS = re.compile(rb'(?:^|[,;\t|]) ?"')
_SINGLE_QUOTED = re.compile(rb"(?:^|[,;\t|] ?)'[^'\r\n]*'(?=[,;\t|\r\n]|$)")


def _header(content: Content) -> _Header:
    start = len(BOM_UTF8) if content[:3] == BOM_UTF8 else 0
    line, forced = 1, None
    if found := _SEP_LINE.match(content[start : start + 20]):
        forced, start, line = found[1].decode("latin-1"), start + found.end(), 2
        if forced not in DELIMITERS:
            raise RejectionError(f"line 1: expected sep= with one of , ; | or a tab, got {forced!r}")
    quote = _quote_of(content[start : line_end(content, start, LONGEST_LINE)])
    end = record_end(content, start, quote.encode(), LONGEST_LINE)
    if end - start >= LONGEST_LINE:
        raise RejectionError(f"line {line}: the columns' names take more than {LONGEST_LINE:,} bytes")
    text = content[start:end]
    if not text.strip():
        raise RejectionError(f"line {line}: expected the columns' names, got an empty line")
    return _Header(line, end, text, forced)


def _quote_of(line: bytes) -> str:
    """Return the quote character by the first line: single if names are in single quotes, and none in double quotes."""
    return "'" if _SINGLE_QUOTED.search(line) and not _DOUBLE_QUOTE_OPENS.search(line) else '"'


@lru_cache(maxsize=1000)
def _candidates(header: bytes, line: int, forced: str | None, *, is_tsv: bool) -> Sequence[_Candidate]:
    """Return the possible ways to divide a header, the one with the most names first. Raises RejectionError.

    Cached: most files share their header with others.
    """
    try:
        text = header.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise RejectionError(f"line {line}: not UTF-8 text; save the file as UTF-8") from None
    quote = _quote_of(header)
    bare = re.sub(rf"{quote}[^{quote}]*{quote}", "", text)
    if quote == '"' and re.search(r"(?:^|[,;|\t] ?)'[^']*$", bare):
        raise RejectionError(f"line {line}: a single quote is opened and not closed, in {_shown(text)}")
    possible = [forced or "\t"] if forced or is_tsv else [one for one in DELIMITERS if one in bare] or [","]
    found: list[_Candidate] = []
    for delimiter in sorted(possible, key=bare.count, reverse=True):
        has_blanks = 0 < bare.count(delimiter) == bare.count(f"{delimiter} ")
        dialect = Dialect(delimiter, quote, has_blanks)
        if names := fields_of(text, dialect):
            found.append(_Candidate(dialect, names))
        elif delimiter == "\t" and len(possible) == 1 and quote == '"':
            first, *others = lines_of(header)
            dialect = replace(dialect, quote="") if others else dialect
            found.append(_Candidate(dialect, tuple(first.decode().split(delimiter))))
    if not found:
        raise RejectionError(
            f"line {line}: a quote in the columns' names is not where a name begins or ends, in {_shown(text)}"
        )
    return tuple(found)


def _agreeing(content: Content, header: _Header, candidates: Sequence[_Candidate]) -> Sequence[_Candidate]:
    """Return the candidate on which header and rows agree, or the first if there is none. Raises RejectionError."""
    agreed = [one for one in candidates if _sizes(content, header, one.dialect) <= {len(one.names)}]
    if len(agreed) > 1:  # all records may decide between candidates that fit the first records
        agreed = [one for one in agreed if _fits(content, header, one)] or agreed
    if len(agreed) > 1 and header.end < len(content):
        both = " and ".join(DELIMITERS[one.dialect.delimiter] for one in agreed)
        raise RejectionError(
            f"line {header.line}: {both} each divide all lines into equal numbers of fields; expected one delimiter"
        )
    chosen = agreed[0] if agreed else candidates[0]
    if (len(chosen.names) == 1 or not agreed) and (reason := _unlike_all(content, header, chosen)):
        raise RejectionError(reason)
    return (chosen,)


def _checked_header(content: Content, header: _Header, chosen: _Candidate, *, is_tsv: bool) -> _Header:
    """Return the header, cut after its first line if quotes have no meaning. Raises RejectionError."""
    if is_tsv and len(chosen.names) == 1:
        _check_tabs(content, header)
    if not chosen.dialect.quote:
        return header.first_line(content)
    if len(header.lines) > 1:
        _check_lines_of_names(header, chosen)
    return header


def _check_tabs(content: Content, header: _Header) -> None:
    """Raise RejectionError if a TSV file has no tab in its header and another delimiter divides all lines."""
    for delimiter in ",;|":
        dialect = Dialect(delimiter)
        names = fields_of(header.text.decode("utf-8", "replace").rstrip("\r\n"), dialect)
        if len(names) > 1 and _sizes(content, header, dialect) <= {len(names)}:
            raise RejectionError(
                f"line {header.line}: expected tabs, as the file's name ends in .tsv, got {DELIMITERS[delimiter]} in"
                " all lines; name it .csv"
            )


def _check_lines_of_names(header: _Header, chosen: _Candidate) -> None:
    """Raise RejectionError if names over several lines may be rows that stray quotes have joined."""
    delimiter, expected = chosen.dialect.delimiter.encode(), len(chosen.names)
    if expected > 1 and all(line.count(delimiter) + 1 == expected for line in header.lines):
        why = f"though each line by itself has {_columns(expected)}; expected the names in one line"
        raise RejectionError(_spread(header, why))


def _spread(header: _Header, why: str) -> str:
    """Return the reason for rejecting names that go over several lines."""
    below = len(header.lines) - 1
    return f"line {header.line}: a quote is opened in a column's name and closed {below} lines below, {why}"


def _unlike_all(content: Content, header: _Header, chosen: _Candidate) -> str | None:
    """Return why the line cannot be the header, if the rows agree on another number of columns; otherwise None."""
    for delimiter, spoken in DELIMITERS.items():
        found = records(content, header.end, header.next_line, Dialect(delimiter))
        below = [size for _, size in islice(found, SAMPLE_RECORDS) if size]
        if len(below) > 1 and len(set(below)) == 1 and 1 < (fields := below[0]) != len(chosen.names):
            return (
                f"line {header.line} holds no column names: it has {_columns(len(chosen.names))}, and the lines below"
                f" have {fields:,}, separated by {spoken}; got {_shown_bytes(header.text)}"
            )
    return None


def _sizes(content: Content, header: _Header, dialect: Dialect) -> set[int]:
    """Return the numbers of fields that the first records after the header have."""
    found = records(content, header.end, header.next_line, dialect)
    return {size for _, size in islice(found, SAMPLE_RECORDS) if size}


def _with_or_without_quotes(
    content: Content, header: _Header, chosen: _Candidate
) -> tuple[_Header, _Candidate, _Count | None]:
    """Decide whether quotes have a meaning in a file with tabs: TSV has no quotes, but spreadsheets write them.

    Raises RejectionError if both readings are possible and a tab or a line end is within quotes.
    """
    if not chosen.dialect.quote:
        count = None if _WRAPPED.search(content) else _counted(content, header.end, chosen.dialect)
        return header, chosen, count
    count = _counted(content, header.end, chosen.dialect)
    if count is not None and not count.hides:
        return header, chosen, count
    first = header.first_line(content)
    names = tuple(first.text.decode().rstrip("\r\n").split("\t"))
    unquoted = _Candidate(Dialect("\t", ""), names)
    other = _counted(content, first.end, unquoted.dialect)
    fits = other is not None and _is_even(other, len(names))
    if count is None:
        # A field that is entirely in quotes shows that quotes have a meaning after all.
        is_wrapped = _WRAPPED.search(content)
        return (first, unquoted, other) if fits and not is_wrapped else (header, chosen, None)
    if fits:
        raise RejectionError(
            f"line {_hidden(content, header)}: a line end within quotes, though each line by itself has"
            f" {_columns(len(names))}; expected values in one line, or no quotes"
        )
    return header, chosen, count


def _hidden(content: Content, header: _Header) -> int:
    """Return the line of the first record that goes over several lines in a file with tabs."""
    at, line = header.end, header.next_line
    while at < len(content):
        end = record_end(content, at, b'"')
        lines = len(LINE_END.findall(content[at:end].rstrip(b"\r\n")))
        if lines:
            break
        at, line = end, line + 1
    return line


def _fits(content: Content, header: _Header, candidate: _Candidate) -> bool:
    """Whether all records have as many fields as the header, and blanks after delimiters if the header has them."""
    count = _counted(content, header.end, candidate.dialect)
    if count is None or not _is_even(count, len(candidate.names)):
        return False
    return not candidate.dialect.has_blanks or count.blanks == count.separators


def _is_even(count: _Count, fields: int) -> bool:
    return count.separators == count.records * (fields - 1)


def _counted(content: Content, start: int, dialect: Dialect) -> _Count | None:
    """Count separators and line ends outside quotes; None if a quote neither begins nor ends a field."""
    count = _Count()
    delimiter, quote = dialect.delimiter.encode(), dialect.quote.encode()
    for chunk in chunks(content, start, quote):
        is_quoted = bool(quote) and quote in chunk
        bare, pairs = chunk, None
        if is_quoted:
            body = b"\n" + chunk
            if quote == b'"':
                if quoted_properly(dialect).fullmatch(body) is None:
                    return None
                # With the characters between them removed, a CR and a later LF would look like one line end.
                paired = chunk.replace(b"\r\n", _PAIR) if b"\r" in chunk else chunk
                reduced = paired.translate(None, _others(delimiter)).replace(b'""', b"")
                count.hides = count.hides or b'"' in reduced
                bare = re.sub(rb'"[^"]*"', b"", reduced)
                pairs = bare.count(_PAIR)
            else:
                bare, within = _apart(body, dialect)
                bare = bare[1:]
                count.doubled += within.count(b"''")
                count.apostrophes += within.replace(b"''", b"").count(b"'")
                count.quotes.update(re.findall(rb'""|"', within))
                if _is_misplaced(bare, dialect):
                    return None
        _add(count, bare, delimiter, pairs)
        if dialect.has_blanks:
            spaced = quoted_field(dialect).sub(b"x", b"\n" + chunk) if is_quoted else chunk
            count.blanks += spaced.count(delimiter + b" ")
        count.blank_lines += _blank_lines(chunk, dialect, is_quoted=is_quoted)
    count.unended = int(start < len(content) and content[len(content) - 1 :] not in (b"\n", b"\r"))
    return count


def _apart(body: bytes, dialect: Dialect) -> tuple[bytes, bytes]:
    """Return the text outside single quotes, and the text within them."""
    within: list[bytes] = []

    def take(found: re.Match[bytes]) -> bytes:
        within.append(found.group()[1:-1])
        return b"x"

    return quoted_field(dialect).sub(take, body), b"\n".join(within)


@cache
def _others(delimiter: bytes) -> bytes:
    return bytes(one for one in range(256) if one not in b'"\r\n' + _PAIR + delimiter)


def _add(count: _Count, bare: bytes, delimiter: bytes, pairs: int | None) -> None:
    """Add the counts of text outside quotes; if `pairs` is given, the text no longer contains `\\r\\n`."""
    newlines = bare.count(b"\n")
    returns = bare.count(b"\r")
    if pairs is None:
        pairs = bare.count(b"\r\n") if returns else 0
        newlines, returns = newlines - pairs, returns - pairs
    count.separators += bare.count(delimiter)
    count.newlines += newlines
    count.returns += returns
    count.pairs += pairs


def _blank_lines(chunk: bytes, dialect: Dialect, *, is_quoted: bool) -> int:
    """Count empty lines outside quotes. They are rare, so a fast test comes first; one character is found faster."""
    pairs = (b"\n\n", b"\n\r", b"\r\r") if b"\r" in chunk else (b"\n\n",)
    if chunk[:1] not in (b"\n", b"\r") and not any(one in chunk for one in pairs):
        return 0
    lines = b"\n" + chunk
    if is_quoted:
        lines = quoted_field(dialect).sub(b"x", lines)
    if b"\r" in lines:
        lines = lines.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return len(re.findall(rb"(?<=\n)\n", lines))


def _accounted(content: Content, header: _Header, chosen: _Candidate, count: _Count) -> CsvLayout:
    """Return the layout if every separator and line end is accounted for. Raises RejectionError."""
    if chosen.dialect.quote == "'" and count.is_plain_within is None:
        raise RejectionError(
            "expected each apostrophe within single quotes doubled, or none of them; got both, or double quotes beside"
            " them; write the values in double quotes"
        )
    if count.returns and (count.newlines or count.pairs):
        raise RejectionError(_lone_return(content, header))
    if not _is_even(count, len(chosen.names)):
        raise RejectionError(_uneven(content, header, chosen))
    first, *others = (line.count(chosen.dialect.delimiter.encode()) for line in header.lines)
    if not count.records and first in others:
        raise RejectionError(_spread(header, "where the file ends; expected the names in one line, or rows below them"))
    names = header.text.rstrip(b"\r\n")
    first_end = header.text[len(names) :]
    ends = {first_end} if first_end else set[bytes]()
    ends |= {end for end, n in ((b"\n", count.newlines), (b"\r\n", count.pairs), (b"\r", count.returns)) if n}
    is_plain = len(ends) < 2 and not chosen.dialect.has_blanks and chosen.dialect.quote != "'"
    return CsvLayout(
        chosen.dialect,
        chosen.names,
        header.line,
        header.end,
        count.lines if len(chosen.names) == 1 else count.records,
        is_plain and not LINE_END.search(names) and not _has_stray_quote(names, chosen.dialect),
        is_plain_within=count.is_plain_within is True,
    )


def _has_stray_quote(names: bytes, dialect: Dialect) -> bool:
    """Whether DuckDB would read the header as more or less than one line."""
    quote = dialect.quote.encode()
    return bool(quote) and quote in names and not fields_of(names.decode(), dialect)


def _uneven(content: Content, header: _Header, chosen: _Candidate) -> str:
    """Return the reason for rejection, naming the first record with another number of fields than the header."""
    fields = len(chosen.names)
    if reason := _unlike_all(content, header, chosen):
        return reason
    for line, size in records(content, header.end, header.next_line, chosen.dialect):
        if size not in (0, fields):
            return f"line {line}: expected {_columns(fields)}, got {size}"
    return f"expected {_columns(fields)} in every line, as in line {header.line}"


def _misplaced_quote(content: Content, header: _Header, dialect: Dialect) -> str:
    """Return the reason for rejection, naming the first line with a quote where no field begins or ends."""
    at, line = header.end, header.next_line
    while at < len(content):
        end = record_end(content, at, dialect.quote.encode())
        body = content[at:end]
        if dialect.quote == "'":
            if _is_misplaced(_apart(b"\n" + body, dialect)[0][1:], dialect):
                break
        elif (found := quoted_properly(dialect).match(b"\n" + body)) and found.end() <= len(body):
            line += len(LINE_END.findall(body[: found.end() - 1]))
            break
        line += len(LINE_END.findall(body))
        at = end
    return f"line {line}: a quote is opened and not closed, or closed too early, or within a value that is not quoted"


def _is_misplaced(bare: bytes, dialect: Dialect) -> bool:
    """Whether a quote remains after single-quoted fields were removed."""
    opening = rb"(?:^|(?<=[\n\r%b])) ?'" % re.escape(dialect.delimiter).encode()
    return b'"' in bare or re.search(opening, bare) is not None


def _lone_return(content: Content, header: _Header) -> str:
    found = re.compile(rb"\r(?!\n)").search(content, header.end)
    line = line_at(content, found.start()) if found else header.line
    return f"line {line}: ends with a carriage return alone, unlike the others; expected one kind of line end"


def _columns(number: int) -> str:
    return "1 column" if number == 1 else f"{number:,} columns"


def _shown_bytes(text: bytes) -> str:
    return _shown(text.decode("utf-8", "replace").strip())


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line[:80]}..."' if len(line) > 80 else f'"{line}"'
