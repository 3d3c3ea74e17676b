"""The warehouse: what loading needs of the database that the rows go into, be it a DuckDB file or PostgreSQL.

In all of flows/ it is `import duckdb` and never `from duckdb import ...`, with annotations that are not evaluated:
Prefect keeps a flow's functions alive when the interpreter ends, and a type of DuckDB's that one of them names then
prints fifty lines of "nanobind: leaked" at the end of every run (measured, DuckDB 2.0).
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
    """A column of the table, under its real name and with DuckDB's name of its type."""

    name: str
    type: str
    declared: str | None = None
    """What the warehouse calls its type, if DuckDB has another name for what holds its values."""
    form: str | None = None
    """A regular expression: the texts that it takes, if DuckDB has no such type."""


def not_widened(name: str, before: str, after: str, why: str) -> RejectionError:
    """Return the reason of a file that needs a column wider which cannot be."""
    return RejectionError(
        f'column "{name}" would have to be widened from {before} to {after} for it, and cannot be: {why}; change that,'
        " or widen the column by ALTER TABLE"
    )


def missing_columns(existing: Iterable[str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Return which of the wanted columns (name to type), and of the pipeline's own, are not among the existing ones.

    >>> list(missing_columns({"a", "_arrival_id", "_file_name"}, {"A": "BIGINT", "b": "DATE"}))
    ['b', '_loaded_at']
    """
    there = frozenset(existing)
    return {name: type_ for name, type_ in {**wanted, **RESERVED_COLUMNS}.items() if name.lower() not in there}


@dataclass(frozen=True)
class LoadKey:
    """One file of one arrival; it goes into one table once."""

    arrival_id: str
    file_name: str
    target_table: str


@dataclass
class WaitBudget:
    """How long a load may still wait for its warehouse, over all attempts together."""

    total: float
    """In seconds, for messages."""
    left: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.total

    @contextmanager
    def spending(self) -> Generator[None, None, None]:
        """Take the time of the block, which waits for `left` seconds at most, from what is left."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.left = max(0.0, self.left - (time.monotonic() - began))


class Warehouse(Protocol):
    """A warehouse that is open; names of columns are compared without regard to case.

    A row, a key or a column that the database refuses is a RejectionError, or an error of DuckDB's of such a kind;
    what trying again may mend is a TemporaryError or any other error of DuckDB's; what a person has to mend is a
    PermanentError.
    """

    @property
    def reader(self) -> duckdb.DuckDBPyConnection:
        """The connection that reads files, and in which the queries of `insert` run."""
        ...

    def renew_reader(self) -> bool:
        """Open the reader anew if an error has invalidated it, and return whether that was so."""
        ...

    def stored_type(self, new_type: str) -> str:
        """Return the type, in DuckDB's words, that a new column has when this one is wanted for it."""
        ...

    def create_loads(self, table: TargetTable) -> None:
        """Create the target's schema and the table of its load keys, if they are not there."""
        ...

    def columns(self, table: TargetTable) -> dict[str, TableColumn]:
        """Return the table's columns by their lower-case names; empty when there is no such table."""
        ...

    def has_unique_rows(self, table: TargetTable) -> bool:
        """Tell whether what the table has already decides about what else it takes: a key that somebody gave it."""
        ...

    def loads_of_arrival(self, table: TargetTable, arrival_id: str) -> dict[str, int]:
        """Return which files of an arrival have been loaded, by name, and how many rows each has."""
        ...

    def loaded_rows(self, table: TargetTable, key: LoadKey) -> int | None:
        """Return how many rows were loaded under a key; None if it has not been loaded."""
        ...

    def transaction(self, table: TargetTable, arrival_id: str) -> AbstractContextManager[None]:
        """Commit what is done inside, all of it or nothing; one at a time for an arrival and table."""
        ...

    def loaded_meanwhile(self, table: TargetTable, arrival_id: str, names: Sequence[str]) -> dict[str, int]:
        """Return, in a transaction, which of these files another run has loaded since we looked, and their rows."""
        ...

    def lock_columns(self, table: TargetTable) -> bool:
        """Let nobody else add columns until the transaction ends; tell whether somebody may have since we looked."""
        ...

    def add_columns(self, table: TargetTable, existing: Mapping[str, TableColumn], wanted: Mapping[str, str]) -> None:
        """Add the wanted columns (name to type) to the existing ones; create the table when there are none."""
        ...

    def widen_columns(self, table: TargetTable, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """Change the types of columns, given by name, to wider ones that hold all of their values.

        Raises RejectionError, with a reason that is no value's, if the database or a value that is there forbids it.
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
        """Insert what a query of the reader gives, whose values have the columns' types, and return how many rows.

        `types` are those that some columns had when the query was made. Raises ColumnsChangedError if one has another.
        """
        ...

    def remove_load(self, table: TargetTable, key: LoadKey) -> int | None:
        """Delete a key and its file's rows and return how many rows; None, and nothing deleted, if it is not there."""
        ...

    def record_loads(
        self, table: TargetTable, arrival_id: str, files: Sequence[SourceFile], rows: Sequence[int], at: datetime
    ) -> None:
        """Write the keys of files, `rows` of each."""
        ...

    def first_rows(self, table: TargetTable, count: int) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Return the table's columns and some of its rows, to be looked at."""
        ...
