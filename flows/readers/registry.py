"""Choose the reader for a file's format, and turn its errors into a rejected file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

from flows.errors import RejectionError, is_infrastructure_error, original_of, reason_of
from flows.readers.base import Reading
from flows.readers.csv_files import csv_reading
from flows.readers.formatted import FormattedRules, formatted_reading, with_bad_rows
from flows.readers.guard import Guard, LimitError
from flows.readers.json_files import json_reading
from flows.readers.parquet_files import parquet_reading
from flows.readers.ruled import ruled
from flows.rules import NO_RULES, JsonFormat, LoadRules
from flows.source_file import FileFormat, Rejected, SourceFile


def read_plan(
    connection: duckdb.DuckDBPyConnection,
    file: SourceFile,
    spool: Path,
    guard: Guard | None = None,
    rules: LoadRules = NO_RULES,
) -> Reading | Rejected:
    """Return how to read a file, with types from a sample of its rows, or why it is rejected.

    Text that must be unpacked or rewritten for DuckDB is written to the folder `spool`.
    """
    guard = guard or Guard()
    return _or_rejected(file, guard, lambda: ruled(_reading(connection, file, spool, guard, rules), rules))


def with_types(
    connection: duckdb.DuckDBPyConnection, reading: Reading, guard: Guard | None = None, *, whole: bool
) -> Reading | Rejected:
    """Return the reading with its columns' types, from a sample of the rows or from all, or why it is rejected."""
    guard = guard or Guard()
    return _or_rejected(reading.file, guard, lambda: reading.with_types(connection, whole=whole))


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


def _reading(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, spool: Path, guard: Guard, rules: LoadRules
) -> Reading:
    if isinstance(rules.format, FormattedRules) or file.format is FileFormat.EXCEL:
        return formatted_reading(connection, file, spool, guard, rules)
    match file.format:
        case FileFormat.CSV | FileFormat.TSV:
            if rules.bad_rows:
                return _csv_with_bad_rows(connection, file, spool, guard, rules)
            return csv_reading(connection, file, spool, guard)
        case FileFormat.JSON | FileFormat.NDJSON:
            records = rules.format.records if isinstance(rules.format, JsonFormat) else None
            return json_reading(connection, file, spool, guard, records)
        case FileFormat.PARQUET:
            return parquet_reading(connection, file, guard, spool)
        case FileFormat.XML:
            raise RejectionError(
                "an XML file needs a rule that says which elements are the rows: set `format: {type: xml, records:"
                " path/of/the/elements}` of the inbox"
            )
        case FileFormat.FIXED_WIDTH:
            raise RejectionError(f"files of the format {file.format.value} need rules; set `format` of the inbox")


def _csv_with_bad_rows(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, spool: Path, guard: Guard, rules: LoadRules
) -> Reading:
    """Return how to read a CSV or TSV file as without the rule `bad_rows`; if that rejects it, put bad rows aside."""
    try:
        reading = csv_reading(connection, file, spool, guard)
        # DuckDB checks only the records that it reads, and the first ones show the types.
        connection.execute(f"SELECT count(COLUMNS(*)) FROM ({reading.scan(())})").fetchall()
    except LimitError:
        raise
    except Exception as error:
        if is_infrastructure_error(error):
            raise
        return with_bad_rows(connection, file, spool, guard, rules, error)
    return reading
