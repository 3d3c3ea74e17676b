"""`python -m flows.migrate.run [FILE]`: copy a DuckDB warehouse, with its load keys, into PostgreSQL.

With the load keys copied, no file is loaded twice. The command can be repeated.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from psycopg.sql import SQL, Identifier
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.errors import PermanentError, PipelineError, RejectionError, RowRejectedError, TemporaryError
from flows.loading.file_result import MISMATCH, converted, describe_mismatch
from flows.loading.insert import describe_refusal, matched
from flows.readers.base import AsWritten, FileColumn, selection
from flows.readers.parquet_files import type_read, value_read
from flows.settings import PROJECT_ROOT, PipelineSettings, read_settings
from flows.source_file import FileFormat, SourceFile
from flows.sql_names import LOADS_TABLE, TargetTable, identifier, literal
from flows.warehouse.address import DuckDbFile, PostgresDatabase, warehouse_address
from flows.warehouse.duckdb import holder
from flows.warehouse.postgres import PostgresWarehouse


def main() -> None:
    """Copy all tables and print the result of each; exits with status 1 if any table was not copied."""
    os.umask(0o077)
    if len(sys.argv) > 2:
        sys.exit("expected at most one argument, the DuckDB file")
    shown = Table("table", "rows copied", "load keys", "", box=None)
    failed = False
    try:
        settings = read_settings()
        for table, outcome in move(settings, _source(settings, sys.argv[1:])):
            failed |= isinstance(outcome, str)
            cells = ["-", "-", f"not copied: {outcome}"] if isinstance(outcome, str) else [*_numbers(outcome), ""]
            shown.add_row(*map(escape, [f"{table.schema}.{table.table}", *cells]))
    except PipelineError as error:
        print(error, file=sys.stderr)
        failed = True
    if shown.row_count:
        Console().print(shown)
    sys.exit(failed)


def move(settings: PipelineSettings, source: Path) -> Iterator[tuple[TargetTable, tuple[int, int] | str]]:
    """Copy the tables of a DuckDB file; yield for each the number of rows and load keys, or why it was not copied.

    Raises PipelineError: WAREHOUSE_URL is not PostgreSQL, the file is missing or in use, or the server is unreachable.
    """
    address = settings.warehouse()
    if not isinstance(address, PostgresDatabase):
        raise PermanentError(f"WAREHOUSE_URL: expected postgresql://... to move to, the warehouse is {address}")
    if not source.is_file():
        raise PermanentError(f"expected a DuckDB file to move from, there is none at {source}")
    # Imported late, so that the errors above can be shown without psycopg.
    from flows.warehouse.postgres import open_postgres

    file = SourceFile(source, source.name, source.stat().st_size, FileFormat.PARQUET)
    limit, wait = settings.warehouse_memory_limit, settings.warehouse_wait_seconds
    with open_postgres(address, wait, print, limit, settings.spool_dir) as warehouse:
        try:
            warehouse.reader.execute(f"ATTACH {literal(str(source))} AS {SOURCE} (READ_ONLY)")
        except duckdb.Error as error:
            who = holder(error)
            problem = f"is in use by {who}; end that first" if who else f"cannot be opened: {error}"
            raise TemporaryError(f"{source} {problem}") from None
        for table in moved_tables(warehouse):
            target = TargetTable(address.catalog, table.schema, table.table)
            try:
                done = move_table(warehouse, table, target, file)
            except RejectionError as rejection:
                yield table, str(rejection)
            else:
                yield table, (done.rows, done.files)


def _source(settings: PipelineSettings, arguments: list[str]) -> Path:
    given = arguments[0] if arguments else str(settings.state_dir / "warehouse.duckdb")
    try:
        address = warehouse_address(given, PROJECT_ROOT if not arguments else Path.cwd())
    except ValueError as error:
        raise PermanentError(f"the DuckDB file to move from: {error}") from None
    if not isinstance(address, DuckDbFile):
        raise PermanentError("the DuckDB file to move from: expected a path, got an address")
    return address.path


def _numbers(outcome: tuple[int, int]) -> list[str]:
    return [f"{number:,}" for number in outcome]


# Copy one table from a DuckDB warehouse into PostgreSQL: its rows and load keys, in one transaction.
#
# Rows whose load key the target already has are not copied, so a copy can be repeated at any time.

SOURCE = "moved"
"""The name under which the DuckDB file is attached to the warehouse's reader."""
KEYLESS = ("moved", "rows without a load key")
"""Load key (arrival, file) recorded for rows that have none in the DuckDB table, because a user inserted them."""

_Key = tuple[str, str, int, int, datetime]
"""Arrival, file, rows, bytes, time of the load."""


@dataclass(frozen=True)
class TableCopy:
    """What was copied of one table."""

    rows: int
    files: int
    """Number of load keys."""


@dataclass(frozen=True)
class TableReading(AsWritten):
    """Implements `Reading` for a DuckDB table, so that the table is loaded in the same way as a file."""

    file: SourceFile
    """The DuckDB file."""
    table: str
    """The table as an SQL expression."""
    columns: tuple[FileColumn, ...]
    condition: str
    is_sampled: bool = False
    rows: int | None = None
    empty_is_null: bool = False

    def read_type(self, column: FileColumn, target_type: str) -> str:
        """Return the column's type in the DuckDB table."""
        return column.new_type

    @property
    def shape(self) -> Hashable:
        """Return the table, since it is never read together with others."""
        return self.table

    def scan(self, read_types: Sequence[str], together: Sequence[SourceFile] = ()) -> str:
        """Return the query of the rows, as in `Reading.scan`."""
        return f"SELECT {selection(map(value_read, self.columns), together)} FROM {self.table} WHERE {self.condition}"


def moved_tables(warehouse: PostgresWarehouse) -> list[TargetTable]:
    """Return the tables of the attached DuckDB file that have load keys."""
    schemas = warehouse.reader.execute(
        "SELECT schema_name FROM duckdb_tables() WHERE database_name = ? AND table_name = ? ORDER BY ALL",
        [SOURCE, LOADS_TABLE],
    ).fetchall()
    names = [
        name
        for (schema,) in schemas
        for (name,) in warehouse.reader.execute(
            f"SELECT DISTINCT target_table FROM {_qualified(schema, LOADS_TABLE)}"
        ).fetchall()
    ]
    return [TargetTable(*name.split(".")) for name in sorted(names)]


def move_table(warehouse: PostgresWarehouse, source: TargetTable, target: TargetTable, file: SourceFile) -> TableCopy:
    """Copy the rows that the target does not have yet.

    Raises RejectionError, without any change, if the target has rows of other load keys or cannot store a value.
    """
    warehouse.create_loads(target)
    with warehouse.transaction(target, "moving"):
        warehouse.lock_columns(target)
        keys, there = _keys(warehouse, source), _keys_there(warehouse, target)
        missing = [key for key in keys if (key[0], key[1]) not in there]
        rows = 0
        columns = _columns(warehouse, source)
        if columns:
            _remember(warehouse, source, there)
            _check_others(warehouse, source, target, there)
            has_keyless = KEYLESS in there
            condition = "keyed AND NOT there" if has_keyless else "NOT there"
            rows = _copy(warehouse, TableReading(file, _marked(source), columns, condition), target)
            keyless = rows - sum(key[2] for key in missing)
            if keyless and not has_keyless:
                missing.append((*KEYLESS, keyless, 0, datetime.now(UTC)))
        _record(warehouse, target, missing)
    return TableCopy(rows, len(missing))


def _columns(warehouse: PostgresWarehouse, source: TargetTable) -> tuple[FileColumn, ...]:
    described = warehouse.reader.execute(
        "SELECT column_name, data_type FROM duckdb_columns()"
        " WHERE database_name = ? AND lower(schema_name) = ? AND lower(table_name) = ?",
        [SOURCE, source.schema, source.table],
    ).fetchall()
    return tuple(FileColumn(name, type_read(type_)) for name, type_ in described)


def _keys(warehouse: PostgresWarehouse, source: TargetTable) -> list[_Key]:
    return warehouse.reader.execute(
        f"SELECT arrival_id, file_name, rows, bytes, loaded_at FROM {_qualified(source.schema, LOADS_TABLE)}"
        " WHERE target_table = ?",
        [str(source)],
    ).fetchall()


def _keys_there(warehouse: PostgresWarehouse, target: TargetTable) -> set[tuple[str, str]]:
    query = SQL("SELECT arrival_id, file_name FROM {} WHERE target_table = %s")
    loads = Identifier(target.schema, LOADS_TABLE)
    return {(arrival, name) for arrival, name in warehouse.connection.execute(query.format(loads), [str(target)])}


def _remember(warehouse: PostgresWarehouse, source: TargetTable, there: Collection[tuple[str, str]]) -> None:
    """Create two temporary tables in the reader: `keyed`, the source's load keys, and `there`, the target's."""
    warehouse.reader.execute(
        "CREATE OR REPLACE TEMP TABLE there AS SELECT unnest(?::VARCHAR[]) AS arrival, unnest(?::VARCHAR[]) AS file",
        [[arrival for arrival, _ in there], [name for _, name in there]],
    )
    warehouse.reader.execute(
        "CREATE OR REPLACE TEMP TABLE keyed AS SELECT arrival_id AS arrival, file_name AS file"
        f" FROM {_qualified(source.schema, LOADS_TABLE)} WHERE target_table = ?",
        [str(source)],
    )


def _check_others(
    warehouse: PostgresWarehouse, source: TargetTable, target: TargetTable, there: Collection[tuple[str, str]]
) -> None:
    """Raise RejectionError if the target has rows that do not come from the DuckDB table."""
    columns = warehouse.columns(target)
    if not columns:
        return
    keys = "_arrival_id, _file_name" if {"_arrival_id", "_file_name"} <= columns.keys() else "NULL, NULL"
    query = SQL(f"SELECT DISTINCT {keys} FROM {{}}").format(Identifier(target.schema, target.table))
    found = set(warehouse.connection.execute(query))
    known = "SELECT arrival, file FROM temp.main.keyed"
    if KEYLESS in there:
        known += f" UNION SELECT _arrival_id, _file_name FROM {_qualified(source.schema, source.table)}"
    others = found - set(warehouse.reader.execute(known).fetchall())
    if others:
        arrival, name = min(others, key=str)
        raise RejectionError(
            f"the table there has rows of {len(others)} files that the DuckDB file has no load keys of, the first is"
            f" {name} of {arrival}; rename that table, or go on with it and leave the DuckDB file as it is"
        )


def _copy(warehouse: PostgresWarehouse, reading: TableReading, target: TargetTable) -> int:
    insertion = matched(warehouse, reading, target, warehouse.columns(target))
    insertion.add_columns(warehouse)
    query = converted(insertion.scan, insertion.conversions)
    try:
        return warehouse.insert(target, [one.column for one in insertion.conversions], query, [])
    except RowRejectedError as refused:
        raise RejectionError(describe_refusal(warehouse.reader, insertion, refused)) from None
    except duckdb.Error as error:
        if MISMATCH not in str(error):
            raise
        said = describe_mismatch(warehouse.reader, reading, insertion.scan, insertion.conversions)
        raise RejectionError(said or MISMATCH) from None


def _record(warehouse: PostgresWarehouse, target: TargetTable, keys: Sequence[_Key]) -> None:
    query = SQL(
        "INSERT INTO {} (arrival_id, file_name, target_table, rows, bytes, loaded_at)"
        " SELECT arrival, file, %s, rows, bytes, at FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[],"
        " %s::timestamptz[]) AS keys (arrival, file, rows, bytes, at)"
    )
    columns = [[key[at] for key in keys] for at in range(5)]
    warehouse.connection.execute(query.format(Identifier(target.schema, LOADS_TABLE)), [str(target), *columns])


def _marked(source: TargetTable) -> str:
    """Return a query of a table's rows with two flags: `keyed`, it has a load key, and `there`, the target has it."""
    same = "arrival = _arrival_id AND file = _file_name"
    return (
        f"(SELECT *, EXISTS (SELECT 1 FROM temp.main.keyed WHERE {same}) AS keyed,"
        f" EXISTS (SELECT 1 FROM temp.main.there WHERE {same}) AS there FROM {_qualified(source.schema, source.table)})"
    )


def _qualified(schema: str, table: str) -> str:
    return f"{SOURCE}.{identifier(schema)}.{identifier(table)}"


if __name__ == "__main__":
    main()
