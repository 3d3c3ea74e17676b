"""What may become what: a value goes into a column without loss, or not at all.

DuckDB's own casts round, cut and guess silently: '1.5' becomes the BIGINT 2, '01730' 1730, '1e3' 1000, 't' the BOOLEAN
true, 'epoch' the DATE 1970-01-01, '24-01-05' a day of the year 24, '2024-01-01 00:00+02' the TIMESTAMP
2024-01-01 00:00, 9007199254740993 the DOUBLE ...992 (measured, DuckDB 2.0). So nothing is cast without its check, and
one rule holds for new columns and for those that are there: a text becomes a value only if it is written in a form of
the type, and the value prints back to all digits of the text. A new column asks for the plainest forms; an existing one
takes a few more.

Expressions speak of the value as it was read, `raw`, and of that value cast to the column's type, `cast`.
"""

import re
from dataclasses import dataclass

TEXT = "VARCHAR"
JSON = "JSON"
DECIMAL = "DECIMAL"
"""Without its digits: what texts may turn out to be before it is known how many they have."""

BLANK_FORM = r"\s*"
INTEGER_FORM = r"-?(0|[1-9]\d*)"
_FRACTION = rf"{INTEGER_FORM}\.\d+"
POWER_FORM = rf"{_FRACTION}e[+-]?\d+|{INTEGER_FORM}e[+-]\d+"
"""A power of ten counts with a point or a sign only: 1.5e3 and 1e-7 are numbers, 1E5 may be a code."""
_ZERO = r"(?i:-?0\.0+e[+-]?\d+|-?0e[+-]\d+)"
NO_NUMBER_FORM = r"nan|NaN|NAN|-?(inf|Inf|INF|[iI]nfinity|INFINITY)"
"""As programs write what is no number; 'Nan' is a name."""
_HOUR, _SIXTY = r"([01]?\d|2[0-3])", r"[0-5]\d"
_DAY = r"\d{4}-\d{1,2}-\d{1,2}"
DAY_FORM = r"\d{4}(-\d{1,2}-|/\d{1,2}/)\d{1,2}"
OFFSET_FORM = r"(Z|[+-]\d\d(:?\d\d)?)"


def clock_form(digits: int) -> str:
    """Return the form of a time of day with so many digits after the second, and any number of zeros."""
    fraction = rf"\.\d{{1,{digits}}}0*" if digits else r"\.0+"
    return rf"{_HOUR}:{_SIXTY}(:{_SIXTY}({fraction})?)?"


_TIME = rf"{clock_form(6)}|24:00(:00(\.0+)?)?"
_NEW_FORMS = {
    "BOOLEAN": r"(?i)true|false",
    "BIGINT": INTEGER_FORM,
    "HUGEINT": INTEGER_FORM,
    DECIMAL: rf"{_FRACTION}|{INTEGER_FORM}",
    "DOUBLE": rf"{NO_NUMBER_FORM}|(?i:{INTEGER_FORM}(\.0|\.\d*[1-9])?|{POWER_FORM})",
    "DATE": _DAY,
    "TIME": _TIME,
    "TIMESTAMP": rf"{_DAY}([ T]{clock_form(6)})?",
    "TIMESTAMP WITH TIME ZONE": rf"{_DAY}[ T]{clock_form(6)} ?{OFFSET_FORM}",
}
"""The types that a new column may get from texts, narrowest first, and how a text of each looks.

Leading zeros, a plus sign or a bare point make a text ('00123', '+5', '.5'), not a number. Dates are ISO 8601 only:
whether 01/02/2024 is in January or in February is not ours to guess.
"""

TEXT_TYPES = tuple(_NEW_FORMS)
"""What texts may turn out to be, first match wins; VARCHAR when none matches."""
NUMBER_TYPES = ("BIGINT", "HUGEINT", DECIMAL, "DOUBLE")
MOMENT_TYPES = ("DATE", "TIME", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")

_FORMS = {
    "BOOLEAN": _NEW_FORMS["BOOLEAN"],
    "DATE": rf"{DAY_FORM}([ T]0?0:00(:00(\.0+)?)?)?",
    "TIME": _TIME,
    "TIME WITH TIME ZONE": rf"{clock_form(6)} ?{OFFSET_FORM}",
    "TIMESTAMP WITH TIME ZONE": rf"{DAY_FORM}[ T]{clock_form(6)} ?({OFFSET_FORM}|UTC)",
    "UUID": r"(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}",
    "INTERVAL": r".*(\d:\d|[a-zA-Z]).*",  # 5 alone would be seconds
    "BIGNUM": rf"{INTEGER_FORM}(\.0+)?",
}
"""The forms of the texts that an existing column takes, beside those that its values print."""

INTEGERS = (
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
)  # fmt: skip
_LONGEST_DECIMAL = 38
_SHORT_DECIMAL = 18
"""How many digits of a DECIMAL take eight bytes."""
_FEW_DECIMALS = 6
"""Up to so many digits after the point a column of fractions is DECIMAL: amounts have two to four, degrees six."""
_FEWEST_DECIMALS = 2
_FAST_DIGITS = {"FLOAT": 6, "DOUBLE": 15}
"""A number of so many digits always prints back from these types."""
_SUBSECONDS = {"TIMESTAMP": 6, "TIMESTAMP_S": 0, "TIMESTAMP_MS": 3, "TIMESTAMP_NS": 9}
_UNTRIMMED = ("BOOLEAN", "TIME WITH TIME ZONE", "TIMESTAMP", "UUID")
"""DuckDB 2.0 casts texts with blanks around them to all other types."""
_LIMITED_TEXT = re.compile(r"(VARCHAR|CHAR)\((\d+)\)")
"""A text of so many characters at most, which DuckDB reads as any other text; PostgreSQL has such columns.

CHAR is filled up with blanks, so that those at the end of a text would be lost."""
_NESTED = re.compile(r"\]$|^(STRUCT|MAP|UNION|VARIANT)\b")
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


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
    form: str | None = None
    """A regular expression: the texts that a column takes whose type DuckDB does not know."""
    declared: str | None = None
    """What the warehouse calls the column's type, where DuckDB has another name for what holds its values."""

    def is_null(self, raw: str) -> str:
        """Return the condition that a value is nothing, which fits every column."""
        if self.empty_is_null and self.read_type == TEXT and (self.form or not is_text(self.target_type)):
            return f"{raw} IS NULL OR {raw} = ''"
        return f"{raw} IS NULL"

    @property
    def shown_type(self) -> str:
        """The column's type as the warehouse calls it."""
        return self.declared or self.target_type

    @property
    def is_free(self) -> bool:
        """Whether every value fits as it is."""
        return self.read_type == self.target_type and not self.is_blank and self.form is None

    def cast(self, raw: str) -> str:
        """Return the expression of the cast value: null when it cannot be cast at all."""
        if self.is_free:
            return raw
        if self.form and self.empty_is_null and self.read_type == TEXT:
            return f"nullif({raw}, '')"
        if self.read_type != TEXT and not self._is_between_relatives:
            raw = f"CAST({raw} AS VARCHAR)"
        cast = f"TRY_CAST({raw} AS {self.target_type})"
        if self.target_type.startswith(_UNTRIMMED) and not self._is_between_relatives:
            return f"coalesce({cast}, TRY_CAST({trimmed(raw)} AS {self.target_type}))"
        return cast

    def holds(self, raw: str, cast: str) -> str:
        """Return the condition that a value which is not null keeps all that it says; never null itself."""
        if self.is_blank:
            return "false"
        text = raw if self.read_type == TEXT else f"CAST({raw} AS VARCHAR)"
        if self.form:
            return f"coalesce({_has_form(text, self.form)}, false)"
        if self.is_free or self.target_type == TEXT:
            return "true"
        if self._is_between_relatives:
            return f"coalesce(TRY_CAST({cast} AS {self.read_type}) = {raw}, false)"
        if limited := _LIMITED_TEXT.fullmatch(self.target_type):
            blanks = f" AND NOT ends_with({text}, ' ')" if limited[1] == "CHAR" else ""
            return f"(length({text}) <= {limited[2]}{blanks})"
        if self.is_new and self.read_type == TEXT:
            rule, plain = looks_like(self.target_type, text, cast), _is_plainly_new(self.target_type, text, cast)
        else:
            rule = f"coalesce({_text_fits(self.target_type, text, cast)}, false)"
            plain = _is_plain(self.target_type, text, cast)
        return f"CASE WHEN {plain} THEN true ELSE {rule} END" if plain else rule

    @property
    def _is_between_relatives(self) -> bool:
        """Whether DuckDB casts there and back: what comes back as it was has lost nothing."""
        family = _family(self.read_type)
        return family is not None and family == _family(self.target_type)


def looks_like(type_: str, text: str, cast: str) -> str:
    """Return the condition that a text is how a value of this type is written, as a new column asks for it."""
    form = _NEW_FORMS.get(DECIMAL if type_.startswith(DECIMAL) else type_)
    if type_ == DECIMAL:
        return _has_form(text, form or "")
    fits = f"coalesce({_text_fits(type_, text, cast, is_new=True)}, false)"
    if form is None:
        return fits
    # CASE, as AND would have DuckDB cast every text: twice the time for a sample (measured).
    return f"CASE WHEN {_has_form(text, form)} THEN {fits} ELSE false END"


def why_not(type_: str, value: str) -> str | None:
    """Return what keeps a text from becoming a value of a type although it looks like one; None if it does not.

    >>> why_not("BIGINT", "01730"), why_not("BIGINT", "foo")
    ('its leading zeros would be lost', None)
    """
    value = value.strip()
    if type_ == "BOOLEAN" and value.lower() in {"t", "f", "1", "0", "y", "n", "yes", "no"}:
        return "expected true or false"
    if type_ in INTEGERS or type_ in _FAST_DIGITS or type_.startswith(DECIMAL):
        return _why_no_number(type_, value)
    if "WITH TIME ZONE" in type_ and re.fullmatch(rf"({DAY_FORM}[ T]?)?({clock_form(9)})?", value):
        return "no offset, no instant"
    if type_.startswith(("DATE", "TIME")) and re.fullmatch(rf"({DAY_FORM}[ T])?{clock_form(9)} ?{OFFSET_FORM}", value):
        return "its offset would be lost"
    return None


def _why_no_number(type_: str, value: str) -> str | None:
    if re.fullmatch(r"[-+]?0\d+(\.\d*)?", value):
        return "its leading zeros would be lost"
    if re.fullmatch(r"\+\d+(\.\d*)?|[-+]?\d+(_\d+)+|[-+]?\d+[eE]\d+", value):
        return "it is not written as a number is, and may be a code"
    if type_ not in INTEGERS and re.fullmatch(rf"(?i:{INTEGER_FORM}(\.\d*)?|{POWER_FORM})", value):
        return "it has more digits than the type keeps"
    return None


def decimal_digits(text: str) -> tuple[str, str]:
    """Return the expressions of how many digits a number without exponent has before and after its point."""
    digits = trimmed(text)
    return f"length(ltrim(split_part({digits}, '.', 1), '-'))", f"length(split_part({digits}, '.', 2))"


def decimal_type(whole: int, fraction: int) -> str | None:
    """Return the DECIMAL of that many digits before and after the point; None if there is none.

    >>> decimal_type(4, 2), decimal_type(17, 2), decimal_type(37, 2)
    ('DECIMAL(18,2)', 'DECIMAL(38,2)', None)
    """
    if whole + fraction > _LONGEST_DECIMAL:
        return None
    return f"DECIMAL({_SHORT_DECIMAL if whole + fraction <= _SHORT_DECIMAL else _LONGEST_DECIMAL},{fraction})"


def fraction_type(whole: int, fraction: int, *, is_double: bool) -> str | None:
    """Return the type of a new column of fractions with that many digits at most before and after the point.

    `is_double` says whether each prints back from a DOUBLE. Amounts are DECIMAL, which keeps the zero of `1.10`.

    >>> fraction_type(4, 1, is_double=True), fraction_type(4, 9, is_double=True), fraction_type(4, 9, is_double=False)
    ('DECIMAL(18,2)', 'DOUBLE', 'DECIMAL(18,9)')
    """
    found = decimal_type(whole, max(fraction, _FEWEST_DECIMALS)) or decimal_type(whole, fraction)
    if is_double and (fraction > _FEW_DECIMALS or found is None):
        return "DOUBLE"
    return found


def digits_of(type_: str) -> tuple[int, int] | None:
    """Return how many digits a DECIMAL has before and after its point; None for another type.

    >>> digits_of("DECIMAL(18,2)")
    (16, 2)
    """
    found = _DECIMAL.fullmatch(type_)
    return (int(found[1]) - int(found[2]), int(found[2])) if found else None


def is_text(type_: str) -> bool:
    """Tell whether a type holds texts as they are."""
    return type_ == TEXT or _LIMITED_TEXT.fullmatch(type_) is not None


def is_nested(type_: str) -> bool:
    """Tell whether a type holds lists, structs or maps, which become JSON."""
    return _NESTED.search(type_) is not None


def trimmed(text: str) -> str:
    r"""Return the expression of a text without what `\s` means around it."""
    return f"trim({text}, ' \t\n\f\r')"


def _family(type_: str) -> str | None:
    if type_ in (*INTEGERS, *_FAST_DIGITS) or type_.startswith(DECIMAL):
        return "number"
    return "moment" if type_ == "DATE" or type_ in _SUBSECONDS else None


def _has_form(text: str, form: str) -> str:
    return f"regexp_full_match({text}, '{BLANK_FORM}({form}){BLANK_FORM}')"


def _is_plain(type_: str, text: str, cast: str) -> str | None:
    """Return the condition that a text is written as most are, and so fits; None if there is no such.

    It is computed faster than the rule: DuckDB matches a regular expression in 60 ns and prints a DECIMAL in 20 ns, a
    DOUBLE in 80 ns (measured, DuckDB 2.0).
    """
    if type_ in _FAST_DIGITS:
        return _is_plain_float(type_, text, cast, "true")
    if type_ == JSON or is_nested(type_):
        return None
    return f"{text} = CAST({cast} AS VARCHAR)"


def _is_plainly_new(type_: str, text: str, cast: str) -> str | None:
    """Return the same for a new column, which takes neither 'infinity' nor days before Christ, though they print."""
    printed = f"{text} = CAST({cast} AS VARCHAR)"
    if type_ in INTEGERS or type_.startswith(DECIMAL) or type_ == "BOOLEAN":
        return printed
    if type_ in {"DATE", "TIMESTAMP"}:  # of these lengths no text is 'infinity' or before Christ
        return f"strlen({text}) = {10 if type_ == 'DATE' else 19} AND {printed}"
    if type_ == "DOUBLE":
        return _is_plain_float(
            type_, text, cast, f"(right({text}, 1) BETWEEN '1' AND '9' OR NOT contains({text}, '.'))"
        )
    return None


def _is_plain_float(type_: str, text: str, cast: str, ends: str) -> str:
    # It can be cast, so it is a number; it begins and ends like one, and has no 1_000, 00.5 or 1e5.
    begins = f"({text} >= '1' AND {text} < ':' OR starts_with({text}, '0.'))"
    others = " AND ".join(f"NOT contains({text}, '{other}')" for other in "_eE")
    is_short = f"{cast} IS NOT NULL AND length({text}) <= {_FAST_DIGITS[type_]} AND {begins} AND {others} AND {ends}"
    return f"CASE WHEN {is_short} THEN true ELSE {text} = CAST({cast} AS VARCHAR) END"


def _text_fits(type_: str, text: str, cast: str, *, is_new: bool = False) -> str:
    """Return the condition that a text means the same as the value that it is cast to; may be null for no."""
    printed = f"({text} = CAST({cast} AS VARCHAR))"
    if type_ in INTEGERS:
        return _number_fits(rf"{INTEGER_FORM}(\.0+)?", text, cast)
    if type_.startswith(DECIMAL):
        _, scale = digits_of(type_) or (0, _LONGEST_DECIMAL)
        fraction = rf"\.\d{{1,{scale}}}0*" if scale else r"\.0+"
        return _number_fits(rf"{INTEGER_FORM}({fraction})?", text, cast)
    if type_ in _FAST_DIGITS:
        return _float_fits(type_, text, cast, is_new=is_new)
    if type_ == JSON:  # DuckDB takes them for JSON
        return rf"({cast} IS NOT NULL AND NOT {_has_form(text, '(?i)-?(nan|inf|infinity)')})"
    if is_nested(type_):
        return f"({printed} OR CAST(to_json({cast}) AS VARCHAR) = CAST(json(TRY_CAST({text} AS JSON)) AS VARCHAR))"
    form = _form(type_)
    return f"({cast} IS NOT NULL AND ({_has_form(text, form)} OR {printed}))" if form else printed


def _form(type_: str) -> str | None:
    """Return the form of the texts that an existing column takes, beside those that its values print."""
    if type_ in _SUBSECONDS:
        return rf"{DAY_FORM}([ T]{clock_form(_SUBSECONDS[type_])})?"
    return _FORMS.get(type_)


def _number_fits(form: str, text: str, cast: str) -> str:
    # A power of ten is compared as a DOUBLE, which keeps numbers of up to 15 digits distinct.
    power = f"TRY_CAST({text} AS DOUBLE)"
    return (
        f"({cast} IS NOT NULL AND CASE WHEN {_has_form(text, f'{form}|{_ZERO}')} THEN true"
        f" WHEN length({text}) <= 19 AND {_has_form(text, f'(?i){POWER_FORM}')}"
        f" THEN {cast} = {power} AND abs({power}) BETWEEN 1e-15 AND 1e15 ELSE false END)"
    )


def _float_fits(type_: str, text: str, cast: str, *, is_new: bool) -> str:
    """Return the condition that a text is a number, and that the value prints back to all of its digits."""
    forms = rf"(?i:{INTEGER_FORM}(\.\d*)?|-?\.\d+|{POWER_FORM})"
    digits, number = _digits(text), f"abs(CAST({cast} AS DOUBLE))"
    printed = f"replace(printf('%.*e', greatest(length({digits}), 1) - 1, {number}), '.', '')"
    shown = f"left({printed}, length({digits}))"
    # As few digits as the number prints with; of 2^-24 = 5.9604644775390625e-08 they are not those of the rounded one.
    is_short = f"rtrim({_digits(f'CAST({cast} AS VARCHAR)')}, '0') = rtrim({digits}, '0')"
    # More digits only in a power of ten, if the column is new: else a DECIMAL keeps all of the text.
    is_shown = f"(contains(lower({text}), 'e') AND {shown} = {digits})" if is_new else f"{shown} = {digits}"
    return (
        f"CASE WHEN {cast} IS NULL THEN false"
        f" WHEN {_has_form(text, NO_NUMBER_FORM)} THEN true"
        f" WHEN isinf({cast}) OR NOT {_has_form(text, forms)} THEN false"
        f" WHEN {digits} = '' THEN {cast} = 0"
        f" ELSE {cast} <> 0 AND ({is_short} OR {is_shown}) END"
    )


def _digits(text: str) -> str:
    """Return the expression of a number's digits without leading zeros, point, sign and power of ten."""
    mantissa = f"regexp_replace(lower({text}), 'e.*', '')"
    return f"ltrim(regexp_replace({mantissa}, '[^0-9]', '', 'g'), '0')"
