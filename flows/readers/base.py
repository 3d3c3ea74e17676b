"""The protocol that describes how DuckDB reads a file, and helpers shared by all formats.

They check column names, detect types from a sample of texts, and build parts of the queries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Hashable, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import duckdb

from flows.errors import RejectionError
from flows.readers.column_types import (
    DECIMAL,
    TEXT,
    TEXT_TYPES,
    Conversion,
    ValueForm,
    decimal_digits,
    fraction_type,
    looks_like,
)
from flows.source_file import SourceFile
from flows.sql_names import RESERVED_COLUMNS, path_list, path_literal

SAMPLE_ROWS = 20_480
"""Rows sampled to find the type of a column of texts, as many as DuckDB samples; if a later row disagrees, all rows are
read."""
_SAMPLE_VALUES = 4_000_000
"""Maximum number of values in a sample: a file with many columns is sampled in fewer rows."""
WIDE = 256
"""Files with more columns are loaded with one thread: each column takes some 100 kB of memory per thread (measured,
DuckDB 2.0)."""
_COLUMNS_AT_ONCE = 1024
"""Columns whose types one query detects. Binding a scan of 4,000 columns takes a second, whatever is selected
(measured)."""


def sample_rows(columns: int) -> int:
    """Return the number of rows to sample in a file with this many columns."""
    return max(256, min(SAMPLE_ROWS, _SAMPLE_VALUES // max(1, columns)))


@dataclass(frozen=True)
class FileColumn:
    """A column of a file, and the type that it gets if the table does not have it yet."""

    name: str
    new_type: str
    is_blank: bool = False
    """Whether only nulls were seen, so that the type is a guess."""


def file_column(name: str, seen_type: str | None) -> FileColumn:
    """Return a column of texts; `seen_type` is None if only nulls were seen."""
    return FileColumn(name, seen_type or TEXT, is_blank=seen_type is None)


@dataclass(frozen=True)
class BadRecords:
    """The rows of a file that cannot be divided into its columns, and were put aside when the file was read."""

    count: int = 0
    text: Path | None = None
    """A CSV file of them: line, raw text, reason."""
    first_line: int = 0
    first_reason: str = ""


NO_BAD = BadRecords()


class Reading(Protocol):
    """How DuckDB reads one file."""

    @property
    def file(self) -> SourceFile:
        """The file that is read."""
        ...

    @property
    def columns(self) -> tuple[FileColumn, ...]:
        """The columns in their order; empty if the file does not show their types (it has no rows)."""
        ...

    @property
    def is_sampled(self) -> bool:
        """Whether rows outside the sample may disagree with the columns' types."""
        ...

    @property
    def rows(self) -> int | None:
        """The number of rows, if known without DuckDB; a load that inserts another number is rolled back."""
        ...

    @property
    def empty_is_null(self) -> bool:
        """Whether an empty text is null in a column that does not hold texts."""
        ...

    def read_type(self, column: FileColumn, target_type: str) -> str:
        """Return the type to read a column as, for a table column of the target type."""
        ...

    @property
    def written(self) -> ValueForm | None:
        """How the file writes its values, if in another form than ours."""
        ...

    @property
    def is_positional(self) -> bool:
        """Whether the columns have no names, and are those of the table by their position."""
        ...

    @property
    def bad(self) -> BadRecords:
        """The rows that were put aside, which the scan does not return."""
        ...

    @property
    def shape(self) -> Hashable:
        """A key that is equal for files that one query can read together."""
        ...

    def place_of(self, row: int) -> str:
        """Return where a row of the scan is in the file, such as `line 5`; rows are counted from 1."""
        ...

    def with_types(self, connection: duckdb.DuckDBPyConnection, *, whole: bool) -> Reading:
        """Return the reading with its columns' types, from a sample of the rows or from all of them."""
        ...

    def scan(self, read_types: Sequence[str], together: Sequence[SourceFile] = ()) -> str:
        """Return a query of the file's rows in their order; its columns are named raw0, raw1 and so on.

        With `together`, the query returns the rows of these files, which all have this one's shape; its column `file`
        is the position of a row's file among them.
        """
        ...


class AsWritten:
    """What most readings have in common: values in our forms, columns with names, and types that are known."""

    @property
    def written(self) -> ValueForm | None:
        """None: values are written as ours are."""
        return None

    @property
    def is_positional(self) -> bool:
        """False: the columns have names."""
        return False

    @property
    def bad(self) -> BadRecords:
        """None: such a file is rejected."""
        return NO_BAD

    def place_of(self, row: int) -> str:
        """Return where a row of the scan is in the file, counted from 1."""
        return f"row {row:,}"

    def with_types(self, connection: duckdb.DuckDBPyConnection, *, whole: bool) -> Self:
        """Return the same reading: the file declares its types."""
        return self


@dataclass(frozen=True)
class WrappedReading:
    """What a reading that changes the columns of another one takes over from it."""

    inner: Reading

    @property
    def file(self) -> SourceFile:
        """The file that is read."""
        return self.inner.file

    @property
    def is_sampled(self) -> bool:
        """Whether rows outside the sample may disagree with the columns' types."""
        return self.inner.is_sampled

    @property
    def rows(self) -> int | None:
        """The number of rows, if known without DuckDB."""
        return self.inner.rows

    @property
    def empty_is_null(self) -> bool:
        """Whether an empty text is null in a column that does not hold texts."""
        return self.inner.empty_is_null

    @property
    def written(self) -> ValueForm | None:
        """How the file writes its values."""
        return self.inner.written

    @property
    def is_positional(self) -> bool:
        """Whether the columns have no names."""
        return self.inner.is_positional

    @property
    def bad(self) -> BadRecords:
        """The records that cannot be divided into columns."""
        return self.inner.bad

    def place_of(self, row: int) -> str:
        """Return where a row of the scan is in the file."""
        return self.inner.place_of(row)

    def with_types(self, connection: duckdb.DuckDBPyConnection, *, whole: bool) -> Self:
        """Return the reading with its columns' types, from a sample of the rows or from all of them."""
        return replace(self, inner=self.inner.with_types(connection, whole=whole))


FILE_INDEX = "file_index"
"""DuckDB's column with the position of a row's file among those read; a file may have a column of this name, too."""


def selection(values: Iterable[str], together: Sequence[SourceFile]) -> str:
    """Return the select list of a scan: the values as raw0, raw1 and so on, and the position of their file."""
    columns = [f"{value} AS {raw(at)}" for at, value in enumerate(values)]
    return ", ".join([*columns, f"CAST({FILE_INDEX} AS BIGINT) AS file"] if together else columns)


def paths(file: SourceFile, together: Sequence[SourceFile]) -> str:
    """Return the SQL of the path of one file, or of the list of several paths."""
    return path_list(one.path for one in together) if together else path_literal(file.path)


def raw(position: int) -> str:
    """Return the name of a scan's column."""
    return f"raw{position}"


def check_names(names: Iterable[str]) -> None:
    """Raise RejectionError if names are reserved by the pipeline, or are the same without regard to case."""
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
    """Make DuckDB use one thread for the block.

    With two threads, one in ten reads of a list of NDJSON files by DuckDB 2.0 misses that the last line of one file is
    malformed, and reads the file without that line; this never happens with one thread or with a single file
    (measured). Files this small do not need two: one thread reads 500 CSV files in 0.16 s of CPU time, two in 0.21 s.
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
    written: ValueForm | None = None,
) -> tuple[int, list[str | None]]:
    """Return how many rows were read and the type of each column of a scan.

    `candidates` lists the possible types of each column; the first that fits all its texts is returned, VARCHAR if none
    does, and None if all values are null. `row_limit` None reads all rows. With many columns, several queries read some
    of them each. With `empty_is_null`, an empty text does not count.
    """
    counts = "text != ''" if empty_is_null else "text IS NOT NULL"
    rows, types = 0, list[str | None]()
    for first in range(0, len(candidates), _COLUMNS_AT_ONCE):
        some = candidates[first : first + _COLUMNS_AT_ONCE]
        rows, found = _types_of_some(connection, scan, first, some, row_limit, counts, written or ValueForm())
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
    written: ValueForm,
) -> tuple[int, list[str | None]]:
    plain = {type_: written.plain("text", type_) for type_ in TEXT_TYPES}
    # Each form is computed once: it is a column of its own if it differs from the text.
    forms = {form: f"text{at}" for at, form in enumerate(dict.fromkeys(plain.values())) if form != "text"}
    named = {type_: forms.get(form, "text") for type_, form in plain.items()}
    tests = ", ".join(f"bool_and({_looks_like(type_, named[type_])}) FILTER ({counts})" for type_ in TEXT_TYPES)
    number = named[DECIMAL]
    is_number = f"{counts} AND {_looks_like(DECIMAL, number)}"
    digits = ", ".join(f"max({one}) FILTER ({is_number})" for one in decimal_digits(number))
    has_digits = "bool_or(regexp_matches(text, '[0-9]'))"
    limit = "" if row_limit is None else f" LIMIT {row_limit}"
    columns = ", ".join(raw(first + at) for at in range(len(candidates)))
    # All columns are unnested into one: planning the same tests for each column took 20 ms a file (measured).
    texts = f"SELECT unnest([{columns}]) AS text, unnest(range({len(candidates)})) AS position FROM ({scan}{limit})"
    if forms:
        texts = f"SELECT *, {', '.join(f'{form} AS {name}' for form, name in forms.items())} FROM ({texts})"
    answers = f"count(*), count(text), {digits}, {has_digits}, {tests}"
    found = connection.execute(f"SELECT {answers} FROM ({texts}) GROUP BY position ORDER BY position").fetchall()
    types = [
        _first(possible, row[5:], row[2:5]) if row[1] else None
        for possible, row in zip(candidates, found, strict=False)
    ]
    return (found[0][0] if found else 0), types


def _first(candidates: Sequence[str], answers: Sequence[bool], digits: tuple[int | None, int | None, bool]) -> str:
    """Return the first type that fits all texts.

    `digits` has the most digits before and after the point of any number, and whether any text has a digit.
    """
    looks = {type_ for type_, yes in zip(TEXT_TYPES, answers, strict=True) if yes}
    whole, fraction, are_there = digits
    if not are_there:  # only 'NaN' and 'Inf', which may be names
        looks.discard("DOUBLE")
    for type_ in candidates:
        if type_ == DECIMAL and DECIMAL in looks:
            found = fraction_type(whole or 0, fraction or 0, is_double="DOUBLE" in looks)
            if found:
                return found
        elif type_ in looks:
            return type_
    return TEXT


def _looks_like(type_: str, text: str) -> str:
    return looks_like(type_, text, Conversion("", TEXT, type_).cast(text))
