"""Map types between DuckDB, which reads and converts the values, and PostgreSQL, which stores them.

A new column gets PostgreSQL's narrowest type that holds all values of the DuckDB type. Where there is no practical one,
as for times in nanoseconds, it gets the type that holds the most, and a value that would lose digits is rejected. For
later files and for the first one alike, a column has the type that PostgreSQL gave it.

A PostgreSQL type that is not listed here is read as text, and PostgreSQL decides whether a text fits.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

import psycopg

from flows.errors import PermanentError, PipelineError, RowRejectedError, StillInUseError, TemporaryError
from flows.readers.column_types import (
    DAY_FORM,
    INTEGER_FORM,
    JSON,
    NO_NUMBER_FORM,
    OFFSET_FORM,
    POWER_FORM,
    TEXT,
    clock_form,
    is_nested,
)
from flows.sql_names import LOADS_TABLE

_NEW = {
    "BOOLEAN": "boolean",
    "TINYINT": "smallint",
    "UTINYINT": "smallint",
    "SMALLINT": "smallint",
    "USMALLINT": "integer",
    "INTEGER": "integer",
    "UINTEGER": "bigint",
    "BIGINT": "bigint",
    "UBIGINT": "numeric(20,0)",
    "HUGEINT": "numeric(39,0)",
    "UHUGEINT": "numeric(39,0)",
    "BIGNUM": "numeric",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "DATE": "date",
    "TIME": "time without time zone",
    "TIME_NS": "time without time zone",
    "TIME WITH TIME ZONE": "time with time zone",
    "TIMESTAMP": "timestamp without time zone",
    "TIMESTAMP_S": "timestamp without time zone",
    "TIMESTAMP_MS": "timestamp without time zone",
    "TIMESTAMP_NS": "timestamp without time zone",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
    "INTERVAL": "interval",
    "UUID": "uuid",
    "BLOB": "bytea",
    "JSON": "jsonb",
    "VARCHAR": "text",
}
_KEPT = {
    "boolean": "BOOLEAN",
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "numeric(39,0)": "HUGEINT",
    "real": "FLOAT",
    "double precision": "DOUBLE",
    "date": "DATE",
    "time without time zone": "TIME",
    "time with time zone": "TIME WITH TIME ZONE",
    "timestamp without time zone": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMP WITH TIME ZONE",
    # PostgreSQL would round to fewer digits; these are DuckDB's largest types that hold no more digits.
    **dict.fromkeys([f"timestamp({digits}) without time zone" for digits in (0, 1, 2)], "TIMESTAMP_S"),
    **dict.fromkeys([f"timestamp({digits}) without time zone" for digits in (3, 4, 5)], "TIMESTAMP_MS"),
    "timestamp(6) without time zone": "TIMESTAMP",
    "interval": "INTERVAL",
    "uuid": "UUID",
    "bytea": "BLOB",
    "json": JSON,
    "jsonb": JSON,
}
_DECIMAL = re.compile(r"(?:DECIMAL|numeric)\((\d+),(\d+)\)")
_LIMITED = re.compile(r"character( varying)?\((\d+)\)")
_NUMERIC = re.compile(r"numeric(?:\(\d+,(-?\d+)\))?")
_CLOCK = re.compile(r"(time|timestamp)\((\d)\) with(out)? time zone")
_AMOUNT = r"-?\$?(0|[1-9]\d*|[1-9]\d{0,2}(,\d{3})+)(\.\d{1,2}0*)?"
_LONGEST_DECIMAL = 38
_BEFORE_CHRIST = re.compile(r"DATE|TIMESTAMP.*")


def column_type(duckdb_type: str) -> str:
    """Return PostgreSQL's type for a new column of this DuckDB type.

    >>> [column_type(one) for one in ("UBIGINT", "DECIMAL(9,2)", "TIMESTAMP_NS", "INTEGER[]")]
    ['numeric(20,0)', 'numeric(9,2)', 'timestamp without time zone', 'jsonb']
    """
    decimal = _DECIMAL.fullmatch(duckdb_type)
    if decimal:
        return f"numeric({decimal[1]},{decimal[2]})"
    return _NEW.get(duckdb_type) or ("jsonb" if is_nested(duckdb_type) else "text")


def duckdb_type(postgres_type: str) -> str:
    """Return the DuckDB type that values are converted to for a column of this PostgreSQL type.

    >>> [duckdb_type(one) for one in ("numeric(9,2)", "character varying(5)", "timestamp(3) without time zone", "inet")]
    ['DECIMAL(9,2)', 'VARCHAR(5)', 'TIMESTAMP_MS', 'VARCHAR']
    """
    known = _KEPT.get(postgres_type)
    if known:
        return known
    decimal = _DECIMAL.fullmatch(postgres_type)
    if decimal and int(decimal[2]) <= int(decimal[1]) <= _LONGEST_DECIMAL:
        return f"DECIMAL({decimal[1]},{decimal[2]})"
    limited = _LIMITED.fullmatch(postgres_type)
    if limited:
        return f"{TEXT if limited[1] else 'CHAR'}({limited[2]})"
    return TEXT


def text_form(postgres_type: str) -> str | None:
    """Return a regular expression of the texts that a PostgreSQL type unknown to DuckDB stores without loss.

    PostgreSQL itself rounds to the type's digits, accepts 1_000 and 00123 as numbers, and reads a time without an
    offset in the session's time zone. None for types that DuckDB has, and for those whose texts only PostgreSQL can
    judge.

    >>> text_form("numeric(50,2)"), text_form("inet")
    ('-?(0|[1-9]\\\\d*)(\\\\.\\\\d{1,2}0*)?', None)
    """
    if duckdb_type(postgres_type) != TEXT:
        return None
    if numeric := _NUMERIC.fullmatch(postgres_type):
        return _numeric_form(None if numeric[1] is None else int(numeric[1]))
    if postgres_type == "money":
        return _AMOUNT
    if not (clock := _CLOCK.fullmatch(postgres_type)):
        return None
    day = "" if clock[1] == "time" else f"{DAY_FORM}[ T]"
    return f"{day}{clock_form(int(clock[2]))}" + ("" if clock[3] else f" ?{OFFSET_FORM}")


def _numeric_form(scale: int | None) -> str:
    if scale is None:
        return rf"{NO_NUMBER_FORM}|(?i:{INTEGER_FORM}(\.\d+)?|{POWER_FORM})"
    if scale < 0:  # rounded to tens, hundreds and so on
        return rf"(0|-?[1-9]\d*0{{{-scale}}})(\.0+)?"
    return rf"{INTEGER_FORM}(\.\d{{1,{scale}}}0*)?" if scale else rf"{INTEGER_FORM}(\.0+)?"


def written(type_: str, value: str) -> str:
    r"""Return the SQL expression that prints a value of this DuckDB type as PostgreSQL reads it.

    >>> written("BLOB", "v")
    "'\\x' || hex(v)"
    """
    if type_ == "BLOB":
        return rf"'\x' || hex({value})"
    if _BEFORE_CHRIST.fullmatch(type_):
        text = f"CAST({value} AS VARCHAR)"
        return f"CASE WHEN {value} < DATE '0001-01-01' THEN replace({text}, '(BC)', 'BC') ELSE {text} END"
    return value


# Classify PostgreSQL's errors: the file is rejected, a retry may help, or a person has to fix something.
#
# The patterns match SQLSTATEs: https://www.postgresql.org/docs/current/errcodes-appendix.html.

_REFUSALS = re.compile(r"22...|23...|42P10|428C9|44000|54...|P0001")
"""Data exceptions, constraint violations, generated columns, a view's check option, limits on the row size and the
number of columns, and errors raised by a trigger."""
_FOR_A_PERSON = re.compile(r"28...|3D000|42501|42809|42939|42602|42622|0A000|3F000")
"""Login, a missing database, missing privileges, a target that is no table, names."""
_LOST = re.compile("08...|57P0.")
"""The connection failed, or the server or an administrator ended the session."""
_LOCK_TIMEOUT = "55P03"
_NUL = "22021"
_KEY = re.compile(r"[^()]+\([^()]*\)=\(")
"""Matches a detail such as `Key (a)=(1) already exists.`; other details quote whole rows."""
_QUOTED = re.compile(r'^COPY .*?, line \d+, column (?P<column>.*?): "(?P<value>.*)"', re.DOTALL | re.MULTILINE)
"""The value that COPY quotes; its line number counts the lines that were sent, not those of the file."""


@contextmanager
def explained(shown: str, wait_seconds: float) -> Generator[None, None, None]:
    """Translate PostgreSQL's errors raised in the block; `shown` is the database's address, for messages.

    Raises RefusedError, TemporaryError, PermanentError.
    """
    try:
        yield
    except psycopg.Error as error:
        raise meaning(error, shown, wait_seconds) from None


def meaning(error: psycopg.Error, shown: str, wait_seconds: float) -> PipelineError | RowRejectedError:
    """Return the pipeline's error for a PostgreSQL error."""
    state, said = error.sqlstate, said_by(error)
    if state is None or _LOST.fullmatch(state):
        return TemporaryError(f"the connection to {shown} is lost: {said}; what was not committed is rolled back")
    if state == psycopg.errors.UniqueViolation.sqlstate and error.diag.table_name == LOADS_TABLE:
        return TemporaryError("another run has just loaded a file of this arrival; it is skipped when this one goes on")
    if _REFUSALS.fullmatch(state):
        return _refused(error, said)
    if state == _LOCK_TIMEOUT:
        return StillInUseError(
            f"waited for {wait_seconds:g} s for another session of {shown} that has locked the table, or loads the same"
            " arrival; end it, or set WAREHOUSE_WAIT_SECONDS to wait longer"
        )
    if _FOR_A_PERSON.fullmatch(state):
        return PermanentError(
            f"{shown}: {said}; docs/warehouse.md says what the user of WAREHOUSE_URL has to be granted"
        )
    return TemporaryError(f"{shown}: {said}")


def said_by(error: psycopg.Error) -> str:
    """Return an error's message in one line; it never contains a password."""
    message = error.diag.message_primary or str(error) or type(error).__name__
    return " ".join(message.split())


def _refused(error: psycopg.Error, said: str) -> RowRejectedError:
    if error.sqlstate == _NUL and said.endswith("0x00"):
        return RowRejectedError("holds a NUL character, which PostgreSQL cannot store", value="\0")
    detail = error.diag.message_detail or ""
    if _KEY.match(detail):
        return RowRejectedError(f"{said}: {detail}")
    quoted = _QUOTED.search(error.diag.context or "")
    return RowRejectedError(said, quoted["column"], quoted["value"]) if quoted else RowRejectedError(said)
