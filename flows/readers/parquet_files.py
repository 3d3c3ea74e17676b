"""How Parquet files are read."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import duckdb

from flows.file_limits import FileLimits
from flows.readers.base import FileColumn, check_names, paths, selection
from flows.readers.column_types import JSON, TEXT, is_nested
from flows.source_file import SourceFile
from flows.sql_names import identifier, path_literal

_LITTLE = 100_000
"""A file of fewer bytes is not asked for what it unpacks to: more than some hundred MB it cannot say."""


@dataclass(frozen=True)
class ParquetReading:
    """Columns have the types that the file says, nested ones become JSON."""

    file: SourceFile
    columns: tuple[FileColumn, ...]
    schema: tuple[tuple[str, str], ...]
    """Names and types as the file says them, which is more than the columns tell: all that is nested becomes JSON."""
    is_sampled: bool = False
    rows: int | None = None
    empty_is_null: bool = False

    def read_type(self, column: FileColumn, target_type: str) -> str:
        """Return the type that the file itself says."""
        return column.new_type

    @property
    def shape(self) -> Hashable:
        """Return what files have in common that one query can read together."""
        return ("parquet", self.schema)

    def scan(self, read_types: Sequence[str], together: Sequence[SourceFile] = ()) -> str:
        """Return the query of the rows; see `Reading`."""
        return f"SELECT {selection(map(value_read, self.columns), together)} FROM {_read_parquet(self.file, together)}"


def parquet_reading(connection: duckdb.DuckDBPyConnection, file: SourceFile, limits: FileLimits) -> ParquetReading:
    """Find out how to read a Parquet file. Raises RejectionError, and duckdb.Error for a file that cannot be read."""
    _check_limits(connection, file, limits)
    described = connection.execute(f"DESCRIBE SELECT * FROM {_read_parquet(file)}").fetchall()
    schema = tuple((row[0], row[1]) for row in described)
    check_names(name for name, _ in schema)
    return ParquetReading(file, tuple(FileColumn(name, type_read(type_)) for name, type_ in schema), schema)


def _check_limits(connection: duckdb.DuckDBPyConnection, file: SourceFile, limits: FileLimits) -> None:
    """Raise LimitError for what the file's footer says to be over a limit."""
    path = path_literal(file.path)
    found = connection.execute(
        f"SELECT num_rows, (SELECT first(num_children) FROM parquet_schema({path})) FROM parquet_file_metadata({path})"
    ).fetchall()
    rows, columns = found[0]
    limits.check_columns(columns or 0)
    limits.check_rows(rows)
    if file.size > _LITTLE:
        size = "sum(greatest(total_uncompressed_size, total_compressed_size))"
        ((size,),) = connection.execute(f"SELECT {size} FROM parquet_metadata({path})").fetchall()
        limits.check_unpacked(int(size or 0))


def type_read(type_: str) -> str:
    """Return the type that a column is read as which has this one in a Parquet file, or in a table of DuckDB's."""
    if is_nested(type_):
        return JSON
    return TEXT if type_.startswith("ENUM") or type_ == '"NULL"' else type_


def value_read(column: FileColumn) -> str:
    """Return the expression of a column's value as it is read."""
    name = identifier(column.name)
    convert = "to_json" if column.new_type == JSON else ""
    return f"CAST({name} AS VARCHAR)" if column.new_type == TEXT else f"{convert}({name})"


def _read_parquet(file: SourceFile, together: Sequence[SourceFile] = ()) -> str:
    return f"read_parquet({paths(file, together)}, hive_partitioning = false)"
