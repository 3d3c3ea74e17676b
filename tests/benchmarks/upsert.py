"""An upsert of a CSV file into a table of ten times its rows, next to DuckDB's own MERGE and INSERT OR REPLACE.

`python -m tests.benchmarks.upsert [ROWS] [TURNS]` prints the seconds of each by turns and ours divided by DuckDB's; the
table has ROWS rows (10,000,000), half of the file's keys are in it. All are measured from opening the warehouse to
having closed it, with the same memory limit; ours includes finding the types of the file's columns. INSERT OR REPLACE
needs a primary key, and is given one.
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from flows.loading.file_result import Outcome
from flows.warehouse.duckdb import DEFAULT_LIMIT
from tests.benchmarks.part import console, median
from tests.flows.rules_loading import Rig

RULES = {"write": {"mode": "upsert", "key": "id"}}
_ROW = "range AS id, 'name ' || range AS name, (range * 7919 % 1000000) / 100 AS amount, DATE '2026-01-01' AS day"
_OWN = "'a' AS _arrival_id, 'a.csv' AS _file_name, now() AS _loaded_at"
_SCAN = f"SELECT *, {_OWN} FROM read_csv('{{file}}')"
_BARE = {
    "MERGE": f"MERGE INTO public.t USING ({_SCAN}) AS new ON t.id = new.id"
    " WHEN MATCHED THEN UPDATE WHEN NOT MATCHED THEN INSERT",
    "INSERT OR REPLACE": f"INSERT OR REPLACE INTO public.t {_SCAN}",
}


def make_table(path: Path, rows: int, *, has_key: bool) -> None:
    """Make the warehouse's table."""
    with duckdb.connect(path) as connection:
        connection.execute(f"SET memory_limit = '{DEFAULT_LIMIT}'; CREATE SCHEMA public")
        connection.execute(f"CREATE TABLE public.t AS SELECT {_ROW}, {_OWN} FROM range({rows})")
        if has_key:
            connection.execute("ALTER TABLE public.t ADD PRIMARY KEY (id)")


def measure(how: str, rows: int, file: Path) -> float:
    """Return the seconds that one upsert takes; checks the number of rows after it."""
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        warehouse = folder / "warehouse.duckdb"
        make_table(warehouse, rows, has_key=how == "INSERT OR REPLACE")
        began = time.monotonic()
        if how == "ours":
            rig = Rig(folder)
            source = folder / "source-1"
            source.mkdir()
            (source / "a.csv").hardlink_to(file)
            [result] = rig.load(RULES, {})
            assert result.outcome is Outcome.LOADED, result
        else:
            with duckdb.connect(warehouse) as connection:
                connection.execute(f"SET memory_limit = '{DEFAULT_LIMIT}'")
                connection.execute(_BARE[how].format(file=file))
        seconds = time.monotonic() - began
        with duckdb.connect(warehouse, read_only=True) as connection:
            (found,) = connection.execute("SELECT count(*) FROM public.t").fetchall()[0]
        assert found == rows + rows // 20, found
    return seconds


def main() -> None:
    """Measure by turns and print the figures."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    turns = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    found: dict[str, list[float]] = {how: [] for how in ("ours", *_BARE)}
    with TemporaryDirectory(prefix="bench-") as name:
        file = Path(name) / "a.csv"
        new = f"range * 10 + (range % 2) * {rows} AS range FROM range({rows // 10})"
        duckdb.sql(f"COPY (SELECT {_ROW} FROM (SELECT {new})) TO '{file}' (HEADER)")
        for _ in range(turns):
            for how, seconds in found.items():
                seconds.append(measure(how, rows, file))
                console.print(f"{how}: {seconds[-1]:.2f} s")
    for how, seconds in found.items():
        ratio = median([ours / other for ours, other in zip(found["ours"], seconds, strict=True)])
        console.print(f"{rows // 10:,} rows into {rows:,}, {how}: {median(seconds):.2f} s, ours / it {ratio:.2f}")


if __name__ == "__main__":
    main()
