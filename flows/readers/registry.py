"""From a file to how it is read, or to the reason why it cannot be."""

from __future__ import annotations

import gzip

import duckdb

from flows.errors import is_machines_fault, reason_of
from flows.file_limits import FileLimits
from flows.readers.base import Reading
from flows.readers.csv_files import csv_reading
from flows.readers.guard import Guard
from flows.readers.json_files import json_reading
from flows.readers.parquet_files import parquet_reading
from flows.source_file import FileFormat, Rejected, SourceFile

_MOST_PACKED = 1032
"""By how much gzip packs at most."""
_AT_ONCE = 1 << 20


def read_plan(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, guard: Guard | None = None, *, whole: bool = False
) -> Reading | Rejected:
    """Return how a file is read, from a sample of its rows or from all of them, or why it is rejected."""
    guard = guard or Guard()
    try:
        with guard.watching():
            return _reading(connection, file, guard, whole=whole)
    except Exception as error:
        if is_machines_fault(error):
            raise
        return Rejected(file.name, file.size, reason_of(error, file))


def _reading(connection: duckdb.DuckDBPyConnection, file: SourceFile, guard: Guard, *, whole: bool) -> Reading:
    limits = guard.limits
    if not whole and file.is_gzipped and file.size * _MOST_PACKED > limits.max_unpacked_bytes:
        _check_unpacked(file, guard)
    match file.format:
        case FileFormat.CSV | FileFormat.TSV:
            return csv_reading(connection, file, limits, whole=whole)
        case FileFormat.JSON | FileFormat.NDJSON:
            return json_reading(connection, file, limits, whole=whole)
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
