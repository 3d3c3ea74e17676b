"""Rows on their way to PostgreSQL can be interrupted at any moment, as a limit on time does it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
INTERRUPTING = """
import random, sys, threading
from pathlib import Path
import duckdb
from flows.warehouse.base import TableColumn
from flows.warehouse.postgres import write_rows

connection = duckdb.connect()
chance = random.Random(1)
for turn in range(150):
    bad = 10**9 if turn % 2 else chance.randrange(1, 900_000)
    query = f"SELECT CASE WHEN range = {bad} THEN error('bad') ELSE md5(range::VARCHAR) END FROM range(20_000_000)"
    interrupt = threading.Timer(chance.uniform(0.002, 0.06), connection.interrupt)
    interrupt.start()
    try:
        write_rows(connection, [TableColumn("a", "VARCHAR")], (query, []), Path(sys.argv[1]))
    except duckdb.Error:
        pass
    interrupt.join()
"""


@pytest.mark.timeout(200)
def test_writing_rows_ends_when_it_is_interrupted_or_a_row_cannot_be_converted(tmp_path: Path):
    subprocess.run(
        [sys.executable, "-W", "error", "-c", INTERRUPTING, tmp_path / "rows"], cwd=ROOT, check=True, timeout=100
    )
