"""A DuckDB warehouse is copied into PostgreSQL with its load keys, so that no file is lost or loaded twice."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from flows.loading.file_result import Outcome
from tests.pipeline import Pipeline
from tests.postgres import PostgresServer
from tests.postgres_pipeline import PostgresPipeline

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def url(postgres: PostgresServer) -> str:
    return postgres.create("moving")


@pytest.fixture
def old(tmp_path: Path) -> Pipeline:
    """A DuckDB warehouse with two arrivals."""
    made = Pipeline(tmp_path / "state")
    made.write("a.csv", "n,s,Day\n1,xy,2026-01-05\n2,,2026-01-06\n", "one")
    made.write("b.json", '[{"n": 3, "o": {"k": [1]}}]', "two")
    made.write("empty.csv", "n\n", "two")
    for arrival in ("one", "two"):
        made.load_arrival(arrival)
    return made


@pytest.fixture
def new(old: Pipeline, url: str) -> PostgresPipeline:
    """An empty database, and the same arrivals."""
    made = PostgresPipeline(old.folder, url=url)
    made.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return made


def move(new: PostgresPipeline, *arguments: str, **settings: str) -> tuple[int, str]:
    """Run the command and return its status and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.migrate.run", *arguments],
        cwd=ROOT,
        env={**os.environ, "STATE_DIR": str(new.folder), "WAREHOUSE_URL": new.url, "COLUMNS": "200", **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_rows_types_and_load_keys_are_carried_over_and_every_file_is_known(old: Pipeline, new: PostgresPipeline):
    status, said = move(new)
    assert status == 0, said
    assert said.split()[-3:] == ["public.metrics", "3", "3"]
    in_order = "SELECT n, s, day, o, _arrival_id, _file_name, _loaded_at FROM public.metrics ORDER BY n"
    assert new.execute(in_order) == old.execute(in_order)
    keys = "FROM public._loads ORDER BY ALL"
    assert new.execute(keys) == old.execute(keys)
    assert new.types() == {"n": "BIGINT", "s": "VARCHAR", "day": "DATE", "o": "JSON"}
    outcomes = [result.outcome for arrival in ("one", "two") for result in new.load_arrival(arrival)]
    assert outcomes == [Outcome.SKIPPED] * 3


def test_it_may_be_done_again_and_copies_what_has_come_since(old: Pipeline, new: PostgresPipeline):
    move(new)
    assert move(new)[1].split()[-3:] == ["public.metrics", "0", "0"]
    old.write("c.csv", "n\n9\n", "three")
    old.load_arrival("three")
    assert move(new)[1].split()[-3:] == ["public.metrics", "1", "1"]
    assert new.execute("SELECT count(*), count(DISTINCT n) FROM public.metrics") == [(4, 4)]


def test_rows_without_a_load_key_are_copied_once_as_well(old: Pipeline, new: PostgresPipeline):
    old.execute("INSERT INTO public.metrics (n) VALUES (100), (101)")
    assert move(new)[1].split()[-3:] == ["public.metrics", "5", "4"]
    assert move(new)[1].split()[-3:] == ["public.metrics", "0", "0"]
    assert new.execute("SELECT count(*) FROM public.metrics WHERE _arrival_id IS NULL") == [(2,)]


def test_a_table_that_has_been_loaded_into_already_is_left_alone(old: Pipeline, new: PostgresPipeline):
    new.write("other.csv", "n\n7\n", "elsewhere")
    new.load_arrival("elsewhere")
    status, said = move(new)
    assert status == 1
    assert "not copied: the table there has rows of 1 files" in said
    assert "other.csv of elsewhere" in said
    assert new.execute("SELECT n FROM public.metrics") == [(7,)]


def test_a_table_that_cannot_hold_a_value_is_left_alone_and_the_value_is_named(old: Pipeline, new: PostgresPipeline):
    new.create("n SMALLINT, s varchar(1)")
    status, said = move(new)
    assert status == 1
    assert 'column "s": "xy" is not a VARCHAR(1)' in said.replace("\n", " ")
    assert new.sql("SELECT (SELECT count(*) FROM public.metrics), (SELECT count(*) FROM public._loads)") == [(0, 0)]


def test_keys_of_another_catalog_are_carried_over_under_the_one_of_postgres(new: PostgresPipeline, tmp_path: Path):
    with duckdb.connect(tmp_path / "sales.duckdb") as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS eu")
        connection.execute(
            "CREATE TABLE eu.t (n INTEGER, _arrival_id VARCHAR, _file_name VARCHAR, _loaded_at TIMESTAMPTZ)"
        )
        connection.execute("INSERT INTO eu.t VALUES (1, 'a', 'f.csv', now())")
        connection.execute(
            "CREATE TABLE eu._loads AS SELECT 'a' AS arrival_id, 'f.csv' AS file_name, 'sales.eu.t' AS target_table,"
            " 1::BIGINT AS rows, 2::BIGINT AS bytes, now() AS loaded_at"
        )
    new.sql("DROP SCHEMA IF EXISTS eu CASCADE")
    assert move(new, str(tmp_path / "sales.duckdb"))[0] == 0
    assert new.sql("SELECT target_table, rows FROM eu._loads") == [("warehouse.eu.t", 1)]
    assert new.sql("SELECT n, _file_name FROM eu.t") == [(1, "f.csv")]


def test_what_it_cannot_do_it_says_in_a_line(new: PostgresPipeline, tmp_path: Path):
    assert move(new, str(tmp_path / "nothing.duckdb"))[1].startswith(
        "expected a DuckDB file to move from, there is none"
    )
    assert "expected postgresql://... to move to" in move(new, WAREHOUSE_URL="")[1]
    with duckdb.connect(new.folder / "warehouse.duckdb"):
        status, said = move(new)
    assert status == 1
    assert f"is in use by another process (PID {os.getpid()}); end that first" in said
