"""A file that is loaded again replaces its rows, in one transaction, or leaves them as they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.loading.file_result import FileResult, Outcome
from flows.loading.loader import Reload
from flows.readers.base import SAMPLE_ROWS
from flows.source_file import Rejected
from tests.pipeline import Pipeline

KEYS = "SELECT arrival_id, file_name, rows, bytes FROM public._loads ORDER BY ALL"


@pytest.fixture
def pipeline(make_pipeline: Callable[[Path], Pipeline], tmp_path: Path) -> Pipeline:
    """Arrival x with one file of two rows, loaded."""
    made = make_pipeline(tmp_path)
    made.write("a.csv", "a\n1\n2\n", "x")
    made.load_arrival("x")
    return made


def reloaded(pipeline: Pipeline, content: str, *names: str, batch_size: int | None = None) -> FileResult:
    """Write other content into the file of arrival x and load that again."""
    pipeline.write("a.csv", content, "x")
    (result,) = pipeline.load_arrival("x", batch_size, names or ("a.csv",))
    return result


def everything(pipeline: Pipeline) -> list[list[tuple[Any, ...]]]:
    return [pipeline.execute(f"FROM public.{table} ORDER BY ALL") for table in ("metrics", "_loads")] + [
        pipeline.execute("DESCRIBE public.metrics")
    ]


@pytest.mark.parametrize("names", [("a.csv",), ("*",), ("*", "a.csv"), ("b.csv", "a.csv")])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_its_rows_and_its_key_are_replaced_once_and_the_verdict_says_how_many(
    pipeline: Pipeline, names: tuple[str, ...], batch_size: int | None
):
    for _ in range(2):
        result = reloaded(pipeline, "a\n3\n4\n5\n", *names, batch_size=batch_size)
        assert (result.outcome, result.rows) == (Outcome.LOADED, 3)
        assert pipeline.rows("a, _arrival_id, _file_name") == [(n, "x", "a.csv") for n in (3, 4, 5)]
        assert pipeline.execute(KEYS) == [("x", "a.csv", 3, 8)]
    assert str(result).endswith("; replaced 3 rows")


def test_a_file_that_is_not_named_is_skipped_though_it_has_changed(pipeline: Pipeline):
    before = everything(pipeline)
    assert reloaded(pipeline, "a\n3\n", "b.csv", "x", "A.csv", "north/a.csv").outcome is Outcome.SKIPPED
    assert everything(pipeline) == before


def test_a_file_that_has_no_key_yet_is_just_loaded(pipeline: Pipeline):
    pipeline.write("b.csv", "a\n7\n", "x")
    first, second = pipeline.load_arrival("x", reload=("b.csv",))
    assert (first.outcome, second.outcome, second.replaced) == (Outcome.SKIPPED, Outcome.LOADED, None)
    assert "replaced" not in str(second)
    assert pipeline.rows() == [(1,), (2,), (7,)]


def test_the_rows_of_other_files_and_other_arrivals_stay(pipeline: Pipeline):
    pipeline.write("north/a.csv", "a\n10\n", "x")
    pipeline.load_arrival("x")
    pipeline.write("a.csv", "a\n20\n", "y")
    pipeline.load_arrival("y")
    pipeline.write("a.csv", "a\n3\n", "x")
    pipeline.load_arrival("x", reload=("a.csv",))
    assert pipeline.execute("SELECT _arrival_id, _file_name, a FROM public.metrics ORDER BY ALL") == [
        ("x", "a.csv", 3),
        ("x", "north/a.csv", 10),
        ("y", "a.csv", 20),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n3,4\nfoo,5\n", '"foo" is not a BIGINT'),
        ("a\n" + "3\n" * SAMPLE_ROWS + "foo\n", '"foo" is not a BIGINT'),
        ("a\n3\n4,5\n", "expected 1 column, got 2"),
        ("a\n" + "3\n" * 100_000 + "4,5\n", "expected 1 column, got 2"),
        ("", "empty file"),
    ],
)
@pytest.mark.parametrize("batch_size", [None, 1000])
def test_what_was_loaded_stays_when_the_file_is_rejected(
    pipeline: Pipeline, content: str, said: str, batch_size: int | None
):
    before = everything(pipeline)
    result = reloaded(pipeline, content, batch_size=batch_size)
    assert result.outcome is Outcome.REJECTED
    assert said in (result.reason or "")
    assert everything(pipeline) == before


def test_what_was_loaded_stays_when_the_loading_fails_for_another_reason(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    before = everything(pipeline)
    with monkeypatch.context() as patched:
        patched.setattr(pipeline.warehouse_class, "record_loads", full)
        with pytest.raises(MemoryError):
            reloaded(pipeline, "a,b\n3,4\n")
    assert everything(pipeline) == before


def test_rows_are_replaced_too_when_the_whole_file_has_to_be_asked_for_a_new_columns_type(pipeline: Pipeline):
    result = reloaded(pipeline, "a,b\n" + "3,1\n" * SAMPLE_ROWS + "3,late\n")
    assert (result.outcome, result.rows, result.replaced) == (Outcome.LOADED, SAMPLE_ROWS + 1, 2)
    assert pipeline.types() == {"a": "BIGINT", "b": "VARCHAR"}
    assert pipeline.execute("SELECT a, count(*) FROM public.metrics GROUP BY a") == [(3, SAMPLE_ROWS + 1)]
    assert pipeline.execute(KEYS)[0][2] == SAMPLE_ROWS + 1


def test_a_file_without_rows_leaves_none_of_those_before(pipeline: Pipeline):
    result = reloaded(pipeline, "a\n")
    assert (result.outcome, result.rows, result.replaced) == (Outcome.LOADED, 0, 2)
    assert pipeline.rows() == []
    assert pipeline.execute(KEYS) == [("x", "a.csv", 0, 2)]


def test_a_table_that_somebody_dropped_or_made_anew_is_filled_again(pipeline: Pipeline):
    for made in (None, "a BIGINT"):
        pipeline.drop()
        if made:
            pipeline.create(made)
        result = reloaded(pipeline, "a\n3\n")
        assert (result.outcome, result.replaced) == (Outcome.LOADED, 0), result
        assert pipeline.rows("a, _file_name") == [(3, "a.csv")]


def test_values_that_the_table_wants_to_be_unique_may_come_again(
    make_pipeline: Callable[[Path], Pipeline], tmp_path: Path
):
    pipeline = make_pipeline(tmp_path)
    pipeline.create("a BIGINT PRIMARY KEY")
    pipeline.write("a.csv", "a\n1\n2\n", "x")
    pipeline.load_arrival("x")
    assert reloaded(pipeline, "a\n2\n3\n").outcome is Outcome.LOADED
    assert pipeline.rows() == [(2,), (3,)]


def test_a_name_that_no_file_of_the_source_has_is_reported():
    files = [Rejected("north/a.csv", 0, "empty file")]
    assert Reload(frozenset({"*", "north/a.csv"})).not_found(files) == ()
    assert [one.name for one in Reload(frozenset({"z.csv", "a.csv", "north/a.csv"})).not_found(files)] == [
        "a.csv",
        "z.csv",
    ]
