"""How Parquet files are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from flows.column_names import check_names
from flows.column_types import JSON, TEXT, is_nested
from flows.quoting import identifier, path_literal
from flows.reading import FileColumn, raw
from flows.source_file import SourceFile


@dataclass(frozen=True)
class ParquetReading:
    """Columns have the types that the file says, nested ones become JSON."""

    file: SourceFile
    columns: tuple[FileColumn, ...]
    is_sampled: bool = False

    def read_type(self, column: FileColumn, target_type: str) -> str:
        """Return the type that the file itself says."""
        return column.new_type

    def scan(self, read_types: Sequence[str]) -> str:
        """Return the query of the rows; see `Reading`."""
        selected = ", ".join(_value(column, at) for at, column in enumerate(self.columns))
        return f"SELECT {selected} FROM {_read_parquet(self.file)}"


def parquet_reading(connection: duckdb.DuckDBPyConnection, file: SourceFile) -> ParquetReading:
    """Find out how to read a Parquet file. Raises RejectionError, and duckdb.Error for a file that cannot be read."""
    described = connection.execute(f"DESCRIBE SELECT * FROM {_read_parquet(file)}").fetchall()
    check_names(row[0] for row in described)
    return ParquetReading(file, tuple(FileColumn(row[0], _column_type(row[1])) for row in described))


def _column_type(type_: str) -> str:
    if is_nested(type_):
        return JSON
    return TEXT if type_.startswith("ENUM") or type_ == '"NULL"' else type_


def _value(column: FileColumn, position: int) -> str:
    name = identifier(column.name)
    convert = "to_json" if column.new_type == JSON else ""
    cast = f"CAST({name} AS VARCHAR)" if column.new_type == TEXT else f"{convert}({name})"
    return f"{cast} AS {raw(position)}"


def _read_parquet(file: SourceFile) -> str:
    return f"read_parquet({path_literal(file.path)}, hive_partitioning = false)"
