"""The warehouse in a PostgreSQL database, which several runs may load into at the same time.

DuckDB reads and converts the rows as for its own warehouse and writes them as text to a file in the spool; COPY sends
that file in the transaction that also writes the load keys. With the whole file written first, a row that cannot be
read or converted ends the load before PostgreSQL sees any row, and neither database waits for the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier, Literal
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random

from flows.errors import ColumnsChangedError, PermanentError, RejectionError, StillInUseError, TemporaryError
from flows.readers.guard import Reader
from flows.source_file import SourceFile
from flows.sources.spool import spool_folder
from flows.sql_names import LOADS_TABLE, TargetTable
from flows.warehouse.address import PostgresDatabase
from flows.warehouse.base import LoadKey, TableColumn, WaitBudget, missing_columns, not_widened
from flows.warehouse.duckdb import in_memory_reader
from flows.warehouse.postgres_types import column_type, duckdb_type, explained, meaning, said_by, text_form, written

_AT_ONCE = 1_000_000
"""Bytes sent at a time."""
_ROWS_AT_ONCE = 10_000
"""Rows fetched from DuckDB at a time, unless they are long."""
_NAME = "outgoing"


def copied(
    connection: psycopg.Connection[tuple[Any, ...]],
    reader: duckdb.DuckDBPyConnection,
    table: Identifier,
    columns: Sequence[TableColumn],
    query: tuple[str, Sequence[Any]],
    spool: Path,
) -> int:
    """Copy the result of a query (SQL and parameters) into a table's columns and return the number of rows.

    Raises duckdb.Error, psycopg.Error, and TemporaryError when the spool cannot be written or read.
    """
    path = spool / _NAME
    try:
        write_rows(reader, columns, query, path)
        names = SQL(", ").join(Identifier(column.name) for column in columns)
        into = SQL("COPY {} ({}) FROM STDIN (FORMAT csv, ENCODING 'UTF8')").format(table, names)
        with connection.cursor() as cursor:
            with cursor.copy(into) as copy, path.open("rb") as rows:
                while some := rows.read(_AT_ONCE):
                    copy.write(some)
            return cursor.rowcount
    except OSError as error:
        raise TemporaryError(f"rows on their way in {spool} cannot be written or read: {error.strerror}") from None
    finally:
        path.unlink(missing_ok=True)


def write_rows(
    reader: duckdb.DuckDBPyConnection, columns: Sequence[TableColumn], query: tuple[str, Sequence[Any]], path: Path
) -> None:
    """Write the rows as CSV: a null is an empty field, an empty text is a pair of quotes.

    DuckDB's COPY TO is not used: when it is interrupted or a row cannot be converted, its writer often waits for its
    own tasks indefinitely (2.0.0, `AsyncWriteQueue::AbortWrites`; seen in six of six processes on a busy machine).
    """
    names = [f"column{at}" for at in range(len(columns))]
    texts = (f"CAST({written(column.type, name)} AS VARCHAR)" for column, name in zip(columns, names, strict=True))
    # concat() skips nulls.
    line = ", ',', ".join(f"""'"' || replace({text}, '"', '""') || '"'""" for text in texts)
    rows = reader.execute(f"SELECT concat({line}, chr(10)) FROM ({query[0]}) AS rows ({', '.join(names)})", query[1])
    at_once = 1
    with path.open("w", encoding="utf-8", newline="") as file:
        while lines := rows.fetchmany(at_once):
            size = file.write("".join(line for (line,) in lines))
            at_once = max(1, min(_ROWS_AT_ONCE, _AT_ONCE * len(lines) // max(1, size)))


_LONGEST_NAME = 63
"""In bytes; PostgreSQL truncates longer names with only a notice."""
_FORBIDDEN = re.compile(r"0A000|2BP01|22...|23...|42501|42804|42883|42P..")
"""SQLSTATEs of a column type that cannot be changed: a view, a rule, a generated column or a policy depends on it, or
another user owns the table."""
_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})


@dataclass(frozen=True)
class PostgresWarehouse:
    """A `Warehouse` on an open connection to a PostgreSQL database."""

    connection: psycopg.Connection[tuple[Any, ...]]
    """In autocommit mode; statements that belong together run in a `transaction`."""
    opened: Reader
    """The DuckDB connection that reads files."""
    spool: Path
    """A folder of this run's own, for rows on their way to PostgreSQL."""
    shown: str
    """The database's address without credentials."""
    budget: WaitBudget
    """How long to wait for locks of other sessions."""

    @property
    def reader(self) -> duckdb.DuckDBPyConnection:
        """The connection that reads files."""
        return self.opened.connection

    def renew_reader(self) -> bool:
        """Reopen the reader if an error has invalidated it, and return whether that was necessary."""
        return self.opened.renew()

    def stored_type(self, new_type: str) -> str:
        """Return the type, by DuckDB's name, that a new column gets when this type is wanted."""
        return duckdb_type(column_type(new_type))

    def create_loads(self, table: TargetTable) -> None:
        """Create the target's schema and its table of load keys, if they are missing."""
        too_long = [name for name in (table.schema, table.table) if len(name.encode()) > _LONGEST_NAME]
        if too_long:
            raise PermanentError(f"target_table: {too_long[0]:.100} is longer than PostgreSQL's {_LONGEST_NAME} bytes")
        with self._explained():
            # Checked first: IF NOT EXISTS needs the privilege to create even if the object exists.
            if self._value("SELECT to_regclass(%s) IS NULL", _name(table.schema, LOADS_TABLE)):
                with self.connection.transaction():
                    self._settle()
                    self._lock(f"{table.schema}.{LOADS_TABLE}")
                    if self._value("SELECT to_regnamespace(%s) IS NULL", _name(table.schema)):
                        self._run(SQL("CREATE SCHEMA {}").format(Identifier(table.schema)))
                    self._run(
                        SQL(
                            "CREATE TABLE IF NOT EXISTS {} (arrival_id text, file_name text, target_table text,"
                            " rows bigint NOT NULL, bytes bigint NOT NULL, loaded_at timestamptz NOT NULL,"
                            " PRIMARY KEY (arrival_id, file_name, target_table))"
                        ).format(_loads(table))
                    )

    def columns(self, table: TargetTable) -> dict[str, TableColumn]:
        """Return the table's columns by their lower-case names; empty if there is no such table."""
        with self._explained():
            found = self._run(
                # A domain counts as its base type; of names that differ only in case, the last, lower-case one wins.
                "SELECT a.attname, CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod)"
                " ELSE format_type(a.atttypid, a.atttypmod) END"
                " FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
                " WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped"
                " ORDER BY a.attname = lower(a.attname), a.attnum",
                [_name(table.schema, table.table)],
            ).fetchall()
        return {name.lower(): _column(name, type_) for name, type_ in found}

    def has_unique_rows(self, table: TargetTable) -> bool:
        """Return whether the table has a unique index, an exclusion constraint or a foreign key."""
        name = _name(table.schema, table.table)
        with self._explained():
            return self._value(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = to_regclass(%s)"
                " AND (indisunique OR indisexclusion))"
                " OR EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = to_regclass(%s) AND contype = 'f')",
                name,
                name,
            )

    def loads_of_arrival(self, table: TargetTable, arrival_id: str) -> dict[str, int]:
        """Return the loaded files of an arrival: file name to number of rows."""
        query = SQL("SELECT file_name, rows FROM {} WHERE arrival_id = %s AND target_table = %s").format(_loads(table))
        with self._explained():
            return dict(self._run(query, [arrival_id, str(table)]).fetchall())

    def loaded_rows(self, table: TargetTable, key: LoadKey) -> int | None:
        """Return the number of rows loaded under a key; None if it has not been loaded."""
        return self.loaded_meanwhile(table, key.arrival_id, [key.file_name]).get(key.file_name)

    @contextmanager
    def transaction(self, table: TargetTable, arrival_id: str) -> Generator[None, None, None]:
        """Run the block in one transaction; transactions of the same arrival and table run one after the other.

        A run that loses the connection during the commit cannot know whether the commit succeeded. The next attempt
        waits here until the server has ended the lost session, and then finds the load keys or does not.
        """
        with self._explained(), self.connection.transaction():
            self._settle()
            self._lock(f"{table} {arrival_id}")
            yield

    def loaded_meanwhile(self, table: TargetTable, arrival_id: str, names: Sequence[str]) -> dict[str, int]:
        """Return which of these files have been loaded: file name to number of rows."""
        query = SQL(
            "SELECT file_name, rows FROM {} WHERE arrival_id = %s AND target_table = %s AND file_name = ANY(%s)"
        ).format(_loads(table))
        with self._explained():
            return dict(self._run(query, [arrival_id, str(table), list(names)]).fetchall())

    def lock_columns(self, table: TargetTable) -> bool:
        """Lock the columns against other runs until the transaction ends; return True: they may have changed before."""
        with self._explained():
            self._lock(f"columns of {table}")
        return True

    def add_columns(self, table: TargetTable, existing: Mapping[str, TableColumn], wanted: Mapping[str, str]) -> None:
        """Add those wanted columns (name to DuckDB type) that are missing, in lower case; create a missing table.

        Raises RejectionError for column names that PostgreSQL does not allow.
        """
        missing = missing_columns(existing, wanted)
        if len(table.table) > _LONGEST_NAME:
            raise RejectionError(f"the table's name {table.table} is longer than PostgreSQL's {_LONGEST_NAME} bytes")
        for name in missing:
            check_name(name)
        columns = [
            SQL("{} {}").format(Identifier(name.lower()), SQL(column_type(type_)))  # pyright: ignore[reportArgumentType]
            for name, type_ in missing.items()
        ]
        if not columns:
            return
        if existing:
            added = SQL(", ").join(SQL("ADD COLUMN {}").format(one) for one in columns)
            query = SQL("ALTER TABLE {} {}").format(_table(table), added)
        else:
            query = SQL("CREATE TABLE {} ({})").format(_table(table), SQL(", ").join(columns))
        with self._explained():
            self._run(query)

    def widen_columns(self, table: TargetTable, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """Change the types of columns to wider ones. Raises RejectionError if the database or a value forbids it."""
        for name, type_ in after.items():
            column = Identifier(name)
            try:
                if type_ == "DOUBLE":
                    # Cast to numeric, a double has 15 digits and a real 6: those that the type surely keeps.
                    lost = SQL(
                        "SELECT {0} FROM {1} WHERE {0}::double precision::numeric <> {0}::text::numeric LIMIT 1"
                    ).format(column, _table(table))
                    if found := self._run(lost).fetchone():
                        raise not_widened(name, before[name], type_, f"{found[0]}, which is there, would lose digits")
                change = SQL("ALTER TABLE {} ALTER COLUMN {} TYPE {}").format(
                    _table(table),
                    column,
                    SQL(column_type(type_)),  # pyright: ignore[reportArgumentType]
                )
                self._run(change)
            except psycopg.Error as error:
                if _FORBIDDEN.fullmatch(error.sqlstate or ""):
                    detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
                    raise not_widened(name, before[name], type_, f"{said_by(error)}{detail}") from None
                raise meaning(error, self.shown, self.budget.total) from None

    def insert(
        self,
        table: TargetTable,
        columns: Sequence[str],
        query: str,
        parameters: Sequence[Any],
        types: Mapping[str, str] | None = None,
    ) -> int:
        """Insert the result of a query that the reader runs, and return the number of rows.

        Raises duckdb.Error when the rows cannot be read, TemporaryError when the spool has no room for them, and
        ColumnsChangedError when another session has changed the columns.
        """
        known = self._columns_of(table, columns, types or {})
        with self._explained():
            rows = copied(self.connection, self.reader, _table(table), known, (query, parameters), self.spool)
        # The columns are locked from the first row on; before that, another session may have changed them.
        if self._columns_of(table, columns, {}) != known:
            raise ColumnsChangedError(table)
        return rows

    def _columns_of(self, table: TargetTable, names: Sequence[str], types: Mapping[str, str]) -> list[TableColumn]:
        """Return these columns of the table. Raises ColumnsChangedError if one is missing, or has another type."""
        there = self.columns(table)
        found = [there.get(name.lower()) for name in names]
        if None in found or any(there[name.lower()].type != type_ for name, type_ in types.items()):
            raise ColumnsChangedError(table)
        return [one for one in found if one]

    def lock_rows(self, table: TargetTable) -> None:
        """Lock the table's rows against other loads that replace rows, until the transaction ends.

        Without the lock, two loads of the same key would each delete the row from before and insert their own, or
        wait for each other's rows. Readers and loads that append go on.
        """
        with self._explained():
            self._lock(f"rows of {table}")

    def stage(
        self,
        table: TargetTable,
        columns: Sequence[str],
        query: str,
        parameters: Sequence[Any],
        types: Mapping[str, str],
        number: str | None = None,
    ) -> int:
        """Put the result of a query that the reader runs into the temporary table `staged`; return the number of rows.

        Locks the target's columns. Raises the errors of `insert`.
        """
        with self._explained():
            self._run(SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(_table(table)))
            known = self._columns_of(table, columns, types)
            made = SQL("CREATE TEMP TABLE staged ON COMMIT DROP AS SELECT {}{} FROM {} WITH NO DATA").format(
                SQL(", ").join(Identifier(column.name) for column in known),
                SQL(", 0::bigint AS {}").format(Identifier(number)) if number else SQL(""),
                _table(table),
            )
            self.connection.execute(made)
            if number:
                known, query = [*known, TableColumn(number, "BIGINT")], f"SELECT *, row_number() OVER () FROM ({query})"
            rows = copied(self.connection, self.reader, Identifier("staged"), known, (query, parameters), self.spool)
            self._run("ANALYZE staged")  # the planner would take it for small, and join it in nested loops
        return rows

    def unstage(self) -> None:
        """Drop the temporary table `staged`."""
        with self._explained():
            self._run("DROP TABLE staged")

    def change(self, statement: str) -> int:
        """Run a DELETE or INSERT and return the number of rows."""
        with self._explained():
            return self.connection.execute(SQL(statement)).rowcount  # pyright: ignore[reportArgumentType]

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._explained():
            return self.connection.execute(SQL(statement)).fetchall()  # pyright: ignore[reportArgumentType]

    def table_name(self, table: TargetTable) -> str:
        """Return the quoted name of the table."""
        return _name(table.schema, table.table)

    def loads_name(self, table: TargetTable) -> str:
        """Return the quoted name of the table of load keys."""
        return _name(table.schema, LOADS_TABLE)

    def remove_load(self, table: TargetTable, key: LoadKey) -> int | None:
        """Delete a load key and its file's rows and return their number; if there is no such key, return None."""
        keys = SQL("DELETE FROM {} WHERE arrival_id = %s AND file_name = %s AND target_table = %s")
        rows = SQL("DELETE FROM {} WHERE _arrival_id = %s AND _file_name = %s").format(_table(table))
        with self._explained():
            if not self._run(keys.format(_loads(table)), [key.arrival_id, key.file_name, key.target_table]).rowcount:
                return None
            return self._run(rows, [key.arrival_id, key.file_name]).rowcount

    def remove_rows(self, table: TargetTable, key: LoadKey) -> None:
        """Delete a file's rows from a table that has them without a load key, if there is such a table."""
        if self.columns(table):
            rows = SQL("DELETE FROM {} WHERE _arrival_id = %s AND _file_name = %s").format(_table(table))
            with self._explained():
                self._run(rows, [key.arrival_id, key.file_name])

    def record_loads(
        self, table: TargetTable, arrival_id: str, files: Sequence[SourceFile], rows: Sequence[int], at: datetime
    ) -> None:
        """Write the load keys of files; `rows` has the number of rows of each."""
        query = SQL(
            "INSERT INTO {} (arrival_id, file_name, target_table, rows, bytes, loaded_at)"
            " SELECT %s, file_name, %s, rows, bytes, %s"
            " FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS files (file_name, rows, bytes)"
        ).format(_loads(table))
        names, sizes = [file.name for file in files], [file.size for file in files]
        with self._explained():
            self._run(query, [arrival_id, str(table), at, names, list(rows), sizes])

    def first_rows(self, table: TargetTable, count: int) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Return the table's column names and a few of its rows."""
        with self._explained():
            found = self._run(SQL("SELECT * FROM {} LIMIT {}").format(_table(table), Literal(count)))
            return [column.name for column in found.description or ()], found.fetchall()

    def _settle(self) -> None:
        """Set up the transaction: UTC, ISO dates, a lock timeout, no idle timeout, and a durable commit."""
        self._run(
            "SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true),"
            " set_config('lock_timeout', %s, true), set_config('idle_in_transaction_session_timeout', '0', true),"
            # Otherwise a server crash could lose rows that were already reported to the sensor as loaded.
            " set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'"
            " ELSE current_setting('synchronous_commit') END, true)",
            [str(max(1, int(self.budget.left * 1000)))],
        )

    def _lock(self, what: str) -> None:
        number = int.from_bytes(sha256(f"prefect-blueprint {what}".encode()).digest()[:8], signed=True)
        self._run("SELECT pg_advisory_xact_lock(%s)", [number])

    def _run(self, query: Any, parameters: Sequence[Any] = ()) -> psycopg.Cursor[tuple[Any, ...]]:
        # Without parameters psycopg must not look for placeholders: a column's name may contain `%`.
        return self.connection.execute(query, parameters or None)

    def _value(self, query: str, *parameters: str) -> Any:
        return self._run(query, parameters).fetchall()[0][0]

    def _explained(self) -> Any:
        return explained(self.shown, self.budget.total)


def _column(name: str, type_: str) -> TableColumn:
    form = text_form(type_)
    return TableColumn(name, duckdb_type(type_), type_ if form else None, form)


def _table(table: TargetTable) -> Identifier:
    return Identifier(table.schema, table.table)


def _loads(table: TargetTable) -> Identifier:
    return Identifier(table.schema, LOADS_TABLE)


def _name(*parts: str) -> str:
    """Return a name as `to_regclass` expects it; parts of a target table have only letters, digits and _."""
    return ".".join(f'"{part}"' for part in parts)


def check_name(name: str) -> None:
    """Raise RejectionError for a column name that PostgreSQL does not allow."""
    if name.lower() in _SYSTEM_COLUMNS:
        raise RejectionError(f'column "{name}": PostgreSQL keeps that name for itself; rename it in the file')
    if len(name.lower().encode()) > _LONGEST_NAME:
        raise RejectionError(f'column "{name:.40}...": longer than PostgreSQL\'s {_LONGEST_NAME} bytes; rename it')
    if "\0" in name:
        raise RejectionError("a column's name holds a NUL character, which PostgreSQL cannot store")


_DEFAULTS = {
    "application_name": "prefect-blueprint",
    "connect_timeout": 10,
    # In seconds, the last in milliseconds: a server that vanishes silently is noticed within a minute.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_FOR_A_PERSON = re.compile(
    "authentication failed|no password supplied|does not exist|no pg_hba.conf entry|permission denied|not permitted"
    "|not currently accepting connections|server does not support SSL|certificate"
)
"""Messages of a failed login, which have no SQLSTATE, where waiting cannot help."""


@contextmanager
def open_postgres(
    database: PostgresDatabase,
    wait: float | WaitBudget,
    on_wait: Callable[[str], None],
    memory_limit: str,
    spool_dir: Path,
) -> Generator[PostgresWarehouse, None, None]:
    """Open the warehouse for the block, waiting while the server does not answer or has no free connection.

    `on_wait` is called once, with the reason, when the wait begins. Raises StillInUseError when the server does not
    answer within `wait` (seconds, or what is left of a budget), PermanentError when it rejects the login.
    """
    budget = wait if isinstance(wait, WaitBudget) else WaitBudget(wait)
    connection = _connect(database, budget, on_wait)
    try:
        with (
            spool_folder(spool_dir, f"warehouse-{uuid4().hex}") as spool,
            in_memory_reader(memory_limit, spool / "reader.tmp") as reader,
        ):
            yield PostgresWarehouse(connection, reader, spool, str(database), budget)
    finally:
        connection.close()


def _connect(
    database: PostgresDatabase, budget: WaitBudget, on_wait: Callable[[str], None]
) -> psycopg.Connection[tuple[Any, ...]]:
    def notice(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome:
            why = _why(state.outcome.exception())
            on_wait(f"the warehouse {database} does not answer: {why}; waiting for up to {budget.left:g} s")

    waiting = Retrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_delay(budget.left),
        wait=wait_random(0.1, 0.5),
        before_sleep=notice,
        reraise=True,
    )
    given = conninfo_to_dict(database.url)
    options = {name: value for name, value in _DEFAULTS.items() if name not in given}
    try:
        with budget.spending():
            return waiting(_connected, database.url, options)
    except psycopg.Error as error:
        if _may_pass(error):
            raise StillInUseError(
                f"the warehouse {database} does not answer after {budget.total:g} s: {_why(error)}; start it, or set"
                " WAREHOUSE_WAIT_SECONDS to wait longer"
            ) from None
        raise PermanentError(
            f"the warehouse {database} does not let us in: {_why(error)}; check WAREHOUSE_URL, its user and database"
        ) from None


def _connected(url: str, options: dict[str, Any]) -> psycopg.Connection[tuple[Any, ...]]:
    # No prepared statements: behind a pooler, the next statement may run on another server connection.
    return psycopg.connect(url, autocommit=True, prepare_threshold=None, client_encoding="UTF8", **options)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, psycopg.OperationalError) and not _FOR_A_PERSON.search(str(error))


def _why(error: BaseException | None) -> str:
    said = said_by(error) if isinstance(error, psycopg.Error) else str(error)
    return said if said.startswith("Multiple") else said.rpartition(" failed: ")[2]
