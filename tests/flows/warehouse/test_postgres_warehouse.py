"""Several runs load into one PostgreSQL, and whoever is killed, each file is there once and none of them half."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from flows.errors import PermanentError, RowRejectedError, TemporaryError
from flows.loading.file_result import FileResult, Outcome
from flows.warehouse.address import PostgresDatabase
from flows.warehouse.duckdb import DEFAULT_LIMIT
from flows.warehouse.postgres import PostgresWarehouse, open_postgres
from tests.pipeline import TABLE
from tests.postgres import PostgresServer, postgres_server
from tests.postgres_pipeline import PostgresPipeline

ROOT = Path(__file__).resolve().parents[3]
LOAD = """
import sys
from pathlib import Path
from flows.warehouse.postgres import PostgresWarehouse
from tests.postgres_pipeline import PostgresPipeline

folder, url, how, point = sys.argv[1:5]

def held(method):
    def holding(self, *arguments):
        print(f"before {point}", flush=True)
        sys.stdin.readline()
        done = method(self, *arguments)
        print(f"after {point}", flush=True)
        sys.stdin.readline()
        return done
    return holding

if point:
    setattr(PostgresWarehouse, point, held(getattr(PostgresWarehouse, point)))
pipeline = PostgresPipeline(Path(folder), url=url)
for arrival in sys.argv[5:]:
    print("ready", flush=True)
    sys.stdin.readline()
    print(*[result.outcome for result in getattr(pipeline, how)(arrival)], flush=True)
"""


@pytest.fixture(scope="module")
def server() -> Generator[PostgresServer, None, None]:
    with postgres_server() as opened:
        yield opened


@pytest.fixture
def pipeline(server: PostgresServer, tmp_path: Path) -> PostgresPipeline:
    return PostgresPipeline(tmp_path, url=server.create(f"w{time.monotonic_ns()}"))


def loading(pipeline: PostgresPipeline, how: str, *arrivals: str, point: str = "") -> subprocess.Popen[str]:
    """Start a process that loads arrivals, each when it is told to."""
    return subprocess.Popen(
        [sys.executable, "-c", LOAD, str(pipeline.folder), pipeline.url, how, point, *arrivals],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@contextmanager
def opened(
    url: str, wait_seconds: float = 10, on_wait: Callable[[str], None] = pytest.fail
) -> Generator[PostgresWarehouse, None, None]:
    database = PostgresDatabase(url, url.rpartition("/")[2])
    with (
        TemporaryDirectory() as spool,
        open_postgres(database, wait_seconds, on_wait, DEFAULT_LIMIT, Path(spool)) as warehouse,
    ):
        yield warehouse


def counts(pipeline: PostgresPipeline) -> list[tuple[int, ...]]:
    """Return how many rows there are, of how many files, and how many rows the load keys tell of."""
    return pipeline.sql(
        "SELECT (SELECT count(*) FROM public.metrics), (SELECT count(DISTINCT _file_name) FROM public.metrics),"
        " (SELECT coalesce(sum(rows), 0)::bigint FROM public._loads)"
    )


# -- killed


STEPS = ["create_loads", "columns", "add_columns", "insert", "record_loads"]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("point", STEPS)
@pytest.mark.parametrize("how", ["load_arrival", "load_in_bulk"])
def test_a_run_killed_at_any_step_leaves_whole_files_and_the_next_loads_the_rest_once(
    pipeline: PostgresPipeline, how: str, point: str, moment: str
):
    for number in range(10):
        pipeline.write(f"{number}.csv", "n\n1\n2\n" if number < 9 else "n,late\n1,x\n2,y\n", "x")
    with loading(pipeline, how, "x", point=point) as victim:
        assert said(victim) == "ready"
        go_on(victim)
        while said(victim) != f"{moment} {point}":
            go_on(victim)
        os.kill(victim.pid, signal.SIGKILL)
    outcomes = [result.outcome for result in getattr(pipeline, how)("x")]
    assert set(outcomes) <= {Outcome.LOADED, Outcome.SKIPPED}
    assert counts(pipeline) == [(20, 10, 20)]


def test_a_run_killed_while_it_copies_leaves_nothing_and_the_next_loads_all_once(pipeline: PostgresPipeline):
    rows = 300_000
    pipeline.write("1.csv", "n,s\n" + "".join(f"{number},text {number}\n" for number in range(rows)), "x")
    with loading(pipeline, "load_arrival", "x") as victim:
        assert said(victim) == "ready"
        go_on(victim)
        copying = "SELECT count(*) FROM pg_stat_progress_copy WHERE tuples_processed > 1000"
        deadline = time.monotonic() + 60
        while not pipeline.sql(copying)[0][0]:
            assert time.monotonic() < deadline
        os.kill(victim.pid, signal.SIGKILL)
    (result,) = pipeline.load_arrival("x")
    assert (result.outcome, result.rows) == (Outcome.LOADED, rows)
    assert counts(pipeline) == [(rows, 1, rows)]


def test_a_server_that_is_killed_while_rows_are_copied_is_waited_for_and_then_has_them_once(
    server: PostgresServer, pipeline: PostgresPipeline, monkeypatch: pytest.MonkeyPatch
):
    pipeline.write("0.csv", "n\n1\n", "x")
    pipeline.write("1.csv", "n\n2\n", "x")
    insert = PostgresWarehouse.insert

    def killing(self: PostgresWarehouse, *arguments: object) -> int:
        rows = insert(self, *arguments)  # pyright: ignore[reportArgumentType]
        if server.is_running and pipeline.sql("SELECT count(*) FROM public._loads") == [(1,)]:
            server.kill()
        return rows

    monkeypatch.setattr(PostgresWarehouse, "insert", killing)
    begun_again = threading.Timer(1, server.start)
    try:
        with pytest.raises(TemporaryError, match=r"the connection to .* is lost"):
            pipeline.load_arrival("x")
        monkeypatch.undo()
        assert not server.is_running
    finally:
        begun_again.start()
        try:
            outcomes = [result.outcome for result in pipeline.load_arrival("x")]  # waits until it is back
        finally:
            begun_again.join()
    assert outcomes == [Outcome.SKIPPED, Outcome.LOADED]
    assert counts(pipeline) == [(2, 2, 2)]


def test_a_commit_whose_answer_got_lost_is_found_done(pipeline: PostgresPipeline, monkeypatch: pytest.MonkeyPatch):
    pipeline.write("a.csv", "n\n1\n", "x")
    transaction = psycopg.Connection.transaction

    def answerless(self: psycopg.Connection, *arguments: object, **options: object):
        class Lost:
            def __enter__(self) -> None:
                self.inner = transaction(connection)
                self.inner.__enter__()

            def __exit__(self, *error: object) -> None:
                self.inner.__exit__(*error)
                if connection.execute("SELECT to_regclass('public.metrics') IS NOT NULL").fetchone() == (True,):
                    raise psycopg.OperationalError("server closed the connection unexpectedly")

        connection = self
        return Lost()

    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Connection, "transaction", answerless)
        with pytest.raises(TemporaryError, match="is lost"):
            pipeline.load_arrival("x")
    assert [result.outcome for result in pipeline.load_arrival("x")] == [Outcome.SKIPPED]
    assert counts(pipeline) == [(1, 1, 1)]


def test_who_has_lost_the_connection_waits_for_what_the_server_makes_of_the_commit(pipeline: PostgresPipeline):
    pipeline.write("a.csv", "n\n1\n", "x")
    with loading(pipeline, "load_arrival", "x", point="record_loads") as slow:
        assert said(slow) == "ready"
        go_on(slow)
        assert said(slow) == "before record_loads"
        go_on(slow)
        assert said(slow) == "after record_loads"  # everything but the commit
        results: list[FileResult] = []
        again = threading.Thread(target=lambda: results.extend(pipeline.load_arrival("x")))
        again.start()
        wait_for_lock(pipeline)
        go_on(slow)
        again.join()
        assert said(slow) == "loaded"
    assert [result.outcome for result in results] == [Outcome.SKIPPED]
    assert counts(pipeline) == [(1, 1, 1)]


def wait_for_lock(pipeline: PostgresPipeline) -> None:
    deadline = time.monotonic() + 30
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    while not pipeline.sql(waiting)[0][0]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- several at once


@pytest.mark.parametrize("how", ["load_arrival", "load_in_bulk"])
def test_two_runs_of_one_arrival_load_each_file_once(pipeline: PostgresPipeline, how: str):
    for number in range(60):
        pipeline.write(f"{number:02}.csv", f"n\n{number}\n", "x")
    outcomes = " ".join(_at_once(pipeline, how, ["x"], ["x"])).split()
    assert sorted(outcomes) == ["loaded"] * 60 + ["skipped"] * 60
    assert counts(pipeline) == [(60, 60, 60)]


def test_two_runs_that_bring_columns_at_once_add_each_of_them_once(pipeline: PostgresPipeline):
    arrivals = [[f"{run}{number}" for number in range(12)] for run in "ab"]
    for run in arrivals:
        for number, arrival in enumerate(run):
            pipeline.write(f"{arrival}.csv", f"n,C{number}\n{number},x\n", arrival)
    outcomes = " ".join(_at_once(pipeline, "load_arrival", *arrivals)).split()
    assert outcomes == ["loaded"] * 24
    assert sorted(pipeline.types()) == sorted(["n", *(f"c{number}" for number in range(12))])
    assert counts(pipeline) == [(24, 24, 24)]


def _at_once(pipeline: PostgresPipeline, how: str, *runs: list[str]) -> list[str]:
    """Load the runs' arrivals in processes that begin each of theirs together; return what they said."""
    processes = [loading(pipeline, how, *arrivals) for arrivals in runs]
    reported: list[str] = []
    for _ in runs[0]:
        assert {said(one) for one in processes} == {"ready"}
        for one in processes:
            go_on(one)
        reported += [said(one) for one in processes]
    for one in processes:
        one.communicate()
        assert one.returncode == 0
    return reported


def test_runs_of_different_arrivals_do_not_wait_for_one_another(pipeline: PostgresPipeline):
    pipeline.load("first.csv", "n\n1\n")
    pipeline.write("a.csv", "n\n1\n", "x")
    pipeline.write("b.csv", "n\n1\n", "y")
    with loading(pipeline, "load_arrival", "x", point="record_loads") as slow:
        assert said(slow) == "ready"
        go_on(slow)
        assert said(slow) == "before record_loads"
        assert [result.outcome for result in pipeline.load_arrival("y")] == [Outcome.LOADED]
        slow.communicate("go\ngo\n")
    assert counts(pipeline) == [(3, 3, 3)]


def test_a_table_that_somebody_has_locked_is_waited_for_and_then_the_run_is_reported(pipeline: PostgresPipeline):
    pipeline.load("first.csv", "n\n1\n")
    with psycopg.connect(pipeline.url) as other, opened(pipeline.url, 0.3) as warehouse:
        other.execute("LOCK TABLE public.metrics")
        with (
            pytest.raises(TemporaryError, match=r"waited for 0.3 s for another session.*WAREHOUSE_WAIT_SECONDS"),
            warehouse.transaction(TABLE, "x"),
        ):
            warehouse.insert(TABLE, ["n"], "SELECT 1", [])


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("40P01", TemporaryError),  # a deadlock
        ("40001", TemporaryError),  # a serialization failure
        ("53100", TemporaryError),  # a full disk
        ("57014", TemporaryError),  # canceled by somebody
        ("42703", TemporaryError),  # a column that somebody has just dropped
        ("42501", PermanentError),  # a missing privilege
        ("22001", RowRejectedError),  # a text that is too long
        ("23514", RowRejectedError),  # a check
        ("54000", RowRejectedError),  # a row that is too big
        ("P0001", RowRejectedError),  # a trigger's objection
    ],
)
def test_an_error_is_worth_another_try_or_a_persons_business_or_the_files_own_fault(
    pipeline: PostgresPipeline, state: str, kind: type[Exception]
):
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'so it is' USING ERRCODE = '{state}'; END $$"
    with opened(pipeline.url) as warehouse, pytest.raises(kind, match="so it is"), warehouse.transaction(TABLE, "x"):
        warehouse.connection.execute(raising)  # pyright: ignore[reportArgumentType]


# -- getting in


def test_a_server_that_is_down_is_waited_for_and_the_run_is_reported_once():
    reported: list[str] = []
    with (
        pytest.raises(TemporaryError, match=r":1/x does not answer after 1 s: Connection refused.*start it"),
        opened("postgresql://me:s3cret@127.0.0.1:1/x", 1, reported.append),
    ):
        pytest.fail("nobody is there")
    assert len(reported) == 1
    assert "waiting for up to 1 s" in reported[0]
    assert "s3cret" not in reported[0]


@pytest.mark.parametrize("wrong", ["password", "user", "database"])
def test_a_wrong_password_user_or_database_is_not_waited_for(
    server: PostgresServer, pipeline: PostgresPipeline, wrong: str
):
    url = {
        "password": pipeline.url.replace(server.password, "s3cret"),
        "user": pipeline.url.replace("blueprint:", "nobody:"),
        "database": server.url("nowhere"),
    }[wrong]
    with pytest.raises(PermanentError, match=r"does not let us in.*check WAREHOUSE_URL") as raised, opened(url, 60):
        pytest.fail("we are in")
    assert "s3cret" not in str(raised.value)
    assert server.password not in str(raised.value)


def test_a_missing_privilege_is_a_persons_to_grant(server: PostgresServer, pipeline: PostgresPipeline):
    pipeline.sql("DROP ROLE IF EXISTS guest")
    pipeline.sql("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    guest = PostgresPipeline(pipeline.folder, url=pipeline.url.replace(f"blueprint:{server.password}", "guest:guest"))
    guest.write("a.csv", "n\n1\n", "x")
    with pytest.raises(PermanentError, match=r"permission denied for schema public; docs/warehouse\.md says"):
        guest.load_arrival("x")
    pipeline.sql("GRANT CREATE, USAGE ON SCHEMA public TO guest")
    assert [result.outcome for result in guest.load_arrival("x")] == [Outcome.LOADED]


def test_a_user_who_may_insert_only_needs_no_more_when_all_is_there(server: PostgresServer, pipeline: PostgresPipeline):
    pipeline.load("first.csv", "n\n1\n")
    pipeline.sql("DROP ROLE IF EXISTS clerk")
    pipeline.sql("CREATE ROLE clerk LOGIN PASSWORD 'clerk'")
    pipeline.sql("GRANT SELECT, INSERT ON public.metrics, public._loads TO clerk")
    clerk = PostgresPipeline(pipeline.folder, url=pipeline.url.replace(f"blueprint:{server.password}", "clerk:clerk"))
    clerk.write("b.csv", "n\n2\n", "y")
    assert [result.outcome for result in clerk.load_arrival("y")] == [Outcome.LOADED]
    pipeline.sql("DROP OWNED BY clerk")


def test_what_is_committed_lasts_though_the_database_says_that_it_need_not(pipeline: PostgresPipeline):
    name = pipeline.url.rpartition("/")[2]
    pipeline.sql(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with opened(pipeline.url) as warehouse:
        warehouse.create_loads(TABLE)
        with warehouse.transaction(TABLE, "x"):
            assert warehouse.connection.execute("SHOW synchronous_commit").fetchall() == [("on",)]


def test_nothing_is_left_in_the_spool(pipeline: PostgresPipeline):
    pipeline.load("a.csv", "n\n1\n")
    pipeline.load("b.csv", "n\nfoo\n")
    assert list((pipeline.folder / "spool").iterdir()) == []
