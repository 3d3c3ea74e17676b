"""The columns of the target table: which there are, and how more are added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from flows.quoting import identifier
from flows.target_table import RESERVED_COLUMNS, TargetTable


@dataclass(frozen=True)
class TableColumn:
    """A column of the table, under its real name and with DuckDB's name of its type."""

    name: str
    type: str


def existing_columns(connection: duckdb.DuckDBPyConnection, table: TargetTable) -> dict[str, TableColumn]:
    """Return the table's columns by their lower-case names; empty when there is no such table."""
    found = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns()"
        " WHERE database_name = ? AND lower(schema_name) = ? AND lower(table_name) = ?",
        [table.catalog, table.schema, table.table],
    ).fetchall()
    return {name.lower(): TableColumn(name, type_) for name, type_ in found}


def has_unique_rows(connection: duckdb.DuckDBPyConnection, table: TargetTable) -> bool:
    """Tell whether what the table has already decides about what else it takes: a key that somebody gave it."""
    (found,) = connection.execute(
        "SELECT count(*) FROM (SELECT database_name, schema_name, table_name FROM duckdb_constraints()"
        " WHERE constraint_type NOT IN ('CHECK', 'NOT NULL')"
        " UNION ALL SELECT database_name, schema_name, table_name FROM duckdb_indexes() WHERE is_unique)"
        " WHERE database_name = ? AND lower(schema_name) = ? AND lower(table_name) = ?",
        [table.catalog, table.schema, table.table],
    ).fetchall()[0]
    return found > 0


def add_columns(
    connection: duckdb.DuckDBPyConnection,
    table: TargetTable,
    existing: Mapping[str, TableColumn],
    wanted: Mapping[str, str],
) -> None:
    """Add the wanted columns (name to type) to the existing ones; create the table when there are none."""
    wanted = {**wanted, **RESERVED_COLUMNS}
    if not existing:
        columns = ", ".join(f"{identifier(name)} {type_}" for name, type_ in wanted.items())
        connection.execute(f"CREATE TABLE {table.sql} ({columns})")
        return
    for name, type_ in wanted.items():
        if name.lower() not in existing:
            connection.execute(f"ALTER TABLE {table.sql} ADD COLUMN {identifier(name)} {type_}")
