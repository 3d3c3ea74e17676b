"""From a file to how it is read, or to the reason why it cannot be."""

from __future__ import annotations

import duckdb

from flows.errors import is_reading_fault, reason_of
from flows.readers.base import Reading
from flows.readers.csv_files import csv_reading
from flows.readers.json_files import json_reading
from flows.readers.parquet_files import parquet_reading
from flows.source_file import FileFormat, Rejected, SourceFile


def read_plan(connection: duckdb.DuckDBPyConnection, file: SourceFile, *, whole: bool = False) -> Reading | Rejected:
    """Return how a file is read, from a sample of its rows or from all of them, or why it is rejected."""
    try:
        return _reading(connection, file, whole=whole)
    except Exception as error:
        if not is_reading_fault(error, file):
            raise
        return Rejected(file.name, file.size, reason_of(error, file))


def _reading(connection: duckdb.DuckDBPyConnection, file: SourceFile, *, whole: bool) -> Reading:
    match file.format:
        case FileFormat.CSV | FileFormat.TSV:
            return csv_reading(connection, file, whole=whole)
        case FileFormat.JSON | FileFormat.NDJSON:
            return json_reading(connection, file, whole=whole)
        case FileFormat.PARQUET:
            return parquet_reading(connection, file)
