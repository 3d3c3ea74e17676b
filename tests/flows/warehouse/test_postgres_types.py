"""What a file holds is in PostgreSQL as it is in DuckDB, whatever its type; what cannot be is a rejected file."""

import tempfile
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.loading.file_result import Outcome
from flows.warehouse.postgres_types import column_type, duckdb_type
from tests.pipeline import Pipeline
from tests.postgres import PostgresServer
from tests.postgres_pipeline import PostgresPipeline

ALIKE = [
    "BOOLEAN", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL(18,3)", "DECIMAL(38,0)", "DATE",
    "TIME", "TIME WITH TIME ZONE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "INTERVAL", "UUID", "BLOB", "JSON",
    "VARCHAR",
]  # fmt: skip
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "BOOLEAN": st.booleans(),
    "TINYINT": st.integers(-(2**7), 2**7 - 1),
    "SMALLINT": st.integers(-(2**15), 2**15 - 1),
    "INTEGER": st.integers(-(2**31), 2**31 - 1),
    "BIGINT": st.integers(-(2**63), 2**63 - 1),
    "UTINYINT": st.integers(0, 2**8 - 1),
    "USMALLINT": st.integers(0, 2**16 - 1),
    "UINTEGER": st.integers(0, 2**32 - 1),
    "UBIGINT": st.integers(0, 2**64 - 1),
    "FLOAT": st.floats(width=32, allow_nan=False),
    "DOUBLE": st.floats(allow_nan=False),
    "DECIMAL(18,3)": st.decimals(-(10**14), 10**14, places=3),
    "DECIMAL(38,0)": st.decimals(-(10**37), 10**37, places=0),
    "DATE": st.dates(),
    "TIME": st.times(),
    "TIMESTAMP": st.datetimes(),
    "TIMESTAMP WITH TIME ZONE": st.datetimes().map(lambda moment: f"{moment}+00"),
    "UUID": st.uuids(),
    "BLOB": st.binary(max_size=20),
    "VARCHAR": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
    | st.sampled_from(["", "\\.", '"', '""', "\\N", "NULL", "a,b\nc\r\n", "\\", "'", " ", "\ufeff"]),
}


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> str:
    return postgres.create("types")


def both(folder: Path, url: str) -> tuple[Pipeline, PostgresPipeline]:
    """Return a pipeline into a DuckDB file and one into an empty database."""
    for name in ("duckdb", "postgres"):
        (folder / name).mkdir()
    made = PostgresPipeline(folder / "postgres", url=url)
    made.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return Pipeline(folder / "duckdb"), made


def parquet(type_: str, values: list[Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE t (n INTEGER, v {type_})")
        connection.executemany("INSERT INTO t VALUES (?, ?)", list(enumerate(values)))
        connection.execute(f"COPY t TO '{folder}/t.parquet'")
        return (Path(folder) / "t.parquet").read_bytes()


@pytest.mark.parametrize("type_", ALIKE)
def test_a_new_columns_type_comes_back_as_the_type_it_was_made_for(type_: str):
    assert duckdb_type(column_type(type_)) == type_


@pytest.mark.parametrize(
    ("type_", "there"),
    [
        ("INTEGER[]", "jsonb"),
        ("STRUCT(a INTEGER)", "jsonb"),
        ("MAP(VARCHAR, INTEGER)", "jsonb"),
        ("GEOMETRY", "text"),
        ("TIMESTAMP_NS", "timestamp without time zone"),
        ("UBIGINT", "numeric(20,0)"),
    ],
)
def test_other_types_get_what_holds_them(type_: str, there: str):
    assert column_type(type_) == there


@pytest.mark.parametrize(
    ("there", "type_"),
    [
        ("numeric", "VARCHAR"),
        ("numeric(50,2)", "VARCHAR"),
        ("numeric(3,5)", "VARCHAR"),
        ("character varying", "VARCHAR"),
        ("character(3)", "CHAR(3)"),
        ("timestamp(0) without time zone", "TIMESTAMP_S"),
        ("money", "VARCHAR"),
        ("integer[]", "VARCHAR"),
    ],
)
def test_a_column_of_somebody_elses_takes_what_it_can_hold(there: str, type_: str):
    assert duckdb_type(there) == type_


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.timeout(600)
def test_values_of_every_type_are_in_postgres_as_they_are_in_duckdb(database: str, data: st.DataObject):
    type_ = data.draw(st.sampled_from(list(VALUES)))
    values = data.draw(st.lists(st.none() | VALUES[type_], min_size=1, max_size=8))
    content = parquet(type_, values)
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for pipeline in both(Path(folder), database):
            assert pipeline.load("a.parquet", content).reason is None
            found.append(pipeline.execute(f"SELECT n, CAST(v AS {type_}) FROM public.metrics ORDER BY n"))
        assert found[0] == found[1]
        assert len(found[0]) == len(values)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT DATE '0044-03-15 (BC)' AS v, TIMESTAMP '0044-03-15 (BC) 01:02:03' AS w",
        "SELECT TIMESTAMPTZ '0044-03-15 (BC) 01:02:03+00' AS v, DATE '12345-01-02' AS w",
        "SELECT DATE 'infinity' AS v, TIMESTAMP '-infinity' AS w, 'infinity'::TIMESTAMPTZ AS x",
        "SELECT 'nan'::DOUBLE AS v, '-inf'::FLOAT AS w, '-0.0'::DOUBLE AS x",
        "SELECT INTERVAL '-1 month 3 days -4 hours' AS v, TIME '24:00:00' AS w",
        "SELECT 10::TIMESTAMP_NS AS v WHERE false",
        "SELECT TIMESTAMP_NS '2026-01-05 10:00:00.123456' AS v, TIMESTAMP_S '2026-01-05 10:00:00' AS w",
        "SELECT [1, NULL] AS v, {'a': 'x''\"'} AS w, MAP {'k': 1} AS x",
        "SELECT '\\x00\\xFF\\x5C'::BLOB AS v",
    ],
)
def test_what_is_far_out_is_there_too(database: str, tmp_path: Path, query: str):
    path = tmp_path / "t.parquet"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        try:
            connection.execute(f"COPY ({query}) TO '{path}'")
        except duckdb.Error:
            pytest.skip("DuckDB cannot make it")
    found = []
    for pipeline in both(tmp_path, database):
        assert pipeline.load("a.parquet", path.read_bytes()).reason is None
        found.append(str(pipeline.execute("SELECT CAST(COLUMNS('^[^_]') AS VARCHAR) FROM public.metrics")))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("column", "content", "reason"),
    [
        ("a varchar(3)", "a\nabc\nabcd\n", 'line 3, column "a": "abcd" is not a VARCHAR(3)'),
        ("a varchar(3)", "a\nabc\n\"ab   \"\n", 'line 3, column "a": "ab " is not a VARCHAR(3)'),
        ("a char(2)", "a\nü€\nabc\n", 'line 3, column "a": "abc" is not a CHAR(2)'),
        ("a numeric(4,1)", "a\n1.5\n1e55\n", 'line 3, column "a": "1e55" is not a DECIMAL(4,1)'),
        ("a timestamp(0)", "a\n2026-01-05 10:00:00.5\n", '10:00:00.5" is not a TIMESTAMP_S'),
        ("a smallint", "a\n07\n", 'line 2, column "a": "07" is not a SMALLINT'),
        ("a numeric", "b,a\n1,2.5\n2,foo\n", 'line 3, column "a": "foo" is not a numeric'),
        ("a inet", "a\n\n10.0.0.1\nfoo\n", 'line 4, column "a": invalid input syntax for type inet: "foo"'),
        ("a date", "a\n4800-01-01\n5881580-07-10\n", None),
        ("a text NOT NULL", "a,b\n,1\n", 'null value in column "a" of relation "metrics" violates not-null constraint'),
        ("a bigint UNIQUE", "a\n1\n1\n", "duplicate key value violates unique constraint"),
        ("a bigint CHECK (a < 9)", "a\n10\n", 'violates check constraint "metrics_a_check"'),
        ("a text", "a\nx\ny\0z\n", "line 3: a NUL character; the file is damaged, or is no text"),
        ("a jsonb", 'a\n"{""x"": ""\\u0000""}"\n', '"{"x": "\\u0000"}": unsupported Unicode escape sequence'),
        ("a bigint GENERATED ALWAYS AS (1) STORED", "a\n1\n", None),
        ("b text", "b,ctid\n1,1\n", 'column "ctid": PostgreSQL keeps that name for itself'),
        ("b text", "b," + "x" * 64 + "\n1,1\n", "longer than PostgreSQL's 63 bytes"),
    ],
)  # fmt: skip
def test_what_postgres_cannot_hold_is_a_rejected_file_with_its_reason(
    database: str, tmp_path: Path, column: str, content: str, reason: str | None
):
    _, pipeline = both(tmp_path, database)
    pipeline.sql(f"CREATE TABLE public.metrics ({column})")
    result = pipeline.load("a.csv", content)
    assert result.outcome is Outcome.REJECTED
    assert result.reason
    assert (reason or "") in result.reason
    assert pipeline.sql("SELECT count(*) FROM public.metrics") == [(0,)]
    assert pipeline.sql("SELECT count(*) FROM public._loads") == [(0,)]


def test_a_value_that_only_fits_when_rounded_is_rejected_in_a_new_column_too(database: str, tmp_path: Path):
    _, pipeline = both(tmp_path, database)
    result = pipeline.load(
        "a.parquet", parquet("TIMESTAMP_NS", ["2026-01-05 10:00:00", "2026-01-05 10:00:00.123456789"])
    )
    assert result.reason == 'row 2, column "v": "2026-01-05 10:00:00.123456789" is not a TIMESTAMP'
