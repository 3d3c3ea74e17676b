"""A value that the database refuses, though it has the column's type for us: where in the file it stands."""

from __future__ import annotations

import duckdb

from flows.column_types import JSON, TEXT, Conversion
from flows.failures import RefusedError
from flows.insertion import Insertion
from flows.misfit import place, shortened
from flows.quoting import literal
from flows.reading import raw

_CUT = "..."
"""What the database puts behind the beginning of a long value."""


def describe_refusal(reader: duckdb.DuckDBPyConnection, insertion: Insertion, refused: RefusedError) -> str:
    """Return where the value is that was refused, its column, the value, and why; without what is not known.

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
    return f'{place(insertion.reading, row)}, column "{column}": {shown}{reason}'


def _may_hold(conversion: Conversion, column: str | None) -> bool:
    if column is None:
        return conversion.target_type.startswith(TEXT) or conversion.target_type == JSON
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
