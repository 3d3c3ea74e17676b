"""The warehouse lets one in at a time, and survives whoever is killed in it."""

import grp
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from prefect.states import Failed

from flows.errors import StillInUseError, TemporaryError, may_help_to_retry
from flows.warehouse.base import WaitBudget
from flows.warehouse.duckdb import open_duckdb
from tests.other_user import needs_root
from tests.pipeline import Pipeline

ROOT = Path(__file__).resolve().parents[3]
HOLD = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
LOAD = """
import sys
from pathlib import Path
from tests.other_user import needs_root
from tests.pipeline import Pipeline
print('ready', flush=True)
sys.stdin.readline()
for arrival in sys.argv[2:]:
    print(*[result.outcome for result in Pipeline(Path(sys.argv[1])).load_arrival(arrival)], flush=True)
"""


def python(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start a process and return it when it has said its first word."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def wait_until(look: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.005)


def test_the_catalog_is_a_file_and_is_made_on_first_use(tmp_path: Path):
    path = tmp_path / "state" / "sales.duckdb"
    with open_duckdb(path, 0, pytest.fail) as warehouse:
        assert warehouse.reader.execute("SELECT current_database(), current_setting('TimeZone')").fetchall() == [
            ("sales", "UTC")
        ]
    assert path.is_file()


def test_what_does_not_fit_into_the_memory_limit_goes_into_a_folder_next_to_the_file_while_it_is_open(tmp_path: Path):
    path = tmp_path / "state" / "warehouse.duckdb"
    with open_duckdb(path, 0, pytest.fail, "64MB") as warehouse:
        reader = warehouse.reader
        limit = reader.execute("SELECT current_setting('memory_limit')").fetchall()
        reader.execute("CREATE TEMP TABLE t AS SELECT md5(i::VARCHAR) AS a, md5(a) AS b FROM range(2000000) r(i)")
        assert any((tmp_path / "state" / "warehouse.duckdb.tmp").iterdir())
    assert limit == [("61.0 MiB",)]
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_who_finds_it_in_use_waits_says_so_once_and_gets_in(tmp_path: Path):
    path = tmp_path / "w.duckdb"
    said: list[str] = []
    with python(HOLD, path) as other:
        let_go = threading.Timer(0.8, other.communicate)
        let_go.start()
        with open_duckdb(path, 20, said.append) as warehouse:
            assert warehouse.reader.execute("SELECT 1").fetchall() == [(1,)]
        let_go.join()
    assert said == [f"the warehouse w.duckdb is in use by another process (PID {other.pid}); waiting for up to 20 s"]


def test_a_caller_that_has_waited_long_enough_learns_which_process_holds_it(tmp_path: Path):
    with python(HOLD, tmp_path / "w.duckdb") as other:
        with (
            pytest.raises(TemporaryError, match=rf"still in use by another process \(PID {other.pid}\) after 0.3 s"),
            open_duckdb(tmp_path / "w.duckdb", 0.3, lambda _: None),
        ):
            pytest.fail("it is not ours")
        other.communicate()


def test_threads_of_one_process_wait_for_one_another_too(tmp_path: Path):
    path = tmp_path / "w.duckdb"
    inside: list[int] = []
    most: list[int] = []
    said: list[str] = []

    def use() -> None:
        with open_duckdb(path, 20, said.append) as warehouse:
            inside.append(1)
            most.append(len(inside))
            warehouse.reader.execute("SELECT sum(x) FROM range(1000000) t(x)").fetchall()
            inside.pop()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
    assert all("another run of this process" in line for line in said)


def test_a_thread_that_has_waited_long_enough_gets_an_error(tmp_path: Path):
    with (
        open_duckdb(tmp_path / "w.duckdb", 0, pytest.fail),
        pytest.raises(TemporaryError, match="still in use by another run of this process"),
        open_duckdb(tmp_path / "w.duckdb", 0.05, lambda _: None),
    ):
        pytest.fail("it is not ours")


def test_what_is_not_a_warehouse_is_not_waited_for(tmp_path: Path):
    (tmp_path / "w.duckdb").write_text("this is something else entirely " * 1000)
    with (
        pytest.raises(TemporaryError, match="cannot be opened"),
        open_duckdb(tmp_path / "w.duckdb", 20, pytest.fail),
    ):
        pytest.fail("it is no warehouse")


def test_two_processes_load_into_one_warehouse_at_the_same_time(tmp_path: Path):
    pipeline = Pipeline(tmp_path)
    arrivals = [f"a{number}" for number in range(8)]
    for number, arrival in enumerate(arrivals):
        pipeline.write("f.csv", f"n,c{number}\n" + f"{number},x\n" * 1000, arrival)
    with python(LOAD, tmp_path, *arrivals[:5]) as one, python(LOAD, tmp_path, *arrivals[3:]) as two:
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outcomes = f"{one.communicate()[0]} {two.communicate()[0]}".split()
    assert (one.returncode, two.returncode) == (0, 0)
    assert sorted(outcomes) == ["loaded"] * 8 + ["skipped"] * 2
    assert pipeline.execute("SELECT count(*), count(DISTINCT n) FROM public.metrics") == [(8000, 8)]


def test_a_process_killed_while_it_loads_leaves_nothing_and_the_next_loads_all_once(tmp_path: Path):
    pipeline = Pipeline(tmp_path)
    rows = 400_000
    pipeline.write("0.csv", "n\n1\n", "x")
    pipeline.write("1.csv", "n,s\n" + "".join(f"{number},text {number}\n" for number in range(rows)), "x")
    with python(LOAD, tmp_path, "x") as victim:
        assert victim.stdin is not None
        victim.stdin.write("go\n")
        victim.stdin.flush()
        # The first file's commit is in the log, the second file is being loaded.
        log = tmp_path / "warehouse.duckdb.wal"
        wait_until(lambda: log.exists() and log.stat().st_size > 0, "the first file is committed")
        os.kill(victim.pid, signal.SIGKILL)
    assert victim.returncode == -signal.SIGKILL
    results = pipeline.load_arrival("x")
    assert {result.file: result.rows for result in results} == {"0.csv": 1, "1.csv": rows}
    assert pipeline.execute("SELECT count(*), count(DISTINCT n) FROM public.metrics") == [(rows + 1, rows)]
    with duckdb.connect(pipeline.warehouse) as connection:
        assert connection.execute("SELECT count(*) FROM public._loads").fetchall() == [(2,)]


def test_a_disk_that_was_full_when_the_warehouse_was_made_leaves_nothing_broken_behind(tmp_path: Path, monkeypatch):
    def on_a_full_disk(path: Path) -> duckdb.DuckDBPyConnection:
        Path(path).touch()
        raise duckdb.IOException("IO Error: Could not write file: No space left on device")

    path = tmp_path / "warehouse.duckdb"
    with monkeypatch.context() as patched:
        patched.setattr(duckdb, "connect", on_a_full_disk)
        with pytest.raises(TemporaryError, match="No space left"), open_duckdb(path, 0, pytest.fail):
            pass
    assert list(tmp_path.iterdir()) == []
    with open_duckdb(path, 0, pytest.fail) as warehouse:
        warehouse.reader.execute("CREATE TABLE t (i INTEGER)")


@needs_root
def test_a_group_may_read_the_file_and_no_one_else(tmp_path: Path):
    path, group = tmp_path / "w.duckdb", grp.getgrnam("games").gr_gid
    before = os.umask(0o077)
    try:
        with open_duckdb(path, 0, pytest.fail, readers=group):
            pass
    finally:
        os.umask(before)
    assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (group, 0o640)


def test_a_load_waits_once_for_a_warehouse_that_is_held_however_often_it_is_opened(tmp_path: Path):
    budget = WaitBudget(1.0)
    path = tmp_path / "w.duckdb"
    began = time.monotonic()
    with open_duckdb(path, 0, pytest.fail):
        for _ in range(4):
            with (
                pytest.raises(StillInUseError, match="still in use by another run of this process after 1 s"),
                open_duckdb(path, budget, lambda _: None),
            ):
                pass
    assert 1 <= time.monotonic() - began < 3
    assert budget.left == 0


def test_what_has_waited_is_not_tried_again():
    assert not may_help_to_retry(None, None, Failed(data=StillInUseError("held")))
    assert may_help_to_retry(None, None, Failed(data=TemporaryError("gone")))
