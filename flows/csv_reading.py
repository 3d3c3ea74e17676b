"""How CSV and TSV files are read."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache

import duckdb

from flows.column_names import check_names
from flows.column_types import TEXT, TEXT_TYPES
from flows.csv_header import CsvHeader, header_of, read_header
from flows.quoting import identifier, literal
from flows.reading import SAMPLE_ROWS, FileColumn, file_column, paths, selection
from flows.source_file import SourceFile
from flows.text_types import types_of_texts

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


def csv_outline(file: SourceFile, content: bytes) -> CsvReading | None:
    """Return how a file of this content is read when the types do not matter; without columns if it is a header alone.

    None if it can only be read by itself: of a list of many files DuckDB 2.0 leaves out, and says nothing, the last
    row of one that ends within quotes (measured), so that all quotes must be where they belong. Raises RejectionError.
    """
    header = header_of(content, file.format)
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


def csv_reading(connection: duckdb.DuckDBPyConnection, file: SourceFile, *, whole: bool) -> CsvReading:
    """Find out how to read a CSV or TSV file, from a sample of its rows or from all of them.

    A file of a header alone has no columns: nothing tells their types. Raises RejectionError, OSError, EOFError
    and duckdb.Error for a file that cannot be read.
    """
    header = read_header(file)
    check_names(header.names)
    plain = CsvReading(file, header)
    limit = None if whole else SAMPLE_ROWS
    rows, types = types_of_texts(connection, plain.scan(()), [TEXT_TYPES] * len(header.names), limit)
    if not rows:
        return plain
    columns = tuple(file_column(name, type_) for name, type_ in zip(header.names, types, strict=True))
    return CsvReading(file, header, columns, is_sampled=rows == limit)
