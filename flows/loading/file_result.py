"""Result of each file of a run: loaded, skipped or rejected."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import duckdb

from flows.errors import RejectionError
from flows.readers.base import Reading, raw
from flows.readers.column_types import Conversion, why_not

_NAMED = 5
"""How many rejected files the run's message names."""


class Outcome(StrEnum):
    """What became of a file; the sensor reads these values from the run's artifact."""

    LOADED = "loaded"
    SKIPPED = "skipped"
    """Its load key existed: an earlier run had loaded it."""
    REJECTED = "rejected"


@dataclass(frozen=True)
class FileResult:
    """Result of one file."""

    file: str
    outcome: Outcome
    rows: int
    """Rows of the file that are in the table, also if an earlier run loaded them; 0 if it was rejected, even if the
    rows of an earlier load remain."""
    bytes: int
    seconds: float
    reason: str | None = None
    replaced: int | None = None
    """How many rows of earlier loads were deleted for it; None if it was appended."""
    original: str | None = None
    """The error's own message, for the log, if it says more than the reason."""
    widened: tuple[str, ...] = ()
    """The columns of the table that were widened for it, a sentence each."""
    quarantined: int = 0
    """How many rows of the file were put aside."""
    not_taken: int = 0
    """How many of its rows were not taken: the table had their key, or a later row of the file has it."""
    left_out: tuple[str, ...] = ()
    """The file's columns that the table lacks and that its inbox's contract leaves out."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the load did besides, a sentence each: widened columns, and those left out."""
        names = ", ".join(f'"{shortened(name)}"' for name in self.left_out)
        count = "" if len(self.left_out) <= _NAMED else f"{len(self.left_out):,} "
        left = (f"left out {count}column{'' if len(self.left_out) == 1 else 's'} {names}",) if names else ()
        return (*self.widened, *left)

    @property
    def log_level(self) -> int:
        return logging.WARNING if self.outcome is Outcome.REJECTED else logging.INFO

    def __str__(self) -> str:
        match self.outcome:
            case Outcome.LOADED:
                replaced = [] if self.replaced is None else [f"replaced {self.replaced:,} rows"]
                aside = [put_aside(self.quarantined)] if self.quarantined else []
                not_taken = [f"left out {self.not_taken:,} rows whose key was there"] if self.not_taken else []
                more = "".join(f"; {one}" for one in (*aside, *replaced, *not_taken, *self.remarks))
                return f"{self.file}: loaded {self.rows:,} rows, {self.bytes:,} bytes, in {self.seconds:.2f} s{more}"
            case Outcome.SKIPPED:
                if self.reason:
                    return f"{self.file}: skipped: {self.reason}"
                return f"{self.file}: skipped, its {self.rows:,} rows were loaded before under the same load key"
            case Outcome.REJECTED:
                return f"{self.file}: rejected: {self.reason}"


def put_aside(rows: int) -> str:
    """Return how many rows were put aside, in words.

    >>> put_aside(1)
    '1 row put aside'
    """
    return f"{rows:,} row{'' if rows == 1 else 's'} put aside"


def has_rejected(results: Sequence[FileResult]) -> bool:
    """Return whether any file was rejected."""
    return any(result.outcome is Outcome.REJECTED for result in results)


def counts(results: Iterable[FileResult]) -> str:
    """Return how many files had each outcome, as text.

    >>> counts([FileResult("a.csv", Outcome.LOADED, 1234, 9000, 0.1)])
    '1 loaded with 1,234 rows, 0 skipped, 0 rejected'
    """
    files = Counter[Outcome]()
    rows = aside = 0
    for result in results:
        files[result.outcome] += 1
        rows += result.rows if result.outcome is Outcome.LOADED else 0
        aside += result.quarantined
    loaded, skipped, rejected = (files[outcome] for outcome in Outcome)
    more = f", {put_aside(aside)}" if aside else ""
    return f"{loaded:,} loaded with {rows:,} rows, {skipped:,} skipped, {rejected:,} rejected{more}"


def summary(results: Sequence[FileResult]) -> str:
    """Return the final message of a run.

    >>> summary([FileResult("a.csv", Outcome.LOADED, 1234, 9000, 0.1)])
    '1 file, 1,234 rows loaded, 0 skipped'
    """
    rejected = [result for result in results if result.outcome is Outcome.REJECTED]
    if rejected:
        named = "; ".join(f"{result.file}: {result.reason}" for result in rejected[:_NAMED])
        more = f"; and {len(rejected) - _NAMED} more" if len(rejected) > _NAMED else ""
        return f"{len(rejected)} of {len(results)} files rejected: {named}{more}"
    rows = sum(result.rows for result in results if result.outcome is Outcome.LOADED)
    skipped = sum(result.outcome is Outcome.SKIPPED for result in results)
    said = f"{len(results)} file{'' if len(results) == 1 else 's'}, {rows:,} rows loaded, {skipped} skipped"
    if aside := sum(result.quarantined for result in results):
        said += f", {put_aside(aside)}"
    return "; ".join([said, *remarks(results)[:_NAMED]])


def remarks(results: Iterable[FileResult]) -> list[str]:
    """Return the sentences about columns that were widened or left out, each once."""
    return list(dict.fromkeys(line for result in results for line in result.remarks))


# Values that do not fit their column: the first one found stops the load, and is then located and described.

MISMATCH = "a value does not fit its column"
"""The error message of the load's query; the query runs in parallel, so it cannot say where."""

COLUMNS_AT_ONCE = 512
"""How many columns one query checks: each takes up to half a megabyte (measured, DuckDB 2.0)."""
_LONGEST_VALUE = 80


def converted(scan: str, conversions: Sequence[Conversion], *, is_checked: bool = False) -> str:
    """Return the query for a scan's rows in the columns' types, named value0 and so on.

    It stops at a mismatch, unless the rows have already been checked for one.
    """
    values = ", ".join(
        f"{_checked(one, at) if not is_checked or one.is_free else _cast(at)} AS value{at}"
        for at, one in enumerate(conversions)
    )
    return f"SELECT {values} FROM ({_with_casts(scan, conversions)})"


def check_columns(connection: duckdb.DuckDBPyConnection, scan: str, conversions: Sequence[Conversion]) -> None:
    """Raise RejectionError if a value of a scan does not fit its column; reads the file once for each slice of columns.

    When 4,096 columns of fractions were checked while being loaded, that took 2.3 GB (measured, DuckDB 2.0).
    """
    for some in _slices(conversions):
        fits = " AND ".join(_fits(one, at) for at, one in some)
        found = connection.execute(f"SELECT 1 FROM ({_casts(scan, some)}) WHERE NOT ({fits}) LIMIT 1").fetchall()
        if found:
            raise RejectionError(MISMATCH)


def _slices(conversions: Sequence[Conversion]) -> Iterator[list[tuple[int, Conversion]]]:
    """Yield the conversions that need a check, with their positions, in slices that one query can hold."""
    checked = [(at, one) for at, one in enumerate(conversions) if not one.is_free]
    for first in range(0, len(checked), COLUMNS_AT_ONCE):
        yield checked[first : first + COLUMNS_AT_ONCE]


def marked(scan: str, conversions: Sequence[Conversion]) -> str:
    """Return the query for a scan's rows as in `converted`, with `file` and whether the row `fits`.

    It does not stop at a mismatch; the scan covers several files.
    """
    values = ", ".join(f"{raw(at) if one.is_free else _cast(at)} AS value{at}" for at, one in enumerate(conversions))
    fits = " AND ".join(_fits(one, at) for at, one in enumerate(conversions) if not one.is_free) or "true"
    return f"SELECT file, {fits} AS fits, {values} FROM ({_with_casts(scan, conversions)})"


def describe_mismatch(
    connection: duckdb.DuckDBPyConnection, reading: Reading, scan: str, conversions: Sequence[Conversion]
) -> str | None:
    """Return where the first mismatch is, its column, value and type; None if there is none.

    Reads the file twice more, and a CSV file up to the mismatch once more: a rejection is rare.
    """
    found = mismatches(connection, scan, conversions)
    if not found:
        return None
    at = min(found, key=lambda one: found[one])
    row, conversion = found[at], conversions[at]
    numbered = f"SELECT row_number() OVER () AS row, * FROM ({scan})"
    query = f"SELECT CAST({raw(at)} AS VARCHAR) FROM ({numbered}) WHERE row = {row}"
    value = connection.execute(query).fetchall()[0][0]
    why = why_not(conversion.shown_type, value)
    return (
        f'{reading.place_of(row)}, column "{conversion.column}": "{shortened(value)}" is not a {conversion.shown_type}'
        + (f": {why}" if why else "")
    )


def mismatches(connection: duckdb.DuckDBPyConnection, scan: str, conversions: Sequence[Conversion]) -> dict[int, int]:
    """Return the position of each column that has a mismatch, and the row of its first, counted from 1."""
    found = dict[int, int]()
    for some in _slices(conversions):
        firsts = ", ".join(f"min(row) FILTER (NOT {_fits(one, at)})" for at, one in some)
        numbered = f"SELECT row_number() OVER () AS row, * FROM ({_casts(scan, some)})"
        rows = connection.execute(f"SELECT {firsts} FROM ({numbered})").fetchall()[0]
        found.update({at: row for (at, _), row in zip(some, rows, strict=True) if row is not None})
    return found


def numbered_misfits(scan: str, conversions: Sequence[Conversion], most: int) -> Iterator[str]:
    """Yield queries of the first rows with a mismatch, each with the position of its first such column.

    Each query checks some of the columns.
    """
    for some in _slices(conversions):
        cases = " ".join(f"WHEN NOT {_fits(one, at)} THEN {at}" for at, one in some)
        numbered = f"SELECT row_number() OVER () AS row, * FROM ({_casts(scan, some)})"
        found = f"SELECT row, CASE {cases} END AS place FROM ({numbered})"
        yield f"SELECT row, place FROM ({found}) WHERE place IS NOT NULL ORDER BY row LIMIT {most}"


def shortened(value: str) -> str:
    """Return a value for display; a long one is cut."""
    return value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}..."


def _cast(position: int) -> str:
    return f"cast{position}"


def _with_casts(scan: str, conversions: Sequence[Conversion]) -> str:
    """Return the query for a scan's rows with cast0 and so on beside raw0 and so on.

    Casting is a separate step, as DuckDB would cast again for every mention of the cast value (measured: 1.7 s for a
    million rows instead of 1.3 s).
    """
    return _casts(scan, [(at, one) for at, one in enumerate(conversions) if not one.is_free])


def _casts(scan: str, some: Sequence[tuple[int, Conversion]]) -> str:
    casts = [f"{one.cast(raw(at))} AS {_cast(at)}" for at, one in some]
    return f"SELECT {', '.join(['*', *casts])} FROM ({scan})"


def _checked(conversion: Conversion, position: int) -> str:
    if conversion.is_free:
        return raw(position)
    return f"CASE WHEN {_fits(conversion, position)} THEN {_cast(position)} ELSE error('{MISMATCH}') END"


def _fits(conversion: Conversion, position: int) -> str:
    # In this order: nearly all values pass the first condition, and then the second is not evaluated.
    return f"({conversion.holds(raw(position), _cast(position))} OR {conversion.is_null(raw(position))})"
