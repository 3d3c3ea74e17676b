"""CSV and TSV files: the header line, and how the rows are read.

DuckDB's sniffer chooses the dialect that parses most, on a ragged file even one with a single column (measured). A
header has been written on purpose: the delimiter is what stands between its names.
"""

from __future__ import annotations

import csv
import gzip
import re
from codecs import BOM_UTF8
from collections.abc import Hashable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO, TextIOWrapper
from typing import TextIO, cast

import duckdb

from flows.errors import RejectionError
from flows.file_limits import FileLimits
from flows.readers.base import FileColumn, check_names, file_column, paths, sample_rows, selection, types_of_texts
from flows.readers.column_types import TEXT, TEXT_TYPES
from flows.source_file import FileFormat, SourceFile
from flows.sql_names import identifier, literal

csv.field_size_limit(2**31 - 1)  # DuckDB rejects long lines itself, and says where

DELIMITERS = ",;\t|"
_LIMIT = 1_000_000
"""The longest header, in characters."""


@dataclass(frozen=True)
class CsvHeader:
    """What the header tells."""

    delimiter: str
    names: tuple[str, ...]


_IRREGULAR = re.compile(rb"[\"\r\0]")
"""What may make the header end elsewhere than with the line."""


def read_header(file: SourceFile) -> CsvHeader:
    """Read the header; a column without a name gets DuckDB's, `column0` and so on. Raises RejectionError."""
    with closing(open_text(file)) as lines:
        return _parsed(_first_record(lines), is_tsv=file.format is FileFormat.TSV)


def header_of(content: bytes, file_format: FileFormat) -> CsvHeader:
    """Return the header of a file of this content, as `read_header` does. Raises RejectionError.

    Of many files most have the same first line, which is then parsed once: 1 us a file instead of 40 us (measured).
    """
    line, _, _ = content.partition(b"\n")
    is_tsv = file_format is FileFormat.TSV
    if not _IRREGULAR.search(line.removesuffix(b"\r")) and len(line) < _LIMIT:
        return _plain_header(line, is_tsv=is_tsv)
    with TextIOWrapper(BytesIO(content), encoding="utf-8-sig", errors="replace") as lines:
        return _parsed(_first_record(lines), is_tsv=is_tsv)


@lru_cache(maxsize=1000)
def _plain_header(line: bytes, *, is_tsv: bool) -> CsvHeader:
    return _parsed(line.decode("utf-8-sig", errors="replace"), is_tsv=is_tsv)


def _parsed(record: str, *, is_tsv: bool) -> CsvHeader:
    if not record.strip():
        raise RejectionError("line 1: expected the columns' names, got an empty line")
    if "\N{REPLACEMENT CHARACTER}" in record:
        raise RejectionError("line 1: not UTF-8 text; save the file as UTF-8")
    delimiter = "\t" if is_tsv else delimiter_of(record)
    try:
        names = next(csv.reader([record], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise RejectionError(f"line 1: the columns' names cannot be parsed: {error}") from None
    return CsvHeader(delimiter, tuple(name.strip() or f"column{at}" for at, name in enumerate(names)))


def delimiter_of(record: str) -> str:
    """Return which of comma, semicolon, tab and bar is most frequent outside quotes; a comma if there is none."""
    bare = re.sub(r'"(?:[^"]|"")*"', "", record)
    return max(DELIMITERS, key=bare.count)


def open_text(file: SourceFile) -> TextIO:
    """Open a text file, gzipped or not, with any line ends, with or without a byte order mark; the caller closes it.

    What is not UTF-8 is read as a replacement character: DuckDB says on which line it is.
    """
    if file.is_gzipped:
        return cast(TextIO, gzip.open(file.path, "rt", encoding="utf-8-sig", errors="replace"))
    return file.path.open(encoding="utf-8-sig", errors="replace")


def _first_record(lines: TextIO) -> str:
    """Return the first line, and those after it while a quote is open."""
    record: list[str] = []
    length = quotes = 0
    while length < _LIMIT:
        line = lines.readline(_LIMIT)
        record.append(line)
        length += len(line)
        quotes += line.count('"')
        if not line or quotes % 2 == 0:
            return "".join(record)
    raise RejectionError(f"line 1: the columns' names take more than {_LIMIT:,} characters")


_IS_HEADER_ALONE = re.compile(rb'[^"\r\n\0]*\r?\n?')


@dataclass(frozen=True)
class CsvReading:
    """Every column is read as text, so that nothing is cast without a check."""

    file: SourceFile
    header: CsvHeader
    columns: tuple[FileColumn, ...] = ()
    is_sampled: bool = False

    def read_type(self, column: FileColumn, target_type: str) -> str:
        """Return VARCHAR: a CSV file holds texts."""
        return TEXT

    @property
    def shape(self) -> Hashable:
        """Return what files have in common that one query can read together."""
        return ("csv", self.header, self.file.is_gzipped)

    def scan(self, read_types: Sequence[str], together: Sequence[SourceFile] = ()) -> str:
        """Return the query of the rows; see `Reading`."""
        names = self.header.names
        columns = ", ".join(f"{literal(name)}: {literal(TEXT)}" for name in names)
        selected = selection(map(identifier, names), together)
        return (
            f"SELECT {selected} FROM read_csv({paths(self.file, together)}, auto_detect = false, header = true,"
            f" delim = {literal(self.header.delimiter)}, quote = '\"', escape = '\"', strict_mode = true,"
            f" compression = '{'gzip' if self.file.is_gzipped else 'none'}', hive_partitioning = false,"
            f" columns = {{{columns}}})"
        )


def csv_header_scan(file: SourceFile, content: bytes, limits: FileLimits) -> CsvReading | None:
    """Return how a file of this content is read when the types do not matter; without columns if it is a header alone.

    None if it can only be read by itself: of a list of many files DuckDB 2.0 leaves out, and says nothing, the last
    row of one that ends within quotes (measured), so that all quotes must be where they belong. Raises RejectionError.
    """
    header = header_of(content, file.format)
    limits.check_columns(len(header.names))
    check_names(header.names)
    if b'"' in content and not _quoted_properly(header.delimiter).fullmatch(b"\n" + content.removeprefix(BOM_UTF8)):
        return None
    columns = () if _IS_HEADER_ALONE.fullmatch(content) else tuple(FileColumn(name, TEXT) for name in header.names)
    return CsvReading(file, header, columns)


@cache
def _quoted_properly(delimiter: str) -> re.Pattern[bytes]:
    """Return what fits a text in which each quote opens or closes a field, or stands for itself within one."""
    before, after = rf"(?<=[\n\r{delimiter}])".encode(), rf"(?=[\n\r{delimiter}]|\Z)".encode()
    return re.compile(rb'[^"]*+(?:%b"[^"]*+(?:""[^"]*+)*+"%b[^"]*+)*+' % (before, after))


def csv_reading(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, limits: FileLimits, *, whole: bool
) -> CsvReading:
    """Find out how to read a CSV or TSV file, from a sample of its rows or from all of them.

    A file of a header alone has no columns: nothing tells their types. Raises RejectionError, OSError, EOFError
    and duckdb.Error for a file that cannot be read.
    """
    header = read_header(file)
    limits.check_columns(len(header.names))
    check_names(header.names)
    plain = CsvReading(file, header)
    limit = None if whole else sample_rows(len(header.names))
    rows, types = types_of_texts(connection, plain.scan(()), [TEXT_TYPES] * len(header.names), limit)
    if not rows:
        return plain
    columns = tuple(file_column(name, type_) for name, type_ in zip(header.names, types, strict=True))
    return CsvReading(file, header, columns, is_sampled=rows == limit)
