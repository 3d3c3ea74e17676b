"""Rows that do not fit, put aside by the rule `bad_rows`."""

from collections.abc import Generator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from flows.loading.file_result import Outcome, summary
from flows.report.artifacts import description_of, report_rows
from tests.flows.rules_loading import Rig
from tests.postgres import PostgresServer, postgres_server

REJECTED = "SELECT line, column_name, raw, reason FROM public.t__rejected ORDER BY _file_name, line"
ROWS = "SELECT id, name FROM public.t ORDER BY id"
CSV = "id,name\n1,a\n2,b,c\n3,d\n4\n5,e\n"


@pytest.fixture(scope="module")
def server() -> Generator[PostgresServer]:
    with postgres_server() as running:
        yield running


class PostgresRig(Rig):
    """A rig whose warehouse is a PostgreSQL database."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, url)
        self.url = url

    def rows(self, query: str = ROWS) -> list[Any]:
        """Return the rows of a query on the database."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode()).fetchall()


@pytest.fixture(params=["duckdb", "postgres"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    if request.param == "duckdb":
        return Rig(tmp_path)
    server: PostgresServer = request.getfixturevalue("server")
    return PostgresRig(tmp_path, server.create(f"warehouse_{uuid4().hex}"))


def test_records_of_other_widths_and_values_that_do_not_fit_are_put_aside_with_line_and_reason(rig: Rig) -> None:
    rules = {"bad_rows": {"quarantine": 3}}
    [first] = rig.load(rules, {"a.csv": CSV})
    assert (first.outcome, first.rows, first.quarantined) == (Outcome.LOADED, 3, 2)
    [second] = rig.load(rules, {"b.csv": 'id,name\n6,f\nx,"g,h"\n7,i\n8\n'})
    assert (second.outcome, second.rows, second.quarantined) == (Outcome.LOADED, 2, 2)
    assert rig.rows(ROWS) == [(1, "a"), (3, "d"), (5, "e"), (6, "f"), (7, "i")]
    assert rig.rows(REJECTED) == [
        (3, None, "2,b,c", "expected 2 columns, got 3"),
        (5, None, "4", "expected 2 columns, got 1"),
        (3, "id", 'x,"g,h"', '"x" is not a BIGINT'),
        (5, None, "8", "expected 2 columns, got 1"),
    ]
    assert rig.rows("SELECT DISTINCT _arrival_id, _file_name FROM public.t__rejected ORDER BY 1") == [
        ("a-1", "a.csv"),
        ("a-2", "b.csv"),
    ]


def test_over_the_limit_the_file_is_rejected_and_nothing_is_loaded(rig: Rig) -> None:
    rules = {"bad_rows": {"quarantine": 1}}
    [good, bad] = rig.load(rules, {"a.csv": "id,name\n1,a\n", "b.csv": "id,name\n2,b\nx,c\n3\n"})
    assert good.outcome is Outcome.LOADED
    assert (bad.outcome, bad.quarantined) == (Outcome.REJECTED, 0)
    assert bad.reason == 'more than 1 bad row, the first in line 3: column "id": "x" is not a BIGINT'
    [bad] = rig.load(rules, {"c.csv": CSV})
    assert bad.reason == "more than 1 bad row, the first in line 3: expected 2 columns, got 3"
    assert rig.rows(ROWS) == [(1, "a")]


def test_a_share_counts_all_rows_of_the_file_the_bad_ones_included(rig: Rig) -> None:
    lines = [f"{at},n" for at in range(18)]
    rules = {"bad_rows": {"quarantine": "10%"}, "columns": {"id": "bigint"}}
    [at_limit] = rig.load(rules, {"a.csv": "\n".join(["id,name", *lines, "x,n", "19"])})
    assert (at_limit.reason, at_limit.rows, at_limit.quarantined) == (None, 18, 2)
    [over] = rig.load(rules, {"b.csv": "\n".join(["id,name", *lines, "x,n", "19", "20"])})
    assert over.reason == 'more than 2 bad rows, the first in line 20: column "id": "x" is not a BIGINT'


def test_a_reload_replaces_the_rows_that_were_put_aside(rig: Rig) -> None:
    rules = {"bad_rows": {"quarantine": 3}}
    rig.load(rules, {"a.csv": CSV, "b.csv": CSV}, "arrival")
    [skipped, _] = rig.load(rules, {"a.csv": CSV, "b.csv": CSV}, "arrival")
    assert (skipped.outcome, skipped.rows) == (Outcome.SKIPPED, 3)
    assert len(rig.rows(REJECTED)) == 4
    [again, other] = rig.load(rules, {"a.csv": "id,name\n1,a\n2\n", "b.csv": CSV}, "arrival", ["a.csv"])
    assert (again.rows, again.replaced, again.quarantined, other.outcome) == (1, 3, 1, Outcome.SKIPPED)
    assert [row[0] for row in rig.rows(REJECTED)] == [3, 3, 5]
    rig.load({}, {"a.csv": "id,name\n1,a\n2,b\n", "b.csv": CSV}, "arrival", ["a.csv"])
    assert [row[0] for row in rig.rows(REJECTED)] == [3, 5]


def test_values_of_json_records_that_do_not_fit_are_put_aside(rig: Rig) -> None:
    rules = {"bad_rows": {"quarantine": "50%"}}
    rig.load(rules, {"a.ndjson": '{"id": 1, "name": "a"}\n'})
    [result] = rig.load(rules, {"b.ndjson": '{"id": "x", "name": "b"}\n{"id": "2", "name": "c"}\n'})
    assert (result.reason, result.rows, result.quarantined) == (None, 1, 1)
    assert rig.rows(ROWS) == [(1, "a"), (2, "c")]


def test_a_table_that_has_been_widened_and_a_new_column_are_no_reason_to_put_rows_aside(rig: Rig) -> None:
    rules = {"bad_rows": {"quarantine": 3}}
    rig.load(rules, {"a.csv": "id,name\n1,a\n"})
    [result] = rig.load(rules, {"b.csv": "id,name,more\n2.5,b,x\n"})
    assert (result.reason, result.quarantined, len(result.widened)) == (None, 0, 1)


def test_the_report_the_log_and_the_summary_say_how_many_rows_were_put_aside(tmp_path: Path) -> None:
    results = Rig(tmp_path).load({"bad_rows": {"quarantine": 3}}, {"a.csv": CSV, "b.csv": "id,name\n1,a\n"})
    assert "; 2 rows put aside" in str(results[0])
    assert summary(results) == "2 files, 4 rows loaded, 0 skipped, 2 rows put aside"
    assert [row.get("quarantined") for row in report_rows(results)] == [2, None]
    assert "2 rows put aside" in description_of(results)


def test_a_file_that_says_nothing_else_is_read_as_without_the_rule(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rules = {"bad_rows": {"quarantine": 50}}
    [single, bare, titled] = rig.load(
        rules,
        {
            "a.csv": "'id','name'\n'1','a,b'\n'2','c'\n'3\n",
            "b.csv": "1,2024-01-01\n2,2024-01-02\n3\n",
            "c.csv": "Report\nid,name\n1,a\n",
        },
    )
    assert {one.outcome for one in (single, bare, titled)} == {Outcome.REJECTED}
    assert rig.load(rules, {"d.csv": "'id';'name'\n'1';'a;b'\n"})[0].rows == 1
    assert rig.rows('SELECT id, "name" FROM public.t') == [(1, "a;b")]
