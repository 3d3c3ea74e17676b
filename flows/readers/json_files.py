"""How JSON and NDJSON files are read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import duckdb

from flows.errors import RejectionError, is_machines_fault
from flows.file_limits import FileLimits
from flows.readers.base import FileColumn, check_names, file_column, paths, sample_rows, selection, types_of_texts
from flows.readers.column_types import JSON, MOMENT_TYPES, NUMBER_TYPES, TEXT
from flows.readers.guard import Guard, Reader
from flows.source_file import FileFormat, SourceFile
from flows.sql_names import identifier, literal

_RECORDS = "'record': 'JSON'"
"""The columns of records that are read as they are."""
_CANDIDATES = {
    "BIGINT": NUMBER_TYPES,
    "UBIGINT": NUMBER_TYPES,
    "DOUBLE": NUMBER_TYPES,
    "BOOLEAN": ("BOOLEAN",),
    "VARCHAR": MOMENT_TYPES,
}
"""What a JSON value may become in a table, by what `json_type` calls it; objects and arrays stay JSON."""


@dataclass(frozen=True)
class JsonReading:
    """Values are read as texts, and as JSON where they go into a JSON column."""

    file: SourceFile
    columns: tuple[FileColumn, ...] = ()
    is_sampled: bool = False
    rows: int | None = None
    empty_is_null: bool = False

    def read_type(self, column: FileColumn, target_type: str) -> str:
        """Return JSON for a JSON column, which keeps a text's quotes, and VARCHAR for all others."""
        return JSON if target_type == JSON else TEXT

    @property
    def shape(self) -> Hashable:
        """Return what files have in common that one query can read together."""
        return (_layout(self.file), tuple(column.name for column in self.columns), self.file.is_gzipped)

    def scan(self, read_types: Sequence[str], together: Sequence[SourceFile] = ()) -> str:
        """Return the query of the rows; see `Reading`."""
        names = [column.name for column in self.columns]
        typed = zip(names, read_types, strict=True)
        columns = ", ".join(f"{literal(name)}: {literal(type_)}" for name, type_ in typed)
        selected = selection(map(identifier, names), together)
        return f"SELECT {selected} FROM {_read_json(self.file, columns, 'true', together)}"


def json_reading(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, limits: FileLimits, *, whole: bool
) -> JsonReading:
    """Find out how to read a JSON array, NDJSON or JSON objects in a row.

    All records are asked for their keys, as a key that is not known beforehand would be dropped silently; the values'
    types come from a sample of the records or from all of them. Raises RejectionError, and duckdb.Error for a file
    that cannot be read.
    """
    plain = json_header_scan(file, _keys(connection, [file], limits)[0], limits)
    names = [column.name for column in plain.columns]
    if not names:
        return plain
    limit = None if whole else sample_rows(len(names))
    kinds = _kinds(connection, file, limit)
    candidates = [_candidates(kinds.get(name, ())) for name in names]
    texts = plain.scan([TEXT] * len(names))
    rows, types = types_of_texts(connection, texts, [types or () for types in candidates], limit)
    columns = tuple(
        FileColumn(name, JSON) if possible is None else file_column(name, type_)
        for name, possible, type_ in zip(names, candidates, types, strict=True)
    )
    return JsonReading(file, columns, is_sampled=rows == limit)


def json_header_scan(file: SourceFile, keys: Sequence[str | None], limits: FileLimits) -> JsonReading:
    """Return how a file of these keys is read when the types do not matter. Raises RejectionError."""
    names = [key for key in keys if key]
    if len(names) < len(keys):
        raise RejectionError("expected JSON objects with named fields, one for each row")
    limits.check_columns(len(names))
    check_names(names)
    return JsonReading(file, tuple(FileColumn(name, JSON) for name in names))


def keys_of(
    reader: Reader, files: Sequence[SourceFile], guard: Guard
) -> Iterator[tuple[SourceFile, list[str | None] | None]]:
    """Yield files of one layout, each with its keys; None if it cannot be read, or has too many.

    They are asked together; when that fails, each half by itself, so that one that is broken costs little.
    """
    try:
        with guard.watching(len(files)):
            keys = _keys(reader.connection, files, guard.limits)
    except Exception as error:
        if is_machines_fault(error):
            raise
        reader.renew()
        if len(files) == 1:
            yield files[0], None
            return
        half = len(files) // 2
        yield from keys_of(reader, files[:half], guard)
        yield from keys_of(reader, files[half:], guard)
    else:
        for file, found in zip(files, keys, strict=True):
            yield file, found if len(found) <= guard.limits.max_columns else None


def _keys(
    connection: duckdb.DuckDBPyConnection, files: Sequence[SourceFile], limits: FileLimits
) -> list[list[str | None]]:
    """Return for each file the keys of all its records, in the order in which records have them.

    Raises LimitError for a single file that has too many; of one among others not all are returned.
    """
    table = _read_json(files[0], _RECORDS, "false", files)
    found = connection.execute(
        "SELECT file, key, min(position) AS first FROM (SELECT file, unnest(keys) AS key,"
        " generate_subscripts(keys, 1) AS position FROM (SELECT file_index AS file,"
        f" if(json_type(record) = 'OBJECT', json_keys(record), [NULL]) AS keys FROM {table}))"
        " GROUP BY file, key ORDER BY first, key"
    )
    keys: list[list[str | None]] = [list[str | None]() for _ in files]
    count = 0
    while some := found.fetchmany(10_000):
        count += len(some)
        for file, key, _ in some:
            if len(keys[int(file)]) <= limits.max_columns:
                keys[int(file)].append(key)
    if len(files) == 1:
        limits.check_columns(count)
    return keys


def _kinds(connection: duckdb.DuckDBPyConnection, file: SourceFile, limit: int | None) -> dict[str, list[str]]:
    """Return for each key which kinds of JSON values it has, nulls left out.

    The values come one below the other: a column for each took all memory from 140 keys on, and this takes 0.07 s for
    1,264 (measured, DuckDB 2.0).
    """
    records = "SELECT record FROM " + _read_json(file, _RECORDS, "false")
    values = (
        "SELECT unnest(json_keys(record)) AS key, unnest(json_extract(record, '$.*')) AS value"
        f" FROM ({records}{'' if limit is None else f' LIMIT {limit}'}) WHERE json_type(record) = 'OBJECT'"
    )
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    found = connection.execute(f"SELECT DISTINCT key, json_type(value) AS kind FROM ({values}) WHERE kind <> 'NULL'")
    for key, kind in found.fetchall():
        kinds[key].append(kind)
    return kinds


def _candidates(kinds: Sequence[str]) -> tuple[str, ...] | None:
    """Return what a column may become; None for JSON, which objects, arrays and mixtures stay."""
    possible = {_CANDIDATES.get(kind) for kind in kinds}
    return possible.pop() if len(possible) == 1 else (() if not possible else None)


def _layout(file: SourceFile) -> str:
    return "newline_delimited" if file.format is FileFormat.NDJSON else "auto"


def _read_json(file: SourceFile, columns: str, records: str, together: Sequence[SourceFile] = ()) -> str:
    compression = "gzip" if file.is_gzipped else "none"
    return (
        f"read_json({paths(file, together)}, format = '{_layout(file)}', records = '{records}',"
        f" compression = '{compression}', hive_partitioning = false, columns = {{{columns}}})"
    )
