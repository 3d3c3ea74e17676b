"""Insert rows into the table, each with the names of its file and arrival and the time.

The rows of many small files go into a staging table first, and the rows of the good files into the target together.
Because reading is separate from writing, a mismatch affects its own file only, and the transaction is short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import duckdb

from flows.errors import RejectionError, RowRejectedError, load_key_errors
from flows.loading.file_result import COLUMNS_AT_ONCE, check_columns, converted, marked, mismatches, shortened
from flows.loading.row_checks import Check, held
from flows.readers.base import FileColumn, Reading, one_thread, raw
from flows.readers.column_types import (
    DECIMAL,
    INTEGERS,
    JSON,
    TEXT,
    Conversion,
    decimal_digits,
    decimal_type,
    digits_of,
    is_text,
    looks_like,
)
from flows.readers.guard import FileLimits
from flows.source_file import SourceFile
from flows.sql_names import RESCUED, RESERVED_COLUMNS, TargetTable, literal
from flows.warehouse.base import TableColumn, Warehouse, missing_columns

_INCOMING = "temp.main.incoming"


@dataclass(frozen=True)
class Insertion:
    """How the columns of one file map to those of the table, and how their values are converted."""

    reading: Reading
    table: TargetTable
    existing: Mapping[str, TableColumn]
    """The columns that the table already has, by lower-case name."""
    conversions: tuple[Conversion, ...]
    checks: tuple[Check, ...] = ()
    """The checks of each row by its inbox's rules."""
    left_out: tuple[str, ...] = ()
    """The file's columns that its inbox's contract leaves out."""
    good: str | None = None
    """The query of the rows that are inserted, if others are put aside."""
    misfits: Sequence[int] = ()
    """The positions of the rows that are put aside, in order, counted from 1."""

    def place_of(self, row: int) -> str:
        """Return where a row of the scan is in the file."""
        for misfit in self.misfits:
            if misfit > row:
                break
            row += 1
        return self.reading.place_of(row)

    @property
    def scan(self) -> str:
        """The query that returns the file's rows, or those of them that are inserted."""
        return self.good or self.reading.scan([conversion.read_type for conversion in self.conversions])

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rows have a value for: the file's, then the pipeline's own."""
        return (*(conversion.column for conversion in self.conversions), *RESERVED_COLUMNS)

    @property
    def is_adding(self) -> bool:
        """Whether the table, or a column of it, has to be created first."""
        return bool(missing_columns(self.existing, self._wanted))

    @property
    def types(self) -> dict[str, str]:
        """The type to which the rows were converted, by column."""
        return {one.column: one.target_type for one in self.conversions}

    @property
    def _wanted(self) -> dict[str, str]:
        return {one.column: one.target_type for one in self.conversions if one.is_new}

    def add_columns(self, warehouse: Warehouse) -> None:
        """Add the columns that the table lacks, or create it. Raises the warehouse's errors."""
        warehouse.add_columns(self.table, self.existing, self._wanted)

    def insert(
        self,
        warehouse: Warehouse,
        arrival_id: str,
        at: datetime,
        batch_size: int | None = None,
    ) -> int:
        """Insert the rows into the table, which has all columns by now, and return how many.

        One query inserts them all, in an order that the connection chooses. With `batch_size`, they are inserted that
        many at a time from a temporary table, in the file's order. Raises the warehouse's errors.
        """
        if not self.conversions:
            return 0
        extra = [arrival_id, self.reading.file.name, at]
        rows = self._rows(warehouse)
        if batch_size is None:
            return self._insert(warehouse, rows, extra)
        numbered = f"SELECT row_number() OVER () AS row, * FROM ({rows})"
        warehouse.reader.execute(f"CREATE OR REPLACE TEMP TABLE incoming AS {numbered}")
        inserted = 0
        while batch := self._insert(warehouse, _window(inserted, batch_size), extra):
            inserted += batch
        warehouse.reader.execute(f"DROP TABLE {_INCOMING}")
        return inserted

    def stage(self, warehouse: Warehouse, arrival_id: str, at: datetime, number: str | None = None) -> int:
        """Put the rows into the warehouse's temporary table `staged`, and return how many; see `Warehouse.stage`."""
        extra = [arrival_id, self.reading.file.name, at]
        query = f"SELECT *, ?, ?, ? FROM ({self._rows(warehouse)})"
        return warehouse.stage(self.table, self.columns, query, extra, self.types, number)

    def _rows(self, warehouse: Warehouse) -> str:
        """Return the query for the rows; those of a wide file are checked before."""
        is_wide = len(self.conversions) > COLUMNS_AT_ONCE
        if is_wide:
            check_columns(warehouse.reader, self.scan, self.conversions)
        return held(converted(self.scan, self.conversions, is_checked=is_wide), self.checks)

    def _insert(self, warehouse: Warehouse, rows: str, extra: Sequence[str | datetime]) -> int:
        return warehouse.insert(self.table, self.columns, f"SELECT *, ?, ?, ? FROM ({rows})", extra, self.types)


def planned(warehouse: Warehouse, reading: Reading, table: TargetTable) -> Insertion:
    """Match the columns of a file with those of the table; the others are new."""
    return matched(warehouse, reading, table, warehouse.columns(table))


def matched(
    warehouse: Warehouse, reading: Reading, table: TargetTable, existing: Mapping[str, TableColumn]
) -> Insertion:
    """Match the columns of a file with those that the table is known to have; the others are new."""
    conversions: list[Conversion] = []
    for column in named_columns(reading, table, existing):
        there = existing.get(column.name.lower())
        target_type = there.type if there else warehouse.stored_type(column.new_type)
        read_type = reading.read_type(column, target_type)
        is_new = there is None
        is_blank = is_new and column.is_blank and reading.is_sampled
        form, declared = (there.form, there.declared) if there else (None, None)
        conversions.append(
            Conversion(
                column.name,
                read_type,
                target_type,
                is_new,
                is_blank,
                reading.empty_is_null,
                form,
                declared,
                reading.written,
            )
        )
    return Insertion(reading, table, existing, tuple(conversions))


def named_columns(reading: Reading, table: TargetTable, existing: Mapping[str, TableColumn]) -> Sequence[FileColumn]:
    """Return a file's columns; if they have no names, by the names of the table's. Raises RejectionError."""
    if not reading.is_positional or not reading.columns:
        return reading.columns
    names = [column.name for name, column in existing.items() if name not in {*RESERVED_COLUMNS, RESCUED}]
    if not names:
        raise RejectionError(f"the file has no column names, and there is no {table} to take them from; set `names`")
    if len(names) != len(reading.columns):
        raise RejectionError(
            f"expected {len(names)} columns, as {table} has, got {len(reading.columns)}; the file has no column names"
        )
    return [replace(column, name=name) for column, name in zip(reading.columns, names, strict=True)]


def _window(start: int, size: int) -> str:
    """Return the query for some rows of the temporary table; DuckDB skips the blocks that contain none of them."""
    return f"SELECT * EXCLUDE (row) FROM {_INCOMING} WHERE row > {start} AND row <= {start + size}"


@dataclass(frozen=True)
class StagingTable:
    """Files of one shape whose rows are in the temporary table; the latest replaces the one before."""

    warehouse: Warehouse
    insertion: Insertion
    """How each of the files is inserted."""
    files: tuple[SourceFile, ...]
    rows: tuple[int, ...]
    """The number of rows of each file."""
    fits: tuple[bool, ...]
    """Whether all values of each file fit their columns."""

    def good(self, limits: FileLimits, expected: Sequence[int | None]) -> list[int]:
        """Return the positions of the files whose rows all fit their columns, are not too many, and are all there.

        A file that has changed by now, when its rows are in the temporary table, is left out.
        """
        counted = enumerate(zip(self.files, self.fits, self.rows, expected, strict=True))
        return [
            at
            for at, (file, fits, rows, all_) in counted
            if fits and rows <= limits.max_rows and all_ in {None, rows} and not file.change()
        ]

    def write(self, arrival_id: str, places: Sequence[int], at: datetime) -> dict[str, int]:
        """Write the rows of the files at these positions, and their load keys, in one transaction.

        Returns the files that another run has loaded in the meantime, by name, with their numbers of rows; they are
        left out. Raises the warehouse's errors.
        """
        warehouse, table = self.warehouse, self.insertion.table
        with warehouse.transaction(table, arrival_id):
            with load_key_errors():
                there = warehouse.loaded_meanwhile(table, arrival_id, [self.files[place].name for place in places])
            ours = [place for place in places if self.files[place].name not in there]
            if ours and self.insertion.conversions:
                self._insert(arrival_id, ours, at)
            files, rows = [self.files[place] for place in ours], [self.rows[place] for place in ours]
            with load_key_errors():
                warehouse.record_loads(table, arrival_id, files, rows, at)
        return there

    def _insert(self, arrival_id: str, places: Sequence[int], at: datetime) -> None:
        names: list[str | None] = [None] * len(self.files)
        for one in places:
            names[one] = self.files[one].name
        values = ", ".join(f"value{at}" for at in range(len(self.insertion.conversions)))
        query = (
            f"SELECT {values}, ?, name, ? FROM"
            f" (SELECT *, list_extract(?, file + 1) AS name FROM {_INCOMING}) WHERE name IS NOT NULL"
        )
        columns, types = self.insertion.columns, self.insertion.types
        self.warehouse.insert(self.insertion.table, columns, query, [arrival_id, at, names], types)


def read_together(warehouse: Warehouse, insertion: Insertion, files: Sequence[SourceFile]) -> StagingTable:
    """Read files of the insertion's shape, in order, into the temporary table.

    Raises duckdb.Error if one of them cannot be read.
    """
    rows, fits = [0] * len(files), [True] * len(files)
    if insertion.conversions:
        scan = insertion.reading.scan([one.read_type for one in insertion.conversions], files)
        query = marked(scan, insertion.conversions)
        with one_thread(warehouse.reader):
            warehouse.reader.execute(f"CREATE OR REPLACE TEMP TABLE incoming AS {query}")
        counted = f"SELECT file, count(*), bool_and(fits) FROM {_INCOMING} GROUP BY file"
        for file, count, all_fit in warehouse.reader.execute(counted).fetchall():
            rows[file], fits[file] = count, all_fit
    return StagingTable(warehouse, insertion, tuple(files), tuple(rows), tuple(fits))


_CUT = "..."
"""Marks a long value of which the database quotes only the beginning."""


def describe_refusal(reader: duckdb.DuckDBPyConnection, insertion: Insertion, refused: RowRejectedError) -> str:
    """Return where the value is that the database refused, its column, the value and the reason, as far as known.

    Reads the file once more: a rejection is rare.
    """
    reason = str(refused)
    value = refused.value
    if value is None:
        return reason if refused.column is None else f'column "{refused.column}": {reason}'
    found = None
    for at, conversion in enumerate(insertion.conversions):
        if _may_hold(conversion, refused.column):
            row = _first_row(reader, insertion, at, value, is_part=refused.column is None)
            if row is not None and (found is None or row < found[0]):
                found = row, conversion.column
    if found is None:
        return reason if refused.column is None else f'column "{refused.column}": {reason}'
    row, column = found
    is_shown = refused.column is None or value.removesuffix(_CUT) in reason
    shown = "" if is_shown else f'"{shortened(value)}": '
    return f'{insertion.place_of(row)}, column "{column}": {shown}{reason}'


def _may_hold(conversion: Conversion, column: str | None) -> bool:
    if column is None:
        return is_text(conversion.target_type) or conversion.target_type == JSON
    return conversion.column.lower() == column.lower()


def _first_row(
    reader: duckdb.DuckDBPyConnection, insertion: Insertion, position: int, value: str, *, is_part: bool
) -> int | None:
    text = f"CAST({raw(position)} AS VARCHAR)"
    wanted = literal(value.removesuffix(_CUT)) if "\0" not in value else "chr(0)"
    if is_part:
        condition = f"contains({text}, {wanted})"
    else:
        condition = f"starts_with({text}, {wanted})" if value.endswith(_CUT) else f"{text} = {wanted}"
    numbered = f"SELECT row_number() OVER () AS row, * FROM ({insertion.scan})"
    return reader.execute(f"SELECT min(row) FROM ({numbered}) WHERE {condition}").fetchall()[0][0]


# Widen an existing column to the narrowest type that holds its values and those of a file.
#
# `5` today and `5.5` tomorrow make a BIGINT a DECIMAL. This happens only after a file did not fit, in the transaction
# that loads it, and never to text: text among numbers is more often a mistake than a new kind of value.

_BITS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}
_DIGITS = {
    "TINYINT": 3, "UTINYINT": 3, "SMALLINT": 5, "USMALLINT": 5, "INTEGER": 10, "UINTEGER": 10, "BIGINT": 19,
    "UBIGINT": 20, "HUGEINT": 39, "UHUGEINT": 39,
}  # fmt: skip
"""The most digits that numbers of a type can have."""
_LONGEST = 38
_SCALES = (2, 4, 6, 9, 12, 15, 18, 21, 24)
"""How many digits after the point a widened column may have; few steps, so that a table is seldom rewritten."""


@dataclass(frozen=True)
class Widening:
    """The columns of a table that a file needs wider, by the table's names: their types before and after."""

    before: Mapping[str, str]
    after: Mapping[str, str]

    @property
    def lines(self) -> tuple[str, ...]:
        """The sentences that are reported, one a column."""
        return tuple(
            f'column "{name}" is widened from {self.before[name]} to {type_}' for name, type_ in self.after.items()
        )


def widening_of(reader: duckdb.DuckDBPyConnection, insertion: Insertion) -> Widening | None:
    """Return what has to be widened for a file whose values do not fit; None if that would not help.

    The types of the file's columns are known from all of its rows. Reads the file twice more.
    """
    before, after = dict[str, str](), dict[str, str]()
    for at in mismatches(reader, insertion.scan, insertion.conversions):
        conversion, column = insertion.conversions[at], insertion.reading.columns[at]
        there = insertion.existing.get(conversion.column.lower())
        if there is None or there.form:
            return None
        digits = _digits(reader, insertion, at) if conversion.read_type == TEXT else digits_of(column.new_type)
        wider = wider_type(there.type, column, digits)
        if wider is None:
            return None
        before[there.name], after[there.name] = there.type, wider
    return Widening(before, after) if after else None


def wider_type(there: str, column: FileColumn, digits: tuple[int, int] | None) -> str | None:
    """Return the narrowest type that holds a column's values and those of a file; None if there is none.

    `digits` says how many digits the file's numbers have before and after the point, if none is written with an
    exponent. The warehouse has to check whether the existing values survive as a DOUBLE.

    >>> wider_type("BIGINT", FileColumn("a", "DECIMAL(18,2)"), (1, 1))
    'DECIMAL(38,2)'
    """
    new = column.new_type
    if there == "DATE":
        return "TIMESTAMP" if new == "TIMESTAMP" else None
    if is_text(new) or not _is_number(there) or not _is_number(new):
        return None
    if there in INTEGERS and new in INTEGERS:
        return _wider_integer(there, new)
    if there in {"FLOAT", "DOUBLE"}:
        return "DOUBLE" if (there, new) == ("FLOAT", "DOUBLE") else None
    if digits or new in INTEGERS:
        return _wider_decimal(there, digits or (_DIGITS[new], 0)) or _double(new)
    return _double(new)


def _double(new: str) -> str | None:
    return "DOUBLE" if new in {"FLOAT", "DOUBLE"} else None


def _wider_integer(there: str, new: str) -> str | None:
    """Return the narrowest signed type that holds both; None if there is none, or `there` already does."""
    for type_, bits in _BITS.items():
        if all((_BITS[one] if one in _BITS else _BITS[one[1:]] + 1) <= bits for one in (there, new)):
            return type_ if type_ != there else None
    return None


def _wider_decimal(there: str, digits: tuple[int, int]) -> str | None:
    """Return the DECIMAL that holds every number of a type and every number with that many digits.

    If there is none, return the longest of all: the warehouse rejects it if an existing number is too long.
    """
    whole, fraction = digits_of(there) or (_DIGITS[there], 0)
    most = max(whole, digits[0])
    needed = max(fraction, digits[1])
    steps = [needed] if needed == fraction else [*(scale for scale in _SCALES if scale >= needed), needed]
    found = next((type_ for scale in steps if (type_ := decimal_type(most, scale))), None)
    if found is None and digits[0] + steps[0] <= _LONGEST:  # existing numbers may be shorter than allowed
        found = f"DECIMAL({_LONGEST},{steps[0]})"
    return found if found != there else None


def _is_number(type_: str) -> bool:
    return type_ in INTEGERS or type_ in {"FLOAT", "DOUBLE"} or type_.startswith(DECIMAL)


def _digits(reader: duckdb.DuckDBPyConnection, insertion: Insertion, at: int) -> tuple[int, int] | None:
    """Return how many digits the texts of a column have before and after the point; None if one is no plain number."""
    whole, fraction = decimal_digits("text")
    written = insertion.conversions[at].written
    text = written.plain(raw(at), DECIMAL) if written else raw(at)
    texts = f"SELECT {text} AS text FROM ({insertion.scan}) WHERE NOT ({insertion.conversions[at].is_null(raw(at))})"
    query = f"SELECT bool_and({looks_like(DECIMAL, 'text', '')}), max({whole}), max({fraction}) FROM ({texts})"
    are_plain, most_whole, most_fraction = reader.execute(query).fetchall()[0]
    return (most_whole, most_fraction) if are_plain else None
