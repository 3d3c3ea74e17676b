"""Load keys: what has been loaded already, written in the same transaction as the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from flows.quoting import identifier
from flows.source_file import SourceFile
from flows.target_table import TargetTable


@dataclass(frozen=True)
class LoadKey:
    """One file of one arrival; it goes into one table once."""

    arrival_id: str
    file_name: str
    target_table: str


def create_loads(connection: duckdb.DuckDBPyConnection, table: TargetTable) -> None:
    """Create the target's schema and the table of its load keys, if they are not there."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(table.catalog)}.{identifier(table.schema)}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {table.loads_sql} (arrival_id VARCHAR, file_name VARCHAR, target_table VARCHAR,"
        " rows BIGINT NOT NULL, bytes BIGINT NOT NULL, loaded_at TIMESTAMP WITH TIME ZONE NOT NULL,"
        " PRIMARY KEY (arrival_id, file_name, target_table))"
    )


def loaded_rows(connection: duckdb.DuckDBPyConnection, table: TargetTable, key: LoadKey) -> int | None:
    """Return how many rows were loaded under a key; None if it has not been loaded."""
    found = connection.execute(
        f"SELECT rows FROM {table.loads_sql} WHERE arrival_id = ? AND file_name = ? AND target_table = ?",
        [key.arrival_id, key.file_name, key.target_table],
    ).fetchone()
    return None if found is None else found[0]


def loads_of_arrival(connection: duckdb.DuckDBPyConnection, table: TargetTable, arrival_id: str) -> dict[str, int]:
    """Return which files of an arrival have been loaded, by name, and how many rows each has."""
    found = connection.execute(
        f"SELECT file_name, rows FROM {table.loads_sql} WHERE arrival_id = ? AND target_table = ?",
        [arrival_id, str(table)],
    ).fetchall()
    return dict(found)


def remove_load(connection: duckdb.DuckDBPyConnection, table: TargetTable, key: LoadKey) -> int | None:
    """Delete a key and its file's rows and return how many rows; None, and nothing deleted, if it was not loaded.

    The key may be written again in the same transaction: DuckDB 2.0 holds a primary key against what the transaction
    itself has left of the table, also after the file was opened anew and when the rows have one as well (measured).
    """
    (keys,) = connection.execute(
        f"DELETE FROM {table.loads_sql} WHERE arrival_id = ? AND file_name = ? AND target_table = ?",
        [key.arrival_id, key.file_name, key.target_table],
    ).fetchall()[0]
    if not keys:
        return None
    return connection.execute(
        f"DELETE FROM {table.sql} WHERE _arrival_id = ? AND _file_name = ?", [key.arrival_id, key.file_name]
    ).fetchall()[0][0]


def record_load(
    connection: duckdb.DuckDBPyConnection, table: TargetTable, key: LoadKey, *, rows: int, size: int, at: datetime
) -> None:
    """Write a key; `size` is in bytes."""
    connection.execute(
        f"INSERT INTO {table.loads_sql} VALUES (?, ?, ?, ?, ?, ?)",
        [key.arrival_id, key.file_name, key.target_table, rows, size, at],
    )


def record_loads(
    connection: duckdb.DuckDBPyConnection,
    table: TargetTable,
    arrival_id: str,
    files: Sequence[SourceFile],
    rows: Sequence[int],
    at: datetime,
) -> None:
    """Write the keys of several files, `rows` of each."""
    connection.execute(
        f"INSERT INTO {table.loads_sql} SELECT ?, unnest(?), ?, unnest(?), unnest(?), ?",
        [arrival_id, [file.name for file in files], str(table), rows, [file.size for file in files], at],
    )
