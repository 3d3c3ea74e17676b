"""`python -m flows.migrate.run [FILE]`: copy a DuckDB warehouse, with its load keys, into PostgreSQL.

With the load keys copied, no file is loaded twice. The command can be repeated.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.errors import PermanentError, PipelineError, RejectionError, TemporaryError
from flows.settings import PROJECT_ROOT, PipelineSettings, read_settings
from flows.source_file import FileFormat, SourceFile
from flows.sql_names import TargetTable, literal
from flows.warehouse.address import DuckDbFile, PostgresDatabase, warehouse_address
from flows.warehouse.duckdb import holder


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
    from flows.migrate.tables import SOURCE, move_table, moved_tables
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


if __name__ == "__main__":
    main()
