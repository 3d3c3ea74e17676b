"""Twenty good files and one bad one in an arrival: twenty are loaded, and one is rejected in our words."""

import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from flows.errors import TemporaryError, infrastructure_errors_translated, is_infrastructure_error
from flows.loading.file_result import Outcome
from flows.source_file import FileFormat, SourceFile
from tests import parquet_maker as pq
from tests.flows.readers.test_damaged_files import check_reason
from tests.parquet_maker import Column, Damage, Group, parquet_file
from tests.pipeline import Pipeline

GOOD = 20
ROOT = Path(__file__).resolve().parents[3]
TEXTS = Column("b", pq.BYTE_ARRAY, [b"x", b"y"], converted=pq.UTF8)
WIDE = [Column(f"c{at}", pq.INT32, [at]) for at in range(5000)]

BAD = {
    # L: what a Parquet file says, and DuckDB changes.
    "bytes.parquet": parquet_file(Column("b", pq.BYTE_ARRAY, [b"\xff"])),
    "decimal.parquet": parquet_file(
        Column("a", pq.FIXED, [bytes(21)], converted=pq.DECIMAL, length=21, precision=50, scale=2)
    ),
    "int96.parquet": parquet_file(Column("t", pq.INT96, [pq.int96(107_000_000, 0)])),
    "nanoseconds.parquet": parquet_file(Column("t", pq.INT96, [pq.int96(1, 1)])),
    "case.parquet": parquet_file(Column("a", pq.INT64, [1]), Column("A", pq.INT64, [2])),
    "small.parquet": parquet_file(Column("a", pq.INT32, [300], converted=pq.INT_8)),
    "moment.parquet": parquet_file(Column("t", pq.INT64, [-(2**63)], converted=pq.TIMESTAMP_MICROS)),
    "group.parquet": parquet_file(Group("g", []), Column("a", pq.INT64, [1])),
    "nan.parquet": parquet_file(Group("g", [Column("f", pq.DOUBLE, [float("nan")])])),
    "interval.parquet": parquet_file(
        Column("i", pq.FIXED, [struct.pack("<III", 2**31, 0, 0)], converted=pq.INTERVAL, length=12)
    ),
    "rows.parquet": parquet_file(Column("a", pq.INT64, [1]), damage=Damage(footer_rows=2)),
    # D: errors of DuckDB's that name no file, that end the connection, or that are none of DuckDB's.
    "width.parquet": parquet_file(TEXTS, damage=Damage(bit_width=63)),
    "wider.parquet": parquet_file(TEXTS, damage=Damage(bit_width=200)),
    "entry.parquet": parquet_file(TEXTS, damage=Damage(bit_width=2, page_values=3, chunk_values=3, group_rows=3)),
    "codec.parquet": parquet_file(TEXTS, damage=Damage(codec=1)),
    "zstd.parquet": parquet_file(TEXTS, damage=Damage(codec=6)),
    "utf8.parquet": parquet_file(Column("b", pq.BYTE_ARRAY, [b"\xff"], converted=pq.UTF8)),
    "json.parquet": parquet_file(Column("j", pq.BYTE_ARRAY, [b"{"], converted=pq.JSON)),
    "time.parquet": parquet_file(Column("t", pq.INT64, [-1], converted=pq.TIME_MICROS)),
    "field.csv": b"a,b\n1," + b"x" * 200_000 + b"\nz,y\n",
    "deep.json": b"[" * 200_000,
    "unpaired.json": b'[{"a": "\\ud800"}]',
    "cut.json.gz": gzip.compress(b'[{"a": 1}]')[:-4],
    "checksum.ndjson.gz": gzip.compress(b'{"a": 1}\n')[:-8] + bytes(8),
    "name.json": json.dumps([{"x" * 100_000: 1, "X" * 100_000: 1}]).encode(),
    # E: what takes memory by its columns.
    "wide.parquet": parquet_file(*WIDE),
    "wide.json": json.dumps([{f"k{at}": at for at in range(20_000)}]).encode(),
    "sparse.ndjson": "\n".join(json.dumps({f"k{at}": 1}) for at in range(5000)).encode(),
    "wide.csv": ",".join(f"c{at}" for at in range(9074)).encode() + b"\n" + b",".join([b"1"] * 9074) + b"\n",
    "long.ndjson": b'{"a": "' + b"x" * 20_000_000 + b'"}\n',
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_file_costs_itself(pipeline: Pipeline, name: str):
    for number in range(GOOD):
        pipeline.write(f"good{number:02}.csv", f"a,b\n{number},x\n", "mixed")
    pipeline.write(f"z {name}", BAD[name], "mixed")
    results = pipeline.load_in_bulk("mixed")
    (bad,) = [one for one in results if one.outcome is not Outcome.LOADED]
    assert (bad.file, bad.outcome) == (f"z {name}", Outcome.REJECTED)
    check_reason(bad.reason)
    assert pipeline.execute("SELECT count(*) FROM public.metrics") == [(GOOD,)]


@pytest.mark.long
def test_all_bad_files_together_cost_themselves(pipeline: Pipeline):
    for number in range(GOOD):
        pipeline.write(f"good{number:02}.csv", f"a,b\n{number},x\n", "mixed")
    for name, content in BAD.items():
        pipeline.write(f"z {name}", content, "mixed")
    outcomes = [one.outcome for one in pipeline.load_in_bulk("mixed")]
    assert (outcomes.count(Outcome.LOADED), outcomes.count(Outcome.REJECTED)) == (GOOD, len(BAD))


@pytest.mark.parametrize(
    ("error", "is_machines"),
    [
        (duckdb.IOException("IO Error: The width (63) of the bitpacked data exceeds the maximum width"), False),
        (duckdb.IOException("IO Error: Corrupted VARIANT 'value' buffer"), False),
        (duckdb.IOException('IO Error: Could not read enough bytes from file "/in/a.parquet"'), False),
        (duckdb.IOException('IO Error: Could not write file "/data/warehouse.duckdb": Input/output error'), True),
        (duckdb.IOException('IO Error: Cannot open file "/data/warehouse.duckdb.wal": Permission denied'), True),
        (duckdb.IOException('IO Error: Could not write file "/in/a.parquet": No space left on device'), True),
        (duckdb.IOException("IO Error: Could not set lock on file"), True),
        (duckdb.ConnectionException("Connection Error: the connection is closed"), True),
        (duckdb.TransactionException("TransactionContext Error: Conflict on update"), True),
        (duckdb.InternalException("INTERNAL Error: Attempted to access index 5"), False),
        (duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate"), False),
        (duckdb.OutOfMemoryException("failed to offload: max_temp_directory_size"), True),
        (OSError(5, "Input/output error"), False),
        (OSError(28, "No space left on device"), True),
        (OSError(24, "Too many open files"), True),
        (OSError(30, "Read-only file system"), True),
        (FileNotFoundError(2, "No such file or directory"), False),
        (MemoryError(), False),
        (RecursionError(), False),
        (KeyError("x"), False),
    ],
)
def test_the_disk_a_lock_and_a_connection_are_the_machines_fault_and_all_else_is_the_files(
    error: Exception, is_machines: bool
):
    file = SourceFile(Path("/in/a.parquet"), "a.parquet", 9, FileFormat.PARQUET)
    assert is_infrastructure_error(error, [file]) is is_machines


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            duckdb.IOException('IO Error: Could not write file "/d/w": No space left on device\n\nStack Trace:\n0x1'),
            'no file is at fault, and the machine or the warehouse is: Could not write file "/d/w": No space left on'
            " device",
        ),
        (OSError(28, "No space left on device"), "the machine or the warehouse is: [Errno 28] No space left on device"),
        (MemoryError(), "the machine or the warehouse is: MemoryError"),
    ],
)
def test_what_the_run_says_of_the_machine_is_one_line(error: Exception, said: str):
    with pytest.raises(TemporaryError) as caught, infrastructure_errors_translated():
        raise error
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


_MEASURED = """\
import re, sys
from pathlib import Path
from tests.pipeline import Pipeline
Pipeline(Path(sys.argv[1])).load_in_bulk("x")
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def _measured(tmp_path: Path) -> int:
    """Return how many bytes a process has at most that loads the arrival x."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1]) * 1024


@pytest.mark.long
def test_the_memory_of_a_run_stays_under_its_limit_with_all_bad_files(tmp_path: Path):
    pipeline = Pipeline(tmp_path)
    for name, content in BAD.items():
        pipeline.write(name, content, "x")
    assert _measured(tmp_path) < 1_200_000_000


@pytest.mark.long
@pytest.mark.parametrize(
    "query",
    [
        "SELECT " + ", ".join(f"range + {at} AS c{at}" for at in range(4000)) + " FROM range(2000)",
        "SELECT repeat('x', 1000) || range AS a, range AS b FROM range(300_000)",
        "SELECT list_transform(range(200), lambda x: x + range) AS a FROM range(20_000)",
    ],
)
def test_so_it_does_with_parquet_files_of_thousands_of_columns_and_of_giant_row_groups(tmp_path: Path, query: str):
    folder = tmp_path / "x"
    folder.mkdir()
    statement = f"COPY ({query}) TO '{folder}/a.parquet' (ROW_GROUP_SIZE 10_000_000)"
    made = f"import duckdb; duckdb.sql({statement!r})"
    subprocess.run([sys.executable, "-c", made], check=True)
    assert _measured(tmp_path) < 1_200_000_000
    with Pipeline(tmp_path).opened() as warehouse:
        assert warehouse.reader.execute("SELECT count(*) > 0 FROM public.metrics").fetchone() == (True,)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "size"),
    [("lines.ndjson", 200), ("array.json", 200), ("wrapped.json", 30), ("spaced.json", 60), ("packed.json.gz", 100)],
)
def test_so_it_does_with_big_json_files_however_they_are_written(tmp_path: Path, name: str, size: int):
    row = json.dumps({"id": 1, "name": "x" * 100, "v": 0.30000000000000004, "l": [1, 2, {"y": None}]})
    if name.startswith("spaced"):
        row = row.replace(":", " :")
    rows = size * 1_000_000 // len(row)
    separator = "\n" if name.endswith("ndjson") else ",\n"
    start, end = {"ndjson": ("", "\n"), "wrapped": ('{"next": null, "data": [', "]}")}.get(
        name.partition(".")[2 if name.endswith("ndjson") else 0], ("[", "]")
    )
    path = Pipeline(tmp_path).write(name, b"", "x")
    with gzip.open(path, "wt") if name.endswith(".gz") else path.open("w") as written:
        written.write(start + row)
        for _ in range(rows - 1):
            written.write(separator + row)
        written.write(end)
    assert _measured(tmp_path) < 1_200_000_000
    assert Pipeline(tmp_path).execute("SELECT count(*) FROM public.metrics") == [(rows,)]
