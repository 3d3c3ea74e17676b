"""The warehouse in a DuckDB file, which one process at a time may write to.

Also sets up DuckDB connections that only read source files: UTC, a memory limit, a folder to spill to.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random

from flows.errors import StillInUseError, TemporaryError
from flows.readers.guard import Reader
from flows.source_file import SourceFile
from flows.sources.spool import sync_folder
from flows.sql_names import TargetTable, identifier, literal
from flows.warehouse.base import LoadKey, TableColumn, WaitBudget, missing_columns, not_widened

DEFAULT_LIMIT = "1GB"
"""Memory limit of DuckDB's buffers; its own default is 80 % of the machine's memory. The widest file tried, a million
rows of 60 texts, loads within it, also with 16 threads (measured, DuckDB 2.0: the whole process takes 1 GB, without a
limit 2.2 GB)."""


def in_memory_reader(limit: str, spill_dir: Path) -> Reader:
    """Return a reader on an in-memory database."""
    return Reader(lambda: settled(duckdb.connect(), limit, spill_dir))


def settled(connection: duckdb.DuckDBPyConnection, limit: str, spill_dir: Path) -> duckdb.DuckDBPyConnection:
    """Return the connection with its time zone set to UTC and its memory limited."""
    connection.execute("SET TimeZone = 'UTC'")
    bound(connection, limit, spill_dir)
    return connection


def bound(connection: duckdb.DuckDBPyConnection, limit: str, spill_dir: Path) -> None:
    """Limit a connection's memory, such as to `1GB`; DuckDB spills the rest to a folder that it creates and removes."""
    connection.execute(f"SET memory_limit = {literal(limit)}")
    connection.execute(f"SET temp_directory = {literal(str(spill_dir))}")


_ANOTHER_RUN = "another run of this process"
_NOTICE = "the warehouse {} is in use by {}; waiting for up to {:g} s"
_HOLDER = re.compile(r"Could not set lock on file .*?(\(PID \d+\))", re.DOTALL)

_opened_here: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
"""A lock per warehouse for the threads of this process: DuckDB would let two of them open the file, and one of them
fail when both change the same table."""


@dataclass(frozen=True)
class DuckDbWarehouse:
    """A `Warehouse` on a DuckDB file that only this process has open."""

    opened: Reader
    """The connection to the file itself."""

    @property
    def reader(self) -> duckdb.DuckDBPyConnection:
        """The same connection, which also reads source files."""
        return self.opened.connection

    def renew_reader(self) -> bool:
        """Reopen the file if an error has invalidated the connection, and return whether that was necessary."""
        return self.opened.renew()

    def stored_type(self, new_type: str) -> str:
        """Return the same type: DuckDB both reads and stores it."""
        return new_type

    def create_loads(self, table: TargetTable) -> None:
        """Create the target's schema and its table of load keys, if they are missing."""
        self.reader.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(table.catalog)}.{identifier(table.schema)}")
        self.reader.execute(
            f"CREATE TABLE IF NOT EXISTS {table.loads_sql} (arrival_id VARCHAR, file_name VARCHAR,"
            " target_table VARCHAR, rows BIGINT NOT NULL, bytes BIGINT NOT NULL,"
            " loaded_at TIMESTAMP WITH TIME ZONE NOT NULL, PRIMARY KEY (arrival_id, file_name, target_table))"
        )

    def columns(self, table: TargetTable) -> dict[str, TableColumn]:
        """Return the table's columns by their lower-case names; empty if there is no such table."""
        found = self.reader.execute(
            "SELECT column_name, data_type FROM duckdb_columns()"
            " WHERE lower(database_name) = ? AND lower(schema_name) = ? AND lower(table_name) = ?",
            [table.catalog, table.schema, table.table],
        ).fetchall()
        return {name.lower(): TableColumn(name, type_) for name, type_ in found}

    def has_unique_rows(self, table: TargetTable) -> bool:
        """Return whether the table has a primary, unique or foreign key, or a unique index."""
        (found,) = self.reader.execute(
            "SELECT count(*) FROM (SELECT database_name, schema_name, table_name FROM duckdb_constraints()"
            " WHERE constraint_type NOT IN ('CHECK', 'NOT NULL')"
            " UNION ALL SELECT database_name, schema_name, table_name FROM duckdb_indexes() WHERE is_unique)"
            " WHERE lower(database_name) = ? AND lower(schema_name) = ? AND lower(table_name) = ?",
            [table.catalog, table.schema, table.table],
        ).fetchall()[0]
        return found > 0

    def loads_of_arrival(self, table: TargetTable, arrival_id: str) -> dict[str, int]:
        """Return the loaded files of an arrival: file name to number of rows."""
        found = self.reader.execute(
            f"SELECT file_name, rows FROM {table.loads_sql} WHERE arrival_id = ? AND target_table = ?",
            [arrival_id, str(table)],
        ).fetchall()
        return dict(found)

    def loaded_rows(self, table: TargetTable, key: LoadKey) -> int | None:
        """Return the number of rows loaded under a key; None if it has not been loaded."""
        found = self.reader.execute(
            f"SELECT rows FROM {table.loads_sql} WHERE arrival_id = ? AND file_name = ? AND target_table = ?",
            [key.arrival_id, key.file_name, key.target_table],
        ).fetchone()
        return None if found is None else found[0]

    @contextmanager
    def transaction(self, table: TargetTable, arrival_id: str) -> Generator[None, None, None]:
        """Run the block in one transaction. Raises duckdb.Error."""
        self.reader.begin()
        try:
            yield
            self.reader.commit()
        except BaseException:
            with suppress(duckdb.Error):  # an error that invalidates the connection also ends the transaction
                self.reader.rollback()
            raise

    def loaded_meanwhile(self, table: TargetTable, arrival_id: str, names: Sequence[str]) -> dict[str, int]:
        """Return nothing: no other process has the file open."""
        return {}

    def lock_columns(self, table: TargetTable) -> bool:
        """Return False: no other process has the file open, so the columns are unchanged."""
        return False

    def add_columns(self, table: TargetTable, existing: Mapping[str, TableColumn], wanted: Mapping[str, str]) -> None:
        """Add those wanted columns (name to type) that are missing; create the table if it does not exist."""
        missing = missing_columns(existing, wanted)
        if not existing:
            columns = ", ".join(f"{identifier(name)} {type_}" for name, type_ in missing.items())
            self.reader.execute(f"CREATE TABLE {table.sql} ({columns})")
            return
        for name, type_ in missing.items():
            self.reader.execute(f"ALTER TABLE {table.sql} ADD COLUMN {identifier(name)} {type_}")

    def widen_columns(self, table: TargetTable, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """Change the types of columns to wider ones. Raises RejectionError if the database or a value forbids it."""
        for name, type_ in after.items():
            column = identifier(name)
            if type_ == "DOUBLE":
                back = f"coalesce(TRY_CAST(CAST({column} AS DOUBLE) AS {before[name]}) = {column}, false)"
                if before[name] == "FLOAT":  # 0.1 would print as 0.10000000149011612
                    back = f"CAST(CAST({column} AS DOUBLE) AS VARCHAR) = CAST({column} AS VARCHAR)"
                lost = f"SELECT {column} FROM {table.sql} WHERE {column} IS NOT NULL AND NOT {back} LIMIT 1"
                if found := self.reader.execute(lost).fetchone():
                    raise not_widened(name, before[name], type_, f"{found[0]}, which is there, would lose digits")
            try:
                self.reader.execute(f"ALTER TABLE {table.sql} ALTER COLUMN {column} TYPE {type_}")
            except (duckdb.ProgrammingError, duckdb.NotSupportedError, duckdb.DataError) as error:
                said = str(error).partition(": ")[2].split("\n")[0].rstrip("!.")
                if isinstance(error, duckdb.DependencyException) or "depend" in said:
                    said = "an index or a view of the table depends on it"
                raise not_widened(name, before[name], type_, said) from None

    def insert(
        self,
        table: TargetTable,
        columns: Sequence[str],
        query: str,
        parameters: Sequence[Any],
        types: Mapping[str, str] | None = None,
    ) -> int:
        """Insert the result of a query and return the number of rows. Raises duckdb.Error.

        `types` is not checked: no other process can change the columns.
        """
        named = ", ".join(identifier(name) for name in columns)
        return self.reader.execute(f"INSERT INTO {table.sql} ({named}) {query}", parameters).fetchall()[0][0]

    def lock_rows(self, table: TargetTable) -> None:
        """Do nothing: no other process has the file open."""

    def stage(
        self,
        table: TargetTable,
        columns: Sequence[str],
        query: str,
        parameters: Sequence[Any],
        types: Mapping[str, str],
        number: str | None = None,
    ) -> int:
        """Put the result of a query into the temporary table `staged` and return the number of rows.

        The table is created from the query: after `INSERT ... SELECT ... FROM read_csv` of more than a row group into
        a table of the same transaction, queries find that table empty until the commit (measured, DuckDB 2.0, with
        several threads and in the file's order).
        """
        names = ", ".join(identifier(name) for name in (*columns, *([number] if number else [])))
        rows = f"SELECT *, row_number() OVER () FROM ({query})" if number else query
        created = f"CREATE OR REPLACE TEMP TABLE staged AS SELECT * FROM ({rows}) AS rows ({names})"
        return self.reader.execute(created, parameters).fetchall()[0][0]

    def unstage(self) -> None:
        """Drop the temporary table `staged`."""
        self.reader.execute("DROP TABLE temp.main.staged")

    def change(self, statement: str) -> int:
        """Run a DELETE or INSERT and return the number of rows. Raises duckdb.Error."""
        return self.reader.execute(statement).fetchall()[0][0]

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query. Raises duckdb.Error."""
        return self.reader.execute(statement).fetchall()

    def table_name(self, table: TargetTable) -> str:
        """Return the quoted name of the table."""
        return table.sql

    def loads_name(self, table: TargetTable) -> str:
        """Return the quoted name of the table of load keys."""
        return table.loads_sql

    def remove_load(self, table: TargetTable, key: LoadKey) -> int | None:
        """Delete a load key and its file's rows and return their number; if there is no such key, return None.

        The same transaction may write the key again: DuckDB 2.0 checks a primary key against the table as the
        transaction itself has left it, also after the file was reopened and when the target table has a primary key as
        well (measured).
        """
        (keys,) = self.reader.execute(
            f"DELETE FROM {table.loads_sql} WHERE arrival_id = ? AND file_name = ? AND target_table = ?",
            [key.arrival_id, key.file_name, key.target_table],
        ).fetchall()[0]
        if not keys:
            return None
        return self.reader.execute(
            f"DELETE FROM {table.sql} WHERE _arrival_id = ? AND _file_name = ?", [key.arrival_id, key.file_name]
        ).fetchall()[0][0]

    def remove_rows(self, table: TargetTable, key: LoadKey) -> None:
        """Delete a file's rows from a table that has them without a load key, if there is such a table."""
        if self.columns(table):
            where = "WHERE _arrival_id = ? AND _file_name = ?"
            self.reader.execute(f"DELETE FROM {table.sql} {where}", [key.arrival_id, key.file_name])

    def record_loads(
        self, table: TargetTable, arrival_id: str, files: Sequence[SourceFile], rows: Sequence[int], at: datetime
    ) -> None:
        """Write the load keys of files; `rows` has the number of rows of each."""
        self.reader.execute(
            f"INSERT INTO {table.loads_sql} SELECT ?, unnest(?), ?, unnest(?), unnest(?), ?",
            [arrival_id, [file.name for file in files], str(table), rows, [file.size for file in files], at],
        )

    def first_rows(self, table: TargetTable, count: int) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Return the table's column names and a few of its rows."""
        found = self.reader.execute(f"FROM {table.sql} LIMIT {count}")
        return [column[0] for column in found.description or ()], found.fetchall()


@contextmanager
def open_duckdb(
    path: Path,
    wait: float | WaitBudget,
    on_wait: Callable[[str], None],
    memory_limit: str = DEFAULT_LIMIT,
    readers: int | None = None,
) -> Generator[DuckDbWarehouse, None, None]:
    """Open the warehouse for the block, waiting while another thread or process has it open.

    `on_wait` gets a message that names the holder when a wait begins. The session's time zone is UTC. Data beyond the
    memory limit spills to a folder next to the file, which exists while the file is open. `readers` is the id of a
    group that may read the file. Raises StillInUseError when the file stays in use for `wait` (seconds, or what is left
    of a budget), TemporaryError when it cannot be opened.
    """

    budget = wait if isinstance(wait, WaitBudget) else WaitBudget(wait)

    def connect() -> duckdb.DuckDBPyConnection:
        connection = _connect(path, budget, on_wait)
        _let_read(path, readers)
        return settled(connection, memory_limit, path.with_name(f"{path.name}.tmp"))

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _opened_here[path]
    if not lock.acquire(blocking=False):
        on_wait(_NOTICE.format(path.name, _ANOTHER_RUN, budget.left))
        with budget.spending():
            is_ours = lock.acquire(timeout=budget.left)
        if not is_ours:
            raise _still_in_use(path, _ANOTHER_RUN, budget)
    try:
        with Reader(connect) as reader:
            yield DuckDbWarehouse(reader)
    finally:
        lock.release()


@contextmanager
def read_duckdb(
    path: Path, budget: WaitBudget, on_wait: Callable[[str], None], memory_limit: str = DEFAULT_LIMIT
) -> Generator[DuckDbWarehouse, None, None]:
    """Open an existing warehouse read-only for the block; runs wait meanwhile.

    Raises StillInUseError when the file stays in use for the whole budget, TemporaryError when it cannot be opened.
    """

    def connect() -> duckdb.DuckDBPyConnection:
        opened = _connect(path, budget, on_wait, read_only=True)
        return settled(opened, memory_limit, path.with_name(f"{path.name}.tmp"))

    with Reader(connect) as reader:
        yield DuckDbWarehouse(reader)


def _connect(
    path: Path, budget: WaitBudget, on_wait: Callable[[str], None], *, read_only: bool = False
) -> duckdb.DuckDBPyConnection:
    def notice(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome:
            on_wait(_NOTICE.format(path.name, holder(state.outcome.exception()), budget.left))

    # The pause is random, so that no waiting run is always the last.
    waiting = Retrying(
        retry=retry_if_exception(lambda error: holder(error) is not None),
        stop=stop_after_delay(budget.left),
        wait=wait_random(0.02, 0.2),
        before_sleep=notice,
        reraise=True,
    )
    try:
        if not read_only and not path.exists():
            _create(path)
        with budget.spending():
            return waiting(duckdb.connect, path, read_only=read_only)
    except duckdb.IOException as error:
        who = holder(error)
        if who is None:
            raise TemporaryError(f"the warehouse {path} cannot be opened: {error}") from None
        raise _still_in_use(path, who, budget) from None


def _let_read(path: Path, group: int | None) -> None:
    """Let a group read the file, if this user owns it."""
    if group is None:
        return
    # The file is not opened here: closing it would release DuckDB's locks on it in this process.
    status = path.stat()
    if status.st_uid == os.geteuid() and (status.st_gid != group or not status.st_mode & 0o040):
        os.chown(path, -1, group)
        path.chmod(stat.S_IMODE(status.st_mode) | 0o040)


def _create(path: Path) -> None:
    """Create an empty warehouse atomically, and sync its folder so that its name survives a power cut.

    DuckDB syncs the file's content, but not the folder with its name. On a full disk it leaves a file of 0 or 4,096
    bytes behind, which it can never open again (measured, DuckDB 2.0).
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        duckdb.connect(new).close()
        with suppress(OSError):  # another run was faster, or there are no hard links
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)
    sync_folder(path.parent)


def holder(error: BaseException | None) -> str | None:
    """Return the process that holds the warehouse, from the error of opening it; None for any other error.

    >>> holder(duckdb.IOException('IO Error: Could not set lock on file "w": Conflicting lock is held in ... (PID 7)'))
    'another process (PID 7)'
    """
    found = _HOLDER.search(str(error)) if isinstance(error, duckdb.IOException) else None
    return f"another process {found[1]}" if found else None


def _still_in_use(path: Path, who: str, budget: WaitBudget) -> StillInUseError:
    return StillInUseError(
        f"the warehouse {path.name} is still in use by {who} after {budget.total:g} s; end that, or set"
        " WAREHOUSE_WAIT_SECONDS to wait longer"
    )
