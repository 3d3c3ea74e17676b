"""A file that goes over a limit, or that cannot be read at all, costs itself and no other file of its arrival."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pytest

from flows.errors import TemporaryError
from flows.loading.file_result import FileResult, Outcome
from flows.readers import registry
from flows.readers.guard import FileLimits
from tests.pipeline import Pipeline

GOOD = 20
UNKNOWN = "cannot be read as Parquet: the file is damaged, or written in a way that is not supported"
ROOT = Path(__file__).resolve().parents[2]


def arrival_with(pipeline: Pipeline, name: str, content: bytes | str, limits: FileLimits | None = None) -> FileResult:
    """Load twenty good files and this one in one arrival; return what became of this one."""
    for number in range(GOOD):
        pipeline.write(f"good{number:02}.csv", f"a,b\n{number},x\n", "mixed")
    pipeline.write(name, content, "mixed")
    return only_bad(pipeline, pipeline.load_in_bulk("mixed", limits=limits))


def only_bad(pipeline: Pipeline, results: Sequence[FileResult]) -> FileResult:
    (bad,) = [one for one in results if one.outcome is not Outcome.LOADED]
    assert bad.outcome is Outcome.REJECTED
    assert len(results) == GOOD + 1
    assert pipeline.execute("SELECT count(*) FROM public.metrics") == [(GOOD,)]
    assert "\n" not in (bad.reason or "")
    return bad


def keys(count: int) -> str:
    return json.dumps([{f"k{number}": number for number in range(count)}])


def parquet(query: str) -> Callable[[Path], bytes]:
    def made(folder: Path) -> bytes:
        path = folder / "made.parquet"
        duckdb.sql(f"COPY ({query}) TO '{path}'")
        return path.read_bytes()

    return made


def names(count: int) -> str:
    return ",".join(f"c{number}" for number in range(count))


@pytest.mark.parametrize(
    ("name", "content", "limits", "reason"),
    [
        ("bad.json", keys(20_000), FileLimits(), "20,000 columns, the limit is 4,096; raise MAX_COLUMNS"),
        (
            "bad.ndjson",
            "\n".join(json.dumps({f"k{number}": 1}) for number in range(5000)),
            FileLimits(),
            "5,000 columns, the limit is 4,096; raise MAX_COLUMNS",
        ),
        ("bad.csv", names(100_000) + "\n", FileLimits(), "100,000 columns, the limit is 4,096; raise MAX_COLUMNS"),
        ("bad.csv.gz", gzip.compress((names(5000) + "\n1\n").encode()), FileLimits(), "5,000 columns"),
        (
            "bad.parquet",
            parquet("SELECT " + ", ".join(f"1 AS c{number}" for number in range(600))),
            FileLimits(max_columns=500),
            "600 columns, the limit is 500; raise MAX_COLUMNS",
        ),
        (
            "late.csv",
            names(9) + "\n" + ",".join("1" * 9) + "\n",
            FileLimits(max_columns=10),
            "it adds 9 columns to a table of 2, the limit is 10; raise MAX_COLUMNS",
        ),
        (
            "bad.parquet",
            parquet("SELECT 1 AS a, 'x' AS b FROM range(200_000)"),
            FileLimits(max_rows=100_000),
            "200,000 rows, the limit is 100,000; raise MAX_ROWS",
        ),
        ("bad.csv", "a,b\n" + "1,x\n" * 30, FileLimits(max_rows=20), "30 rows, the limit is 20; raise MAX_ROWS"),
        ("bad.ndjson", '{"a": 1}\n' * 30, FileLimits(max_rows=20), "30 rows, the limit is 20; raise MAX_ROWS"),
        (
            "bad.csv.gz",
            gzip.compress(b"a,b\n" + b"1,x\n" * 5_000_000),
            FileLimits(max_unpacked_bytes=10_000_000),
            "it unpacks to more than 10,000,000 bytes, the limit is 10,000,000; raise MAX_UNPACKED_BYTES",
        ),
        (
            "bad.parquet",
            parquet("SELECT range AS a, md5(range::VARCHAR) AS b FROM range(30_000)"),
            FileLimits(max_unpacked_bytes=500_000),
            "raise MAX_UNPACKED_BYTES",
        ),
        (
            "bad.csv",
            "a,b\n" + "1,x\n" * 15_000_000,
            FileLimits(max_file_seconds=1.5),
            "it takes too long to load, the limit is 1.5 s; raise MAX_FILE_SECONDS",
        ),
        (
            "bad.json",
            keys(3000),
            FileLimits(run_memory_bytes=1),
            "it takes too much memory to load, the limit is 0 MB for the run; raise RUN_MEMORY_LIMIT",
        ),
        ("bad.json", '[{"a": "' + "x" * 40_000_000 + '"}]', FileLimits(), "a record of more than 16,777,216 bytes"),
        ("bad.json", "[" * 300_000 + "]" * 300_000, FileLimits(), "expected an object, one for each row"),
    ],
)
def test_what_is_over_a_limit_costs_that_file_only_and_says_which_limit(
    pipeline: Pipeline,
    tmp_path: Path,
    name: str,
    content: str | bytes | Callable[[Path], bytes],
    limits: FileLimits,
    reason: str,
):
    made = content(tmp_path) if callable(content) else content
    assert reason in (arrival_with(pipeline, name, made, limits).reason or "")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "it takes too much memory to load, raise WAREHOUSE_MEMORY_LIMIT, or split the file"),
        (
            duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate (953.5 MiB/953.6 MiB used)\n\nhints"),
            "it takes too much memory to load, the limit is 953.6 MiB; raise WAREHOUSE_MEMORY_LIMIT, or split the file",
        ),
        (RecursionError("maximum recursion depth exceeded"), "its values are nested too deeply"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "not UTF-8 text; save the file as UTF-8"),
        (ZeroDivisionError("division\nby zero"), UNKNOWN),
        (
            duckdb.InternalException("INTERNAL Error: Attempted to access index 5\n\nStack Trace:\n0x1\n0x2"),
            "cannot be read as Parquet: the reader fails on it; the file is probably damaged",
        ),
        (duckdb.Error("something without a kind"), UNKNOWN),
    ],
)
def test_whatever_is_raised_while_a_file_is_read_costs_that_file_only(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
):
    def fails(connection: duckdb.DuckDBPyConnection, *arguments: object, **named: object) -> object:
        if isinstance(error, duckdb.InternalException):
            connection.close()  # as unusable as one that DuckDB has invalidated
        raise error

    monkeypatch.setattr(registry, "parquet_reading", fails)
    monkeypatch.setattr("flows.loading.header_scan.parquet_header_scan", fails)
    assert arrival_with(pipeline, "bad.parquet", b"PAR1").reason == reason


def test_an_error_that_invalidates_the_connection_in_the_middle_of_a_load_costs_that_file_only(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
):
    warehouse_class, real = pipeline.warehouse_class, pipeline.warehouse_class.insert

    def fails(
        warehouse: object,
        table: object,
        columns: Sequence[str],
        query: str,
        parameters: Sequence[object],
        *more: object,
    ):
        if "bad.csv" in parameters:
            warehouse.reader.close()  # type: ignore[attr-defined]
            raise duckdb.InternalException("INTERNAL Error: Attempted to access index 5\n\nStack Trace:\n0x1")
        return real(warehouse, table, columns, query, parameters, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(warehouse_class, "insert", fails)
    monkeypatch.setattr("flows.loading.loader.Loader._can_be_read", lambda *_: False)
    bad = arrival_with(pipeline, "bad.csv", "a,c\n1,2\n")
    assert bad.reason == "cannot be read as CSV: the reader fails on it; the file is probably damaged"


def test_an_internal_error_that_is_not_of_the_file_is_the_warehouses_and_rejects_nothing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
):
    def fails(warehouse: object, *_: object):
        warehouse.reader.close()  # type: ignore[attr-defined]
        raise duckdb.FatalException("FATAL Error: the file is damaged")

    monkeypatch.setattr(pipeline.warehouse_class, "insert", fails)
    pipeline.write("a.csv", "a,c\n1,2\n", "x")
    with pytest.raises(TemporaryError, match=r"the warehouse fails: .*the file is damaged"):
        pipeline.load_in_bulk("x")


def test_a_full_disk_is_no_fault_of_the_file(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object):
        raise duckdb.IOException("IO Error: Could not write file: No space left on device")

    monkeypatch.setattr(pipeline.warehouse_class, "insert", fails)
    pipeline.write("a.csv", "a,c\n1,2\n", "x")
    with pytest.raises(duckdb.IOException, match="No space left"):
        pipeline.load_in_bulk("x")


def test_json_of_many_keys_is_loaded(pipeline: Pipeline):
    result = pipeline.load("a.json", keys(300))
    assert (result.outcome, result.rows, result.reason) == (Outcome.LOADED, 1, None)
    assert set(pipeline.types().values()) == {"BIGINT"}


def test_a_value_of_a_wide_file_that_does_not_fit_is_named(pipeline: Pipeline):
    wide = names(700) + "\n" + ",".join("1" * 700) + "\n"
    assert pipeline.load("a.csv", wide).outcome is Outcome.LOADED
    bad = pipeline.load("b.csv", names(700) + "\n" + ",".join("1" * 699) + ",x\n" + "y" + ",1" * 699 + "\n")
    assert bad.reason == 'line 2, column "c699": "x" is not a BIGINT'
    assert pipeline.execute("SELECT count(*) FROM public.metrics") == [(1,)]


_MEASURED = """\
import re, sys
from pathlib import Path
from tests.pipeline import Pipeline
pipeline = Pipeline(Path(sys.argv[1]))
outcomes = {one.outcome.value for one in pipeline.load_in_bulk("x")}
# ru_maxrss begins with that of the parent process, the tests; the kernel's high-water mark does not.
print(*outcomes, re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.parametrize(
    ("name", "content", "outcome"),
    [
        ("wide.ndjson", "\n".join(keys(1264)[1:-1] for _ in range(20)), "loaded"),
        ("wide.json", keys(2000), "loaded"),
        ("wider.json", keys(20_000), "rejected"),
        ("sparse.ndjson", "\n".join(json.dumps({f"k{number}": 1}) for number in range(20_000)), "rejected"),
        ("wide.csv", names(2000) + "\n" + (",".join("1" * 2000) + "\n") * 100, "loaded"),
        ("wider.csv", names(4096) + "\n" + (",".join(["12.5"] * 4096) + "\n") * 1000, "loaded"),
        ("deep.json", '[{"a":' + '{"a":' * 200_000 + "1" + "}" * 200_000 + "}]", "loaded"),
        ("long.json", '[{"a": "' + "x" * 100_000_000 + '"}]', "rejected"),
        ("array.json", json.dumps([{"a": list(range(1_000_000))}]), "loaded"),
        ("exponent.json", '[{"a": 1e999999}]', "loaded"),
    ],
)
def test_the_memory_of_a_run_stays_under_its_limit(tmp_path: Path, name: str, content: str, outcome: str):
    Pipeline(tmp_path).write(name, content, "x")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    became, kilobytes = done.stdout.split()[-2:]  # DuckDB may show its progress before
    assert became == outcome
    assert int(kilobytes) * 1024 < 1_200_000_000
