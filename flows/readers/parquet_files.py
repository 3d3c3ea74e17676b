"""Read Parquet files with DuckDB, but by the file's own schema, which DuckDB does not follow in every case.

The footer, the pages and some values are checked first; other checks are part of the query and stop it with an error.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from flows.errors import REASON_PREFIX, RejectionError
from flows.readers.base import AsWritten, FileColumn, check_names, paths, selection
from flows.readers.column_types import JSON, TEXT, is_nested
from flows.readers.csv_files import table_name
from flows.readers.guard import Guard
from flows.readers.parquet_footer import (
    REPEATED,
    Converted,
    Element,
    Footer,
    Logical,
    Type,
    check_nested_names,
    read_footer,
)
from flows.readers.parquet_values import check_pages, check_raw_values, needs_raw_check
from flows.source_file import SourceFile
from flows.sql_names import identifier, literal

_ROW_NUMBER = "file_row_number"
"""DuckDB's column with the number of a row, counted from 0; a file may have a column of this name, too."""
_DUCKDB = "DuckDB"
"""Part of `created_by` in files written by DuckDB, in which the largest number stands for infinity."""
_WITHOUT_CONVERTED = (
    Logical.DECIMAL,
    Logical.DATE,
    Logical.INTEGER,
)
"""Logical types that DuckDB recognizes only by their converted types."""
_FRACTIONS = (Type.FLOAT, Type.DOUBLE)
_TEXTS = (Logical.STRING, Logical.ENUM, Logical.JSON)
_LONGEST_DECIMAL = 38
_BOUNDS = {
    "DATE": "DATE '5877642-06-25 (BC)'",
    "TIMESTAMP": "TIMESTAMP '290309-12-22 (BC) 00:00:00'",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ '290309-12-22 (BC) 00:00:00+00'",
}
"""The first value of each type; DuckDB cannot even print an earlier one."""


@dataclass(frozen=True)
class ParquetReading(AsWritten):
    """How DuckDB reads a Parquet file: columns with the file's own types, nested ones as JSON."""

    file: SourceFile
    columns: tuple[FileColumn, ...]
    schema: tuple[tuple[str, str], ...]
    """Names and types in DuckDB, which distinguish more than `columns`, where all nested types are JSON."""
    values: tuple[str, ...]
    """The SQL expression of each column's value."""
    texts: tuple[str, ...]
    """The same, for a value that goes into a column of texts."""
    rows: int
    """The number of rows in the footer."""
    binary_is_text: bool = False
    """Whether binary values must be UTF-8 text, because some of them are nested and become JSON."""
    is_sampled: bool = False
    empty_is_null: bool = False

    def read_type(self, column: FileColumn, target_type: str) -> str:
        """Return the file's own type, or text for binary values that do not go into a binary column."""
        return TEXT if column.new_type == "BLOB" != target_type else column.new_type

    @property
    def shape(self) -> Hashable:
        """Return a key that is equal for files that one query can read together."""
        return ("parquet", self.schema, self.values, self.binary_is_text)

    def scan(self, read_types: Sequence[str], together: Sequence[SourceFile] = ()) -> str:
        """Return the query of the rows; see `Reading`."""
        types = read_types or [column.new_type for column in self.columns]
        chosen = (
            text if type_ == TEXT else value for value, text, type_ in zip(self.values, self.texts, types, strict=True)
        )
        return f"SELECT {selection(chosen, together)} FROM {_read_parquet(self.file, self.binary_is_text, together)}"


def parquet_reading(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, guard: Guard, spool: Path
) -> ParquetReading:
    """Return how to read a Parquet file; columns of some types are copied to the folder `spool` to be checked.

    Raises RejectionError, and duckdb.Error for a file that cannot be read.
    """
    reading = parquet_header_scan(connection, file, guard, spool)
    assert reading is not None  # noqa: S101 - with a spool it never is
    return reading


def parquet_header_scan(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, guard: Guard, spool: Path | None = None
) -> ParquetReading | None:
    """Return how to read a file; None if values must be checked first and there is no spool.

    Raises the same errors as `parquet_reading`.
    """
    limits = guard.limits
    with file.path.open("rb") as opened:
        footer = read_footer(opened)
        limits.check_columns(len(footer.columns))
        limits.check_rows(footer.rows)
        names = tuple(table_name(one.name) or f"column{at}" for at, one in enumerate(footer.columns))
        check_names(names)
        for column in footer.columns:
            check_nested_names(column)
            _check_types(column)
        limits.check_unpacked(check_pages(opened.fileno(), footer, guard.check))
        if needs_raw_check(footer):
            if spool is None:
                return None
            check_raw_values(connection, opened, footer, spool)
    return _described(connection, file, footer, names)


def _described(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, footer: Footer, names: Sequence[str]
) -> ParquetReading:
    binary_is_text = any(_has_nested_binary(column) for column in footer.columns)
    read = _read_parquet(file, binary_is_text)
    schema = tuple((row[0], row[1]) for row in connection.execute(f"DESCRIBE SELECT * FROM {read}").fetchall())
    if len(schema) != len(footer.columns):
        raise RejectionError(f"the Parquet file has {len(footer.columns):,} columns, and {len(schema):,} can be read")
    place = "'row ' || (file_row_number + 1) || ', '" if _ROW_NUMBER not in {name.lower() for name in names} else "''"
    columns: list[FileColumn] = []
    values: list[str] = []
    texts: list[str] = []
    for element, name, (source, type_) in zip(footer.columns, names, schema, strict=True):
        new_type = _new_type(element, type_)
        where = f"{place} || " + literal(f'column "{name}": ')
        value = _checked_value(element, identifier(source), type_, where, is_infinite=_DUCKDB in footer.created_by)
        columns.append(FileColumn(name, new_type))
        text = _decoded(identifier(source), where) if type_ == "BLOB" else value
        texts.append(text)
        if type_ == "BLOB" and new_type == JSON:
            value = f"CAST({_valid_json(text, where)} AS JSON)"
        values.append(text if new_type == TEXT else value)
    return ParquetReading(file, tuple(columns), schema, tuple(values), tuple(texts), footer.rows, binary_is_text)


def _new_type(element: Element, type_: str) -> str:
    """Return the type to read a column as, given the type that DuckDB reports."""
    if type_ == "BLOB" and element.logical in _TEXTS:
        return JSON if element.logical == Logical.JSON else TEXT
    return type_read(type_)


def _check_types(column: Element) -> None:
    """Raise RejectionError for a type that DuckDB confuses with another, or does not know."""
    for path in column.paths():
        leaf, name = path[-1], ".".join(one.name for one in path)
        is_decimal = leaf.converted == Converted.DECIMAL or leaf.logical == Logical.DECIMAL
        if is_decimal and leaf.precision > _LONGEST_DECIMAL:
            raise RejectionError(
                f'column "{name}": decimals of {leaf.precision} digits, the limit is {_LONGEST_DECIMAL};'
                f" write them with {_LONGEST_DECIMAL} or fewer, or as text"
            )
        if is_decimal and not 0 <= leaf.scale <= leaf.precision:
            raise RejectionError(
                f'column "{name}": decimals of {leaf.precision} digits with {leaf.scale} behind the point'
            )
        if leaf.converted == Converted.BSON or leaf.logical == Logical.BSON:
            raise RejectionError(f'column "{name}": BSON is not supported; write JSON')
        if leaf.converted is None and leaf.logical in _WITHOUT_CONVERTED and not _is_plain_integer(leaf):
            raise RejectionError(
                f'column "{name}": the file says that it holds {Logical(leaf.logical).name} by a logical type alone;'
                " write it with the converted type, too, as most programs do"
            )
        if leaf.logical == Logical.UUID and leaf.length != 16:
            raise RejectionError(f'column "{name}": UUIDs of {leaf.length} bytes instead of 16')
    _check_groups(column, column.name)


def _is_plain_integer(leaf: Element) -> bool:
    """Return whether a logical INTEGER adds nothing to the physical type."""
    details = leaf.details or {}
    bits = {Type.INT32: 32, Type.INT64: 64}.get(Type(leaf.type or 0))
    return leaf.logical == Logical.INTEGER and bool(details.get(2)) and details.get(1) == bits


def _check_groups(element: Element, name: str) -> None:
    if element.type is None and not element.children:
        raise RejectionError(f'column "{name}": a group without columns has no values; leave it out')
    for child in element.children:
        _check_groups(child, f"{name}.{child.name}")


def _has_nested_binary(column: Element) -> bool:
    if column.type is not None and column.repetition != REPEATED:
        return False
    return not _is_variant(column) and any(
        _is_binary(path[-1]) and not any(map(_is_variant, path)) for path in column.paths()
    )


def _is_variant(element: Element) -> bool:
    return element.logical == Logical.VARIANT


def _is_binary(leaf: Element) -> bool:
    if leaf.type not in (Type.BYTE_ARRAY, Type.FIXED) or leaf.converted is not None:
        return False
    return leaf.logical in (None, *_TEXTS)


def _checked_value(element: Element, name: str, type_: str, where: str, *, is_infinite: bool) -> str:
    """Return the SQL expression of a column's value, which stops the query at an invalid value."""
    text = f"CAST({name} AS VARCHAR)"
    if is_nested(type_):
        json = f"to_json({name})"
        if not any(path[-1].type in _FRACTIONS or any(map(_is_variant, path)) for path in element.paths()):
            return json
        return _finite(json, json, where)
    if type_.startswith("DECIMAL"):
        largest = "9" * (element.precision - element.scale) + "." + "9" * element.scale
        fits = f"BETWEEN CAST('-{largest}' AS {type_}) AND CAST('{largest}' AS {type_})"
        return _unless(f"{name} NOT {fits}", name, where, f"{text} || ' has more than {element.precision} digits'")
    if type_ == JSON:  # DuckDB has checked the JSON, but accepts NaN and Infinity
        return _finite(name, text, where)
    if type_ in _BOUNDS or type_.startswith("TIMESTAMP"):
        early = f"{name} < {_BOUNDS[type_]} AND {name} <> CAST('-infinity' AS {type_})" if type_ in _BOUNDS else ""
        bounds = [early] if early else []
        bounds += [] if is_infinite else [f"{text} IN ('infinity', '-infinity')"]
        return _unless(" OR ".join(bounds), name, where, "'a moment out of reach'") if bounds else name
    return text if type_read(type_) == TEXT != type_ else name


def _finite(value: str, json: str, where: str) -> str:
    bad = (
        f"CASE WHEN contains({json}, 'N') OR contains({json}, 'n') THEN regexp_matches("
        rf"""regexp_replace({json}, '"(\\.|[^"\\])*"', '', 'g'), '(?i)nan|inf') ELSE false END"""
    )
    return _unless(bad, value, where, "'NaN or Infinity within it, which JSON cannot hold'")


def _valid_json(value: str, where: str) -> str:
    text = f"CAST({value} AS VARCHAR)"
    return _unless(f"NOT json_valid({text})", value, where, f"left({text}, 80) || ' is not JSON'")


def _decoded(name: str, where: str) -> str:
    decoded = f"TRY(decode({name}))"
    return _unless(f"{name} IS NOT NULL AND {decoded} IS NULL", decoded, where, "'bytes that are not UTF-8 text'")


def _unless(bad: str, value: str, where: str, why: str) -> str:
    return f"CASE WHEN {bad} THEN error('{REASON_PREFIX}' || {where} || {why}) ELSE {value} END"


def type_read(type_: str) -> str:
    """Return the type to read a column as that has this type in a Parquet file, or in a DuckDB table."""
    if is_nested(type_):
        return JSON
    return TEXT if type_.startswith("ENUM") or type_ == '"NULL"' else type_


def value_read(column: FileColumn) -> str:
    """Return the SQL expression of a column's value as it is read."""
    name = identifier(column.name)
    convert = "to_json" if column.new_type == JSON else ""
    return f"CAST({name} AS VARCHAR)" if column.new_type == TEXT else f"{convert}({name})"


def _read_parquet(file: SourceFile, binary_is_text: bool, together: Sequence[SourceFile] = ()) -> str:
    texts = ", binary_as_string = true" if binary_is_text else ""
    return f"read_parquet({paths(file, together)}, hive_partitioning = false{texts})"
