"""What may become what: a value goes into a column without loss, or not at all.

DuckDB's own casts round and cut silently: '1.5' becomes the BIGINT 2, '2024-01-01 05:00' the DATE 2024-01-01,
'2024-01-01 00:00+02' the TIMESTAMP 2024-01-01 00:00, 9007199254740993 the DOUBLE ...992 (measured, DuckDB 2.0).
So nothing is cast without its check. Texts are read as VARCHAR; a new column's type is what all its texts look like,
while a column that is there already takes whatever it can hold without loss.

Expressions speak of the value as it was read, `raw`, and of that value cast to the column's type, `cast`.
"""

import re
from dataclasses import dataclass

TEXT = "VARCHAR"
JSON = "JSON"

_INTEGER = r"-?(0|[1-9]\d*)"
_CLOCK = r"\d{1,2}:\d\d(:\d\d(\.\d{1,6})?)?"
_DAY = r"\d{4}-\d{1,2}-\d{1,2}"
_FORMS = {
    "BOOLEAN": r"(?i)true|false",
    "BIGINT": _INTEGER,
    "HUGEINT": _INTEGER,
    "DOUBLE": rf"(?i)({_INTEGER}(\.\d*)?|-?\.\d+)(e[+-]?\d+)?|nan|-?inf(inity)?",
    "DATE": _DAY,
    "TIME": _CLOCK,
    "TIMESTAMP": rf"{_DAY}([ T]{_CLOCK})?",
    "TIMESTAMP WITH TIME ZONE": rf"{_DAY}[ T]{_CLOCK} ?(Z|[+-]\d\d(:?\d\d)?)",
}
"""The types that a new column may get from texts, narrowest first, and how a text of each looks.

Leading zeros make a text ('00123'), not a number. Dates are ISO 8601 only: whether 01/02/2024 is in January or in
February is not ours to guess.
"""

TEXT_TYPES = tuple(_FORMS)
"""What texts may turn out to be, first match wins; VARCHAR when none matches."""
NUMBER_TYPES = ("BIGINT", "HUGEINT", "DOUBLE")
MOMENT_TYPES = ("DATE", "TIME", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")

_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_LONG_INTEGERS = ("HUGEINT", "UHUGEINT")
_WITNESSES = {**dict.fromkeys(_INTEGERS, "DOUBLE"), "DATE": "TIMESTAMP"}
"""Types that see the part of a text which these drop: a fraction, a time of day."""
_EXACT_DIGITS = {"FLOAT": 7, "DOUBLE": 15}
"""A whole number of that many digits always has a value of its own in these types."""
_LIMITED_TEXT = re.compile(r"VARCHAR\((\d+)\)")
"""A text of so many characters at most, which DuckDB reads as any other text; PostgreSQL has such columns."""
_NESTED = re.compile(r"\]$|^(STRUCT|MAP|UNION|VARIANT)\b")


@dataclass(frozen=True)
class Conversion:
    """How a column of a file, read as one type, becomes a column of the table, of another or the same type."""

    column: str
    read_type: str
    target_type: str
    is_new: bool = False
    """Whether the column is added by this file, so that its type may still be another."""
    is_blank: bool = False
    """Whether it is new and nothing but nulls was seen, so that any value says that its type is another."""

    empty_is_null: bool = False
    """Whether an empty text means nothing where the column holds no texts."""

    def is_null(self, raw: str) -> str:
        """Return the condition that a value is nothing, which fits every column."""
        if self.empty_is_null and self.read_type == TEXT and not self.target_type.startswith(TEXT):
            return f"{raw} IS NULL OR {raw} = ''"
        return f"{raw} IS NULL"

    @property
    def is_free(self) -> bool:
        """Whether every value fits as it is."""
        return self.read_type == self.target_type and not self.is_blank

    def cast(self, raw: str) -> str:
        """Return the expression of the cast value: null when it cannot be cast at all."""
        if self.is_free:
            return raw
        if self.read_type != TEXT and not self._is_between_relatives:
            raw = f"CAST({raw} AS VARCHAR)"
        return f"TRY_CAST({raw} AS {self.target_type})"

    def holds(self, raw: str, cast: str) -> str:
        """Return the condition that a value which is not null keeps all that it says; never null itself."""
        if self.is_blank:
            return "false"
        if self.is_free or self.target_type == TEXT:
            return "true"
        if self._is_between_relatives:
            return f"coalesce(TRY_CAST({cast} AS {self.read_type}) = {raw}, false)"
        text = raw if self.read_type == TEXT else f"CAST({raw} AS VARCHAR)"
        if limited := _LIMITED_TEXT.fullmatch(self.target_type):
            return f"length({text}) <= {limited[1]}"
        if self.is_new:
            rule = looks_like(self.target_type, text, cast)
        else:
            rule = f"coalesce({_text_fits(self.target_type, text, cast)}, false)"
        plain = _is_plain(self.target_type, text, cast, is_new=self.is_new)
        return f"CASE WHEN {plain} THEN true ELSE {rule} END" if plain else rule

    @property
    def _is_between_relatives(self) -> bool:
        """Whether DuckDB casts there and back: what comes back as it was has lost nothing."""
        family = _family(self.read_type)
        return family is not None and family == _family(self.target_type)


def looks_like(type_: str, text: str, cast: str) -> str:
    """Return the condition that a text is how a value of this type is written."""
    fits = _text_fits(type_, text, cast) if type_ == "DOUBLE" else f"{cast} IS NOT NULL"
    if type_ not in _FORMS:
        return f"({fits})"
    # CASE, as AND would have DuckDB cast every text: twice the time for a sample (measured).
    form = rf"regexp_full_match({text}, '\s*({_FORMS[type_]})\s*')"
    return f"CASE WHEN {form} THEN {fits} ELSE false END"


def is_nested(type_: str) -> bool:
    """Tell whether a type holds lists, structs or maps, which become JSON."""
    return _NESTED.search(type_) is not None


def _family(type_: str) -> str | None:
    if type_ in (*_INTEGERS, *_LONG_INTEGERS, *_EXACT_DIGITS) or type_.startswith("DECIMAL"):
        return "number"
    return "moment" if type_ == "DATE" or type_.startswith("TIMESTAMP") else None


def _is_plain(type_: str, text: str, cast: str, *, is_new: bool) -> str | None:
    """Return the condition that a text is written as most are, and so fits by any rule; None if there is no such.

    It is told faster than the rule: 10 million rows of a new DATE, VARCHAR, BIGINT and DOUBLE are loaded in 3.6 s
    instead of 4.1 s (measured, DuckDB 2.0).
    """
    if type_ in (*_INTEGERS, *_LONG_INTEGERS):
        return f"{text} = CAST({cast} AS VARCHAR)"
    if type_ == "DATE":  # of this length no text is 'infinity' or before Christ
        return f"strlen({text}) = 10 AND {text} = CAST({cast} AS VARCHAR)"
    if type_ == "DOUBLE" and is_new:  # a number, as it can be cast; it begins like one, and has no 1_000 or 00.5
        begins = f"({text} >= '1' AND {text} < ':' OR starts_with({text}, '0.'))"
        return f"{begins} AND NOT contains({text}, '_') AND {_text_fits(type_, text, cast)}"
    return None


def _text_fits(type_: str, text: str, cast: str) -> str:
    """Return the condition that a text means the same as the value that it is cast to; may be null for no."""
    if type_ in _WITNESSES:
        return f"{cast} = TRY_CAST({text} AS {_WITNESSES[type_]})"
    if type_.startswith("DECIMAL") or type_ in _LONG_INTEGERS:
        return _digits_fit(type_, text, cast)
    if type_ in _EXACT_DIGITS:
        return _float_fits(type_, text, cast)
    if type_.startswith("TIMESTAMP"):
        return _moment_fits(type_, text, cast)
    if type_ == "TIME":  # else the date of a timestamp would be dropped
        return rf"{cast} IS NOT NULL AND regexp_full_match({text}, '\s*{_CLOCK}\s*')"
    return f"{cast} IS NOT NULL"


def _digits_fit(type_: str, text: str, cast: str) -> str:
    # Told by the digits, as a DOUBLE cannot tell such long numbers apart; texts with an exponent are rare.
    scale = type_.rpartition(",")[2].rstrip(")") if type_.startswith("DECIMAL") else "0"
    return (
        rf"({cast} IS NOT NULL AND (regexp_full_match({text}, '\s*[+-]?\d*(\.\d{{0,{scale}}}0*)?\s*')"
        rf" OR (contains(lower({text}), 'e') AND {cast} = TRY_CAST({text} AS DOUBLE))))"
    )


def _float_fits(type_: str, text: str, cast: str) -> str:
    # CASE, as OR would have DuckDB compute each of its parts for every text: 0.39 s of CPU for a million fractions
    # instead of 0.15 s (measured, DuckDB 2.0). Only a whole number that is long can lose digits unnoticed.
    is_exact = (
        f"CASE WHEN length({text}) <= {_EXACT_DIGITS[type_]} OR contains({text}, '.') THEN true"
        rf" ELSE NOT regexp_full_match({text}, '\s*[+-]?\d+\s*')"
        f" OR TRY_CAST({cast} AS HUGEINT) = TRY_CAST({text} AS HUGEINT) END"
    )
    is_finite = f"CASE WHEN isinf({cast}) THEN contains(lower({text}), 'inf') ELSE true END"
    return f"({cast} IS NOT NULL AND {is_exact} AND {is_finite})"


def _moment_fits(type_: str, text: str, cast: str) -> str:
    # Longer texts may have digits beyond the microseconds, which DuckDB drops.
    fits = rf"{cast} IS NOT NULL AND (length({text}) <= 26 OR NOT regexp_matches({text}, '\.\d{{6}}0*[1-9]'))"
    if type_ == "TIMESTAMP WITH TIME ZONE":
        return f"({fits})"
    # DuckDB drops the offset as well; the session's zone is UTC, so only offset zero comes out the same.
    instant = f"CAST(TRY_CAST({text} AS TIMESTAMP WITH TIME ZONE) AS TIMESTAMP)"
    if type_ == "TIMESTAMP_NS":  # which the instant has rounded to microseconds
        return f"abs(epoch(CAST({cast} AS TIMESTAMP)) - epoch({instant})) < 1"
    return f"({fits} AND CAST({cast} AS TIMESTAMP) = {instant})"
