"""Choose the reader for a file's format, and turn its errors into a rejected file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

from flows.errors import is_infrastructure_error, original_of, reason_of
from flows.readers.base import Reading
from flows.readers.csv_files import CsvReading, csv_reading, typed
from flows.readers.guard import Guard
from flows.readers.json_files import JsonReading, json_reading
from flows.readers.json_files import typed as json_typed
from flows.readers.parquet_files import parquet_reading
from flows.source_file import FileFormat, Rejected, SourceFile


def read_plan(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, spool: Path, guard: Guard | None = None
) -> Reading | Rejected:
    """Return how to read a file, with types from a sample of its rows, or why it is rejected.

    Text that must be unpacked or rewritten for DuckDB is written to the folder `spool`.
    """
    guard = guard or Guard()
    return _or_rejected(file, guard, lambda: _reading(connection, file, spool, guard))


def with_types(
    connection: duckdb.DuckDBPyConnection, reading: Reading, guard: Guard | None = None, *, whole: bool
) -> Reading | Rejected:
    """Return the reading with its columns' types, from a sample of the rows or from all, or why it is rejected."""
    guard = guard or Guard()
    file = reading.file

    def read() -> Reading:
        if isinstance(reading, CsvReading):
            return typed(connection, reading, whole=whole)
        if isinstance(reading, JsonReading):
            return json_typed(connection, reading, whole=whole)
        return reading

    return _or_rejected(file, guard, read)


def _or_rejected(file: SourceFile, guard: Guard, read: Callable[[], Reading]) -> Reading | Rejected:
    """Read a file within the limits; an exception rejects the file, unless the machine is at fault."""
    try:
        with guard.watching():
            return read()
    except Exception as error:
        if is_infrastructure_error(error):
            raise
        reason = file.change() or reason_of(error, file)
        return Rejected(file.name, file.size, reason, original_of(error, file))


def _reading(connection: duckdb.DuckDBPyConnection, file: SourceFile, spool: Path, guard: Guard) -> Reading:
    match file.format:
        case FileFormat.CSV | FileFormat.TSV:
            return csv_reading(connection, file, spool, guard)
        case FileFormat.JSON | FileFormat.NDJSON:
            return json_reading(connection, file, spool, guard)
        case FileFormat.PARQUET:
            return parquet_reading(connection, file, guard, spool)
