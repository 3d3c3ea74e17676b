"""What may become what: without loss, or not at all."""

import re
import struct
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flows.readers.base import types_of_texts
from flows.readers.column_types import TEXT, TEXT_TYPES, Conversion, is_nested, looks_like


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as opened:
        opened.execute("SET TimeZone = 'UTC'")
        yield opened


def fits(connection: duckdb.DuckDBPyConnection, text: str, target: str, source: str = TEXT) -> bool:
    """Return whether a value goes into an existing column."""
    conversion = Conversion("c", source, target)
    cast = f"SELECT CAST(? AS {source}) AS raw"
    query = f"SELECT {conversion.holds('raw', conversion.cast('raw'))} FROM ({cast})"
    found = connection.execute(query, [text]).fetchall()[0][0]
    assert found is not None
    return found


def new_type(connection: duckdb.DuckDBPyConnection, *texts: str | None) -> str | None:
    """Return the type that these texts give a new column; None when they say nothing."""
    connection.execute("CREATE OR REPLACE TEMP TABLE texts (raw0 VARCHAR)")
    connection.executemany("INSERT INTO texts VALUES (?)", [[text] for text in texts])
    return types_of_texts(connection, "FROM texts", [TEXT_TYPES], None)[1][0]


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("5", "BIGINT"), (" 7 ", "BIGINT"), ("3.0", "BIGINT"), ("1.5e3", "INTEGER"), ("-9223372036854775808", "BIGINT"),
        ("9007199254740993", "BIGINT"), ("170141183460469231731687303715884105727", "HUGEINT"),
        ("0.1", "DOUBLE"), ("1e+300", "DOUBLE"), ("0.30000000000000004", "DOUBLE"), ("inf", "DOUBLE"),
        ("nan", "DOUBLE"),
        ("1.10", "DOUBLE"), (".5", "DOUBLE"), ("5.", "DOUBLE"), ("NaN", "DOUBLE"), ("-Infinity", "FLOAT"),
        ("1.2345678901234568e-05", "DOUBLE"), ("1.000000000000000056e-01", "DOUBLE"), ("0.00", "DOUBLE"),
        ("9007199254740992", "DOUBLE"), ("16777216", "FLOAT"), ("0.1234567", "FLOAT"), ("-0.0", "DOUBLE"),
        ("1.50", "DECIMAL(10,2)"), ("1.5000", "DECIMAL(10,2)"), ("123456789012345.678", "DECIMAL(18,3)"),
        ("1.5e+2", "DECIMAL(10,2)"), ("1e-2", "DECIMAL(10,2)"), (" 7.5\t", "DECIMAL(10,2)"), ("7.0", "DECIMAL(10,0)"),
        ("2024-01-01", "DATE"), ("2024-01-01 00:00:00", "DATE"), ("2024-01-01", "TIMESTAMP"),
        ("2024-1-5", "DATE"), ("2024/01/05", "DATE"), ("infinity", "DATE"), ("0044-03-15 (BC)", "DATE"),
        (" 2024-01-05\t", "DATE"), (" 2024-01-05 ", "TIMESTAMP"), ("-infinity", "TIMESTAMP"),
        ("2024-01-01 05:00:00.123456", "TIMESTAMP"), ("2024-01-01 05:00:00.1234560", "TIMESTAMP"),
        ("2024-01-01 05:00:00 UTC", "TIMESTAMP WITH TIME ZONE"), ("10:00:00+02", "TIME WITH TIME ZONE"),
        ("10:00:00.5000000", "TIME"), ("24:00:00", "TIME"), ("TRUE", "BOOLEAN"), (" false ", "BOOLEAN"),
        ("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "UUID"), ("{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "UUID"),
        ("1 month 2 days", "INTERVAL"), ("90 minutes", "INTERVAL"), ("01:30:00", "INTERVAL"),
        ("abc", "BLOB"), ("\\x00\\xFF", "BLOB"), ("0101", "BIT"), ("b", "ENUM('a', 'b')"),
        ("123456789012345678901234567890123456789012", "BIGNUM"), ("10:00:00.123456789", "TIME_NS"),
        ("[1, 2]", "INTEGER[]"), ("[1,2]", "INTEGER[]"), ('{"a": 1}', "STRUCT(a INTEGER)"), ("1e3", "JSON"),
        ("2024-01-01 05:00:00.123456789", "TIMESTAMP_NS"), ("2024-01-01T05:00:00+02:00", "TIMESTAMP WITH TIME ZONE"),
        ("10:00", "TIME"), ("true", "BOOLEAN"), ("00123", "VARCHAR"), ('{"a":1}', "JSON"),
    ],
)  # fmt: skip
def test_a_text_that_keeps_its_meaning_goes_in(connection: duckdb.DuckDBPyConnection, text: str, target: str):
    assert fits(connection, text, target)


NUMBERS_THERE = ["SMALLINT", "BIGINT", "HUGEINT", "UBIGINT", "DECIMAL(18,2)", "DOUBLE", "FLOAT"]
NO_NUMBERS = ["0123", "1_0", "1e3", "1E3", "+5", "-007", "00.5", "1.5e", "0x1F", "Nan", "1,0", "5 0", "-", "."]


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("1.5", "BIGINT"), ("foo", "BIGINT"), ("", "BIGINT"), ("9223372036854775808", "BIGINT"), ("300", "TINYINT"),
        ("0x10", "BIGINT"), ("1.5", "HUGEINT"),
        *[(text, type_) for type_ in NUMBERS_THERE for text in NO_NUMBERS],
        (".5", "BIGINT"), ("5.", "BIGINT"), (".5", "DECIMAL(10,2)"), ("5.", "DECIMAL(10,2)"), ("1.5e0", "BIGINT"),
        ("1e400", "DOUBLE"), ("1e-400", "DOUBLE"), ("0." + "0" * 400 + "1", "DOUBLE"), ("1.23456789e-320", "DOUBLE"),
        ("82544000000000707.52", "DOUBLE"), ("0.1234567890123456789", "DOUBLE"), ("0.123456789", "FLOAT"),
        ("1" * 40, "DOUBLE"), ("1" * 40, "HUGEINT"), ("1" * 40, "DECIMAL(38,2)"), ("1.25e-3", "DECIMAL(10,4)"),
        ("1.2345678901234567e+10", "DECIMAL(38,6)"), ("NaN", "DECIMAL(10,2)"), ("inf", "BIGINT"), ("1.5", "BIGNUM"),
        ("9007199254740993", "DOUBLE"), ("16777217", "FLOAT"), ("1,5", "DOUBLE"),
        ("1.234", "DECIMAL(10,2)"), ("12345678901234567890123456789012345.678", "DECIMAL(38,2)"),
        ("123456789.1", "DECIMAL(10,2)"),
        ("2024-01-01 05:00", "DATE"), ("01/02/2024", "DATE"), ("2024-02-30", "DATE"),
        ("2024-01-01T05:00:00+02:00", "TIMESTAMP"), ("2024-01-01 05:00:00.1234567", "TIMESTAMP"),
        ("2024-01-01 05:00:00.1234567+00", "TIMESTAMP WITH TIME ZONE"), ("2024-01-01 05:00:00.5", "TIMESTAMP_S"),
        ("2024-01-01T05:00:00Z", "TIMESTAMP"), ("2024-01-01T00:00:00Z", "DATE"),
        ("2024-01-01 05:00:00", "TIMESTAMP WITH TIME ZONE"), ("2024-01-01", "TIMESTAMP WITH TIME ZONE"),
        ("2024-10-27 02:30:00 Europe/Berlin", "TIMESTAMP WITH TIME ZONE"), ("2024-01-01 24:00", "TIMESTAMP"),
        ("epoch", "DATE"), ("epoch", "TIMESTAMP"), ("20240105", "DATE"), ("24-01-05", "DATE"), ("2024 01 05", "DATE"),
        ("2024-01-01 10:00", "TIME"), ("25:00", "TIME"), ("10:00+02", "TIME"), ("10:00", "TIME WITH TIME ZONE"),
        ("10:00:00.1234567", "TIME"), ("{", "JSON"), ("NaN", "JSON"), ("00123", "JSON"), ("x", "UUID"),
        *[(text, "BOOLEAN") for text in ("1", "0", "t", "f", "yes", "no", "y", "n", "2")],
        ("5", "INTERVAL"), ("\\x41", "BLOB"), ("café", "BLOB"), ("c", "ENUM('a', 'b')"), ("[1.5]", "INTEGER[]"),
        ('{"a": 1.5}', "STRUCT(a INTEGER)"), ("00123", "BIGNUM"), ("10:00:00.1234567891", "TIME_NS"),
    ],
)  # fmt: skip
def test_a_text_that_would_lose_something_does_not(connection: duckdb.DuckDBPyConnection, text: str, target: str):
    assert not fits(connection, text, target)


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        ("3.0", "DOUBLE", "BIGINT", True),
        ("1.5", "DOUBLE", "BIGINT", False),
        ("9007199254740993", "BIGINT", "DOUBLE", False),
        ("2024-01-01", "DATE", "TIMESTAMP", True),
        ("2024-01-01 05:00", "TIMESTAMP", "DATE", False),
        ("2024-01-01 00:00", "TIMESTAMP", "DATE", True),
        ("1.25", "DECIMAL(10,2)", "DECIMAL(10,1)", False),
        ("5", "INTEGER", "DATE", False),
        ("true", "BOOLEAN", "BIGINT", False),
        ("5", "INTEGER", "VARCHAR", True),
        ("[1]", "JSON", "BIGINT", False),
        ("300", "INTEGER", "TINYINT", False),
        ("2024-01-01 05:00", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", False),
        ("2024-01-01", "DATE", "TIMESTAMP WITH TIME ZONE", False),
        ("2024-01-01 05:00+00", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP", False),
        ("10:00", "TIME", "TIME WITH TIME ZONE", False),
        ("1", "INTEGER", "BOOLEAN", False),
        ("0.1", "FLOAT", "DECIMAL(10,2)", True),
        ("82544000000000707.52", "DECIMAL(19,2)", "DOUBLE", False),
        ("nan", "DOUBLE", "FLOAT", True),
        ("[1, 2]", "JSON", "INTEGER[]", True),
    ],
)
def test_a_typed_value_goes_in_when_it_comes_back_as_it_was(
    connection: duckdb.DuckDBPyConnection, value: str, source: str, target: str, expected: bool
):
    assert fits(connection, value, target, source) is expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("1", "-2", None), "BIGINT"),
        (("1", "2.5"), "DECIMAL(18,2)"),
        (("1.9", "1.10"), "DECIMAL(18,2)"),
        (("82544000000000707.52", "0.10"), "DECIMAL(38,2)"),
        (("0.5", "12.345678"), "DECIMAL(18,6)"),
        (("0.1234567", "2"), "DOUBLE"),
        (("0.12345670", "2"), "DECIMAL(18,8)"),
        (("0.1234567890123456789",), "DECIMAL(38,19)"),
        (("0.30000000000000004", "1.5e-7"), "DOUBLE"),
        (("1.50", "1.5e-7"), "VARCHAR"),
        (("0.1", "1" * 40), "VARCHAR"),
        (("1" * 39 + ".5",), "VARCHAR"),
        (("1" * 38 + ".5",), "VARCHAR"),
        (("1" * 37 + ".5",), "DECIMAL(38,1)"),
        (("9" * 38, "0.5"), "VARCHAR"),
        (("1E5",), "VARCHAR"),
        (("1e5", "2.5"), "VARCHAR"),
        (("+5",), "VARCHAR"),
        ((".5",), "VARCHAR"),
        (("5.",), "VARCHAR"),
        (("Nan", "Inf"), "VARCHAR"),
        (("Nan", "1.5"), "VARCHAR"),
        (("nan", "NaN"), "VARCHAR"),
        (("1", "NaN"), "DOUBLE"),
        (("t", "f"), "VARCHAR"),
        (("12345678901234567890",), "HUGEINT"),
        (("1.5", "12345678901234567890"), "DECIMAL(38,2)"),
        (("00123", "5"), "VARCHAR"),
        (("1_000",), "VARCHAR"),
        (("0x10",), "VARCHAR"),
        (("1.5", "NaN"), "DOUBLE"),
        (("1e400",), "VARCHAR"),
        (("true", "False"), "BOOLEAN"),
        (("yes",), "VARCHAR"),
        (("2024-01-31",), "DATE"),
        (("2024-02-31",), "VARCHAR"),
        (("01/02/2024",), "VARCHAR"),
        (("2024-01-01", "2024-01-01 05:00:00"), "TIMESTAMP"),
        (("2024-01-01 05:00:00.123456789",), "VARCHAR"),
        (("2024-01-01T05:00:00Z", "2024-01-01 05:00:00+02:00"), "TIMESTAMP WITH TIME ZONE"),
        (("10:30",), "TIME"),
        ((None, None), None),
        (("inf", "infinity"), "VARCHAR"),
        (("epoch",), "VARCHAR"),
    ],
)
def test_a_new_columns_type_is_what_all_its_texts_look_like(
    connection: duckdb.DuckDBPyConnection, texts: tuple[str | None, ...], expected: str | None
):
    assert new_type(connection, *texts) == expected


NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.decimals(-(10**9), 10**9, places=3).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"[+-]?[0-9]{1,45}([.][0-9]{0,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)
TEXTS = st.one_of(
    NUMBERS,
    st.dates(date(1, 1, 1)).map(str),
    st.datetimes().map(str),
    st.times().map(str),
    st.tuples(st.datetimes(), st.sampled_from(["Z", "+00", "+02:30", "-0330", " UTC", " "])).map(
        lambda one: f"{one[0]}{one[1]}"
    ),
    st.sampled_from(
        ["nan", "Nan", "NaN", "inf", "Inf", "-infinity", "epoch", "true", "T", "yes", "0", "1", "[1]", "{}"]
    ),
    st.text(alphabet="0123456789+-.eE:T Z/x_", max_size=12),
    st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6),
)
TYPES = [
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UBIGINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL(18,2)",
    "DECIMAL(38,10)", "DECIMAL(5,0)", "BOOLEAN", "DATE", "TIME", "TIME WITH TIME ZONE", "TIMESTAMP", "TIMESTAMP_S",
    "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE", "UUID", "INTERVAL", "BLOB", "BIT", "JSON", "VARCHAR",
    "VARCHAR(3)", "ENUM('true', '5')", "INTEGER[]", "STRUCT(a DOUBLE)", "BIGNUM", "TIME_NS",
]  # fmt: skip


def says_the_same(text: str, target: str, printed: str) -> bool:
    """Return whether what a value prints is what the text says."""
    text = text.strip(" \t\n\f\r")
    is_same = text == printed.strip(" \t\n\f\r")
    if is_same or target in {"INTERVAL", "JSON", "INTEGER[]"}:
        return True
    if target in {"FLOAT", "DOUBLE"}:
        is_same = _is_the_float(text, target, printed)
    elif target in NUMBERS_THERE or target.startswith(("DECIMAL", "TINYINT", "INTEGER", "UHUGEINT", "BIGNUM")):
        is_same = not re.match(NO_FORM, text) and Decimal(printed) == Decimal(text)
    elif target == "BOOLEAN":
        is_same = text.lower() == printed
    elif target == "UUID":
        is_same = text.strip("{}").lower() == printed
    elif target.startswith(("DATE", "TIME")):
        is_same = moment(text) == moment(printed)
    return is_same


NO_FORM = r"\+|-?0\d|.*_|-?\d+[eE]\d"
"""Forms of a number that its value does not keep."""


def _is_the_float(text: str, target: str, printed: str) -> bool:
    if not any(map(str.isdigit, text)):
        return printed.lstrip("-") == text.lower().lstrip("-")[:3]
    digits = re.sub(r"[^0-9]", "", re.sub("[eE].*", "", text)).lstrip("0")
    stored = struct.unpack("f", struct.pack("f", float(text)))[0] if target == "FLOAT" else float(text)
    return not re.match(NO_FORM, text) and Decimal(text) in {
        Decimal(printed),
        Decimal(f"{stored:.{max(len(digits), 1) - 1}e}"),
    }


def moment(text: str) -> tuple[object, ...]:
    """Return the numbers of a day, time and offset; midnight where there is no time."""
    day_form, offset_form = r"(?:(\d{4})[-/](\d\d?)[-/](\d\d?))?", r"(Z|UTC|[+-]\d\d(?::?\d\d)?)?"
    found = re.fullmatch(rf"{day_form}[ T]?(?:(\d\d?):(\d\d)(?::(\d\d)(?:\.(\d+))?)?)? ?{offset_form}", text)
    assert found, text
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    plus = {"Z": "+00", "UTC": "+00", None: None}.get(offset, offset)
    at = timedelta(hours=int(hour or 0), minutes=int(minute or 0), seconds=int(second or 0))
    if plus is not None:
        minutes = int(plus[1:3]) * 60 + int(plus[3:].strip(":") or 0)
        at -= timedelta(minutes=minutes) * (-1 if plus[0] == "-" else 1)
    whole = (datetime(int(year), int(month), int(day), tzinfo=UTC) + at) if year else at
    return whole, (fraction or "").rstrip("0"), plus is None


@given(text=TEXTS, target=st.sampled_from(TYPES))
@settings(max_examples=300, deadline=None)
@example(text="1.50", target="DOUBLE").via("as many digits as it has")
@example(text="1e22", target="DOUBLE").via("a code")
def test_a_text_that_goes_in_comes_back_equal(connection: duckdb.DuckDBPyConnection, text: str, target: str):
    if fits(connection, text, target):
        conversion = Conversion("c", TEXT, target)
        query = f"SELECT CAST({conversion.cast('raw')} AS VARCHAR) FROM (SELECT CAST(? AS VARCHAR) AS raw)"
        stored = connection.execute(query, [text]).fetchall()[0][0]
        assert says_the_same(text, target, stored), (text, target, stored)


@given(text=NUMBERS, target=st.sampled_from(["SMALLINT", "BIGINT", "HUGEINT", "DECIMAL(18,3)", "DECIMAL(9,2)"]))
def test_a_number_that_goes_in_is_the_number_that_was_written(
    connection: duckdb.DuckDBPyConnection, text: str, target: str
):
    if fits(connection, text, target):
        stored = connection.execute(f"SELECT CAST(CAST(? AS {target}) AS VARCHAR)", [text]).fetchall()[0][0]
        assert Decimal(stored) == Decimal(text)


@given(number=st.integers(-(2**63), 2**63 - 1), zeros=st.sampled_from(["", ".0", ".00"]))
def test_a_whole_number_that_its_column_can_hold_is_never_refused(
    connection: duckdb.DuckDBPyConnection, number: int, zeros: str
):
    assert fits(connection, f"{number}{zeros}", "BIGINT")


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_what_python_writes_of_a_float_goes_into_a_double(connection: duckdb.DuckDBPyConnection, number: float):
    text = repr(number)
    assert fits(connection, text, "DOUBLE")
    assert new_type(connection, text) != TEXT or Decimal(text).adjusted() > 15


@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_every_text_goes_into_the_type_that_all_of_them_look_like(
    connection: duckdb.DuckDBPyConnection, texts: list[str]
):
    found = new_type(connection, *texts)
    assert found
    for is_new in (True, False):  # what was good yesterday is good today
        conversion = Conversion("c", TEXT, found, is_new=is_new)
        for text in texts:
            query = f"SELECT {conversion.holds('raw', conversion.cast('raw'))} FROM (SELECT CAST(? AS VARCHAR) AS raw)"
            assert connection.execute(query, [text]).fetchall() == [(True,)]


@given(text=TEXTS | NUMBERS | st.from_regex(r"(0\.|[1-9])[\d._eE/ -]{0,9}", fullmatch=True))
@pytest.mark.parametrize("type_", ["BIGINT", "DECIMAL(18,2)", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMP"])
@example(text="infinity").via("no plain date")
@example(text="0044-03-15 (BC)").via("no plain date")
@example(text="1_000").via("DuckDB casts it")
def test_a_new_column_takes_no_text_that_looks_like_another_type(
    connection: duckdb.DuckDBPyConnection, type_: str, text: str
):
    conversion = Conversion("c", TEXT, type_, is_new=True)
    cast = conversion.cast("raw")
    query = f"SELECT {conversion.holds('raw', cast)}, {looks_like(type_, 'raw', cast)} FROM (SELECT ?::VARCHAR AS raw)"
    takes, looks = connection.execute(query, [text]).fetchall()[0]
    assert takes == bool(looks)


@given(text=TEXTS)
def test_a_text_that_looks_like_a_number_is_that_number(connection: duckdb.DuckDBPyConnection, text: str):
    if new_type(connection, text) in {"BIGINT", "HUGEINT"}:
        try:
            stored = connection.execute("SELECT CAST(CAST(? AS HUGEINT) AS VARCHAR)", [text]).fetchall()[0][0]
            assert Decimal(stored) == Decimal(text.strip())
        except InvalidOperation:
            pytest.fail(f"{text!r} is no number")


@pytest.mark.parametrize("type_", ["BIGINT[]", "STRUCT(a BIGINT)", "MAP(VARCHAR, BIGINT)", "INTEGER[3]"])
def test_lists_structs_and_maps_are_nested(type_: str):
    assert is_nested(type_)
    assert not is_nested("VARCHAR")
