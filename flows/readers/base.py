"""The protocol of a reader, and what the readers of all formats share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Hashable, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import duckdb

from flows.errors import RejectionError
from flows.readers.column_types import (
    DECIMAL,
    TEXT,
    TEXT_TYPES,
    Conversion,
    decimal_digits,
    fraction_type,
    looks_like,
)
from flows.source_file import SourceFile
from flows.sql_names import RESERVED_COLUMNS, path_list, path_literal

SAMPLE_ROWS = 20_480
"""How many rows show what a column of texts holds, as in DuckDB; all of them are read when one disagrees later."""
_SAMPLE_VALUES = 4_000_000
"""How many values a sample has at most: fewer rows of a file of many columns."""
WIDE = 256
"""From how many columns on a file is loaded with one thread: each column takes some 100 kB of memory in each thread
(measured, DuckDB 2.0)."""
_COLUMNS_AT_ONCE = 1024
"""How many columns one query types. To bind a scan of 4,000 columns takes a second, whatever is selected (measured)."""


def sample_rows(columns: int) -> int:
    """Return how many rows of a file of so many columns are its sample."""
    return max(256, min(SAMPLE_ROWS, _SAMPLE_VALUES // max(1, columns)))


@dataclass(frozen=True)
class FileColumn:
    """A column of a file, and the type that it gets if the table does not have it yet."""

    name: str
    new_type: str
    is_blank: bool = False
    """Whether nothing but nulls was seen, so that the type is a mere guess."""


def file_column(name: str, seen_type: str | None) -> FileColumn:
    """Return a column of texts; `seen_type` None: nothing but nulls was seen."""
    return FileColumn(name, seen_type or TEXT, is_blank=seen_type is None)


class Reading(Protocol):
    """How DuckDB reads one file."""

    @property
    def file(self) -> SourceFile:
        """The file that is read."""
        ...

    @property
    def columns(self) -> tuple[FileColumn, ...]:
        """The columns in their order; none when the file does not tell their types (it has no rows)."""
        ...

    @property
    def is_sampled(self) -> bool:
        """Whether rows that were not looked at may disagree with the columns' types."""
        ...

    @property
    def rows(self) -> int | None:
        """How many rows the file has, where that is known without DuckDB; a load that finds others is taken back."""
        ...

    @property
    def empty_is_null(self) -> bool:
        """Whether an empty text means nothing in a column that holds no texts."""
        ...

    def read_type(self, column: FileColumn, target_type: str) -> str:
        """Return the type that the reader gives a column which goes into a column of the target's type."""
        ...

    @property
    def shape(self) -> Hashable:
        """What files have in common that one query can read together."""
        ...

    def scan(self, read_types: Sequence[str], together: Sequence[SourceFile] = ()) -> str:
        """Return a query of the file's rows in their order; its columns are named raw0, raw1 and so on.

        With `together`, of the rows of these files, all of this one's shape; the column `file` says which of them.
        """
        ...


FILE_INDEX = "file_index"
"""What DuckDB calls the place of a row's file among those that are read; a column of a file may bear the name too."""


def selection(values: Iterable[str], together: Sequence[SourceFile]) -> str:
    """Return what a scan selects: the values as raw0, raw1 and so on, and which file they are from."""
    columns = [f"{value} AS {raw(at)}" for at, value in enumerate(values)]
    return ", ".join([*columns, f"CAST({FILE_INDEX} AS BIGINT) AS file"] if together else columns)


def paths(file: SourceFile, together: Sequence[SourceFile]) -> str:
    """Return the SQL of the path of a file, or of those of several."""
    return path_list(one.path for one in together) if together else path_literal(file.path)


def raw(position: int) -> str:
    """Return the name of a scan's column."""
    return f"raw{position}"


def check_names(names: Iterable[str]) -> None:
    """Raise RejectionError for names that the target table cannot have side by side."""
    counts = Counter(name.lower() for name in names)
    taken = [name for name in counts if name in RESERVED_COLUMNS]
    twice = [name for name, count in counts.items() if count > 1]
    if taken:
        raise RejectionError(f"column {_listed(taken)}: the pipeline's own name; rename it in the file")
    if twice:
        raise RejectionError(f"column {_listed(twice)}: there more than once; case makes no difference")


def _listed(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


@contextmanager
def one_thread(connection: duckdb.DuckDBPyConnection) -> Generator[None, None, None]:
    """Have a connection's database work with one thread meanwhile.

    With two, DuckDB 2.0 forgets in one of ten reads of a list of NDJSON files that the last line of one is malformed,
    and takes the file without it; it never does so with one thread, or with a file by itself (measured). Files this
    small do not need two: one reads 500 CSV files in 0.16 s of CPU, two in 0.21 s.
    """
    connection.execute("SET threads = 1")
    try:
        yield
    finally:
        with suppress(duckdb.Error):  # an error may have invalidated the connection
            connection.execute("RESET threads")


def types_of_texts(
    connection: duckdb.DuckDBPyConnection,
    scan: str,
    candidates: Sequence[Sequence[str]],
    row_limit: int | None,
    *,
    empty_is_null: bool = False,
) -> tuple[int, list[str | None]]:
    """Return how many rows were read and, for each column of a scan, its type.

    `candidates` has for each column the types that it may be, of which the first is taken that all its texts look
    like; VARCHAR if there is none, and None if all are null. `row_limit` None reads all rows. Of many columns some are
    read at a time. With `empty_is_null` an empty text says nothing about the type.
    """
    counts = "text != ''" if empty_is_null else "text IS NOT NULL"
    rows, types = 0, list[str | None]()
    for first in range(0, len(candidates), _COLUMNS_AT_ONCE):
        some = candidates[first : first + _COLUMNS_AT_ONCE]
        rows, found = _types_of_some(connection, scan, first, some, row_limit, counts)
        if not rows:
            return 0, []
        types += found
    return rows, types


def _types_of_some(
    connection: duckdb.DuckDBPyConnection,
    scan: str,
    first: int,
    candidates: Sequence[Sequence[str]],
    row_limit: int | None,
    counts: str,
) -> tuple[int, list[str | None]]:
    tests = ", ".join(f"bool_and({_looks_like(type_)}) FILTER ({counts})" for type_ in TEXT_TYPES)
    is_number = f"{counts} AND {_looks_like(DECIMAL)}"
    digits = ", ".join(f"max({one}) FILTER ({is_number})" for one in decimal_digits("text"))
    has_digits = "bool_or(regexp_matches(text, '[0-9]'))"
    limit = "" if row_limit is None else f" LIMIT {row_limit}"
    columns = ", ".join(raw(first + at) for at in range(len(candidates)))
    # All columns one below the other: to plan the same tests for each of them took 20 ms a file (measured).
    texts = f"SELECT unnest([{columns}]) AS text, unnest(range({len(candidates)})) AS position FROM ({scan}{limit})"
    answers = f"count(*), count(text), {digits}, {has_digits}, {tests}"
    found = connection.execute(f"SELECT {answers} FROM ({texts}) GROUP BY position ORDER BY position").fetchall()
    types = [
        _first(possible, row[5:], row[2:5]) if row[1] else None
        for possible, row in zip(candidates, found, strict=False)
    ]
    return (found[0][0] if found else 0), types


def _first(candidates: Sequence[str], answers: Sequence[bool], digits: tuple[int | None, int | None, bool]) -> str:
    """Return the first type that all texts look like.

    `digits` says how many the numbers have before and after the point, and whether there are any.
    """
    looks = {type_ for type_, yes in zip(TEXT_TYPES, answers, strict=True) if yes}
    whole, fraction, are_there = digits
    if not are_there:  # nothing but 'NaN' and 'Inf', which may be names
        looks.discard("DOUBLE")
    for type_ in candidates:
        if type_ == DECIMAL and DECIMAL in looks:
            found = fraction_type(whole or 0, fraction or 0, is_double="DOUBLE" in looks)
            if found:
                return found
        elif type_ in looks:
            return type_
    return TEXT


def _looks_like(type_: str) -> str:
    return looks_like(type_, "text", Conversion("", TEXT, type_).cast("text"))
