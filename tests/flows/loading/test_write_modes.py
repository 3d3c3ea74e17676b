"""Rows replace others by the rules' mode, in one transaction with the load key, in both warehouses alike."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.loading.file_result import FileResult, Outcome
from flows.loading.loader import BIG
from tests.flows.rules_loading import Rig

ROOT = Path(__file__).resolve().parents[3]
UPSERT = {"write": {"mode": "upsert", "key": "id"}}
LAST = {"write": {"mode": "upsert", "key": "id", "duplicates": "last"}}
INSERT_NEW = {"write": {"mode": "insert_new", "key": ["id"]}}
REPLACE = {"write": {"mode": "replace"}}
SAME_NAME = {"write": {"mode": "replace_same_name"}}
DELETE_INSERT = {"write": {"mode": "delete_insert", "key": ["day", "region"]}}
ALL_MODES = [UPSERT, LAST, INSERT_NEW, REPLACE, SAME_NAME, DELETE_INSERT]
LOADS = "SELECT arrival_id, file_name, rows FROM public._loads ORDER BY 1, 2"
EVERYTHING = "SELECT * FROM public.t ORDER BY 1, 2, 3"


@dataclass
class BothRig:
    """A rig on either warehouse, whose rows are read with the same queries."""

    rig: Rig
    url: str | None

    def load(
        self, rules: dict[str, Any], files: dict[str, str], arrival: str | None = None, reload: list[str] | None = None
    ) -> list[FileResult]:
        return self.rig.load(rules, files, arrival, reload)

    def one(self, rules: dict[str, Any], content: str, arrival: str | None = None, name: str = "a.csv") -> FileResult:
        [result] = self.load(rules, {name: content}, arrival)
        return result

    def rows(self, query: str = "SELECT id, v FROM public.t ORDER BY 1, 2") -> list[tuple[Any, ...]]:
        if self.url is None:
            return self.rig.rows(query)
        with psycopg.connect(self.url) as connection:
            return connection.execute(query).fetchall()  # pyright: ignore[reportArgumentType]

    def run(self, statement: str) -> None:
        if self.url is None:
            with duckdb.connect(self.rig.folder / "warehouse.duckdb") as connection:
                connection.execute(statement)
        else:
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(statement)  # pyright: ignore[reportArgumentType]


@pytest.fixture(params=["DuckDB", "PostgreSQL"])
def make_rig(request: pytest.FixtureRequest) -> Callable[[Path], BothRig]:
    url = None if request.param == "DuckDB" else request.getfixturevalue("two_databases")[0]

    def make(folder: Path) -> BothRig:
        made = BothRig(Rig(folder, url), url)
        if url:
            made.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return made

    return make


@pytest.fixture
def rig(make_rig: Callable[[Path], BothRig], tmp_path: Path) -> BothRig:
    return make_rig(tmp_path)


def said(result: FileResult) -> tuple[Outcome, int, int | None, int]:
    return result.outcome, result.rows, result.replaced, result.not_taken


# -- each mode


def test_an_upsert_replaces_rows_of_the_same_key_and_adds_the_others(rig: BothRig):
    assert said(rig.one(UPSERT, "id,v\n1,a\n2,b\n")) == (Outcome.LOADED, 2, 0, 0)
    result = rig.one(UPSERT, "v,ID\nc,2\nd,3\n")
    assert said(result) == (Outcome.LOADED, 2, 1, 0)
    assert "replaced 1 rows" in str(result)
    assert rig.rows() == [(1, "a"), (2, "c"), (3, "d")]
    assert rig.rows("SELECT rows FROM public._loads") == [(2,), (2,)]


def test_an_upsert_by_several_columns_compares_all_of_them(rig: BothRig):
    rules = {"write": {"mode": "upsert", "key": ["id", "v"]}}
    rig.one(rules, "id,v,w\n1,a,x\n1,b,y\n")
    rig.one(rules, "id,v,w\n1,b,z\n2,b,z\n")
    assert rig.rows("SELECT id, v, w FROM public.t ORDER BY 1, 2") == [(1, "a", "x"), (1, "b", "z"), (2, "b", "z")]


def test_an_upsert_with_new_and_wider_columns_changes_the_table_in_the_same_transaction(rig: BothRig):
    rig.one(UPSERT, "id,v\n1,5\n2,6\n")
    result = rig.one(UPSERT, "id,v,w\n2,6.5,x\n99999999999999999999,7,\n")
    assert result.reason is None
    assert len(result.widened) == 2
    found = rig.rows("SELECT CAST(id AS VARCHAR), CAST(v AS DOUBLE PRECISION), w FROM public.t ORDER BY v")
    assert found == [("1", 5.0, None), ("2", 6.5, "x"), ("99999999999999999999", 7.0, None)]


def test_rows_of_the_table_without_a_key_stay(rig: BothRig):
    rig.one({}, "id,v\n1,a\n,b\n")
    rig.one(UPSERT, "id,v\n1,c\n")
    rig.one(INSERT_NEW, "id,v\n1,d\n2,e\n")
    assert rig.rows("SELECT id, v FROM public.t ORDER BY 2") == [(None, "b"), (1, "c"), (2, "e")]


def test_insert_new_adds_only_rows_whose_key_is_not_there(rig: BothRig):
    rig.one(INSERT_NEW, "id,v\n1,a\n2,b\n")
    result = rig.one(INSERT_NEW, "id,v\n2,c\n3,d\n")
    assert said(result) == (Outcome.LOADED, 1, None, 1)
    assert "left out 1 rows" in str(result)
    assert rig.rows() == [(1, "a"), (2, "b"), (3, "d")]
    assert rig.rows("SELECT rows FROM public._loads") == [(2,), (2,)]


def test_replace_leaves_only_the_newest_file(rig: BothRig):
    rig.one(REPLACE, "id,v\n1,a\n2,b\n")
    assert said(rig.one(REPLACE, "id,v\n3,c\n")) == (Outcome.LOADED, 1, 2, 0)
    assert rig.rows() == [(3, "c")]
    assert len(rig.rows(LOADS)) == 2
    assert said(rig.one(REPLACE, "id,v\n")) == (Outcome.LOADED, 0, 1, 0)
    assert rig.rows() == []


def test_of_several_files_in_one_arrival_the_last_by_name_is_the_table(rig: BothRig):
    results = rig.load(REPLACE, {"b.csv": "id,v\n2,b\n", "a.csv": "id,v\n1,a\n"}, "x-20260102-000000-aaaaaa")
    assert [said(one) for one in results] == [(Outcome.LOADED, 1, 0, 0), (Outcome.LOADED, 1, 1, 0)]
    assert rig.rows() == [(2, "b")]
    files = {"a.csv": "id,v\n1,a\n", "aa.csv": "id,v\n3,c\n", "b.csv": "id,v\n2,b\n"}
    results = rig.load(REPLACE, files, "x-20260102-000000-aaaaaa")
    assert [one.outcome for one in results] == [Outcome.SKIPPED] * 3
    assert str(results[1]) == "aa.csv: skipped: b.csv of the same arrival is newer, and was loaded before"
    assert rig.rows() == [(2, "b")]


@pytest.mark.parametrize("rules", [REPLACE, SAME_NAME])
def test_a_file_of_an_older_arrival_does_not_replace_a_newer_one(rig: BothRig, rules: dict[str, Any]):
    rig.one(rules, "id,v\n2,b\n", "x-20260102-000000-aaaaaa")
    before = rig.rows(EVERYTHING), rig.rows(LOADS)
    for _ in range(2):
        result = rig.one(rules, "id,v\n1,a\n", "x-20260101-235959-ffffff")
        assert said(result) == (Outcome.SKIPPED, 0, None, 0)
        assert result.reason == "a.csv of arrival x-20260102-000000-aaaaaa is newer, and was loaded before"
        assert (rig.rows(EVERYTHING), rig.rows(LOADS)) == before
    rig.one(rules, "id,v\n3,c\n", "x-20260102-000000-000000")
    assert rig.rows() == [(3, "c")]
    rig.one(rules, "id,v\n4,d\n", "by-hand")
    assert rig.rows() == [(4, "d")]
    assert rig.one(rules, "id,v\n1,a\n", "x-20260103-000000-ffffff").outcome is Outcome.SKIPPED


def test_replace_same_name_replaces_the_rows_of_files_of_its_name(rig: BothRig):
    rig.load(SAME_NAME, {"a.csv": "id,v\n1,a\n", "b.csv": "id,v\n2,b\n", "north/a.csv": "id,v\n3,c\n"})
    assert said(rig.one(SAME_NAME, "id,v\n4,d\n5,e\n")) == (Outcome.LOADED, 2, 1, 0)
    assert rig.rows() == [(2, "b"), (3, "c"), (4, "d"), (5, "e")]
    result = rig.one(SAME_NAME, "id,v\n6,f\n", "x-20200101-000000-aaaaaa", "c.csv")  # the first of its name
    assert result.outcome is Outcome.LOADED


def test_delete_insert_replaces_the_partitions_that_the_file_has(rig: BothRig):
    rig.one(DELETE_INSERT, "day,region,id,v\n2026-01-01,n,1,a\n2026-01-01,n,2,b\n2026-01-01,s,3,c\n2026-01-02,n,4,d\n")
    result = rig.one(DELETE_INSERT, "day,region,id,v\n2026-01-01,n,5,e\n2026-01-03,n,6,f\n2026-01-03,n,6,f\n")
    assert said(result) == (Outcome.LOADED, 3, 2, 0)
    assert rig.rows() == [(3, "c"), (4, "d"), (5, "e"), (6, "f"), (6, "f")]


def test_files_of_one_arrival_are_written_in_the_order_of_their_names(rig: BothRig):
    files = {f"{number:03}.csv": f"id,v\n1,{number}\n{number + 2},0\n" for number in range(30)}
    rig.load(UPSERT, dict(reversed(files.items())))
    assert rig.rows("SELECT v FROM public.t WHERE id = 1") == [(29,)]
    assert rig.rows("SELECT count(*) FROM public.t") == [(31,)]


# -- keys


@pytest.mark.parametrize("rules", [UPSERT, INSERT_NEW, LAST])
def test_a_row_without_a_key_rejects_the_file_with_its_line(rig: BothRig, rules: dict[str, Any]):
    result = rig.one(rules, "id,v\n1,a\n,b\n")
    assert result.reason == 'line 3, column "id": no value, and it is in the key'
    result = rig.one(DELETE_INSERT, "day,region,v\n2026-01-01,n,a\n2026-01-01,,a\n", name="b.csv")
    assert result.reason == 'line 3, column "region": no value, and it is in the key'


@pytest.mark.parametrize("rules", [UPSERT, INSERT_NEW])
def test_a_key_twice_in_a_file_rejects_it_with_both_lines(rig: BothRig, rules: dict[str, Any]):
    result = rig.one(rules, "id,v\n1,a\n2,b\n3,c\n2,d\n1,e\n")
    assert result.reason == (
        'line 5: the key (id: "2") is there already, in line 3; with `duplicates: last` the last row of a key counts'
    )


def test_with_last_the_last_row_of_a_key_counts(rig: BothRig):
    result = rig.one(LAST, "id,v\n1,a\n2,b\n1,c\n1,d\n")
    assert said(result) == (Outcome.LOADED, 2, 0, 2)
    assert rig.rows() == [(1, "d"), (2, "b")]
    assert rig.rows("SELECT rows FROM public._loads") == [(4,)]


def test_in_a_big_file_the_last_row_counts_and_a_line_is_right(rig: BothRig):
    rows = 500_000
    filler = "x" * (BIG // rows - 5)
    body = "".join(f"{number % (rows // 2)},{number}{filler}\n" for number in range(rows))
    result = rig.one(LAST, f"id,v\n{body}")
    assert said(result) == (Outcome.LOADED, rows // 2, 0, rows // 2)
    first = f"SELECT count(*) FROM public.t WHERE v = CAST(id + {rows // 2} AS VARCHAR) || '{filler}'"
    assert rig.rows(first) == [(rows // 2,)]
    result = rig.one(UPSERT, f"id,v\n{body}")
    assert str(result.reason).startswith(f'line {rows // 2 + 2}: the key (id: "0") is there already, in line 2;')


@pytest.mark.parametrize("rules", [UPSERT, INSERT_NEW, LAST, DELETE_INSERT])
def test_a_file_without_a_column_of_the_key_is_rejected_with_its_name(rig: BothRig, rules: dict[str, Any]):
    result = rig.one(rules, "a,v\n1,a\n")
    assert result.outcome is Outcome.REJECTED
    assert "of the key missing: mode" in str(result.reason)
    assert rig.rows("SELECT count(*) FROM public._loads") == [(0,)]
    assert rig.one(rules, "a,v\n").outcome is Outcome.LOADED  # has no row without a key


def test_json_cannot_be_a_key(rig: BothRig):
    result = rig.one(UPSERT, '{"id": {"a": 1}, "v": 1}\n', name="a.ndjson")
    assert result.reason == 'column "id" is JSON, which a key cannot be: its values have no one form'


@pytest.mark.parametrize("name", ["%s", 'a "quoted" key', "staged", "_number", "old", "rowid"])
def test_a_key_of_any_name_is_compared(rig: BothRig, name: str):
    rules = {"write": {"mode": "upsert", "key": [name], "duplicates": "last"}}
    quoted = name.replace('"', '""')
    for value in ("a", "b"):
        assert rig.one(rules, f'"{quoted}",v\n1,x\n1,{value}\n').reason is None
    assert rig.rows("SELECT v FROM public.t") == [("b",)]


def test_a_table_with_a_primary_key_takes_an_upsert_of_it(rig: BothRig):
    rig.one(UPSERT, "id,v\n1,a\n2,b\n")
    rig.run("ALTER TABLE public.t ADD PRIMARY KEY (id)")
    assert rig.one(UPSERT, "id,v\n2,c\n3,d\n").reason is None
    assert rig.one(INSERT_NEW, "id,v\n3,x\n4,e\n").reason is None
    assert rig.rows() == [(1, "a"), (2, "c"), (3, "d"), (4, "e")]
    assert rig.one(REPLACE, "id,v\n1,z\n").reason is None
    assert "primary key" in str(rig.one(SAME_NAME, "id,v\n1,y\n", name="b.csv").reason).replace("_pkey", " primary key")
    assert rig.rows() == [(1, "z")]


# -- nothing half, and once


@pytest.mark.parametrize("rules", ALL_MODES)
@pytest.mark.parametrize("bad", ["2026-01-01,n,3,x\n", "2026-01-01,n,,5\n"])
def test_a_file_that_fails_in_the_middle_changes_nothing(rig: BothRig, rules: dict[str, Any], bad: str):
    head = "day,region,id,v\n"
    rig.one(rules, f"{head}2026-01-01,n,1,1\n2026-01-01,s,2,2\n")
    rig.run("ALTER TABLE public.t ALTER COLUMN id SET NOT NULL")
    before = rig.rows(EVERYTHING), rig.rows(LOADS)
    result = rig.one(rules, f"{head}2026-01-01,n,1,9\n{bad}2026-01-01,n,7,9\n")
    assert result.outcome is Outcome.REJECTED
    assert (rig.rows(EVERYTHING), rig.rows(LOADS)) == before


@pytest.mark.parametrize("rules", ALL_MODES)
def test_an_arrival_that_is_replayed_changes_nothing(rig: BothRig, rules: dict[str, Any]):
    head = "day,region,id,v\n"
    files = {"a.csv": f"{head}2026-01-01,n,1,a\n", "b.csv": f"{head}2026-01-01,n,1,b\n"}
    rig.load(rules, files, "x-20260101-000000-aaaaaa")
    rig.one(rules, f"{head}2026-01-01,n,1,c\n", "x-20260102-000000-aaaaaa")
    before = rig.rows(EVERYTHING), rig.rows(LOADS)
    results = rig.load(rules, files, "x-20260101-000000-aaaaaa")
    assert [said(one) for one in results] == [(Outcome.SKIPPED, 1, None, 0)] * 2
    assert (rig.rows(EVERYTHING), rig.rows(LOADS)) == before


def test_a_file_that_is_loaded_again_loses_the_rows_it_wrote(rig: BothRig):
    rig.one(UPSERT, "id,v\n1,a\n2,b\n", "x")
    rig.one(UPSERT, "id,v\n2,c\n", "y")
    [result] = rig.load(UPSERT, {"a.csv": "id,v\n3,d\n"}, "x", ["a.csv"])
    assert said(result) == (Outcome.LOADED, 1, 1, 0)
    assert rig.rows() == [(2, "c"), (3, "d")]
    [result] = rig.load(INSERT_NEW, {"a.csv": "id,v\n2,e\n4,f\n"}, "x", ["a.csv"])
    assert said(result) == (Outcome.LOADED, 1, 1, 1)
    assert rig.rows() == [(2, "c"), (4, "f")]
    assert rig.rows(LOADS) == [("x", "a.csv", 2), ("y", "a.csv", 1)]


def test_the_newest_snapshot_is_loaded_again_and_an_older_one_is_not(rig: BothRig):
    old, new = "x-20260101-000000-aaaaaa", "x-20260102-000000-aaaaaa"
    rig.one(REPLACE, "id,v\n1,a\n", old)
    rig.one(REPLACE, "id,v\n2,b\n", new)
    [result] = rig.load(REPLACE, {"a.csv": "id,v\n3,c\n"}, new, ["a.csv"])
    assert said(result) == (Outcome.LOADED, 1, 1, 0)
    [result] = rig.load(REPLACE, {"a.csv": "id,v\n4,d\n"}, old, ["a.csv"])
    assert result.outcome is Outcome.SKIPPED
    assert rig.rows() == [(3, "c")]


# -- many files, as a naive model has them

_ROW = st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 99))
_FILE = st.tuples(st.sampled_from("abc"), st.lists(_ROW, max_size=6))
_MODES = st.sampled_from(["append", "replace", "replace_same_name", "upsert", "insert_new", "delete_insert"])


def _taken(mode: str, last: bool, rows: list[tuple[int, int, int]]) -> list[tuple[int, int, int]] | None:
    if mode not in {"upsert", "insert_new"}:
        return rows
    by_key = {row[:2]: row for row in rows}
    return list(by_key.values()) if last or len(by_key) == len(rows) else None


def _model(mode: str, table: list[tuple[str, Any]], name: str, rows: list[tuple[int, int, int]]) -> list[Any]:
    keys = {row[:2] for row in rows}
    match mode:
        case "replace":
            table = []
        case "replace_same_name":
            table = [one for one in table if one[0] != name]
        case "upsert":
            table = [one for one in table if one[1][:2] not in keys]
        case "delete_insert":
            partitions = {row[0] for row in rows}
            table = [one for one in table if one[1][0] not in partitions]
        case "insert_new":
            there = {one[1][:2] for one in table}
            rows = [row for row in rows if row[:2] not in there]
        case _:
            pass
    return [*table, *((name, row) for row in rows)]


@settings(max_examples=12, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_MODES, st.booleans(), st.lists(_FILE, max_size=7))
def test_a_series_of_files_leaves_the_rows_that_a_naive_model_has(
    make_rig: Callable[[Path], BothRig], mode: str, last: bool, files: list[tuple[str, list[tuple[int, int, int]]]]
):
    key = {"upsert": ["a", "b"], "insert_new": ["a", "b"], "delete_insert": ["a"]}.get(mode)
    rules = {"write": {"mode": mode, "key": key, "duplicates": "last" if last else "reject"}}
    table: list[tuple[str, Any]] = []
    with TemporaryDirectory() as folder:
        rig = make_rig(Path(folder))
        rig.one({"write": {"mode": "append"}}, "a,b,v\n0,0,0\n", name="first.csv")
        table = [("first.csv", (0, 0, 0))]
        for name, rows in files:
            result = rig.one(rules, "a,b,v\n" + "".join(f"{a},{b},{v}\n" for a, b, v in rows), name=f"{name}.csv")
            taken = _taken(mode, last, rows)
            assert (result.outcome is Outcome.REJECTED) == (taken is None)
            if taken is not None:
                table = _model(mode, table, f"{name}.csv", taken)
        found = rig.rows("SELECT _file_name, a, b, v FROM public.t")
    assert sorted(found) == sorted((name, *row) for name, row in table)


# -- at the same time, and killed


@pytest.mark.parametrize("rules", [UPSERT, INSERT_NEW])
def test_loads_of_the_same_keys_at_the_same_time_leave_each_key_once(rig: BothRig, rules: dict[str, Any]):
    rig.one(rules, "id,v\n0,0\n")
    ids = range(2000)
    body = {turn: "".join(f"{one},{turn}\n" for one in (ids if turn % 2 else reversed(ids))) for turn in range(6)}

    def load(turn: int) -> FileResult:
        folder = rig.rig.folder / f"run-{turn}"
        folder.mkdir()
        own = Rig(folder, rig.url or str(rig.rig.folder / "warehouse.duckdb"))
        return own.load(rules, {"a.csv": f"id,v\n{body[turn]}"}, f"run-{turn}")[0]

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(load, body))
    assert [one.outcome for one in results] == [Outcome.LOADED] * 6
    assert rig.rows("SELECT count(*), count(DISTINCT id) FROM public.t") == [(2000, 2000)]
    if rules is UPSERT:
        assert rig.rows("SELECT count(DISTINCT v) FROM public.t") == [(1,)]


VICTIM = """
import os, signal, sys
from pathlib import Path
from flows.warehouse.duckdb import DuckDbWarehouse
from flows.warehouse.postgres import PostgresWarehouse
from tests.flows.rules_loading import Rig
from tests.flows.loading.test_write_modes import UPSERT

folder, url, point = Path(sys.argv[1]), sys.argv[2] or None, sys.argv[3]
for kind in (DuckDbWarehouse, PostgresWarehouse):
    def dying(*arguments, method=getattr(kind, point), **named):
        method(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(kind, point, dying)
Rig(folder, url).load(UPSERT, {"a.csv": sys.argv[4]}, "killed")
"""


@pytest.mark.parametrize("point", ["lock_rows", "stage", "change", "unstage", "record_loads"])
def test_a_process_killed_during_an_upsert_leaves_the_rows_from_before_and_the_next_loads_all(rig: BothRig, point: str):
    rig.one(UPSERT, "id,v\n1,a\n2,b\n")
    before = rig.rows(EVERYTHING), rig.rows(LOADS)
    content, place = "id,v\n2,c\n3,d\n", rig.url or str(rig.rig.folder / "warehouse.duckdb")
    other = rig.rig.folder / "other"
    other.mkdir()
    command = [sys.executable, "-c", VICTIM, str(other), place, point, content]
    killed = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (rig.rows(EVERYTHING), rig.rows(LOADS)) == before
    assert said(rig.one(UPSERT, content, "killed")) == (Outcome.LOADED, 2, 1, 0)
    assert rig.rows() == [(1, "a"), (2, "c"), (3, "d")]


def test_readers_of_postgresql_see_the_rows_from_before_until_the_commit(
    two_databases: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from flows.warehouse.postgres import PostgresWarehouse

    rig = BothRig(Rig(tmp_path, two_databases[0]), two_databases[0])
    rig.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    rig.one(REPLACE, "id,v\n1,a\n")
    seen: list[Any] = []
    record = PostgresWarehouse.record_loads

    def looking(self: PostgresWarehouse, *arguments: Any) -> None:
        seen.append(rig.rows())
        record(self, *arguments)

    monkeypatch.setattr(PostgresWarehouse, "record_loads", looking)
    rig.one(REPLACE, "id,v\n2,b\n")
    assert (seen, rig.rows()) == ([[(1, "a")]], [(2, "b")])
