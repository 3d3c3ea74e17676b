"""From a file to how it is read, or to the reason why it cannot be."""

from __future__ import annotations

import gzip
from pathlib import Path

import duckdb

from flows.errors import is_machines_fault, reason_of
from flows.file_limits import FileLimits
from flows.readers.base import Reading
from flows.readers.csv_files import CsvReading, csv_reading, typed
from flows.readers.guard import Guard
from flows.readers.json_files import json_reading
from flows.readers.parquet_files import parquet_reading
from flows.source_file import FileFormat, Rejected, SourceFile

_MOST_PACKED = 1032
"""By how much gzip packs at most."""
_AT_ONCE = 1 << 20


def read_plan(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, spool: Path, guard: Guard | None = None
) -> Reading | Rejected:
    """Return how a file is read, from a sample of its rows, or why it is rejected.

    What has to be unpacked or rewritten before DuckDB can read it goes into the spool, a folder.
    """
    guard = guard or Guard()
    try:
        with guard.watching():
            return _reading(connection, file, spool, guard)
    except Exception as error:
        if is_machines_fault(error):
            raise
        return Rejected(file.name, file.size, reason_of(error, file))


def with_types(
    connection: duckdb.DuckDBPyConnection, reading: Reading, guard: Guard | None = None, *, whole: bool
) -> Reading | Rejected:
    """Return how a file is read whose names are known, with types from a sample of its rows or from all of them."""
    guard = guard or Guard()
    file = reading.file
    try:
        with guard.watching():
            if isinstance(reading, CsvReading):
                return typed(connection, reading, whole=whole)
            if file.format in {FileFormat.JSON, FileFormat.NDJSON}:
                return json_reading(connection, file, guard.limits, whole=whole)
            return reading
    except Exception as error:
        if is_machines_fault(error):
            raise
        return Rejected(file.name, file.size, reason_of(error, file))


def _reading(connection: duckdb.DuckDBPyConnection, file: SourceFile, spool: Path, guard: Guard) -> Reading:
    limits = guard.limits
    match file.format:
        case FileFormat.CSV | FileFormat.TSV:
            return csv_reading(connection, file, spool, guard)
        case FileFormat.JSON | FileFormat.NDJSON:
            if file.is_gzipped and file.size * _MOST_PACKED > limits.max_unpacked_bytes:
                _check_unpacked(file, guard)
            return json_reading(connection, file, limits, whole=False)
        case FileFormat.PARQUET:
            return parquet_reading(connection, file, limits)


def _check_unpacked(file: SourceFile, guard: Guard) -> None:
    """Unpack a file to count its bytes. Raises LimitError, OSError, EOFError, zlib.error."""
    limits: FileLimits = guard.limits
    size = 0
    with gzip.open(file.path) as packed:
        while some := packed.read(_AT_ONCE):
            size += len(some)
            guard.check()
            limits.check_unpacked(size, at_least=True)
