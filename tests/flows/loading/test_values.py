"""A value is in the table as its file says it, or its file is rejected with line, column and value."""

import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.loading.file_result import Outcome
from tests.pipeline import Pipeline
from tests.postgres_pipeline import PostgresPipeline


def parquet(query: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"COPY ({query}) TO '{folder}/a.parquet'")
        return (Path(folder) / "a.parquet").read_bytes()


def file_of(suffix: str, value: str, name: str = "a") -> bytes:
    """Return a file whose second row has this text in a column."""
    if suffix == "csv":
        return f'n,{name}\n1,\n2,"{value}"\n'.encode()
    if suffix == "ndjson":
        return f'{{"n": 1}}\n{json.dumps({"n": 2, name: value})}\n'.encode()
    return parquet(f"SELECT * FROM (VALUES (1, NULL), (2, '{value}')) t(n, {name})")


# -- texts into columns of other types


MISFITS = [
    ("90001", "01730", "a BIGINT: its leading zeros would be lost"),
    ("90001", "1_000", "a BIGINT: it is not written as a number is, and may be a code"),
    ("90001", "1e3", "a BIGINT: it is not written as a number is, and may be a code"),
    ("90001", "+5", "a BIGINT: it is not written as a number is, and may be a code"),
    ("90001", "0x1F", "a BIGINT"),
    ("1.5", "00.50", "a DECIMAL(18,2): its leading zeros would be lost"),
    ("1.5", "1E5", "a DECIMAL(18,2): it is not written as a number is, and may be a code"),
    ("1.5", "Nan", "a DECIMAL(18,2)"),
    ("1.5e-7", "007", "a DOUBLE: its leading zeros would be lost"),
    ("1.5e-7", "82544000000000707.52", "a DOUBLE: it has more digits than the type keeps"),
    ("true", "t", "a BOOLEAN: expected true or false"),
    ("true", "1", "a BOOLEAN: expected true or false"),
    ("2024-01-05", "epoch", "a DATE"),
    ("2024-01-05", "24-01-05", "a DATE"),
    ("2024-01-05", "2024-01-05T00:00:00Z", "a DATE: its offset would be lost"),
    ("10:00", "2024-01-05 10:00", "a TIME"),
    ("10:00", "10:00+02", "a TIME: its offset would be lost"),
    ("2024-01-05 10:00", "2024-01-05T10:00:00Z", "a TIMESTAMP: its offset would be lost"),
    ("2024-10-27T02:30:00+02:00", "2024-10-27T02:30:00", "a TIMESTAMP WITH TIME ZONE: no offset, no instant"),
    ("2024-10-27T02:30:00+02:00", "2024-10-27", "a TIMESTAMP WITH TIME ZONE: no offset, no instant"),
]
"""What a column's first file has, what a later one has, and what that is not."""


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet"])
def test_a_text_that_a_column_would_not_keep_as_it_is_written_rejects_its_file(pipeline: Pipeline, suffix: str):
    names = [f"c{at}" for at in range(len(MISFITS))]
    pipeline.load("a.csv", f"n,{','.join(names)}\n0,{','.join(first for first, _, _ in MISFITS)}\n")
    before = pipeline.types(), pipeline.rows()
    place = "line 3" if suffix == "csv" else "row 2"
    for name, (_, later, what) in zip(names, MISFITS, strict=True):
        result = pipeline.load(f"b.{suffix}", file_of(suffix, later, name))
        assert (result.reason or "").startswith(f'{place}, column "{name}": "{later}" is not {what}')
    assert (pipeline.types(), pipeline.rows()) == before


def test_a_time_without_offset_is_an_instant_in_no_format(pipeline: Pipeline):
    pipeline.load("a.csv", "t,u\n2024-10-27T02:30:00+02:00,2024-10-27 02:30:00\n")
    for suffix, value in [
        ("parquet", parquet("SELECT TIMESTAMP '2024-10-27 02:30:00' AS t")),
        ("parquet", parquet("SELECT DATE '2024-10-27' AS t")),
        ("parquet", parquet("SELECT TIMESTAMPTZ '2024-10-27 02:30:00+00' AS u")),
        ("json", b'[{"t": "2024-10-27 02:30"}]'),
    ]:
        assert pipeline.load(f"b.{suffix}", value).outcome is Outcome.REJECTED
    assert pipeline.load("c.parquet", parquet("SELECT TIMESTAMPTZ '2024-10-27 02:30:00+02' AS t")).rows == 1
    assert pipeline.rows("t") == [(datetime(2024, 10, 27, 0, 30, tzinfo=UTC),)] * 2


# -- digits


def test_amounts_keep_all_digits_also_those_that_no_double_has(pipeline: Pipeline):
    pipeline.load("a.csv", "id,amount\n1,82544000000000707.52\n2,0.10\n")
    assert pipeline.rows() == [(1, Decimal("82544000000000707.52")), (2, Decimal("0.10"))]
    assert pipeline.types()["amount"] == "DECIMAL(38,2)"


def test_versions_and_amounts_keep_their_zeros(pipeline: Pipeline):
    pipeline.load("a.csv", "version,amount\n1.9,5\n1.10,2.5\n")
    assert [str(row[0]) for row in pipeline.rows("version")] == ["1.90", "1.10"]
    assert pipeline.types() == {"version": "DECIMAL(18,2)", "amount": "DECIMAL(18,2)"}


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_numbers_that_no_type_can_hold_together_stay_texts(pipeline: Pipeline, suffix: str):
    long = "115792089237316195423570985008687907853269984665640564039457584007913129639935"
    content = f"id,amount\n1,0.1\n2,{long}\n"
    if suffix == "ndjson":
        content = f'{{"id": 1, "amount": 0.1}}\n{{"id": 2, "amount": {long}}}\n'
    assert pipeline.load(f"a.{suffix}", content).reason is None
    assert pipeline.rows() == [(1, "0.1"), (2, long)]


@pytest.mark.parametrize("texts", [["Nan", "Inf"], ["1E5", "2E7"], ["+49", "+1"], [".5", "0.5"], ["1_000", "2"]])
def test_what_only_looks_like_numbers_stays_texts(pipeline: Pipeline, texts: list[str]):
    pipeline.load("a.csv", "n,a\n" + "".join(f"1,{text}\n" for text in texts))
    assert pipeline.rows("a") == [(text,) for text in texts]


@pytest.mark.parametrize(
    ("texts", "type_"),
    [(["1.5", "NaN"], "DOUBLE"), (["0.1234567", "1.5e-7"], "DOUBLE"), (["0.00012300"], "DECIMAL(18,8)")],
)
def test_fractions_get_the_type_that_keeps_them(pipeline: Pipeline, texts: list[str], type_: str):
    pipeline.load("a.csv", "n,a\n" + "".join(f"1,{text}\n" for text in texts))
    assert pipeline.types()["a"] == type_


def test_a_table_of_an_earlier_version_whose_amounts_are_doubles_goes_on_being_loaded(pipeline: Pipeline):
    pipeline.create("n BIGINT, a DOUBLE")
    assert pipeline.load("a.csv", "n,a\n1,1.10\n2,5\n3,.5\n4,NaN\n5,1.5e-7\n6,0.30000000000000004\n").reason is None
    assert [repr(row[0]) for row in pipeline.rows("a")] == [
        "1.1",
        "5.0",
        "0.5",
        "nan",
        "1.5e-07",
        "0.30000000000000004",
    ]


# -- where a value is


def test_a_misfit_beyond_any_number_is_named_with_its_place(pipeline: Pipeline):
    pipeline.create("n BIGINT, d DOUBLE, h BIGINT")
    long = "1" * 40
    for column in ("d", "h"):
        result = pipeline.load("a.csv", f"n,{column}\n1,2\n2,{long}\n")
        assert (result.reason or "").startswith(f'line 3, column "{column}": "{long}" is not a ')


def test_a_misfit_of_a_wide_file_is_named_with_its_place(pipeline: Pipeline):
    names = [f"c{at}" for at in range(520)]
    rows = [["1"] * 520, ["2"] * 520]
    pipeline.load("a.csv", "\n".join(",".join(row) for row in [names, *rows]) + "\n")
    rows[1][515] = "002"
    result = pipeline.load("b.csv", "\n".join(",".join(row) for row in [names, *rows]) + "\n")
    assert result.reason == 'line 3, column "c515": "002" is not a BIGINT: its leading zeros would be lost'


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet"])
def test_a_misfit_among_files_that_are_loaded_together_is_named_with_its_place(pipeline: Pipeline, suffix: str):
    pipeline.load("0.csv", "n,a\n0,90001\n")
    for number in range(12):
        pipeline.write(f"{number:02}.{suffix}", file_of(suffix, "01730" if number == 5 else "94105"), "x")
    results = pipeline.load_in_bulk("x")
    (rejected,) = [result for result in results if result.outcome is Outcome.REJECTED]
    place = "line 3" if suffix == "csv" else "row 2"
    assert (rejected.file, (rejected.reason or "").partition(" is not")[0]) == (
        f"05.{suffix}",
        f'{place}, column "a": "01730"',
    )


# -- what was good yesterday


def test_a_date_with_blanks_around_it_goes_into_the_column_that_it_made(pipeline: Pipeline):
    content = 'a,t,d\n123,"  12:12:12  ","  2000-01-01   "\n345,"  14:15:30",2000-01-02 \n'
    for _ in range(2):
        assert pipeline.load("a.csv", content).reason is None
    assert pipeline.types() == {"a": "BIGINT", "t": "TIME", "d": "DATE"}
    assert len(pipeline.rows()) == 4


FORMATS = ["csv", "tsv", "json", "ndjson", "parquet"]
VALUES = st.one_of(
    st.integers(-(10**21), 10**21).map(str),
    st.floats(allow_nan=False).map(repr),
    st.decimals(-(10**20), 10**20, places=3).map(str),
    st.from_regex(r"[+-]?[0-9]{1,25}([.][0-9]{0,12})?([eE][+-]?[0-9]{1,2})?", fullmatch=True),
    st.dates().map(str),
    st.datetimes().map(str),
    st.times().map(str),
    st.datetimes().map(lambda one: f"{one.isoformat()}Z"),
    st.sampled_from(
        ["", "true", "FALSE", "nan", "Inf", "null", "x", "2024-1-5", "infinity", "[1]", '{"a": 1.50}', "é"]
    ),
).flatmap(lambda text: st.sampled_from([text, text, text, f" {text}", f"{text} "]))
QUERIES = st.sampled_from(
    ["SELECT 1.50::DECIMAL(9,2) AS a, [1.5] AS b", "SELECT 1::UBIGINT AS a, 1::UTINYINT AS b, 'x'::ENUM('x') AS c",
     "SELECT 'nan'::DOUBLE AS a, 0.1::FLOAT AS b, 1::HUGEINT AS c",
     "SELECT TIMESTAMP_NS '2024-01-05 10:00:00.123456' AS a",
     "SELECT INTERVAL '90 minutes' AS a, UUID 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' AS b, '\\x00'::BLOB AS c",
     "SELECT DATE 'infinity' AS a, TIMETZ '10:00:00+02' AS b, {'x': 1} AS c", "SELECT NULL AS a, 1 AS b"]
)  # fmt: skip


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    suffix = draw(st.sampled_from(FORMATS))
    if suffix == "parquet":
        return suffix, parquet(draw(QUERIES))
    columns = [draw(st.lists(VALUES, min_size=3, max_size=3)) for _ in range(draw(st.integers(1, 4)))]
    names = [f"c{at}" for at in range(len(columns))]
    rows = list(zip(*columns, strict=True))
    if suffix in {"csv", "tsv"}:
        mark = "," if suffix == "csv" else "\t"
        quoted = [[f'"{value}"' if suffix == "csv" and "," in value else value for value in row] for row in rows]
        return suffix, "".join(mark.join(row).replace('{"', "{'") + "\n" for row in [names, *quoted]).encode()
    records = [dict(zip(names, map(_json_value, row), strict=True)) for row in rows]
    if suffix == "json":
        return suffix, json.dumps(records).encode()
    return suffix, "".join(json.dumps(record) + "\n" for record in records).encode()


def _json_value(text: str) -> Any:
    """Return the number or what else a text is in JSON; the text itself where it is nothing of the kind."""
    try:
        return json.loads(text, parse_constant=str)
    except ValueError:
        return text


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(file=files())
@pytest.mark.timeout(600)
def test_any_file_that_makes_a_table_is_loaded_into_it_again(
    make_pipeline: Callable[[Path], Pipeline], file: tuple[str, bytes]
):
    suffix, content = file
    with tempfile.TemporaryDirectory() as folder:
        pipeline = make_pipeline(Path(folder))
        first = pipeline.load(f"a.{suffix}", content)
        if first.outcome is Outcome.REJECTED:
            return
        types = pipeline.types()
        again = pipeline.load(f"a.{suffix}", content)
        assert (again.outcome, again.reason, again.rows) == (Outcome.LOADED, None, first.rows)
        assert pipeline.types() == types
        rows = [repr(row) for row in pipeline.rows()]
        assert sorted(rows[: first.rows]) == sorted(rows[first.rows :])


# -- files of another kind


@pytest.mark.parametrize("how", ["load_arrival", "load_in_bulk"])
def test_a_file_of_which_the_table_knows_no_column_is_of_another_kind(pipeline: Pipeline, how: str):
    pipeline.load("a.csv", "n,day\n1,2026-01-05\n")
    others = [("csv", "id,name\n1,x\n"), ("json", '[{"id": 1, "name": "x"}]')]
    others.append(("parquet", parquet("SELECT 1 AS id, 'x' AS name")))
    for number in range(12):
        suffix, content = others[number] if number < len(others) else ("csv", f"n\n{number}\n")
        pipeline.write(f"{number:02}.{suffix}", content, "x")
    results = getattr(pipeline, how)("x")
    reasons = [result.reason for result in results if result.outcome is Outcome.REJECTED]
    assert reasons == [
        'none of its columns is in warehouse.public.metrics: expected columns like "n", "day", got "id", "name"; a file'
        " of another kind belongs into an inbox with a table of its own"
    ] * len(others)
    assert list(pipeline.types()) == ["n", "day"]


def test_a_file_without_rows_and_a_table_without_columns_are_of_no_kind(pipeline: Pipeline):
    assert pipeline.load("a.csv", "n\n1\n").reason is None
    assert pipeline.load("b.csv", "id\n").reason is None
    pipeline.drop()
    pipeline.create("_file_name VARCHAR")
    assert pipeline.load("c.csv", "id\n1\n").reason is None


# -- PostgreSQL's own types


@pytest.fixture
def own(two_databases: list[str], tmp_path: Path) -> PostgresPipeline:
    made = PostgresPipeline(tmp_path, url=two_databases[0])
    made.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return made


def test_a_type_of_postgres_own_takes_what_it_keeps(own: PostgresPipeline):
    kept = [
        ("numeric", "123456789012345678901234567890123456789012345.10", None),
        ("numeric", "1.5e-7", "0.00000015"),
        ("numeric(50,2)", "1.5000", "1.50"),
        ("numeric(6,-2)", "12300", None),
        ("money", "1234.50", "$1,234.50"),
        ("money", "$1,234.50", "$1,234.50"),
        ("time(0)", "10:00:00", None),
        ("timestamp(3) with time zone", "2024-01-05 10:00:00.125+00", None),
        ("character(3)", "ab", "ab"),
        ("character varying(3)", "ab ", "ab "),
        ("inet", "10.0.0.1/8", None),
        ("integer[]", "{1,2}", None),
    ]
    own.sql(f"CREATE TABLE public.metrics ({', '.join(f'c{at} {type_}' for at, (type_, _, _) in enumerate(kept))})")
    names, values = zip(*[(f"c{at}", f'"{value}"') for at, (_, value, _) in enumerate(kept)], strict=True)
    assert own.load("a.csv", f"{','.join(names)}\n{','.join(values)}\n{',' * (len(kept) - 1)}\n").reason is None
    printed = ", ".join(f"{name}::text" for name in names)
    there, empty = own.sql(f"SELECT {printed} FROM public.metrics ORDER BY c0")
    assert list(there) == [shown or value for _, value, shown in kept]
    assert {value for value in empty if value} == set()


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet"])
def test_a_type_of_postgres_own_rounds_cuts_and_guesses_nothing(own: PostgresPipeline, suffix: str):
    lost = [
        *[("numeric", value) for value in ("00123", "1_000", "1e3", "+5", ".5", "0x1F", "Nan")],
        ("numeric(50,2)", "1.239"),
        ("numeric(50,0)", "1.5"),
        ("numeric(6,-2)", "12345"),
        ("money", "1.239"),
        ("money", "1,5"),
        ("time(0)", "10:00:00.7"),
        ("timestamp(3) with time zone", "2024-01-05 10:00:00.1234+00"),
        ("timestamp(3) with time zone", "2024-01-05 10:00:00"),
        ("character(3)", "ab "),
        ("character(3)", "abcd"),
        ("character varying(3)", "abc "),
    ]
    columns = ", ".join(f"c{at} {type_}" for at, (type_, _) in enumerate(lost))
    own.sql(f"CREATE TABLE public.metrics (n bigint, {columns})")
    place = "line 3" if suffix == "csv" else "row 2"
    for at, (_, value) in enumerate(lost):
        result = own.load(f"a.{suffix}", file_of(suffix, value, f"c{at}"))
        assert (result.reason or "").startswith(f'{place}, column "c{at}": "{value}" is not a ')
    assert own.sql("SELECT * FROM public.metrics") == []
