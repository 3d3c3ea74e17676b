"""What a check says of a file is what a load makes of it."""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic import SecretStr

from flows.check.run import Checker, CheckResult, FileCheck
from flows.check.scratch import read_target
from flows.errors import StillInUseError
from flows.loading.file_result import FileResult, Outcome
from flows.loading.loader import Loader
from flows.settings import PipelineSettings
from flows.sql_names import TargetTable
from flows.warehouse.base import Warehouse
from tests.flows.check.contents import TEXTS, parquet_file, written
from tests.pipeline import TABLE, Pipeline
from tests.postgres_pipeline import PostgresPipeline

_KNOWN = {
    "a table of other columns": "other BIGINT",
    "a table of the same columns": "id BIGINT, name VARCHAR, n BIGINT, x DOUBLE, zip BIGINT, a VARCHAR, b VARCHAR",
    "a table of other types": "id DATE, name BIGINT, n SMALLINT, text DOUBLE, zip VARCHAR",
}


def settings_of(pipeline: Pipeline) -> PipelineSettings:
    url = pipeline.url if isinstance(pipeline, PostgresPipeline) else str(pipeline.warehouse)
    return PipelineSettings(state_dir=pipeline.folder, warehouse_url=SecretStr(url), warehouse_wait_seconds=0.3)


@contextmanager
def checker(pipeline: Pipeline, *, is_new: bool = False) -> Generator[Checker]:
    settings, folder = settings_of(pipeline), pipeline.folder / "check"
    folder.mkdir(exist_ok=True)
    target = read_target(settings, TABLE, lambda _: None, folder, is_new=is_new)
    with Checker(settings, target, folder) as opened:
        yield opened


def check(pipeline: Pipeline, path: Path, *, is_new: bool = False) -> tuple[FileCheck, list[tuple[Any, ...]]]:
    """Check a file; return what is said of it, and the rows that would be loaded."""
    out = pipeline.folder / "out.parquet"
    with checker(pipeline, is_new=is_new) as opened:
        found = opened.check(path, path.name, out)
    if not out.exists():
        return found, []
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = connection.execute(f"SELECT * FROM '{out}'").fetchall()
    out.unlink()
    return found, rows


def same(found: FileCheck, result: FileResult) -> bool:
    """Whether a check says what came of a load."""
    outcome = Outcome.LOADED if found.outcome is CheckResult.LOADS else Outcome.REJECTED
    return (outcome, found.reason, found.rows) == (result.outcome, result.reason, result.rows)


def plain(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows whose JSON is written in one way."""

    def value(one: Any) -> Any:
        is_json = isinstance(one, str) and one[:1] in ("{", "[")
        return json.dumps(json.loads(one)) if is_json else one

    return [tuple(map(value, row)) for row in rows]


@pytest.mark.parametrize("kind", TEXTS)
def test_a_file_that_is_checked_into_a_new_table_gets_the_verdict_reason_and_rows_of_its_load(
    pipeline: Pipeline, kind: str, tmp_path: Path
) -> None:
    path = written(kind, tmp_path)
    found, rows = check(pipeline, path, is_new=True)
    result = pipeline.load(path.name, path.read_bytes())
    assert same(found, result), f"{found}\n{result}"
    if result.outcome is Outcome.LOADED and pipeline.types():
        assert plain(rows) == plain(pipeline.rows())
        assert [column.table_name for column in found.columns] == list(pipeline.types())


@pytest.mark.parametrize("table", _KNOWN)
def test_files_that_are_checked_against_a_table_get_the_verdict_and_reason_of_their_load(
    pipeline: Pipeline, table: str, tmp_path: Path
) -> None:
    folders = {kind: tmp_path / f"dropped-{at}" for at, kind in enumerate(TEXTS)}
    for folder in folders.values():
        folder.mkdir()
    paths = {kind: written(kind, folder) for kind, folder in folders.items()}
    pipeline.create(_KNOWN[table])
    with checker(pipeline) as opened:
        found = {kind: opened.check(path, path.name) for kind, path in paths.items()}
    results: dict[str, FileResult] = {}
    with pipeline.opened() as warehouse:
        for kind, path in paths.items():
            (plan,) = pipeline.plans(path.parent.name)
            warehouse.create_loads(TABLE)
            results[kind] = Loader(warehouse, TABLE, path.parent.name).load_one(plan)
            _make_anew(pipeline, warehouse, _KNOWN[table])
    assert [f"{kind}: {found[kind]}\n{results[kind]}" for kind in TEXTS if not same(found[kind], results[kind])] == []


@pytest.mark.parametrize(
    ("columns", "content"),
    [
        ("n BIGINT", "n\n5.5\n"),
        ("n SMALLINT", "n\n123456\n"),
        ("n BIGINT", "n\n123456789012345678901234\n"),
        ("n BIGINT", "n\n1234567890123456789.25\n"),
        ("d DATE", "d\n2024-01-01 05:06:07\n"),
        ("n DOUBLE", "n\n0.1\n12345678901234567.25\n"),
    ],
)
def test_a_value_that_needs_a_wider_column_gets_the_verdict_reason_and_rows_of_its_load(
    pipeline: Pipeline, columns: str, content: str
) -> None:
    pipeline.create(columns)
    found, rows = check(pipeline, pipeline.write("a.csv", content, "dropped"))
    result = pipeline.load("a.csv", content)
    assert same(found, result), f"{found}\n{result}"
    assert rows == pipeline.rows()


def _make_anew(pipeline: Pipeline, warehouse: Warehouse, columns: str) -> None:
    if isinstance(pipeline, PostgresPipeline):
        pipeline.drop()
        pipeline.create(columns)
    else:
        warehouse.reader.execute(f"CREATE OR REPLACE TABLE public.metrics ({columns})")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 AS id, 'x' AS name, [1, 2] AS tags",
        "SELECT 170141183460469231731687303715884105727::HUGEINT AS n",
        "SELECT TIMESTAMPTZ '2024-01-01 00:00:00+02' AS at, TIME '01:02:03' AS clock, 1.10::DECIMAL(9, 2) AS price",
        "SELECT {'a': 1} AS in, '\\xC3'::BLOB AS raw, uuid() AS id, true AS yes, INTERVAL 1 DAY AS span",
        "SELECT range AS n FROM range(100000)",
    ],
)
def test_a_parquet_file_that_is_checked_gets_the_verdict_reason_and_number_of_rows_of_its_load(
    pipeline: Pipeline, query: str, tmp_path: Path
) -> None:
    path = parquet_file(tmp_path / "a.parquet", query)
    found, rows = check(pipeline, path, is_new=True)
    result = pipeline.load(path.name, path.read_bytes())
    assert same(found, result), f"{found}\n{result}"
    assert len(rows) == result.rows


def test_what_is_found_of_a_csv_file_is_its_format_its_columns_and_its_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sep=;\n'id';'note'\n1;'a'\n2;\n")
    found, _ = check(Pipeline(tmp_path), path, is_new=True)
    assert found.format
    assert (found.format.delimiter, found.format.quote, found.format.encoding) == (";", "'", "UTF-8")
    assert (found.format.kind, found.format.compression, found.format.header_line) == ("csv", None, 2)
    assert [(one.name, one.type, one.table_type, one.is_new) for one in found.columns] == [
        ("id", "BIGINT", "BIGINT", True),
        ("note", "VARCHAR", "VARCHAR", True),
    ]
    assert found.first_rows == (("1", "a"), ("2", None))


def test_the_columns_of_the_table_are_shown_beside_those_of_the_file(pipeline: Pipeline) -> None:
    pipeline.create("id DOUBLE")
    found, _ = check(pipeline, pipeline.write("a.csv", "ID,n\n1,2\n", "dropped"))
    table_type = "bigint" if isinstance(pipeline, PostgresPipeline) else "BIGINT"
    assert [(one.name, one.type, one.table_name, one.table_type, one.is_new) for one in found.columns] == [
        ("ID", "BIGINT", "id", "DOUBLE", False),
        ("n", "BIGINT", "n", table_type, True),
    ]


def test_a_rejected_value_is_marked_in_its_line(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    pipeline.create("id BIGINT, n BIGINT")
    found, _ = check(pipeline, pipeline.write("a.csv", "id,n\n1,2\n3,x4\n5,6\n", "dropped"))
    assert found.reason == 'line 3, column "n": "x4" is not a BIGINT'
    assert [(one.number, one.is_at_fault) for one in found.excerpt] == [(1, False), (2, False), (3, True), (4, False)]
    bad = found.excerpt[2]
    assert (bad.before, bad.marked, bad.after) == ("3,", "x4", "")


def test_each_file_is_checked_as_if_it_were_alone(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    numbers = pipeline.write("a.csv", "n\n1\n", "one")
    texts = pipeline.write("a.csv", "n\nx\n", "two")
    with checker(pipeline, is_new=True) as opened:
        found = [opened.check(path, "a.csv") for path in (numbers, texts, numbers)]
    assert [(one.outcome, one.columns[0].type) for one in found] == [
        (CheckResult.LOADS, "BIGINT"),
        (CheckResult.LOADS, "VARCHAR"),
        (CheckResult.LOADS, "BIGINT"),
    ]


def test_a_check_writes_nothing_into_the_warehouse_and_its_folder(pipeline: Pipeline) -> None:
    pipeline.load("a.csv", "n\n1\n")
    before = pipeline.rows("*")
    found, _ = check(pipeline, pipeline.write("b.csv", "n,m\n2,3\n", "dropped"))
    assert found.outcome is CheckResult.LOADS
    assert pipeline.rows("*") == before
    assert list(pipeline.types()) == ["n"]


def test_a_check_makes_no_warehouse_where_there_is_none(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    path = pipeline.write("a.csv", "n\n1\n", "dropped")
    found, _ = check(pipeline, path)
    assert found.outcome is CheckResult.LOADS
    assert sorted(one.name for one in tmp_path.iterdir()) == ["check", "dropped"]


@pytest.mark.parametrize(
    ("columns", "content"),
    [
        ("id BIGINT PRIMARY KEY, name VARCHAR", "id,name\n7,y\n"),
        ("id BIGINT, name VARCHAR NOT NULL", "id\n8\n"),
        ("id BIGINT CHECK (id < 5), name VARCHAR", "id,name\n9,y\n"),
        ("id BIGINT, name VARCHAR, UNIQUE (id, name)", "id,name\n10,y\n10,y\n"),
        ("id BIGINT, mood ENUM('sad', 'ok')", "id,mood\n1,angry\n"),
    ],
)
def test_what_the_table_forbids_is_rejected_by_a_check_too(tmp_path: Path, columns: str, content: str) -> None:
    pipeline = Pipeline(tmp_path)
    pipeline.create(columns)
    if "KEY" in columns:
        pipeline.execute("INSERT INTO public.metrics BY NAME SELECT 7 AS id")
    found, _ = check(pipeline, pipeline.write("a.csv", content, "dropped"))
    result = pipeline.load("a.csv", content)
    assert (found.outcome, result.outcome) == (CheckResult.REJECTED, Outcome.REJECTED)
    assert found.reason


def test_a_warehouse_that_another_process_holds_is_named_with_the_process(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    pipeline.create("id BIGINT")
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(pipeline.warehouse)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StillInUseError, match=rf"still in use by another process \(PID {holder.pid}\)"):
            read_target(settings_of(pipeline), TABLE, lambda _: None, tmp_path, is_new=False)
    finally:
        holder.communicate()


def test_a_big_file_is_checked_with_no_more_memory_than_its_load_may_take(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    path = tmp_path / "a.csv"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT range AS n, repeat('x', 60) AS t FROM range(600000)) TO '{path}' (HEADER)")
    assert path.stat().st_size > 32_000_000
    found, rows = check(pipeline, path, is_new=True)
    assert (found.outcome, found.rows, len(rows)) == (CheckResult.LOADS, 600_000, 600_000)
    assert [row[0] for row in found.first_rows] == [str(at) for at in range(10)]
    assert list((tmp_path / "check").iterdir()) == []


def test_a_table_of_another_schema_is_another_table(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    pipeline.create("id DATE")
    other = TargetTable("warehouse", "sales", "metrics")
    assert read_target(settings_of(pipeline), other, print, tmp_path, is_new=False).columns == {}


def test_a_file_that_is_gone_when_its_turn_comes_is_rejected(tmp_path: Path) -> None:
    found, _ = check(Pipeline(tmp_path), tmp_path / "gone.csv", is_new=True)
    assert (found.outcome, found.reason) == (CheckResult.REJECTED, f"cannot be read: {os.strerror(2)}")
