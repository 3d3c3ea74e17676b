"""Read CSV and TSV files with DuckDB, each value as text.

`csv_layout` checks the file first; DuckDB then has to find as many rows.
"""

from __future__ import annotations

import gzip
from collections.abc import Collection, Generator, Hashable, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path

import duckdb

from flows.errors import RejectionError
from flows.file_limits import FileLimits
from flows.readers.base import FileColumn, check_names, file_column, paths, sample_rows, selection, types_of_texts
from flows.readers.column_types import TEXT, TEXT_TYPES
from flows.readers.csv_layout import layout_of
from flows.readers.csv_names import needs_rows, second_names, table_names, why_no_names
from flows.readers.csv_records import Content, CsvLayout, check_names_once, first_rows, line_of, rewritten
from flows.readers.guard import Guard, spooled, unpacked
from flows.readers.signatures import HEAD_BYTES, check_signature
from flows.source_file import FileFormat, SourceFile
from flows.sql_names import identifier, literal, path_literal

_NAMES_ROWS = 20
"""Number of rows compared with the columns' names."""
_LONGEST_LINE = 32_000_000
"""In bytes; DuckDB's buffer holds 16 such lines. Its own default of 2 MB is too small for long texts in cells."""


@dataclass(frozen=True)
class CsvReading:
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
        return ("csv", self.layout.dialect, self.names, self.file.is_gzipped)

    def scan(self, read_types: Sequence[str], together: Sequence[SourceFile] = ()) -> str:
        """Return the query of the rows; see `Reading`."""
        columns = ", ".join(f"{literal(name)}: {literal(TEXT)}" for name in self.names)
        selected = selection(map(identifier, self.names), together)
        read = self.rewritten or self.text
        source = path_literal(read) if read and not together else paths(self.file, together)
        is_packed = self.file.is_gzipped and not read
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
        return _opened(self.text or self.file.path, is_gzipped=self.file.is_gzipped and not self.text)

    def line_of(self, row: int) -> int:
        """Return the line on which a row begins; both are counted from 1."""
        with self._content() as content:
            return line_of(content, self.layout, row)


def csv_header_scan(file: SourceFile, content: bytes, limits: FileLimits) -> CsvReading | None:
    """Return how to read a file with this content if types do not matter; it has no columns if it has no rows.

    None if DuckDB cannot read it together with other files. Raises RejectionError.
    """
    reading = _laid_out(file, content, limits)
    if not reading.layout.is_plain or reading.layout.header_line > 1:
        return None
    return replace(reading, columns=tuple(FileColumn(name, TEXT) for name in reading.names) if reading.rows else ())


def csv_reading(connection: duckdb.DuckDBPyConnection, file: SourceFile, spool: Path, guard: Guard) -> CsvReading:
    """Return how to read a CSV or TSV file, with types from a sample of its rows.

    A file without rows has no columns: nothing shows their types. Unpacked or rewritten text is written to the folder
    `spool`. Raises RejectionError, OSError, EOFError and duckdb.Error for a file that cannot be read.
    """
    text = spooled(unpacked(file.path, guard), spool, ".csv") if file.is_gzipped else None
    with _opened(text or file.path) as content:
        reading = replace(_laid_out(file, content, guard.limits), text=text)
        if not reading.layout.is_plain:
            reading = replace(reading, rewritten=spooled(rewritten(content, reading.layout), spool, ".csv"))
    return typed(connection, reading)


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
