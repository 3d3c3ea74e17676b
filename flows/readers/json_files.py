"""How JSON and NDJSON files are read."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import duckdb

from flows.errors import RejectionError, is_reading_fault
from flows.readers.base import SAMPLE_ROWS, FileColumn, check_names, file_column, paths, raw, selection, types_of_texts
from flows.readers.column_types import JSON, MOMENT_TYPES, NUMBER_TYPES, TEXT
from flows.source_file import FileFormat, SourceFile
from flows.sql_names import identifier, literal

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


def json_reading(connection: duckdb.DuckDBPyConnection, file: SourceFile, *, whole: bool) -> JsonReading:
    """Find out how to read a JSON array, NDJSON or JSON objects in a row.

    All records are asked for their keys, as a key that is not known beforehand would be dropped silently; the values'
    types come from a sample of the records or from all of them. Raises RejectionError, and duckdb.Error for a file
    that cannot be read.
    """
    plain = json_header_scan(file, _keys(connection, [file])[0])
    names = [column.name for column in plain.columns]
    if not names:
        return plain
    limit = None if whole else SAMPLE_ROWS
    candidates = [_candidates(kinds) for kinds in _kinds(connection, plain, limit)]
    texts = plain.scan([TEXT] * len(names))
    rows, types = types_of_texts(connection, texts, [types or () for types in candidates], limit)
    columns = tuple(
        FileColumn(name, JSON) if possible is None else file_column(name, type_)
        for name, possible, type_ in zip(names, candidates, types, strict=True)
    )
    return JsonReading(file, columns, is_sampled=rows == limit)


def json_header_scan(file: SourceFile, keys: Sequence[str | None]) -> JsonReading:
    """Return how a file of these keys is read when the types do not matter. Raises RejectionError."""
    names = [key for key in keys if key]
    if len(names) < len(keys):
        raise RejectionError("expected JSON objects with named fields, one for each row")
    check_names(names)
    return JsonReading(file, tuple(FileColumn(name, JSON) for name in names))


def keys_of(
    connection: duckdb.DuckDBPyConnection, files: Sequence[SourceFile]
) -> Iterator[tuple[SourceFile, list[str | None] | None]]:
    """Yield files of one layout, each with its keys; None if it cannot be read.

    They are asked together; when that fails, each half by itself, so that one that is broken costs little.
    """
    try:
        yield from zip(files, _keys(connection, files), strict=True)
    except Exception as error:
        if not is_reading_fault(error, files[0]):
            raise
        if len(files) == 1:
            yield files[0], None
            return
        half = len(files) // 2
        yield from keys_of(connection, files[:half])
        yield from keys_of(connection, files[half:])


def _keys(connection: duckdb.DuckDBPyConnection, files: Sequence[SourceFile]) -> list[list[str | None]]:
    """Return for each file the keys of all its records, in the order in which records have them."""
    table = _read_json(files[0], "'record': 'JSON'", "false", files)
    found = connection.execute(
        "SELECT file, key, min(position) AS first FROM (SELECT file, unnest(keys) AS key,"
        " generate_subscripts(keys, 1) AS position FROM (SELECT file_index AS file,"
        f" if(json_type(record) = 'OBJECT', json_keys(record), [NULL]) AS keys FROM {table}))"
        " GROUP BY file, key ORDER BY first, key"
    ).fetchall()
    keys: list[list[str | None]] = [list[str | None]() for _ in files]
    for file, key, _ in found:
        keys[int(file)].append(key)
    return keys


def _kinds(connection: duckdb.DuckDBPyConnection, reading: JsonReading, limit: int | None) -> list[list[str]]:
    """Return for each column which kinds of JSON values it has, nulls left out."""
    rows = reading.scan([JSON] * len(reading.columns)) + ("" if limit is None else f" LIMIT {limit}")
    kinds = ", ".join(f"list(DISTINCT json_type({raw(at)}))" for at in range(len(reading.columns)))
    return [
        [kind for kind in found or () if kind not in {None, "NULL"}]
        for found in connection.execute(f"SELECT {kinds} FROM ({rows})").fetchall()[0]
    ]


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
