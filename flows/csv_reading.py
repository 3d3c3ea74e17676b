"""How CSV and TSV files are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from flows.column_names import check_names
from flows.column_types import TEXT, TEXT_TYPES
from flows.csv_header import CsvHeader, read_header
from flows.quoting import identifier, literal, path_literal
from flows.reading import SAMPLE_ROWS, FileColumn, file_column, raw
from flows.source_file import SourceFile
from flows.text_types import types_of_texts


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

    def scan(self, read_types: Sequence[str]) -> str:
        """Return the query of the rows; see `Reading`."""
        names = self.header.names
        columns = ", ".join(f"{literal(name)}: {literal(TEXT)}" for name in names)
        selected = ", ".join(f"{identifier(name)} AS {raw(at)}" for at, name in enumerate(names))
        return (
            f"SELECT {selected} FROM read_csv({path_literal(self.file.path)}, auto_detect = false, header = true,"
            f" delim = {literal(self.header.delimiter)}, quote = '\"', escape = '\"', strict_mode = true,"
            f" compression = '{'gzip' if self.file.is_gzipped else 'none'}', hive_partitioning = false,"
            f" columns = {{{columns}}})"
        )


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
