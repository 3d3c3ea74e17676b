"""Read JSON and NDJSON files with DuckDB, each value as text or as JSON.

`json_text` checks the file first; DuckDB then has to find as many records.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import duckdb

from flows.errors import RejectionError
from flows.readers.base import (
    AsWritten,
    FileColumn,
    check_names,
    file_column,
    paths,
    sample_rows,
    selection,
    types_of_texts,
)
from flows.readers.column_types import JSON, MOMENT_TYPES, NUMBER_TYPES, TEXT
from flows.readers.compression import unpacked
from flows.readers.csv_files import table_name
from flows.readers.guard import HEAD_BYTES, FileLimits, Guard, check_signature, spooled
from flows.readers.json_record import LONGEST_RECORD
from flows.readers.json_text import (
    JsonLayout,
    JsonOutline,
    as_lines,
    json_layout,
    outline_of,
    records_of,
)
from flows.source_file import Compression, FileFormat, SourceFile
from flows.sql_names import identifier, literal, path_literal

_BOM = b"\xef\xbb\xbf"
_CANDIDATES: dict[type, tuple[str, ...] | None] = {
    int: NUMBER_TYPES,
    float: NUMBER_TYPES,
    bool: ("BOOLEAN",),
    str: MOMENT_TYPES,
    dict: None,
    list: None,
}
"""The types that a JSON value may get in a table; None if it stays JSON."""


@dataclass(frozen=True)
class JsonReading(AsWritten):
    """How DuckDB reads a JSON or NDJSON file: values as text, or as JSON for a JSON column."""

    file: SourceFile
    keys: tuple[str, ...]
    """The keys in the file, one per column."""
    candidates: tuple[tuple[str, ...] | None, ...]
    """The types that each column may get if it is new; None for objects, arrays and mixed types, which stay JSON."""
    rows: int
    """The number of records counted, which DuckDB has to find."""
    layout: JsonLayout
    text: Path | None = None
    """The file that is read instead of the source file: unpacked, or with one record per line."""
    columns: tuple[FileColumn, ...] = ()
    is_sampled: bool = False
    empty_is_null: bool = False

    def read_type(self, column: FileColumn, target_type: str) -> str:
        """Return JSON for a JSON column, which keeps a text's quotes, and VARCHAR for all others."""
        return JSON if target_type == JSON else TEXT

    def with_types(self, connection: duckdb.DuckDBPyConnection, *, whole: bool) -> JsonReading:
        """Return the reading with its columns' types, from a sample of the records or from all of them."""
        return typed(connection, self, whole=whole)

    @property
    def shape(self) -> Hashable:
        """Return a key that is equal for files that one query can read together."""
        return ("json", self.layout, self.keys, self.file.compression)

    def scan(self, read_types: Sequence[str], together: Sequence[SourceFile] = ()) -> str:
        """Return the query of the rows; see `Reading`."""
        typed = zip(self.keys, read_types, strict=True)
        columns = ", ".join(f"{literal(key)}: {literal(type_)}" for key, type_ in typed)
        source = path_literal(self.text) if self.text and not together else paths(self.file, together)
        compression = "gzip" if self.file.compression is Compression.GZIP and not self.text else "none"
        form = "unstructured" if self.layout is JsonLayout.OBJECTS else self.layout.value
        return (
            f"SELECT {selection(map(identifier, self.keys), together)} FROM read_json({source}, format = '{form}',"
            f" records = 'true', compression = '{compression}', hive_partitioning = false,"
            f" maximum_object_size = {LONGEST_RECORD + 1}, columns = {{{columns}}})"
        )


def json_header_scan(file: SourceFile, content: bytes, guard: Guard) -> JsonReading | None:
    """Return how to read a file with this content if types do not matter.

    None if DuckDB cannot read the file as it is. Raises RejectionError.
    """
    check_signature(content[:HEAD_BYTES], file.format)
    if content.startswith(_BOM):
        return None
    open_ = partial(BytesIO, content)
    layout, path = _layout(file.format, open_, guard, None)
    if layout is JsonLayout.WRAPPED:
        return None
    outline = outline_of(open_, layout, path, guard.check)
    return _reading(file, layout, outline, guard.limits) if outline.is_plain else None


def json_reading(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, spool: Path, guard: Guard, records: str | None = None
) -> JsonReading:
    """Return how to read a JSON or NDJSON file, with types from a sample of its records.

    `records` is the path of the list with the records in a JSON document, such as `data.items`.

    Text that DuckDB cannot read as it is is written to the folder `spool` in another form. Raises RejectionError,
    OSError, EOFError, zlib.error and duckdb.Error for a file that cannot be read.
    """
    text = spooled(unpacked(file, guard), spool, ".json") if file.compression else None
    source = text or file.path
    with source.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
    check_signature(head, file.format)
    open_ = partial(source.open, "rb")
    layout, path = _layout(file.format, open_, guard, records)
    is_plain = layout is not JsonLayout.WRAPPED and not head.startswith(_BOM)
    outline = outline_of(open_, layout, path, guard.check) if is_plain else JsonOutline()
    if not is_plain or not outline.is_plain:
        outline = JsonOutline()
        text = spooled(as_lines(records_of(open_, layout, path, guard.check), outline), spool, ".ndjson")
        layout = JsonLayout.LINES
    return typed(connection, replace(_reading(file, layout, outline, guard.limits), text=text))


def typed(connection: duckdb.DuckDBPyConnection, reading: JsonReading, *, whole: bool = False) -> JsonReading:
    """Return the reading with the columns' types, from a sample of the records or from all of them."""
    names = [column.name for column in reading.columns]
    if not names:
        return reading
    limit = None if whole else sample_rows(len(names))
    texts = reading.scan([TEXT] * len(names))
    rows, types = types_of_texts(connection, texts, [types or () for types in reading.candidates], limit)
    columns = tuple(
        FileColumn(name, JSON) if possible is None else file_column(name, type_)
        for name, possible, type_ in zip(names, reading.candidates, types, strict=True)
    )
    return replace(reading, columns=columns, is_sampled=rows == limit)


def _layout(
    file_format: FileFormat, open_: Callable[[], BinaryIO], guard: Guard, records: str | None
) -> tuple[JsonLayout, Sequence[str]]:
    if file_format is FileFormat.NDJSON:
        return JsonLayout.LINES, ()
    return (JsonLayout.WRAPPED, records.split(".")) if records else json_layout(open_, guard.check)


def _reading(file: SourceFile, layout: JsonLayout, outline: JsonOutline, limits: FileLimits) -> JsonReading:
    limits.check_columns(len(outline.keys))
    limits.check_rows(outline.records)
    if outline.records and not outline.keys:
        raise RejectionError("its objects have no fields")
    names = tuple(map(table_name, outline.keys))
    if not all(names):
        raise RejectionError("a field whose name has no visible character; give it one")
    check_names(names)
    return JsonReading(
        file,
        tuple(outline.keys),
        tuple(_candidates(kinds) for kinds in outline.keys.values()),
        outline.records,
        layout,
        columns=tuple(FileColumn(name, JSON) for name in names),
    )


def _candidates(kinds: Iterable[type]) -> tuple[str, ...] | None:
    """Return the types that a column may get; None for objects, arrays and mixed types, which stay JSON."""
    possible = {_CANDIDATES[kind] for kind in kinds if kind is not type(None)}
    return possible.pop() if len(possible) == 1 else (() if not possible else None)
