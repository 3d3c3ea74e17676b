"""What becomes of a file whose columns are not the table's, by the inbox's contract, in both warehouses."""

import itertools
import json
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString, cast

import duckdb
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.loading.file_result import FileResult, Outcome, summary
from tests.flows.rules_loading import Rig
from tests.postgres import PostgresServer

_number = itertools.count()


class AnyRig(Rig):
    """A rig on either warehouse."""

    url: str | None = None

    def table(self, columns: str = "*") -> list[tuple[Any, ...]]:
        """Return the rows of the table, by the first column."""
        query = f"SELECT {columns} FROM public.t ORDER BY 1"
        if self.url is None:
            return self.rows(query)
        with psycopg.connect(self.url) as connection:
            return connection.execute(cast(LiteralString, query)).fetchall()

    def columns(self) -> dict[str, str]:
        """Return the table's columns and their types, without the pipeline's own."""
        query = (
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 't'"
            " AND column_name NOT IN ('_arrival_id', '_file_name', '_loaded_at') ORDER BY ordinal_position"
        )
        if self.url is None:
            return dict(self.rows(query))
        with psycopg.connect(self.url) as connection:
            return dict(connection.execute(query).fetchall())

    def loaded(self, rules: dict[str, Any], **files: bytes | str) -> FileResult:
        """Load one file and return its result."""
        [result] = self.load(rules, {name.replace("_", "."): content for name, content in files.items()})
        return result


@pytest.fixture(params=["duckdb", "postgres"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AnyRig:
    url = None
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.create(f"contract_{next(_number)}")
    made = AnyRig(tmp_path, url)
    made.url = url
    return made


FREEZE = {"contract": "freeze"}


def test_freeze_rejects_a_file_with_an_unknown_or_without_a_known_column_and_names_all(rig: AnyRig) -> None:
    assert rig.loaded(FREEZE, a_csv="a,b\n1,2\n").outcome is Outcome.LOADED
    frozen = "and the inbox's contract is freeze"
    assert rig.loaded(FREEZE, a_csv="a,b,x,y\n1,2,3,4\n").reason == (
        f'columns "x", "y" are not in warehouse.public.t, {frozen}'
    )
    assert rig.loaded(FREEZE, a_csv="a,x\n1,2\n").reason == (
        f'column "x" is not in warehouse.public.t, {frozen}; missing: "b"'
    )
    assert rig.loaded(FREEZE, a_csv="a\n1\n").reason == f'column "b" of warehouse.public.t is missing, {frozen}'
    assert rig.loaded(FREEZE, a_csv="B,A\n4,3\n").outcome is Outcome.LOADED
    assert rig.loaded(FREEZE, a_csv="a,b,x\n").outcome is Outcome.LOADED, "without rows there is nothing to hold to it"
    assert rig.table("a, b") == [(1, 2), (3, 4)]


def test_a_table_of_files_without_rows_is_still_made_by_the_first_file_with_rows(rig: AnyRig) -> None:
    assert rig.loaded(FREEZE, a_csv="a,b\n").outcome is Outcome.LOADED
    assert rig.loaded(FREEZE, a_csv="a,b\n1,2\n").outcome is Outcome.LOADED
    assert rig.table("a, b") == [(1, 2)]


@pytest.mark.parametrize("contract", ["freeze", "discard"])
def test_only_evolve_widens_a_column(rig: AnyRig, contract: str) -> None:
    rules = {"contract": contract}
    rig.loaded(rules, a_csv="a\n1\n")
    before = rig.columns()
    assert rig.loaded(rules, a_csv="a\n1.5\n").reason == 'line 2, column "a": "1.5" is not a BIGINT'
    assert rig.columns() == before
    assert rig.loaded({}, a_csv="a\n1.5\n").widened


def test_discard_leaves_unknown_columns_out_and_reports_them(rig: AnyRig) -> None:
    rules = {"contract": "discard"}
    rig.loaded(rules, a_csv="a,b\n1,2\n")
    result = rig.loaded(rules, a_csv='x,b,"y z",a\nq,4,w,3\n')
    assert result.left_out == ("x", "y z")
    assert 'left out columns "x", "y z"' in str(result)
    assert summary([result, result]) == '2 files, 2 rows loaded, 0 skipped; left out columns "x", "y z"'
    assert rig.loaded(rules, a_csv="a\n5\n").left_out == ()
    assert rig.table("a, b") == [(1, 2), (3, 4), (5, None)]
    assert "none of its columns is in" in (rig.loaded(rules, a_csv="x\n5\n").reason or "")


def test_rescue_keeps_unknown_columns_and_values_that_do_not_fit_as_json(rig: AnyRig) -> None:
    rules = {"contract": "rescue"}
    rig.loaded(rules, a_csv="id,n\n1,2\n")
    rig.loaded(rules, a_csv='id,n,x\n2,two,"a ""b"""\n3,3,\n4,007,é\n')
    rig.loaded(rules, a_ndjson='{"id": 5, "n": 1, "deep": {"k": [1, null]}, "on": true}\n')
    kept = [(id_, n, _json(rescued)) for id_, n, rescued in rig.table("id, n, _rescued")]
    assert kept == [
        (1, 2, None),
        (2, None, {"n": "two", "x": 'a "b"'}),
        (3, 3, None),
        (4, None, {"n": "007", "x": "é"}),
        (5, 1, {"deep": {"k": [1, None]}, "on": "true"}),
    ]


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def test_rescue_adds_its_column_to_a_table_that_is_there(rig: AnyRig) -> None:
    rig.loaded({}, a_csv="id\n1\n")
    rig.loaded({"contract": "rescue"}, a_csv="id,x\n2,y\n")
    assert [(id_, _json(value)) for id_, value in rig.table("id, _rescued")] == [(1, None), (2, {"x": "y"})]
    assert rig.loaded(FREEZE, a_csv="id\n3\n").outcome is Outcome.LOADED, "`_rescued` is no column of files"
    assert rig.loaded({"contract": "rescue"}, a_csv="id,_rescued\n2,y\n").reason == (
        'column "_rescued": the pipeline\'s own name; rename it in the file'
    )


def test_rescue_decides_on_the_types_of_a_new_table_by_all_rows(rig: AnyRig) -> None:
    rows = "".join(f"{at}\n" for at in range(30_000))
    rig.loaded({"contract": "rescue"}, a_csv=f"id\n{rows}end\n")
    assert rig.table("count(*), count(id), count(_rescued)") == [(30_001, 30_001, 0)]


def test_rescue_keeps_values_of_a_parquet_file(rig: AnyRig, tmp_path: Path) -> None:
    rules = {"contract": "rescue"}
    rig.loaded(rules, a_csv="id\n1\n")
    columns = "2 AS id, 1.50 AS d, 'nan'::DOUBLE AS f, [1, 2] AS n, 'é' AS s, 1152921504606846976 AS i"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT {columns}) TO '{tmp_path}/x.parquet'")
    rig.loaded(rules, a_parquet=(tmp_path / "x.parquet").read_bytes())
    assert _json(rig.table("id, _rescued")[1][1]) == {"d": "1.50", "f": "nan", "n": [1, 2], "s": "é", "i": 2**60}


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20), min_size=50))
def test_what_is_rescued_comes_back_equal(tmp_path_factory: pytest.TempPathFactory, values: list[str]) -> None:
    rig = Rig(tmp_path_factory.mktemp("rescued"))
    rules = {"contract": "rescue", "format": {"delimiter": ","}}
    rig.load(rules, {"a.csv": "id,n\n-1,5\n"})
    quoted = ['"' + value.replace('"', '""') + '"' for value in values]
    lines = "".join(f"{at},{value},{value}\n" for at, value in enumerate(quoted))
    [result] = rig.load(rules, {"a.csv": f"id,n,x\n{lines}"})
    assert (result.outcome, result.reason) == (Outcome.LOADED, None)
    kept = rig.rows("SELECT n, _rescued FROM public.t WHERE id >= 0 ORDER BY id")
    for value, (n, rescued) in zip(values, kept, strict=True):
        found = json.loads(rescued)
        assert found["x"] == value
        assert found["n"] == value if n is None else int(value) == n


@pytest.mark.parametrize("contract", ["freeze", "discard", "rescue", "evolve"])
def test_small_files_together_end_as_they_do_one_by_one(tmp_path: Path, contract: str) -> None:
    contents = ["a,b\n1,2\n", "a,b\nx,2\n", "a\n3\n", "a,b,c\n4,5,6\n", "b,a\n1.5,7\n", "z\n1\n", "a,b,c\n"]
    files = {f"{at:02}.csv": content for at, content in enumerate(contents * 3)}
    seen = list[Any]()
    for how in ("together", "one by one"):
        (tmp_path / how).mkdir()
        rig = Rig(tmp_path / how)
        rules = {"contract": contract}
        rig.load(rules, {"0.csv": "a,b\n0,0\n"})
        batches = [files] if how == "together" else [{name: content} for name, content in files.items()]
        results = [result for batch in batches for result in rig.load(rules, batch)]
        rows = rig.rows("SELECT * EXCLUDE (_arrival_id, _loaded_at) FROM public.t ORDER BY ALL")
        seen.append(({result.file: (result.outcome, result.reason, result.left_out) for result in results}, rows))
    assert seen[0] == seen[1]


def test_a_declared_type_holds_and_the_table_must_have_it(rig: AnyRig) -> None:
    rules = {"columns": {"a": "decimal(18,2)"}}
    rig.loaded(rules, a_csv="a\n1\n")
    assert rig.table("a") == [(Decimal("1.00"),)]
    reason = rig.loaded(rules, a_csv="a\n1.555\n").reason
    assert reason is not None
    assert reason.startswith('line 2, column "a": "1.555" is not a DECIMAL(18,2)'), "a declared column is not widened"
    reason = rig.loaded({"columns": {"a": "bigint"}}, a_csv="a\n1\n").reason
    assert reason == (
        'column "a" of warehouse.public.t is DECIMAL(18,2), and the inbox\'s rules say BIGINT; change the rule, or the'
        " column by ALTER TABLE"
    )
    assert rig.loaded({"columns": {"z": "bigint"}}, a_csv="a\n1\n").outcome is Outcome.LOADED


def test_a_rejected_file_leaves_no_table_behind(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.load({"rows": [2, 3]}, {"a.csv": "a\n1\n"})
    with pytest.raises(duckdb.CatalogException):
        rig.rows()
