"""One arrival on the terminal: its journey, its files, its run and the run's log."""

import json
from datetime import UTC, datetime

import pytest

from sensors.cli.history import read_arrival, show_arrival
from sensors.config.settings import Settings
from sensors.stack.errors import StackError
from tests.dropped_arrivals import record_arrival
from tests.free_ports import free_ports

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
RECORDS = [
    {"timestamp": "2026-11-24T09:00:01Z", "level": 40, "message": "line 3: \x1b[2Jno number"},
    {"timestamp": "2026-11-24T09:00:00Z", "level": 20, "message": "Pipeline execution started"},
]


@pytest.fixture
def ledger(ledger):
    record_arrival(ledger, "m-1", NOW, {"a.csv": "loaded", "b.csv": "rejected"}, state="failed")
    ledger.change(
        "INSERT INTO announcements VALUES ('e1', 'm-1', 1, ?, NULL, 'no such deployment', NULL)", (NOW.isoformat(),)
    )
    return ledger


@pytest.fixture
def with_server(ledger, server, tmp_path):
    server.logs = {"run of m-1": RECORDS}
    return Settings(state_dir=tmp_path, api_port=server.port)


@pytest.fixture
def without_server(ledger, tmp_path):
    (port,) = free_ports(1)
    return Settings(state_dir=tmp_path, api_port=port)


def shown(settings, wanted, capsys):
    show_arrival(settings, wanted, as_json=False)
    return capsys.readouterr().out


def test_every_step_has_its_local_time_and_the_seconds_since_the_one_before(without_server, capsys):
    lines = [line.split() for line in shown(without_server, "m-1", capsys).splitlines()]
    assert ["run", *f"{NOW.astimezone():%Y-%m-%d %H:%M:%S}".split(), "0.40", "s"] in lines
    assert [line[-2] for line in lines if line[:1] in (["settled"], ["failed"])] == ["0.10", "0.60"]


def test_its_files_come_with_rows_and_reasons_those_first_that_need_a_person(without_server, capsys):
    text = shown(without_server, "m-1", capsys)
    assert text.index("b.csv") < text.rindex("a.csv")
    assert "line 3: no number" in text
    assert "no such deployment" in text


def test_its_run_is_linked_and_the_end_of_the_runs_log_is_shown_harmless(with_server, capsys):
    text = shown(with_server, "a.csv", capsys)
    assert f"{with_server.prefect_page}/runs/flow-run/run of m-1" in text
    assert text.index("INFO    Pipeline execution started") < text.index(r"ERROR   line 3: \x1b[2Jno number")


def test_a_traceback_in_the_log_is_shortened_to_its_beginning_and_its_end(with_server, server, capsys):
    message = "\n".join(["it went wrong", *(f"frame {n}" for n in range(30)), "FailedRun: 1 of 2 files"])
    server.logs = {"run of m-1": [{**RECORDS[0], "message": message}]}
    text = shown(with_server, "m-1", capsys)
    assert "ERROR   it went wrong" in text
    assert "(30 lines more, on the page of the run)" in text
    assert "FailedRun: 1 of 2 files" in text
    assert "frame" not in text


def test_while_the_server_is_down_that_is_a_line_and_the_rest_is_there(without_server, capsys):
    text = shown(without_server, "m-1", capsys)
    assert "the run's log: nothing answers at" in text
    assert "`just up` starts the server" in text
    assert "b.csv" in text


def test_a_run_of_which_prefect_has_no_log_says_so(with_server, server, capsys):
    server.logs = {}
    assert "the run's log: Prefect has none of it" in shown(with_server, "m-1", capsys)


def test_a_server_that_refuses_is_reported_with_its_answer(with_server, server, capsys):
    server.status = 401
    assert f"{with_server.api_url} answers 401; see `just status`" in shown(with_server, "m-1", capsys)


def test_an_arrival_on_its_way_has_no_run_yet(without_server, ledger, capsys):
    record_arrival(ledger, "m-2", NOW, {"c.csv": "staged"}, state="staged")
    text = shown(without_server, "m-2", capsys)
    assert "not yet" in text
    assert "the run's log: it has no run" in text


def test_the_json_has_all_of_it_in_utc(with_server, capsys):
    show_arrival(with_server, "m-1", as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["arrival"]["id"] == "m-1"
    assert document["steps"][0] == {"step": "seen", "at": "2026-11-24T08:59:59.900000+00:00"}
    assert [file["name"] for file in document["files"]] == ["b.csv", "a.csv"]
    assert document["announcements"][0]["failure"] == "no such deployment"
    assert document["log"][0]["message"] == "Pipeline execution started"
    assert document["no_log"] is None


def test_before_anything_was_dropped_there_is_none(tmp_path):
    with pytest.raises(StackError, match="nothing has been dropped yet"):
        read_arrival(Settings(state_dir=tmp_path), "m-1")
