"""What may become what: without loss, or not at all."""

from datetime import date
from decimal import Decimal, InvalidOperation

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flows.readers.base import types_of_texts
from flows.readers.column_types import TEXT, TEXT_TYPES, Conversion, is_nested, looks_like


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as opened:
        opened.execute("SET TimeZone = 'UTC'")
        yield opened


def fits(connection: duckdb.DuckDBPyConnection, text: str, target: str, source: str = TEXT) -> bool:
    """Tell whether a value goes into an existing column."""
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
        ("5", "BIGINT"), (" 7 ", "BIGINT"), ("3.0", "BIGINT"), ("1e3", "INTEGER"), ("-9223372036854775808", "BIGINT"),
        ("9007199254740993", "BIGINT"), ("170141183460469231731687303715884105727", "HUGEINT"),
        ("0.1", "DOUBLE"), ("1e300", "DOUBLE"), ("0.30000000000000004", "DOUBLE"), ("inf", "DOUBLE"), ("nan", "DOUBLE"),
        ("9007199254740992", "DOUBLE"), ("16777216", "FLOAT"),
        ("1.50", "DECIMAL(10,2)"), ("1.5000", "DECIMAL(10,2)"), ("123456789012345.678", "DECIMAL(18,3)"),
        ("1e2", "DECIMAL(10,2)"),
        ("2024-01-01", "DATE"), ("2024-01-01 00:00:00", "DATE"), ("2024-01-01", "TIMESTAMP"),
        ("2024-01-01T05:00:00Z", "TIMESTAMP"), ("2024-01-01 05:00:00.123456", "TIMESTAMP"),
        ("2024-01-01 05:00:00.123456789", "TIMESTAMP_NS"), ("2024-01-01T05:00:00+02:00", "TIMESTAMP WITH TIME ZONE"),
        ("10:00", "TIME"), ("true", "BOOLEAN"), ("00123", "VARCHAR"), ('{"a":1}', "JSON"),
    ],
)  # fmt: skip
def test_a_text_that_keeps_its_meaning_goes_in(connection: duckdb.DuckDBPyConnection, text: str, target: str):
    assert fits(connection, text, target)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("1.5", "BIGINT"), ("foo", "BIGINT"), ("", "BIGINT"), ("9223372036854775808", "BIGINT"), ("300", "TINYINT"),
        ("0x10", "BIGINT"), ("1.5", "HUGEINT"),
        ("9007199254740993", "DOUBLE"), ("16777217", "FLOAT"), ("1e400", "DOUBLE"), ("1,5", "DOUBLE"),
        ("1.234", "DECIMAL(10,2)"), ("12345678901234567890123456789012345.678", "DECIMAL(38,2)"),
        ("123456789.1", "DECIMAL(10,2)"),
        ("2024-01-01 05:00", "DATE"), ("01/02/2024", "DATE"), ("2024-02-30", "DATE"),
        ("2024-01-01T05:00:00+02:00", "TIMESTAMP"), ("2024-01-01 05:00:00.1234567", "TIMESTAMP"),
        ("2024-01-01 05:00:00.1234567+00", "TIMESTAMP WITH TIME ZONE"), ("2024-01-01 05:00:00.5", "TIMESTAMP_S"),
        ("2024-01-01 10:00", "TIME"), ("25:00", "TIME"), ("2", "BOOLEAN"), ("{", "JSON"), ("x", "UUID"),
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
        (("1", "2.5"), "DOUBLE"),
        (("12345678901234567890",), "HUGEINT"),
        (("1.5", "12345678901234567890"), "VARCHAR"),
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
        (("inf", "infinity"), "DOUBLE"),
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
)
TEXTS = st.one_of(
    NUMBERS,
    st.dates(date(1, 1, 1)).map(str),
    st.datetimes().map(str),
    st.text(alphabet="0123456789+-.eE:T Z/x_", max_size=12),
    st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6),
)


@given(text=NUMBERS, target=st.sampled_from(["SMALLINT", "BIGINT", "HUGEINT", "DECIMAL(18,3)", "DECIMAL(9,2)"]))
def test_a_number_that_goes_in_is_the_number_that_was_written(
    connection: duckdb.DuckDBPyConnection, text: str, target: str
):
    if fits(connection, text, target):
        stored = connection.execute(f"SELECT CAST(CAST(? AS {target}) AS VARCHAR)", [text]).fetchall()[0][0]
        assert Decimal(stored) == Decimal(text)


@given(text=NUMBERS)
def test_a_whole_number_that_its_column_can_hold_is_never_refused(connection: duckdb.DuckDBPyConnection, text: str):
    number = Decimal(text)
    if number == number.to_integral_value() and -(2**63) <= number < 2**63 and abs(number) < 10**15:
        assert fits(connection, text, "BIGINT")


@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_every_text_goes_into_the_type_that_all_of_them_look_like(
    connection: duckdb.DuckDBPyConnection, texts: list[str]
):
    found = new_type(connection, *texts)
    assert found
    conversion = Conversion("c", TEXT, found, is_new=True)
    for text in texts:
        query = f"SELECT {conversion.holds('raw', conversion.cast('raw'))} FROM (SELECT CAST(? AS VARCHAR) AS raw)"
        assert connection.execute(query, [text]).fetchall() == [(True,)]


@given(text=TEXTS | NUMBERS | st.from_regex(r"(0\.|[1-9])[\d._eE/ -]{0,9}", fullmatch=True))
@pytest.mark.parametrize("type_", ["BIGINT", "DOUBLE", "DATE"])
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
