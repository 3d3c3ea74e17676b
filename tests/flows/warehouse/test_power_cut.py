"""What a load has committed and closed lasts through a power cut, the warehouse's very first load included."""

import sys
from pathlib import Path

import duckdb
import pytest

from tests.deploy_files import program
from tests.power_cut import ForgetfulDisk, can_trace, traced

ROOT = Path(__file__).resolve().parents[3]
LOAD = (
    "import sys; from pathlib import Path; from tests.pipeline import Pipeline; "
    "Pipeline(Path(sys.argv[1])).load('a.csv', 'a\\n' + ''.join(f'{n}\\n' for n in range(1000)))"
)


def test_a_warehouse_that_a_load_has_made_is_on_the_disk_with_its_rows_and_load_keys(tmp_path: Path):
    program("strace", "strace")
    if not can_trace():
        pytest.skip("strace may not trace a program here")
    (tmp_path / "real").mkdir()
    disk = ForgetfulDisk(tmp_path / "real")
    for line in traced([sys.executable, "-c", LOAD, str(tmp_path / "real")], tmp_path / "calls", ROOT):
        disk.replay(line)
    disk.lay_out(tmp_path / "left")
    with duckdb.connect(tmp_path / "left" / "warehouse.duckdb", read_only=True) as warehouse:
        assert warehouse.sql("SELECT count(*), sum(a) FROM public.metrics").fetchall() == [(1000, 499_500)]
        assert warehouse.sql("SELECT rows FROM public._loads").fetchall() == [(1000,)]
