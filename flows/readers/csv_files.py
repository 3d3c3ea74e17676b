"""Read CSV and TSV files with DuckDB, each value as text.

`csv_layout` checks the file first; DuckDB then has to find as many rows.
"""

from __future__ import annotations

import gzip
import re
import unicodedata
from collections.abc import Collection, Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from mmap import ACCESS_READ, mmap
from pathlib import Path

import duckdb

from flows.errors import RejectionError
from flows.readers.base import (
    AsWritten,
    FileColumn,
    check_names,
    file_column,
    paths,
    sample_rows,
    selection,
    types_of_texts,
)
from flows.readers.column_types import TEXT, TEXT_TYPES
from flows.readers.compression import unpacked
from flows.readers.csv_layout import layout_of
from flows.readers.csv_records import Content, CsvLayout, check_names_once, first_rows, line_of, rewritten
from flows.readers.guard import HEAD_BYTES, FileLimits, Guard, check_signature, encoding_of, spooled
from flows.source_file import Compression, FileFormat, SourceFile
from flows.sql_names import identifier, literal, path_literal

_NAMES_ROWS = 20
"""Number of rows compared with the columns' names."""
_AT_ONCE = 1 << 20
_LONGEST_LINE = 32_000_000
"""In bytes; DuckDB's buffer holds 16 such lines. Its own default of 2 MB is too small for long texts in cells."""


@dataclass(frozen=True)
class CsvReading(AsWritten):
    """How DuckDB reads a CSV or TSV file: every column as text, so that nothing is cast without a check."""

    file: SourceFile
    layout: CsvLayout
    names: tuple[str, ...]
    """The columns' names in the table."""
    text: Path | None = None
    """The unpacked text of a gzipped file, unless DuckDB reads the gzipped file itself."""
    rewritten: Path | None = None
    """The records in the plainest dialect without the header, if DuckDB cannot read the text itself."""
    columns: tuple[FileColumn, ...] = ()
    is_sampled: bool = False

    @property
    def rows(self) -> int:
        """The number of rows that DuckDB has to find, as every separator and line end was accounted for."""
        return self.layout.rows

    @property
    def empty_is_null(self) -> bool:
        """Whether an empty text is null in a column that does not hold texts."""
        return True

    def read_type(self, column: FileColumn, target_type: str) -> str:
        """Return VARCHAR: a CSV file holds texts."""
        return TEXT

    @property
    def shape(self) -> Hashable:
        """Return a key that is equal for files that one query can read together."""
        return ("csv", self.layout.dialect, self.names, self.file.compression)

    def scan(self, read_types: Sequence[str], together: Sequence[SourceFile] = ()) -> str:
        """Return the query of the rows; see `Reading`."""
        columns = ", ".join(f"{literal(name)}: {literal(TEXT)}" for name in self.names)
        selected = selection(map(identifier, self.names), together)
        read = self.rewritten or self.text
        source = path_literal(read) if read and not together else paths(self.file, together)
        is_packed = self.file.compression is Compression.GZIP and not read
        dialect = self.layout.dialect
        quote = literal('"' if self.rewritten and dialect.quote else dialect.quote)
        skipped = "header = false" if self.rewritten else f"header = true, skip = {self.layout.header_line - 1}"
        # An empty field is null; an empty text in quotes is an empty text.
        return (
            f"SELECT {selected} FROM read_csv({source}, auto_detect = false, {skipped},"
            f" delim = {literal(dialect.delimiter)}, quote = {quote}, escape = {quote}, strict_mode = true,"
            f" nullstr = '', allow_quoted_nulls = false, max_line_size = {_LONGEST_LINE},"
            f" compression = '{'gzip' if is_packed else 'none'}', hive_partitioning = false,"
            f" columns = {{{columns}}})"
        )

    def check_second_line(self, columns: Collection[str]) -> None:
        """Raise RejectionError if the first row looks like a second header, which made these columns texts."""
        with self._content() as content:
            rows = list(first_rows(content, self.layout, _NAMES_ROWS))
            if reason := second_names(self.names, rows, columns):
                line = line_of(content, self.layout, 1)
                raise RejectionError(f"line {line} looks like a second line of column names: {reason}")

    def _content(self) -> AbstractContextManager[Content]:
        return _opened(
            self.text or self.file.path, is_gzipped=self.file.compression is Compression.GZIP and not self.text
        )

    def place_of(self, row: int) -> str:
        """Return the line on which a row begins; both are counted from 1."""
        with self._content() as content:
            return f"line {line_of(content, self.layout, row)}"

    def with_types(self, connection: duckdb.DuckDBPyConnection, *, whole: bool) -> CsvReading:
        """Return the reading with its columns' types, from a sample of the rows or from all of them."""
        return typed(connection, self, whole=whole)


def csv_header_scan(file: SourceFile, content: bytes, limits: FileLimits) -> CsvReading | None:
    """Return how to read a file with this content if types do not matter; it has no columns if it has no rows.

    None if DuckDB cannot read it together with other files. Raises RejectionError.
    """
    if encoding_of(content[:4]) not in {None, "utf-8-sig"}:
        return None
    reading = _laid_out(file, content, limits)
    if not reading.layout.is_plain or reading.layout.header_line > 1:
        return None
    return replace(reading, columns=tuple(FileColumn(name, TEXT) for name in reading.names) if reading.rows else ())


def csv_reading(connection: duckdb.DuckDBPyConnection, file: SourceFile, spool: Path, guard: Guard) -> CsvReading:
    """Return how to read a CSV or TSV file, with types from a sample of its rows.

    A file without rows has no columns: nothing shows their types. Unpacked or rewritten text is written to the folder
    `spool`. Raises RejectionError, OSError, EOFError and duckdb.Error for a file that cannot be read.
    """
    text = spooled(unpacked(file, guard), spool, ".csv") if file.compression else None
    with _opened(text or file.path) as content:
        encoding = encoding_of(content[:4])
    if encoding and encoding != "utf-8-sig":
        text = spooled(_as_utf8(text or file.path, encoding), spool, ".csv")
    with _opened(text or file.path) as content:
        reading = replace(_laid_out(file, content, guard.limits), text=text)
        if not reading.layout.is_plain:
            reading = replace(reading, rewritten=spooled(rewritten(content, reading.layout), spool, ".csv"))
    return typed(connection, reading)


def _as_utf8(path: Path, encoding: str) -> Iterator[bytes]:
    """Yield a text in UTF-8. Raises RejectionError for bytes that are no text of the encoding."""
    with path.open(encoding=encoding, newline="") as text:
        try:
            while some := text.read(_AT_ONCE):
                yield some.encode()
        except UnicodeError:
            raise RejectionError(f"its byte order mark says {encoding}, and its content is not") from None


def typed(connection: duckdb.DuckDBPyConnection, reading: CsvReading, *, whole: bool = False) -> CsvReading:
    """Return the reading with the columns' types, from a sample of the rows or from all of them."""
    limit = None if whole else sample_rows(len(reading.names))
    candidates = [TEXT_TYPES] * len(reading.names)
    rows, types = types_of_texts(connection, reading.scan(()), candidates, limit, empty_is_null=True)
    if not rows:
        return replace(reading, columns=())
    columns = tuple(file_column(name, type_) for name, type_ in zip(reading.names, types, strict=True))
    return replace(reading, columns=columns, is_sampled=rows == limit)


def _laid_out(file: SourceFile, content: Content, limits: FileLimits) -> CsvReading:
    """Return how to read a file with this content, without its columns' types. Raises RejectionError."""
    check_signature(content[:HEAD_BYTES], file.format)
    layout = layout_of(content, is_tsv=file.format is FileFormat.TSV)
    limits.check_columns(len(layout.names))
    limits.check_rows(layout.rows)
    if needs_rows(layout.names):
        reason = why_no_names(layout.names, list(first_rows(content, layout, _NAMES_ROWS)))
        if reason:
            raise RejectionError(f"line {layout.header_line} holds no column names: {reason}")
    check_names_once(content, layout)
    return CsvReading(file, layout, _names_of(layout.names, layout.header_line))


@lru_cache(maxsize=1000)
def _names_of(names: tuple[str, ...], line: int) -> tuple[str, ...]:
    found = table_names(names, line)
    check_names(found)
    return found


@contextmanager
def _opened(path: Path, *, is_gzipped: bool = False) -> Generator[Content]:
    """Open a text as bytes."""
    if is_gzipped:
        with gzip.open(path) as packed:
            yield packed.read()
        return
    with path.open("rb") as opened:
        if not path.stat().st_size:
            yield b""
            return
        with mmap(opened.fileno(), 0, access=ACCESS_READ) as content:
            yield content


# Normalize column names for a table, and detect headers that are not names, or are followed by a second header.

_FORMS = {
    form: re.compile(pattern)
    for form, pattern in {
        "a number": r"[-+]?(\d[\d.,\u00a0' ]*|[.,]\d+)([eE][-+]?\d+)?",
        "a percentage": r"[-+]?\d[\d.,]* ?%",
        "an amount of money": r"[-+(]*([$\u20ac\u00a3\u00a5] ?[-+]?\d[\d.,' ]*|\d[\d.,' ]* ?[$\u20ac\u00a3\u00a5])\)?",
        "a date": (
            r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{1,2}[- ][A-Za-z]{3,9}[- ]\d{2,4}"
        ),
        "a time of day": r"\d{1,2}:\d\d(:\d\d([.,]\d+)?)?( ?[AaPp][Mm])?",
        "a time": r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})[T ]\d{1,2}:\d\d.*",
        "a web address": r"[a-z]{2,8}://\S+|www\.\S+",
        "a mail address": r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}",
        "a UUID": r"\{?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}?",
        "an IP address": r"\d{1,3}(\.\d{1,3}){3}(/\d+)?",
    }.items()
}
"""Forms of text typical of values and rare in names; later entries take precedence."""
_YEARS = range(1900, 2101)
_YEAR = re.compile(r"(19|20)\d\d|")
_COUNTER = re.compile(r"\d{1,4}")
_NULL_WORDS = frozenset({"", "na", "n/a", "n.a.", "#n/a", "nan", "null", "none", "nil", "-", "--", ".", "?", "unknown"})
_FEWEST_BELOW = 2
"""Number of values of one form that are needed below a word to take the word for a second name."""


def form_of(text: str) -> str | None:
    """Return what kind of value a text looks like; None for a word.

    >>> form_of("28/01/2018"), form_of("Price")
    ('a date', None)
    """
    text = text.strip()
    return next((form for form in reversed(_FORMS) if _FORMS[form].fullmatch(text)), None)


def table_names(names: Sequence[str], line: int) -> tuple[str, ...]:
    """Return the names as the table has them; an empty one becomes DuckDB's, `column0` and so on.

    Blanks around a name and invisible characters (a byte order mark, a zero-width space) are removed, and letters are
    normalized to NFC, so that no two columns look the same. Raises RejectionError for control characters.
    """
    return tuple(table_name(name, f"line {line}: ") or f"column{at}" for at, name in enumerate(names))


def table_name(name: str, place: str = "") -> str:
    """Return a name as a table has it, for any file format; see `table_names`."""
    if name.isascii() and name.isprintable():
        return name.strip()
    seen = "".join(letter for letter in name.replace("\r\n", "\n") if unicodedata.category(letter) != "Cf")
    seen = unicodedata.normalize("NFC", seen).strip()
    for letter in seen:
        if unicodedata.category(letter) == "Cc" and letter not in "\n\t":
            raise RejectionError(
                f"{place}the column name {seen!r} has the control character U+{ord(letter):04X}; remove it"
            )
    return seen


def why_no_names(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str | None:
    """Return why these cannot be the columns' names, judging by the first rows; None if they can."""
    empty = sum(not name.strip() for name in names)
    if len(names) > 1 and 2 * empty > len(names):
        return f"{empty} of {len(names)} are empty"
    forms = {at: form for at, name in enumerate(names) if (form := form_of(name))}
    if not forms or _are_counted(names, forms, rows):
        return None
    for at, form in forms.items():
        below = [row[at] for row in rows if at < len(row) and row[at].strip()]
        if all(form_of(value) == form for value in below) and (below or not rows):
            return f'"{names[at]}" is {form}' + (", like the values below it" if below else "")
    return None


@lru_cache(maxsize=1000)
def needs_rows(names: tuple[str, ...]) -> bool:
    """Whether `why_no_names` needs rows; not if all names are words."""
    return any(not name.strip() or form_of(name) for name in names)


def second_names(names: Sequence[str], rows: Sequence[Sequence[str]], columns: Collection[str]) -> str | None:
    """Return why the first row looks like a second line of names, such as units; None if it does not.

    It does if it has only words, one of them in one of these columns above values that all have one form.
    """
    if len(rows) <= _FEWEST_BELOW or len(rows[0]) != len(names) or any(map(form_of, rows[0])):
        return None
    for at, word in enumerate(rows[0]):
        below = [row[at] for row in rows[1:] if at < len(row) and row[at].strip()]
        forms = {form_of(value) for value in below}
        is_typed = len(below) >= _FEWEST_BELOW and len(forms) == 1 and None not in forms
        if names[at] in columns and is_typed and word.strip().lower() not in _NULL_WORDS:
            return f'"{word}" is a word, and each value below it in column "{names[at]}" is {forms.pop()}'
    return None


def _are_counted(names: Sequence[str], forms: Mapping[int, str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the numbers among the names count columns beside names in words: years, or 1, 2, 3."""
    numbers = [int(names[at]) for at in forms if _COUNTER.fullmatch(names[at].strip())]
    if len(numbers) < len(forms) or len(forms) == len(names):
        return False
    steps = {later - earlier for earlier, later in pairwise(numbers)}
    if not all(number in _YEARS for number in numbers) and not (len(numbers) > 2 and steps == {1}):
        return False
    values = [row[at].strip() for row in rows for at in forms if at < len(row)]
    return len(steps) <= 1 and not (any(values) and all(map(_YEAR.fullmatch, values)))
