"""A column gets wider where a file needs it and nothing is lost; to text it never does."""

import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from flows.loading.file_result import FileResult, Outcome
from tests.pipeline import Pipeline
from tests.postgres_pipeline import PostgresPipeline


def shown(pipeline: Pipeline) -> list[str]:
    return [str(row[0]) for row in pipeline.rows("a")]


@pytest.mark.parametrize(
    ("first", "later", "type_", "rows"),
    [
        ("5", "5.5", "DECIMAL(38,2)", ["5.00", "5.50"]),
        ("5", "12345678901234567890", "HUGEINT", ["5", "12345678901234567890"]),
        ("19.99", "0.1234", "DECIMAL(38,4)", ["19.9900", "0.1234"]),
        ("19.99", "12345678901234567890", "DECIMAL(38,2)", ["19.99", "12345678901234567890.00"]),
        ("19.99", "1.5e-7", "DOUBLE", ["19.99", "1.5e-07"]),
        ("5", "1.5e-7", "DOUBLE", ["5.0", "1.5e-07"]),
        ("2026-01-05", "2026-01-05 10:30", "TIMESTAMP", ["2026-01-05 00:00:00", "2026-01-05 10:30:00"]),
    ],
)
def test_a_column_gets_the_type_that_holds_old_and_new_values(
    pipeline: Pipeline, first: str, later: str, type_: str, rows: list[str]
):
    pipeline.load("a.csv", f"n,a\n1,{first}\n")
    before = pipeline.types()["a"]
    result = pipeline.load("b.csv", f"n,a\n2,{later}\n")
    assert result.reason is None
    assert result.widened == (f'column "a" is widened from {before} to {type_}',)
    assert result.widened[0] in str(result)
    assert pipeline.types()["a"] == type_
    assert shown(pipeline) == rows
    again = pipeline.load("c.csv", f"n,a\n2,{later}\n3,{first}\n")
    assert (again.reason, again.widened) == (None, ())


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ("5", "x"),
        ("5", "01730"),
        ("5.5", "2026-01-05"),
        ("2026-01-05 10:30", "2026-01-05T10:30:00Z"),
        ("9007199254740993", "1.5e-7"),
        ("12345678901234567.89", "1.5e-7"),
        ("1.5e-7", "82544000000000707.52"),
        ("true", "5"),
    ],
)
def test_where_something_would_be_lost_or_become_text_the_file_is_rejected_and_nothing_changed(
    pipeline: Pipeline, first: str, later: str
):
    pipeline.load("a.csv", f"n,a\n1,{first}\n")
    before = pipeline.types(), pipeline.rows()
    result = pipeline.load("b.csv", f"n,a\n2,{later}\n")
    assert result.outcome is Outcome.REJECTED
    assert "column" in (result.reason or "")
    assert (pipeline.types(), pipeline.rows()) == before


def test_a_file_with_a_second_misfit_widens_nothing(pipeline: Pipeline):
    pipeline.load("a.csv", "a,b\n1,1\n")
    result = pipeline.load("b.csv", "a,b\n1.5,1\n2,x\n")
    assert result.reason == 'line 2, column "a": "1.5" is not a BIGINT'
    assert pipeline.types() == {"a": "BIGINT", "b": "BIGINT"}


def test_an_index_view_or_check_that_forbids_it_is_the_reason(pipeline: Pipeline):
    pipeline.create("n BIGINT, a BIGINT CHECK (a < 100)")
    if isinstance(pipeline, PostgresPipeline):
        pipeline.sql("CREATE VIEW public.v AS SELECT a FROM public.metrics")
    result = pipeline.load("a.csv", "n,a\n1,5.5\n")
    assert (result.reason or "").startswith(
        'column "a" would have to be widened from BIGINT to DECIMAL(38,2) for it, and cannot be: '
    )
    assert pipeline.types() == {"n": "BIGINT", "a": "BIGINT"}


@pytest.mark.parametrize("how", ["load_arrival", "load_in_bulk"])
def test_among_many_files_each_is_loaded_as_it_would_be_in_its_turn(pipeline: Pipeline, how: str):
    values = {4: "5.5", 9: "x", 12: "12345678901234567890", 14: "0.123456"}
    for number in range(20):
        content = f"n,a\n{number},{values.get(number, number)}\n"
        pipeline.write(f"{number:02}.csv", content if number % 2 else content.replace(",", ";"), "x")
    results: list[FileResult] = getattr(pipeline, how)("x")
    assert [result.file for result in results if result.outcome is Outcome.REJECTED] == ["09.csv"]
    assert [result.file for result in results if result.widened] == ["04.csv", "14.csv"]
    assert sorted(pipeline.rows("n, a")) == [
        (number, Decimal(values.get(number, str(number)))) for number in range(20) if number != 9
    ]


@pytest.mark.parametrize("how", ["load_arrival", "load_in_bulk"])
def test_a_number_that_no_double_has_comes_first_or_last(pipeline: Pipeline, how: str):
    for number in range(10):
        value = {3: "9007199254740993", 5: "1.5e-7"}.get(number, str(number))
        pipeline.write(f"{number}.csv", f"n,a\n{number},{value}\n", "x")
    results: list[FileResult] = getattr(pipeline, how)("x")
    assert [result.file for result in results if result.outcome is Outcome.REJECTED] == ["5.csv"]
    assert pipeline.types()["a"] == "BIGINT"


def test_two_runs_that_load_into_one_table_lose_nothing(two_databases: list[str], tmp_path: Path):
    one = PostgresPipeline(tmp_path / "one", url=two_databases[0])
    one.folder.mkdir()
    one.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    one.load("a.csv", "n,a\n0,5\n")
    others = [PostgresPipeline(tmp_path / str(number), url=two_databases[0]) for number in range(3)]
    found: list[FileResult] = []

    def load(pipeline: PostgresPipeline, number: int) -> None:
        pipeline.folder.mkdir()
        for at in range(4):
            value = ["5", "5.5", "12345678901234567890", "0.1234"][(at + number) % 4]
            pipeline.write("a.csv", f"n,a\n{number},{value}\n", f"{number}-{at}")
            found.extend(pipeline.load_arrival(f"{number}-{at}"))

    threads = [threading.Thread(target=load, args=(other, number)) for number, other in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.reason for result in found] == [None] * 12
    assert sorted(one.rows("a")) == sorted(
        (Decimal(value),) for value in ["5", *["5", "5.5", "12345678901234567890", "0.1234"] * 3]
    )


def test_a_table_of_another_user_is_not_widened(make_pipeline: Callable[[Path], Pipeline], tmp_path: Path):
    pipeline = make_pipeline(tmp_path)
    if not isinstance(pipeline, PostgresPipeline):
        pytest.skip("a DuckDB file has one owner")
    pipeline.load("a.csv", "n,a\n0,5\n")
    pipeline.sql("DROP ROLE IF EXISTS somewriter")
    pipeline.sql("CREATE ROLE somewriter LOGIN PASSWORD 'writer'")
    pipeline.sql("GRANT USAGE ON SCHEMA public TO somewriter")
    pipeline.sql("GRANT SELECT, INSERT ON public.metrics, public._loads TO somewriter")
    address = pipeline.url.rpartition("@")[2]
    writer = PostgresPipeline(tmp_path, url=f"postgresql://somewriter:writer@{address}")
    writer.write("b.csv", "n,a\n1,5.5\n", "y")
    (result,) = writer.load_arrival("y")
    assert "cannot be: must be owner of table metrics" in (result.reason or "")
    pipeline.sql("DROP OWNED BY somewriter; DROP ROLE somewriter")
