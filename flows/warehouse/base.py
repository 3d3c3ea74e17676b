"""The protocol of a warehouse, with the load keys, columns and waiting time that its implementations share.

In all of flows/, DuckDB is imported as `import duckdb`, never `from duckdb import ...`, and annotations are not
evaluated. Prefect keeps a flow's functions alive until the interpreter exits, and a DuckDB type in the annotation of
one of them makes every run end with fifty lines of "nanobind: leaked" (measured, DuckDB 2.0).
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import duckdb

from flows.errors import RejectionError
from flows.source_file import SourceFile
from flows.sql_names import RESERVED_COLUMNS, TargetTable


@dataclass(frozen=True)
class TableColumn:
    """A column of the table: its real name and DuckDB's name of its type."""

    name: str
    type: str
    declared: str | None = None
    """The warehouse's own name of the type, if `type` is only the DuckDB type that holds its values."""
    form: str | None = None
    """A regular expression of the texts that it accepts, if DuckDB has no such type."""


def not_widened(name: str, before: str, after: str, why: str) -> RejectionError:
    """Return the rejection of a file that needs a wider column, where the column cannot be widened."""
    return RejectionError(
        f'column "{name}" would have to be widened from {before} to {after} for it, and cannot be: {why}; change that,'
        " or widen the column by ALTER TABLE"
    )


def missing_columns(existing: Iterable[str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Return those of the wanted columns (name to type) and the pipeline's own that do not exist yet.

    >>> list(missing_columns({"a", "_arrival_id", "_file_name"}, {"A": "BIGINT", "b": "DATE"}))
    ['b', '_loaded_at']
    """
    there = frozenset(existing)
    return {name: type_ for name, type_ in {**wanted, **RESERVED_COLUMNS}.items() if name.lower() not in there}


@dataclass(frozen=True)
class LoadKey:
    """Identifies one file of one arrival, which is loaded into a table once."""

    arrival_id: str
    file_name: str
    target_table: str


@dataclass
class WaitBudget:
    """The time that a load may still wait for its warehouse, over all attempts together."""

    total: float
    """In seconds, for messages."""
    left: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.total

    @contextmanager
    def spending(self) -> Generator[None, None, None]:
        """Subtract the duration of the block from `left`; the block must wait no longer than that."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.left = max(0.0, self.left - (time.monotonic() - began))


class Warehouse(Protocol):
    """An open warehouse. Column names are compared without regard to case.

    A row, key or column that the database does not accept raises RejectionError or a DuckDB error of that kind.
    TemporaryError and all other DuckDB errors mean that a retry may help, PermanentError that it cannot.
    """

    @property
    def reader(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection that reads files and runs the queries of `insert`."""
        ...

    def renew_reader(self) -> bool:
        """Reopen the reader if an error has invalidated it, and return whether that was necessary."""
        ...

    def stored_type(self, new_type: str) -> str:
        """Return the type, by DuckDB's name, that a new column gets when this type is wanted."""
        ...

    def create_loads(self, table: TargetTable) -> None:
        """Create the target's schema and its table of load keys, if they are missing."""
        ...

    def columns(self, table: TargetTable) -> dict[str, TableColumn]:
        """Return the table's columns by their lower-case names; empty if there is no such table."""
        ...

    def has_unique_rows(self, table: TargetTable) -> bool:
        """Return whether existing rows decide which other rows the table accepts: a unique or foreign key."""
        ...

    def loads_of_arrival(self, table: TargetTable, arrival_id: str) -> dict[str, int]:
        """Return the loaded files of an arrival: file name to number of rows."""
        ...

    def loaded_rows(self, table: TargetTable, key: LoadKey) -> int | None:
        """Return the number of rows loaded under a key; None if it has not been loaded."""
        ...

    def transaction(self, table: TargetTable, arrival_id: str) -> AbstractContextManager[None]:
        """Run the block in one transaction; transactions of the same arrival and table run one after the other."""
        ...

    def loaded_meanwhile(self, table: TargetTable, arrival_id: str, names: Sequence[str]) -> dict[str, int]:
        """Return which of these files another run has loaded since the last check; call it in a transaction."""
        ...

    def lock_columns(self, table: TargetTable) -> bool:
        """Lock the columns until the transaction ends; return whether another run may have changed them before."""
        ...

    def add_columns(self, table: TargetTable, existing: Mapping[str, TableColumn], wanted: Mapping[str, str]) -> None:
        """Add those wanted columns (name to type) that are missing; create the table if it does not exist."""
        ...

    def widen_columns(self, table: TargetTable, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """Change the types of columns, given by name, to wider ones that hold all of their values.

        Raises RejectionError if the database or an existing value forbids it; the reason is about the column, not a
        value of the file.
        """
        ...

    def insert(
        self,
        table: TargetTable,
        columns: Sequence[str],
        query: str,
        parameters: Sequence[Any],
        types: Mapping[str, str] | None = None,
    ) -> int:
        """Insert the result of a query that the reader runs, of the columns' types, and return the number of rows.

        `types` are the types that some columns had when the query was made. Raises ColumnsChangedError if one has
        changed.
        """
        ...

    def lock_rows(self, table: TargetTable) -> None:
        """Wait for other loads that have locked the table's rows; they wait for this one until its transaction ends.

        Loads that only append do not lock them.
        """
        ...

    def stage(
        self,
        table: TargetTable,
        columns: Sequence[str],
        query: str,
        parameters: Sequence[Any],
        types: Mapping[str, str],
        number: str | None = None,
    ) -> int:
        """Put the result of a query that the reader runs into a new temporary table, and return the number of rows.

        The table is `staged`, has these columns of the target table with their types, and exists until the transaction
        ends. With `number` it has one more column of this name: the row's number in the query's result. Raises
        ColumnsChangedError as `insert` does.
        """
        ...

    def unstage(self) -> None:
        """Drop the temporary table `staged`."""
        ...

    def change(self, statement: str) -> int:
        """Run a DELETE or INSERT, in SQL that both databases know, and return the number of rows."""
        ...

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query in SQL that both databases know."""
        ...

    def table_name(self, table: TargetTable) -> str:
        """Return the quoted name of the table for `change` and `query`."""
        ...

    def loads_name(self, table: TargetTable) -> str:
        """Return the quoted name of the table of load keys for `query`."""
        ...

    def remove_load(self, table: TargetTable, key: LoadKey) -> int | None:
        """Delete a load key and its file's rows and return their number; if there is no such key, return None."""
        ...

    def remove_rows(self, table: TargetTable, key: LoadKey) -> None:
        """Delete a file's rows from a table that has them without a load key, if there is such a table."""
        ...

    def record_loads(
        self, table: TargetTable, arrival_id: str, files: Sequence[SourceFile], rows: Sequence[int], at: datetime
    ) -> None:
        """Write the load keys of files; `rows` has the number of rows of each."""
        ...

    def first_rows(self, table: TargetTable, count: int) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Return the table's column names and a few of its rows, for display."""
        ...
