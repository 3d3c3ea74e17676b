"""The checks of an inbox's rules on each row, as SQL conditions on converted values, and on a file as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from typing import Protocol

import duckdb

from flows.errors import RejectionError
from flows.loading.file_result import converted
from flows.readers.column_types import INTEGERS, Conversion, digits_of, is_text
from flows.rules import ColumnRule, LoadRules
from flows.sql_names import literal

VIOLATION = "a value breaks a rule of its inbox"
"""The error message of the load's query; the query runs in parallel, so it cannot say where."""
Check = tuple[str, str]
"""The SQL condition that a row breaks a rule, and the SQL expression of the reason; both use value0 and so on."""
_SHOWN = 80
_BITS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}
_MOMENTS = re.compile(r"DATE|TIMESTAMP.*")


def row_checks(rules: LoadRules, conversions: Sequence[Conversion]) -> list[Check]:
    """Return the checks of each row, in the order of the file's columns.

    A condition may be null, which means that the row is right. Raises RejectionError if a column cannot be compared
    with the rules' bounds.
    """
    by_name = {name.lower(): rule for name, rule in rules.columns.items()}
    checks = list[Check]()
    for at, conversion in enumerate(conversions):
        if rule := by_name.get(conversion.column.lower()):
            checks += _checks_of(rule, conversion, f"value{at}")
    return checks


def held(rows: str, checks: Sequence[Check]) -> str:
    """Return the query for converted rows that stops at a row that breaks a rule."""
    if not checks:
        return rows
    broken = " OR ".join(f"({condition})" for condition, _ in checks)
    first = f"CASE WHEN {broken} THEN error({literal(VIOLATION)}) ELSE value0 END AS value0"
    return f"SELECT * REPLACE ({first}) FROM ({rows})"


class Placed(Protocol):
    """Says where the rows of a scan are in their file."""

    def place_of(self, row: int) -> str:
        """Return the place of a row, such as `line 5`; rows are counted from 1."""
        ...


def describe_violation(
    connection: duckdb.DuckDBPyConnection,
    reading: Placed,
    scan: str,
    conversions: Sequence[Conversion],
    checks: Sequence[Check],
) -> str | None:
    """Return where the first row is that breaks a rule, and why; None if there is none. Reads the file once more."""
    rows = f"SELECT row_number() OVER () AS row, * FROM ({converted(scan, conversions, is_checked=True)})"
    broken = " OR ".join(f"({condition})" for condition, _ in checks)
    reasons = " ".join(f"WHEN {condition} THEN {reason}" for condition, reason in checks)
    query = f"SELECT row, CASE {reasons} END FROM ({rows}) WHERE {broken} ORDER BY row LIMIT 1"
    found = connection.execute(query).fetchone()
    return f"{reading.place_of(found[0])}, {found[1]}" if found else None


def check_unique(
    connection: duckdb.DuckDBPyConnection,
    reading: Placed,
    scan: str,
    conversions: Sequence[Conversion],
    rules: LoadRules,
) -> None:
    """Raise RejectionError if a column that must be unique has a value twice; reads the file once more for each."""
    unique = {name.lower() for name, rule in rules.columns.items() if rule.unique}
    for at, conversion in enumerate(conversions):
        if conversion.column.lower() not in unique:
            continue
        values = converted(scan, conversions, is_checked=True)
        some = f"SELECT value{at} AS value FROM ({values}) WHERE value{at} IS NOT NULL"
        query = f"SELECT 1 FROM ({some}) GROUP BY value HAVING count(*) > 1 LIMIT 1"
        if not connection.execute(query).fetchall():
            continue
        numbered = f"SELECT row_number() OVER () AS row, value{at} AS value FROM ({values})"
        places = f"SELECT *, lag(row) OVER (PARTITION BY value ORDER BY row) AS before FROM ({numbered})"
        query = (
            f"SELECT row, before, {_shown('value')} FROM ({places})"
            " WHERE value IS NOT NULL AND before IS NOT NULL ORDER BY row LIMIT 1"
        )
        row, before, value = connection.execute(query).fetchall()[0]
        raise RejectionError(
            f'{reading.place_of(row)}, column "{conversion.column}": {value} is in {reading.place_of(before)} as well,'
            " and the inbox's rules take each value once"
        )


def check_row_count(rules: LoadRules, rows: int) -> None:
    """Raise RejectionError if a file has fewer or more rows than its inbox takes."""
    if rules.rows is None or rules.rows[0] <= rows <= rules.rows[1]:
        return
    least, most = rules.rows
    raise RejectionError(f"the file has {rows:,} rows, and the inbox's rules take {least:,} to {most:,}")


def _checks_of(rule: ColumnRule, conversion: Conversion, value: str) -> list[Check]:
    checks = list[Check]()
    name = literal(f'column "{conversion.column}": ')
    if rule.required:
        blank = f" OR {value} = ''" if is_text(conversion.target_type) else ""
        checks.append((f"{value} IS NULL{blank}", f"{name} || 'no value, and the inbox''s rules require one'"))
    for bound, word, last, is_least in ((rule.min, "below", "least", True), (rule.max, "above", "most", False)):
        if bound is not None:
            said = literal(f" is {word} {bound}, the {last} that the inbox's rules take")
            checks.append(
                (_beyond(conversion, value, bound, is_least=is_least), f"{name} || {_shown(value)} || {said}")
            )
    if rule.pattern is not None:
        text = f"CAST({value} AS VARCHAR)"
        said = literal(f" does not match the pattern {rule.pattern} of the inbox's rules")
        condition = f"NOT regexp_full_match({text}, {literal(rule.pattern)})"
        checks.append((condition, f"{name} || {_shown(value, quoted=True)} || {said}"))
    return checks


def _shown(value: str, *, quoted: bool = False) -> str:
    """Return the SQL expression of a value for display; a long one is cut."""
    text = f"CAST({value} AS VARCHAR)"
    cut = f"CASE WHEN length({text}) > {_SHOWN} THEN left({text}, {_SHOWN}) || '...' ELSE {text} END"
    return f"'\"' || {cut} || '\"'" if quoted else f"({cut})"


def _beyond(conversion: Conversion, value: str, bound: Decimal | date, *, is_least: bool) -> str:
    """Return the SQL condition that a value is below the least, or above the most. Raises RejectionError."""
    type_ = conversion.target_type
    if isinstance(bound, Decimal):
        digits = (39, 0) if type_ in INTEGERS else digits_of(type_)
        if type_ in {"FLOAT", "DOUBLE"}:
            limit = f"CAST('{bound}' AS {type_})"
            return f"isnan({value}) OR {value} {'<' if is_least else '>'} {limit}"
        if digits:
            return _beyond_exact(type_, digits, value, bound, is_least=is_least)
    elif _MOMENTS.fullmatch(type_):
        return _beyond_moment(type_, value, bound, is_least=is_least)
    kind = "number" if isinstance(bound, Decimal) else "date"
    raise RejectionError(
        f'column "{conversion.column}": the inbox\'s rules compare it with the {kind} {bound}, and its type is'
        f" {conversion.shown_type}; give the column a type in the rules, or leave the bound out"
    )


def _beyond_exact(type_: str, digits: tuple[int, int], value: str, bound: Decimal, *, is_least: bool) -> str:
    """Compare within the column's own type: a common type of both may not hold a long number."""
    whole, scale = digits
    with localcontext(prec=1000):
        units = bound.scaleb(scale).to_integral_value(ROUND_CEILING if is_least else ROUND_FLOOR)
    number = int(units)
    if type_ in INTEGERS:
        is_signed = not type_.startswith("U")
        bits = _BITS[type_ if is_signed else type_[1:]]
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    else:
        high = 10 ** (whole + scale) - 1
        low = -high
    if not low <= number <= high:
        is_beyond = (number > high) if is_least else (number < low)
        return f"{value} IS NOT NULL" if is_beyond else "false"
    sign, plain = "-" if number < 0 else "", str(abs(number)).zfill(scale + 1)
    text = f"{sign}{plain[:-scale]}.{plain[-scale:]}" if scale else f"{sign}{plain}"
    return f"{value} {'<' if is_least else '>'} CAST('{text}' AS {type_})"


def _beyond_moment(type_: str, value: str, bound: date, *, is_least: bool) -> str:
    """Compare dates or times; a date as the most includes its whole day."""
    if isinstance(bound, datetime):
        at = bound.astimezone(UTC).replace(tzinfo=None) if bound.tzinfo else bound
        zone = "+00" if type_ == "TIMESTAMP WITH TIME ZONE" else ""
        of_value = f"CAST({value} AS TIMESTAMP)" if type_ == "DATE" else value
        of_limit = "TIMESTAMP" if type_ == "DATE" else type_
        return f"{of_value} {'<' if is_least else '>'} CAST('{at.isoformat(' ')}{zone}' AS {of_limit})"
    if is_least or type_ == "DATE":
        zone = " 00:00:00+00" if type_ == "TIMESTAMP WITH TIME ZONE" else ""
        return f"{value} {'<' if is_least else '>'} CAST('{bound.isoformat()}{zone}' AS {type_})"
    if bound == date.max:
        return "false"
    zone = " 00:00:00+00" if type_ == "TIMESTAMP WITH TIME ZONE" else ""
    return f"{value} >= CAST('{(bound + timedelta(days=1)).isoformat()}{zone}' AS {type_})"
