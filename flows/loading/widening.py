"""Widen an existing column to the narrowest type that holds its values and those of a file.

`5` today and `5.5` tomorrow make a BIGINT a DECIMAL. This happens only after a file did not fit, in the transaction
that loads it, and never to text: text among numbers is more often a mistake than a new kind of value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from flows.loading.insert import Insertion
from flows.loading.mismatch import mismatches
from flows.readers.base import FileColumn, raw
from flows.readers.column_types import (
    DECIMAL,
    INTEGERS,
    TEXT,
    decimal_digits,
    decimal_type,
    digits_of,
    is_text,
    looks_like,
)

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
    texts = f"SELECT {raw(at)} AS text FROM ({insertion.scan}) WHERE NOT ({insertion.conversions[at].is_null(raw(at))})"
    query = f"SELECT bool_and({looks_like(DECIMAL, 'text', '')}), max({whole}), max({fraction}) FROM ({texts})"
    are_plain, most_whole, most_fraction = reader.execute(query).fetchall()[0]
    return (most_whole, most_fraction) if are_plain else None
