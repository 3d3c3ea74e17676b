"""Many small files are loaded together, with the outcome of loading them one by one."""

import gzip
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.loading import bulk
from flows.loading.file_result import FileResult, Outcome
from flows.loading.header_scan import Plan
from flows.loading.loader import Loader
from flows.source_file import Rejected
from tests.pipeline import Pipeline

# -- whatever the files are


NAMES = st.lists(st.sampled_from(["a", "b", "A", "c d", "filename", "file_index", ""]), min_size=1, max_size=3)
VALUES = st.sampled_from(
    ["", "", "1", "2", "1.5", "1e3", "00123", "2024-01-02", "2024-1-2", "true", "x", '"x"', '""', '"y\nz"', '"', " 7",
     "é", "inf", "0x10", "NULL", "12345678901234567890", "a,b"]
)  # fmt: skip
MANGLED = st.sampled_from([lambda text: text] * 12 + [
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: text.replace(b"\n", b"\r\n"),
    lambda text: text.replace(b"\n", b"\r"),
    lambda text: text.replace(b"\n", b"\r\n", 1),
    lambda text: text.rstrip(b"\n"),
    lambda text: text + b"\n\n",
    lambda text: text.replace(b"1", b"\xe9"),
    lambda text: text.decode("latin-1").encode("utf-16"),
    lambda text: text[: len(text) // 2],
    lambda text: b"",
    lambda text: text + b"\0",
])  # fmt: skip


@st.composite
def csv_files(draw: st.DrawFn) -> tuple[str, bytes]:
    names = draw(NAMES)
    delimiter = draw(st.sampled_from(",,,;\t"))
    rows = draw(st.lists(st.lists(VALUES, min_size=len(names), max_size=len(names)), max_size=4))
    if rows and draw(st.integers(0, 9)) == 0:
        rows[-1].append("1")
    text = "".join(delimiter.join(row) + "\n" for row in [names, *rows])
    content = draw(MANGLED)(text.encode())
    return draw(st.sampled_from([("csv", content), ("csv", content), ("tsv", content), ("csv.gz", _gzipped(content))]))


JSON_VALUES = st.sampled_from([None, 1, 2, 1.5, 2**70, True, "x", "1", "2024-01-02", [1], {"x": 1}, ""])
JSON_NAMES = st.sampled_from(["a", "a", "b", "A", "file_index", ""])


@st.composite
def json_files(draw: st.DrawFn) -> tuple[str, bytes]:
    records = draw(st.lists(st.dictionaries(JSON_NAMES, JSON_VALUES, min_size=1, max_size=3), max_size=4))
    suffix = draw(st.sampled_from(["json", "ndjson", "ndjson", "ndjson.gz"]))
    text = json.dumps(records) if suffix == "json" else "".join(json.dumps(record) + "\n" for record in records)
    content = draw(MANGLED)(text.encode())
    return suffix, _gzipped(content) if suffix.endswith("gz") else content


QUERIES = st.sampled_from(
    ["SELECT 1 AS a", "SELECT 1::BIGINT AS a, 'x' AS b", "SELECT 2::BIGINT AS a, 'x' AS b", "SELECT [1, 2] AS a",
     "SELECT {'x': 1} AS b", "SELECT {'y': 1} AS b", "SELECT 1 AS file_index", "SELECT 1 AS a WHERE false"]
)  # fmt: skip


@st.composite
def parquet_files(draw: st.DrawFn) -> tuple[str, bytes]:
    query = draw(QUERIES)
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{folder}/a.parquet'")
        return "parquet", draw(MANGLED)((Path(folder) / "a.parquet").read_bytes())


def _gzipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


FILES = st.one_of(csv_files(), csv_files(), csv_files(), json_files(), parquet_files())
"""Suffix and content."""
TABLES = st.sampled_from(
    [None, None, "a BIGINT", "a BIGINT, b VARCHAR", "a DOUBLE CHECK (a < 2)", "a VARCHAR, b JSON NOT NULL", "a DATE",
     "b BIGINT DEFAULT 7, a VARCHAR", "a BIGINT PRIMARY KEY", "a BIGINT UNIQUE, b VARCHAR"]
)  # fmt: skip


def left_by(pipeline: Pipeline, results: list[FileResult]) -> tuple[list[Any], ...]:
    """Return all that a load leaves but the times: columns and their types, rows, load keys and results."""
    rows = (
        "SELECT COLUMNS(lambda name: name <> '_loaded_at'),"
        " row_number() OVER (PARTITION BY _file_name ORDER BY rowid) AS place FROM public.metrics"
    )
    keys = "SELECT * EXCLUDE (loaded_at) FROM public._loads ORDER BY ALL"
    there = pipeline.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'metrics'")
    return (
        list(pipeline.types().items()) if there else [],
        # `repr`, as not-a-number is not equal to itself
        sorted(map(repr, pipeline.execute(rows))) if there and any(result.rows for result in results) else [],
        pipeline.execute(keys),
        [replace(result, seconds=0) for result in results],
    )


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(files=st.lists(FILES, min_size=8, max_size=16), table=TABLES)
@pytest.mark.timeout(600)
def test_together_they_leave_what_they_leave_one_by_one(
    make_pipeline: Callable[[Path], Pipeline], files: list[tuple[str, bytes]], table: str | None
):
    with tempfile.TemporaryDirectory() as folder:
        one_by_one, in_bulk = (make_pipeline(Path(folder) / name) for name in ("one-by-one", "in-bulk"))
        for pipeline in (one_by_one, in_bulk):
            for number, (suffix, content) in enumerate(files):
                pipeline.write(f"{number:02}.{suffix}", content, "x")
            if table:
                pipeline.create(table)
        for _ in range(2):  # the second time, what was loaded is skipped
            left = left_by(one_by_one, one_by_one.load_arrival("x"))
            assert left_by(in_bulk, in_bulk.load_in_bulk("x")) == left


# -- how it gets there


@dataclass
class Work:
    """What a load took."""

    readings: int = 0
    """How often files were read together."""
    alone: list[str] = field(default_factory=list)
    """The files that were loaded alone."""


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    counted = Work()
    read_together, load_one = bulk.read_together, Loader.load_one

    def reading(*arguments: Any) -> Any:
        counted.readings += 1
        return read_together(*arguments)

    def loading(loader: Loader, plan: Plan, *, may_widen: bool = True) -> FileResult:
        counted.alone.append(plan.name if isinstance(plan, Rejected) else plan.file.name)
        return load_one(loader, plan, may_widen=may_widen)

    monkeypatch.setattr(bulk, "read_together", reading)
    monkeypatch.setattr(Loader, "load_one", loading)
    return counted


def arrive(pipeline: Pipeline, count: int, others: dict[int, str | bytes] | None = None, suffix: str = "csv") -> None:
    """Write an arrival x of numbered files of a number each, and `others` at their places."""
    for number in range(count):
        content = f"n\n{number}\n" if suffix == "csv" else f'{{"n": {number}}}\n'
        pipeline.write(f"{number:04}.{suffix}", (others or {}).get(number, content), "x")


def test_the_first_file_makes_the_columns_and_the_others_come_500_at_a_time(pipeline: Pipeline, work: Work):
    arrive(pipeline, 1200)
    results = pipeline.load_in_bulk("x")
    assert [(result.outcome, result.rows) for result in results] == [(Outcome.LOADED, 1)] * 1200
    assert pipeline.rows("n, _file_name, _arrival_id") == [(number, f"{number:04}.csv", "x") for number in range(1200)]
    assert (work.readings, work.alone) == (3, ["0000.csv"])


@pytest.mark.parametrize("suffix", ["ndjson", "json", "csv.gz", "parquet"])
def test_files_of_every_format_are_loaded_together(pipeline: Pipeline, work: Work, suffix: str):
    with duckdb.connect() as connection:
        for number in range(20):
            path = pipeline.write(f"{number:02}.{suffix}", "", "x")
            options = {"json": ", ARRAY true", "csv.gz": ", COMPRESSION gzip"}.get(suffix, "")
            form = {"ndjson": "json", "csv.gz": "csv"}.get(suffix, suffix)
            connection.execute(f"COPY (SELECT {number} AS n) TO '{path}' (FORMAT {form}{options})")
    assert {result.outcome for result in pipeline.load_in_bulk("x")} == {Outcome.LOADED}
    assert pipeline.rows() == [(number,) for number in range(20)]
    assert (work.readings, len(work.alone)) == (1, 1)


def test_misfits_cost_nothing_but_their_own_files(pipeline: Pipeline, work: Work):
    arrive(pipeline, 400, dict.fromkeys(range(50, 400, 50), "n\n1\nfoo\n"))
    rejected = [result for result in pipeline.load_in_bulk("x") if result.outcome is Outcome.REJECTED]
    assert [result.file for result in rejected] == [f"{number:04}.csv" for number in range(50, 400, 50)]
    assert {result.reason for result in rejected} == {'line 3, column "n": "foo" is not a BIGINT'}
    assert (work.readings, len(work.alone)) == (1, 1 + len(rejected))


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
@pytest.mark.parametrize("bad", [1, 5])
def test_a_few_that_cannot_be_read_do_not_have_the_others_loaded_one_by_one(
    pipeline: Pipeline, work: Work, suffix: str, bad: int
):
    places = range(100, 100 + 50 * bad, 50)
    arrive(pipeline, 400, dict.fromkeys(places, "n\n1,2\n" if suffix == "csv" else '{"n": 1\n'), suffix)
    results = pipeline.load_in_bulk("x")
    assert [int(result.file[:4]) for result in results if result.outcome is Outcome.REJECTED] == list(places)
    assert len(work.alone) <= 1 + bad
    assert work.readings <= 1 + 2 * bad


def test_a_few_that_the_table_refuses_do_not_have_the_others_read_again(pipeline: Pipeline, work: Work):
    pipeline.create("n BIGINT CHECK (n < 1000)")
    arrive(pipeline, 400, {100: "n\n5000\n", 300: "n\n6000\n"})
    results = pipeline.load_in_bulk("x")
    assert [result.file for result in results if result.outcome is Outcome.REJECTED] == ["0100.csv", "0300.csv"]
    assert all("check constraint" in (result.reason or "").lower() for result in results if result.reason)
    assert (work.readings, work.alone) == (1, ["0000.csv", "0100.csv", "0300.csv"])


def test_files_that_bring_new_columns_are_loaded_in_their_turn(pipeline: Pipeline, work: Work):
    others = {20: "n,late\n1,x\n", 30: "n,late\n2,5\n", 40: "late\n\n"}
    arrive(pipeline, 60, dict(others))
    assert {result.outcome for result in pipeline.load_in_bulk("x")} == {Outcome.LOADED}
    assert pipeline.types() == {"n": "BIGINT", "late": "VARCHAR"}
    assert work.alone[:2] == ["0000.csv", "0020.csv"]


def test_headers_alone_are_loaded_together_and_make_no_columns(pipeline: Pipeline, work: Work):
    arrive(pipeline, 300, {number: f"n,m{number}\n" for number in range(1, 300)})
    assert [result.rows for result in pipeline.load_in_bulk("x")] == [1] + [0] * 299
    assert pipeline.types() == {"n": "BIGINT"}
    assert pipeline.execute("SELECT count(*), sum(rows) FROM public._loads") == [(300, 1)]
    assert work.alone == ["0000.csv"]


def test_a_table_with_a_key_takes_its_files_one_by_one_in_their_order(pipeline: Pipeline, work: Work):
    pipeline.create("n BIGINT PRIMARY KEY")
    arrive(pipeline, 12, {5: "n\n9\n"})
    rejected = [result.file for result in pipeline.load_in_bulk("x") if result.outcome is Outcome.REJECTED]
    assert (rejected, work.readings) == (["0009.csv"], 0)


def test_what_was_loaded_before_is_skipped_and_what_is_to_be_reloaded_is_replaced_alone(pipeline: Pipeline, work: Work):
    arrive(pipeline, 30)
    pipeline.load_in_bulk("x")
    work.alone.clear()
    pipeline.write("0007.csv", "n\n70\n71\n", "x")
    pipeline.write("0030.csv", "n\n30\n", "x")
    results = pipeline.load_in_bulk("x", reload=["0007.csv"])
    assert [result.outcome for result in results].count(Outcome.SKIPPED) == 29
    assert (results[7].rows, results[7].replaced, results[30].outcome) == (2, 1, Outcome.LOADED)
    assert pipeline.execute("SELECT count(*), sum(rows) FROM public._loads") == [(31, 32)]
    assert pipeline.execute("SELECT count(*) FROM public.metrics") == [(32,)]


# -- what DuckDB 2.0 makes of lists of files


@pytest.mark.parametrize("tail", ['"8', '"', '8\n"9', ' "8', '"8\n9\n'])
def test_a_file_that_ends_within_quotes_is_rejected_as_it_is_by_itself(pipeline: Pipeline, tail: str):
    arrive(pipeline, 20, {11: f"n\n7\n{tail}"})
    (rejected,) = [result for result in pipeline.load_in_bulk("x") if result.outcome is Outcome.REJECTED]
    assert rejected.file == "0011.csv"
    assert "a quote is opened and not closed" in (rejected.reason or "")


def test_proper_quotes_do_not_keep_a_file_from_being_loaded_with_others(pipeline: Pipeline, work: Work):
    for number in range(20):
        pipeline.write(f"{number:02}.csv", f'\ufeff"n";"s"\r\n{number};"a ""b""; \nc"\r\n"{number}";""', "x")
    assert {result.rows for result in pipeline.load_in_bulk("x")} == {2}
    assert pipeline.rows()[:2] == [(0, 'a "b"; \nc'), (0, "")]
    assert (work.readings, len(work.alone)) == (1, 1)


def test_a_json_file_whose_last_line_is_cut_off_is_never_taken_without_it(pipeline: Pipeline):
    arrive(pipeline, 100, dict.fromkeys(range(1, 100, 7), '{"n": 1}\n{"n"'), "ndjson")
    rejected = [result for result in pipeline.load_in_bulk("x") if result.outcome is Outcome.REJECTED]
    assert [int(result.file[:4]) for result in rejected] == list(range(1, 100, 7))


HOSTILE = ["a[1]*?", "*", "it's", "$(id)", "a\nb", "{x,y}", "year=2024", "-", "\\", "ü€", "a", "a.csv", '"', "%41", "~"]


def test_hostile_names_name_those_very_files(pipeline: Pipeline, work: Work):
    for number, name in enumerate(HOSTILE):
        pipeline.write(f"day=1/{number}/{name}.csv", f"n\n{number}\n", "x")
    assert {result.rows for result in pipeline.load_in_bulk("x")} == {1}
    assert len(work.alone) == 1
    names = dict(pipeline.rows("_file_name, n"))
    for number, name in enumerate(HOSTILE):
        assert names[f"day=1/{number}/{name}.csv"] == number


# -- all or nothing


def test_rows_and_keys_of_files_that_are_loaded_together_are_there_together_or_not_at_all(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
):
    record_loads = pipeline.warehouse_class.record_loads

    def full(warehouse: Any, table: Any, arrival_id: str, files: list[Any], *others: Any) -> None:
        if len(files) > 1:
            raise MemoryError
        record_loads(warehouse, table, arrival_id, files, *others)

    arrive(pipeline, 30)
    with monkeypatch.context() as patched:
        patched.setattr(pipeline.warehouse_class, "record_loads", full)
        with pytest.raises(MemoryError):
            pipeline.load_in_bulk("x")
    assert pipeline.execute("SELECT count(*) FROM public.metrics") == [(1,)]
    assert pipeline.execute("SELECT count(*) FROM public._loads") == [(1,)]
    outcomes = [result.outcome for result in pipeline.load_in_bulk("x")]
    assert (outcomes.count(Outcome.SKIPPED), outcomes.count(Outcome.LOADED)) == (1, 29)
    assert pipeline.execute("SELECT count(*), count(DISTINCT n) FROM public.metrics") == [(30, 30)]
