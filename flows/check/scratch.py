"""A temporary DuckDB warehouse with the columns and keys of the target table, and none of its rows.

Of the target, only the columns, the definitions and rows with a loaded row's key are read; nothing is written to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from flows.readers.guard import Reader
from flows.settings import PipelineSettings
from flows.sql_names import TargetTable, identifier, literal, path_literal
from flows.warehouse.address import DuckDbFile, PostgresDatabase
from flows.warehouse.base import TableColumn, WaitBudget
from flows.warehouse.duckdb import DuckDbWarehouse, read_duckdb, settled

WAIT_SECONDS = 10.0
"""How long to wait for a warehouse in use, unless WAREHOUSE_WAIT_SECONDS is shorter."""


@dataclass(frozen=True)
class Target:
    """The table that files are checked against."""

    table: TargetTable
    address: DuckDbFile | PostgresDatabase
    columns: Mapping[str, TableColumn]
    """The columns by lower-case name; empty for a new table."""
    definitions: tuple[str, ...] = ()
    """The DuckDB statements that create the table and its indexes, constraints included."""
    keys: tuple[tuple[str, ...], ...] = ()
    """The columns of each primary key or unique constraint."""

    @property
    def is_postgres(self) -> bool:
        """Whether the warehouse is a PostgreSQL database, which has its own types and rules for names."""
        return isinstance(self.address, PostgresDatabase)

    def shown_type(self, stored: str) -> str:
        """Return the target warehouse's name for the type of a new column."""
        if not self.is_postgres:
            return stored
        from flows.warehouse.postgres_types import column_type

        return column_type(stored)


def read_target(
    settings: PipelineSettings, table: TargetTable, on_wait: Callable[[str], None], spool: Path, *, is_new: bool
) -> Target:
    """Read the table from the warehouse, without writing to it. Raises PipelineError.

    With `is_new` the table counts as missing, and the warehouse is not opened.
    """
    address = settings.warehouse(table.catalog)
    if is_new:
        return Target(table, address, {})
    budget = WaitBudget(min(WAIT_SECONDS, settings.warehouse_wait_seconds))
    if isinstance(address, DuckDbFile):
        return _read_duckdb(address, table, budget, on_wait, settings.warehouse_memory_limit)
    # Imported here: a warehouse in a DuckDB file does not need psycopg.
    from flows.warehouse.postgres import open_postgres

    with open_postgres(address, budget, on_wait, settings.warehouse_memory_limit, spool) as warehouse:
        warehouse.connection.read_only = True
        return Target(table, address, warehouse.columns(table))


def _read_duckdb(
    address: DuckDbFile, table: TargetTable, budget: WaitBudget, on_wait: Callable[[str], None], limit: str
) -> Target:
    if not address.path.exists():
        return Target(table, address, {})
    with read_duckdb(address.path, budget, on_wait, limit) as warehouse:
        here = "WHERE lower(database_name) = ? AND lower(schema_name) = ? AND lower(table_name) = ?"
        of = [table.catalog, table.schema, table.table]
        made = f"SELECT sql FROM duckdb_tables() {here} UNION ALL SELECT sql FROM duckdb_indexes() {here}"
        keys = (
            f"SELECT constraint_column_names FROM duckdb_constraints() {here}"
            " AND constraint_type IN ('PRIMARY KEY', 'UNIQUE')"
        )
        return Target(
            table,
            address,
            warehouse.columns(table),
            tuple(sql for (sql,) in warehouse.reader.execute(made, [*of, *of]).fetchall() if sql),
            tuple(tuple(names) for (names,) in warehouse.reader.execute(keys, of).fetchall()),
        )


@dataclass(frozen=True)
class ScratchWarehouse(DuckDbWarehouse):
    """A DuckDB warehouse for one file at a time that behaves like the target warehouse."""

    target: Target

    def stored_type(self, new_type: str) -> str:
        """Return the type that the target warehouse gives a new column, as a DuckDB type."""
        if not self.target.is_postgres:
            return new_type
        from flows.warehouse.postgres_types import column_type, duckdb_type

        return duckdb_type(column_type(new_type))

    def add_columns(self, table: TargetTable, existing: Mapping[str, TableColumn], wanted: Mapping[str, str]) -> None:
        """Add the wanted columns as the target warehouse would. Raises RejectionError for names it does not allow."""
        if self.target.is_postgres:
            from flows.warehouse.postgres import check_name

            for name in wanted:
                check_name(name)
            wanted = {name.lower(): type_ for name, type_ in wanted.items()}
        super().add_columns(table, existing, wanted)

    def begin_file(self) -> None:
        """Recreate the table, so that the next file is loaded into an unchanged one."""
        _make_table(self.reader, self.target)


def scratch_reader(target: Target, limit: str, folder: Path, *, on_disk: bool) -> Reader:
    """Return a connection to an empty warehouse, in memory or in a file of the folder."""
    place = folder / f"{target.table.catalog}.scratch"

    def connect() -> duckdb.DuckDBPyConnection:
        connection = settled(duckdb.connect(), limit, folder / "scratch.tmp")
        place.unlink(missing_ok=True)
        name = path_literal(place) if on_disk else "':memory:'"
        connection.execute(f"ATTACH {name} AS {identifier(target.table.catalog)}")
        connection.execute(f"USE {identifier(target.table.catalog)}")
        _make_table(connection, target)
        return connection

    return Reader(connect)


def _make_table(connection: duckdb.DuckDBPyConnection, target: Target) -> None:
    table = target.table
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(table.catalog)}.{identifier(table.schema)}")
    connection.execute(f"DROP TABLE IF EXISTS {table.sql}")
    connection.execute(f"DROP TABLE IF EXISTS {table.rejected.sql}")
    if not target.columns:
        return
    try:
        for definition in target.definitions:
            connection.execute(definition)
    except duckdb.Error:  # the definition refers to a sequence or another table
        connection.execute(f"DROP TABLE IF EXISTS {table.sql}")
    with suppress(duckdb.CatalogException):  # the table exists
        columns = ", ".join(f"{identifier(one.name)} {one.type}" for one in target.columns.values())
        connection.execute(f"CREATE TABLE {table.sql} ({columns})")


def duplicate_key(
    warehouse: ScratchWarehouse, settings: PipelineSettings, on_wait: Callable[[str], None], folder: Path
) -> str | None:
    """Return the reason if a loaded row's key is already in the target table (DuckDB only); None otherwise.

    Raises PipelineError, duckdb.Error.
    """
    target = warehouse.target
    if not target.keys or not isinstance(target.address, DuckDbFile):
        return None
    budget = WaitBudget(min(WAIT_SECONDS, settings.warehouse_wait_seconds))
    rows = folder / "keys.parquet"
    for key in target.keys:
        names = ", ".join(map(identifier, key))
        warehouse.reader.execute(
            f"COPY (SELECT {names} FROM {target.table.sql}) TO {literal(str(rows))} (FORMAT parquet)"
        )
        with read_duckdb(target.address.path, budget, on_wait, settings.warehouse_memory_limit) as there:
            ours = f"SEMI JOIN read_parquet({path_literal(rows)}) USING ({names})"
            found = there.reader.execute(f"SELECT {names} FROM {target.table.sql} {ours} LIMIT 1").fetchall()
        if found:
            said = ", ".join(f"{name}: {value}" for name, value in zip(key, found[0], strict=True))
            return f'Duplicate key "{said}": a row of the table has it already'
    return None
