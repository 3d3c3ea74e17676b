"""Types in both directions: DuckDB reads and converts the values, PostgreSQL keeps them.

A new column gets the narrowest type of PostgreSQL's that holds all values of DuckDB's. Where there is none that anybody
would want, as for times in nanoseconds, it gets the one that holds the most, and a value that would lose something is
rejected: a column counts as what PostgreSQL has made of it, for its first file as for all that follow.

A type of PostgreSQL's that is not known here takes texts, and PostgreSQL says whether they fit.
"""

import re

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
    # With fewer digits PostgreSQL would round; of DuckDB's types these are the next that hold no more.
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
    """Return the type that PostgreSQL gives a new column.

    >>> [column_type(one) for one in ("UBIGINT", "DECIMAL(9,2)", "TIMESTAMP_NS", "INTEGER[]")]
    ['numeric(20,0)', 'numeric(9,2)', 'timestamp without time zone', 'jsonb']
    """
    decimal = _DECIMAL.fullmatch(duckdb_type)
    if decimal:
        return f"numeric({decimal[1]},{decimal[2]})"
    return _NEW.get(duckdb_type) or ("jsonb" if is_nested(duckdb_type) else "text")


def duckdb_type(postgres_type: str) -> str:
    """Return the type that values are converted to which go into a column of this type of PostgreSQL's.

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
    """Return the texts, as a regular expression, that keep what they say in a type that DuckDB does not have.

    PostgreSQL itself rounds to the type's digits, takes 1_000 and 00123 for numbers, and a time without an offset for
    one of the session's zone. None for types that DuckDB has, and for those of which PostgreSQL alone knows the texts.

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
    r"""Return the expression of a value of this type of DuckDB's as PostgreSQL reads it from a text.

    >>> written("BLOB", "v")
    "'\\x' || hex(v)"
    """
    if type_ == "BLOB":
        return rf"'\x' || hex({value})"
    if _BEFORE_CHRIST.fullmatch(type_):
        text = f"CAST({value} AS VARCHAR)"
        return f"CASE WHEN {value} < DATE '0001-01-01' THEN replace({text}, '(BC)', 'BC') ELSE {text} END"
    return value
