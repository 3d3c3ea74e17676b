"""Values that do not fit their column: the first one found stops the load, and is then located and described."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb

from flows.errors import RejectionError
from flows.readers.base import Reading, raw
from flows.readers.column_types import Conversion, why_not
from flows.readers.csv_files import CsvReading

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
        f'{place(reading, row)}, column "{conversion.column}": "{shortened(value)}" is not a {conversion.shown_type}'
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


def place(reading: Reading, row: int) -> str:
    """Return where a row of a file is, counted from 1: its line if the file is a CSV file."""
    return f"line {reading.line_of(row)}" if isinstance(reading, CsvReading) else f"row {row:,}"
