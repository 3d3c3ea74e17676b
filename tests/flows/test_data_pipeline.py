"""The flow, on a real Prefect server: retries, what it says, what it leaves behind."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import State
from prefect.events.worker import EventsWorker
from prefect.testing.utilities import prefect_test_harness

from flows.data_pipeline import data_pipeline
from flows.warehouse import duckdb as duckdb_warehouse
from tests.postgres import PostgresServer
from tests.web import Answer, serving

ROOT = Path(__file__).resolve().parents[2]
TABLE = "warehouse.public.metrics"
LINES = (
    "Pipeline execution started",
    "Initiating extraction...",
    "Transformation complete",
    "Transaction committed successfully",
    "Pipeline execution finished",
)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def client() -> Iterator[SyncPrefectClient]:
    EventsWorker.drain_all()  # one that an earlier test has started sends to a server that is gone
    with prefect_test_harness(server_startup_timeout=120), get_client(sync_client=True) as opened:
        yield opened


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def arrival(tmp_path: Path) -> Path:
    folder = tmp_path / "an arrival"
    folder.mkdir()
    return folder


def run(source_url: str, table: str = TABLE, **parameters: Any) -> State[Any]:
    return data_pipeline(source_url, table, return_state=True, **parameters)


def rows(state_dir: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(state_dir / "warehouse.duckdb", read_only=True) as connection:
        return connection.execute(query).fetchall()


def attempts(client: SyncPrefectClient, state: State[Any]) -> dict[str, list[Any]]:
    """Return for each task of a run when it was started, and started again."""
    found = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    )
    return {
        task.name.rpartition("-")[0]: sorted(
            one.timestamp for one in client.read_task_run_states(task.id) if one.name in {"Running", "Retrying"}
        )
        for task in found
    }


def report(client: SyncPrefectClient, state: State[Any]) -> tuple[str | None, list[dict[str, Any]]]:
    """Return the key and the rows of a run's artifact."""
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    (artifact,) = client.read_artifacts(artifact_filter=of_run)
    assert isinstance(artifact.data, str)
    return artifact.key, json.loads(artifact.data)


def log(client: SyncPrefectClient, state: State[Any]) -> list[str]:
    """Return what a run logged, when its last line has reached the server."""
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    deadline = time.monotonic() + 30
    while True:
        lines = [line.message for line in client.read_logs(log_filter=of_run)]
        if any(line.startswith("Finished in state") and str(state.message) in line for line in lines):
            return lines
        assert time.monotonic() < deadline, lines
        time.sleep(0.1)


def test_an_unknown_scheme_is_tried_four_times_2_s_apart(client: SyncPrefectClient, state_dir: Path):
    state = run("invalid://me:s3cret@url")
    assert state.is_failed()
    assert state.message == "source_url: expected http://, https:// or file://, got invalid://url"
    started = attempts(client, state)["extract_data"]
    assert len(started) == 4
    assert all(2 <= (later - earlier).total_seconds() < 4 for earlier, later in pairwise(started))
    assert not any("s3cret" in line for line in log(client, state))


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"table": "metrics"}, "catalog.schema.table"),
        ({"batch_size": 0}, "batch_size"),
        ({"arrival_id": "A/B"}, "a-z"),
        ({"reload": ["*"]}, "reload: expected an arrival_id"),
    ],
)
def test_a_mistyped_parameter_is_not_tried_again(
    client: SyncPrefectClient, state_dir: Path, parameters: dict[str, Any], said: str
):
    state = run("file:///nowhere", **parameters)
    assert state.is_failed()
    assert said in str(state.message)
    assert len(attempts(client, state)["extract_data"]) == 1


def test_good_files_are_loaded_bad_ones_named_and_a_second_run_skips_what_is_there(
    client: SyncPrefectClient, state_dir: Path, arrival: Path
):
    (arrival / "1 good.csv").write_text("a\n1\n2\n")
    (arrival / "2 bad.csv").write_text("a\n1,2\n")
    (arrival / "3 [good]*.json").write_text('[{"a": 3}]')
    (arrival / "4 worse.json").write_text("[{")
    state = run(arrival.as_uri(), arrival_id="a-1")
    assert state.name == "Failed"
    assert str(state.message).startswith(
        "2 of 4 files rejected: 2 bad.csv: line 2: expected 1 column, got 2; 4 worse.json: line 1, column 3"
    )
    assert rows(state_dir, "SELECT a FROM public.metrics ORDER BY a") == [(1,), (2,), (3,)]
    key, table = report(client, state)
    assert key == "arrival-a-1"
    assert [(row["file"], row["outcome"], row["rows"], row["bytes"]) for row in table] == [
        ("1 good.csv", "loaded", 2, 6),
        ("2 bad.csv", "rejected", 0, 6),
        ("3 [good]*.json", "loaded", 1, 10),
        ("4 worse.json", "rejected", 0, 2),
    ]
    assert all(set(row) == {"file", "outcome", "rows", "bytes", "seconds", "reason"} for row in table)
    assert len(attempts(client, state)["load_data"]) == 1

    (arrival / "2 bad.csv").unlink()
    (arrival / "4 worse.json").unlink()
    state = run(arrival.as_uri(), arrival_id="a-1")
    assert (state.name, state.message) == ("Completed", "2 files, 0 rows loaded, 2 skipped")
    assert [row["outcome"] for row in report(client, state)[1]] == ["skipped", "skipped"]
    assert rows(state_dir, "SELECT count(*) FROM public.metrics") == [(3,)]


def test_files_that_are_reloaded_replace_their_rows_and_a_name_that_no_file_has_is_rejected(
    client: SyncPrefectClient, state_dir: Path, arrival: Path
):
    (arrival / "north").mkdir()
    for name in ("a.csv", "north/a.csv"):
        (arrival / name).write_text("a\n1\n")
    assert run(arrival.as_uri(), arrival_id="again").is_completed()

    for name in ("a.csv", "north/a.csv"):
        (arrival / name).write_text("a\n2\n3\n")
    state = run(arrival.as_uri(), arrival_id="again", reload=["north/a.csv", "gone.csv"])
    assert state.message == "1 of 3 files rejected: gone.csv: the source has no file of this name to reload"
    assert [(row["file"], row["outcome"], row["rows"]) for row in report(client, state)[1]] == [
        ("a.csv", "skipped", 1),
        ("north/a.csv", "loaded", 2),
        ("gone.csv", "rejected", 0),
    ]
    assert all(len(row) == 6 for row in report(client, state)[1])
    assert any(
        line.startswith("north/a.csv: loaded 2 rows") and "replaced 1 rows" in line for line in log(client, state)
    )
    assert rows(state_dir, "SELECT _file_name, a FROM public.metrics ORDER BY ALL") == [
        ("a.csv", 1),
        ("north/a.csv", 2),
        ("north/a.csv", 3),
    ]


def test_a_run_says_what_it_does(client: SyncPrefectClient, state_dir: Path, arrival: Path):
    (arrival / "a.csv").write_text("a\n1\n")
    state = run((arrival / "a.csv").as_uri())
    lines = log(client, state)
    assert [line for line in lines if line in LINES] == list(LINES)
    assert any(line.startswith("a.csv: loaded 1 rows") for line in lines)


def test_no_connection_takes_more_memory_than_is_allowed_or_spills_outside_the_state_folder(
    client: SyncPrefectClient, state_dir: Path, arrival: Path, monkeypatch: pytest.MonkeyPatch
):
    bound = {}
    monkeypatch.setenv("WAREHOUSE_MEMORY_LIMIT", "700MB")
    monkeypatch.setattr(
        duckdb_warehouse, "bound", lambda _, limit, folder: bound.update({folder.name: (limit, folder)})
    )
    (arrival / "a.csv").write_text("n\n1\n")
    assert run(arrival.as_uri()).is_completed()
    assert {limit for limit, _ in bound.values()} == {"700MB"}
    assert sorted(bound) == ["transform.tmp", "warehouse.duckdb.tmp"]
    assert all(folder.is_relative_to(state_dir) for _, folder in bound.values())


def test_without_an_arrival_a_run_loads_for_itself(client: SyncPrefectClient, state_dir: Path, arrival: Path):
    (arrival / "a.csv").write_text("a\n1\n")
    states = [run(arrival.as_uri()) for _ in range(2)]
    ids = sorted(str(state.state_details.flow_run_id) for state in states)
    assert rows(state_dir, "SELECT _arrival_id FROM public.metrics ORDER BY ALL") == [(id_,) for id_ in ids]
    assert report(client, states[0])[0] == f"arrival-{states[0].state_details.flow_run_id}"


def test_when_all_files_are_rejected_the_report_is_there_too(client: SyncPrefectClient, state_dir: Path, arrival: Path):
    (arrival / "a.txt").write_text("x")
    state = run(arrival.as_uri(), arrival_id="all-bad")
    assert str(state.message).startswith("1 of 1 files rejected: a.txt: unknown suffix")
    assert [row["outcome"] for row in report(client, state)[1]] == ["rejected"]


def test_an_http_source_is_loaded_page_by_page_and_leaves_nothing_in_the_spool(
    client: SyncPrefectClient, state_dir: Path
):
    def sometimes(asked: int) -> Answer:
        return Answer(status=503) if asked == 1 else Answer(b'{"data": [{"n": 3}, {"n": 4}, {"n": 5}]}')

    with serving() as web:
        web.answers = {"/v1": Answer(b'{"data": [{"n": 1}, {"n": 2}], "next": "/v2"}'), "/v2": sometimes}
        state = run(web.url("/v1?key=s3cret", "me:s3cret@"), batch_size=2)
    assert state.message == "1 file, 5 rows loaded, 0 skipped"
    assert rows(state_dir, "SELECT n, _file_name FROM public.metrics ORDER BY n") == [
        (number, "127.0.0.1/v1") for number in range(1, 6)
    ]
    assert len(attempts(client, state)["extract_data"]) == 2
    assert list((state_dir / "spool").iterdir()) == []
    assert not any("s3cret" in line for line in log(client, state))
    assert "s3cret" not in json.dumps(report(client, state))


def test_a_table_of_another_catalog_is_refused_before_anything_is_fetched(
    client: SyncPrefectClient, state_dir: Path, arrival: Path
):
    (arrival / "a.csv").write_text("a\n1\n")
    state = run(arrival.as_uri(), "sales.public.metrics")
    assert state.is_failed()
    assert "expected warehouse.public.metrics, as the warehouse is" in str(state.message)
    assert "got sales.public.metrics; change that, or WAREHOUSE_URL" in str(state.message)
    assert len(attempts(client, state)["extract_data"]) == 1
    assert not list(state_dir.glob("*.duckdb"))


def test_with_a_postgres_url_the_rows_are_there_and_the_password_is_nowhere(
    client: SyncPrefectClient,
    state_dir: Path,
    arrival: Path,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
):
    url = postgres.create("flow")
    monkeypatch.setenv("WAREHOUSE_URL", url)
    (arrival / "1.csv").write_text("a\n1\n2\n")
    (arrival / "2.csv").write_text("a\nfoo\n")
    states = [run(arrival.as_uri(), arrival_id="x"), run(arrival.as_uri(), "flow.public.metrics", arrival_id="x")]
    problem = '1 of 2 files rejected: 2.csv: line 2, column "a": "foo" is not a BIGINT'
    assert [state.message for state in states] == [problem, problem]
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT a, _file_name FROM public.metrics ORDER BY a").fetchall() == [
            (1, "1.csv"),
            (2, "1.csv"),
        ]
        assert connection.execute("SELECT target_table FROM public._loads").fetchall() == [(TABLE,)]
    assert not any(postgres.password in line for state in states for line in log(client, state))
    assert not list(state_dir.glob("*.duckdb"))


def test_a_postgres_that_lets_no_one_in_is_not_tried_again(
    client: SyncPrefectClient,
    state_dir: Path,
    arrival: Path,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("WAREHOUSE_URL", postgres.url().replace(postgres.password, "s3cret"))
    (arrival / "a.csv").write_text("a\n1\n")
    state = run(arrival.as_uri())
    assert "does not let us in: FATAL: password authentication failed" in str(state.message)
    assert len(attempts(client, state)["load_data"]) == 1
    assert not any("s3cret" in line for line in log(client, state))


def run_as_a_script(state_dir: Path, loaded: int) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "flows" / "data_pipeline.py"],
        env={name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"1 file, {loaded} rows loaded" in done.stderr
    assert f"The rows are in {state_dir / 'warehouse.duckdb'}, table public.sample_metrics" in done.stdout
    # DuckDB's binding complains when its types outlive the interpreter: see flows/warehouse/base.py.
    assert "leaked" not in done.stderr
    assert rows(state_dir, "SELECT count(*), count(DISTINCT region) FROM public.sample_metrics") == [(30, 3)]


def test_run_as_a_script_it_loads_the_sample_without_a_server(state_dir: Path):
    run_as_a_script(state_dir, loaded=30)


@pytest.mark.slow  # each start makes a server of its own
def test_run_as_a_script_a_second_time_it_skips_the_sample(state_dir: Path):
    run_as_a_script(state_dir, loaded=30)
    run_as_a_script(state_dir, loaded=0)


def test_a_refused_request_is_not_tried_again_and_the_spool_is_emptied(client: SyncPrefectClient, state_dir: Path):
    with serving() as web:
        state = run(web.url("/none?key=s3cret"))
        assert state.message == f"GET {web.url('/none')}: 404 Not Found"
        assert len(web.requests) == 1
    assert list((state_dir / "spool").iterdir()) == []


def test_a_warehouse_that_is_held_is_waited_for_once_and_the_message_names_the_process(
    client: SyncPrefectClient, state_dir: Path, arrival: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WAREHOUSE_WAIT_SECONDS", "1")
    (arrival / "a.csv").write_text("n\n1\n")
    state_dir.mkdir()
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, state_dir / "warehouse.duckdb"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as held:
        assert held.stdout is not None
        assert held.stdout.readline() == "held\n"
        state = run(arrival.as_uri())
        held.communicate("")
    assert state.is_failed()
    assert f"still in use by another process (PID {held.pid}) after 1 s" in str(state.message)
    assert len(attempts(client, state)["load_data"]) == 1
