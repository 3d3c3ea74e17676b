"""The status of a stack."""

import dataclasses
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from sensors.cli.status import print_status
from sensors.config.settings import Auth, Settings
from sensors.ledger import Ledger, files
from sensors.ledger.states import FileState
from sensors.reports.arrivals import InboxActivity, InboxCounts
from sensors.reports.files import KnownFile, NeedsAttention, StalledArrival
from sensors.runs.issues import IssueKind, RunIssue
from sensors.stack.health import Health
from sensors.stack.services import Service, services_of, warm_socket
from sensors.stack.state_dir import hold_state_folder
from sensors.stack.status import NextRun, Status, read_status
from tests.free_ports import free_ports
from tests.warm import warm_server

WELL = {service: Health(healthy=True) for service in Service}
SICK = {**WELL, Service.SENSOR: Health(healthy=False, detail="not running")}
BOOKS = InboxCounts(seen=6, waiting=1, in_flight=1, loaded=1, rejected=2, failed=1)


def shown(status):
    out = io.StringIO()
    print_status(status, Console(file=out, width=200))
    return out.getvalue().splitlines()


def test_the_json_has_the_shape_that_scripts_rely_on(tmp_path):
    document = json.loads(json.dumps(Status(Settings(state_dir=tmp_path), WELL, {"metrics": BOOKS}).as_json()))
    assert document["healthy"] is True
    assert document["inboxes"] == {
        "metrics": {"seen": 6, "waiting": 1, "in_flight": 1, "loaded": 1, "rejected": 2, "failed": 1}
    }
    assert document["services"]["sensor"] == {"healthy": True, "detail": ""}


def test_one_sick_service_makes_the_stack_unhealthy(tmp_path):
    assert not Status(Settings(state_dir=tmp_path), SICK, {}).healthy


def test_a_stack_is_healthy_without_its_warm_server_and_says_what_is_missing(tmp_path):
    status = Status(
        Settings(state_dir=tmp_path), {**WELL, Service.WARM: Health(healthy=False, detail="not running")}, {}
    )
    assert status.healthy
    assert status.as_json()["services"]["warm"]["healthy"] is False
    log = tmp_path / "logs" / "warm.log"
    assert status.needs_a_person() == [f"warm: not running; runs work without it and start about 2 s later; see {log}"]


def test_services_that_run_but_do_not_answer_are_not_taken_for_a_stack_that_is_down(tmp_path):
    settings = Settings(state_dir=tmp_path)
    busy = Health(healthy=False, detail="no usable answer (ReadTimeout)")
    lines = Status(settings, dict.fromkeys(services_of(settings), busy), {}).needs_a_person()
    assert [line.split(":")[0] for line in lines] == ["server", "worker", "sensor", "warm"]


def bad(name, reason, arrival_id="metrics-1", state=FileState.REJECTED):
    blank = dict.fromkeys(field.name for field in dataclasses.fields(KnownFile))
    given = {"name": name, "inbox": "metrics", "state": state, "reason": reason, "arrival_id": arrival_id}
    return KnownFile(**{**blank, **given})


def test_what_needs_a_person_comes_first_with_its_reason(tmp_path):
    stalled = StalledArrival("metrics-2", 3, "Deployment not found")
    trouble = NeedsAttention((bad("b.csv", "line 3: 5 columns"),), (stalled,), more_files=2)
    lines = shown(Status(Settings(state_dir=tmp_path), SICK, {"metrics": BOOKS}, trouble))
    mended = "mend it, then `just drop` it, or `just dismiss metrics-1`; see `just show metrics-1`"
    assert lines[:4] == [
        f"! sensor: not running; see {tmp_path / 'logs' / 'sensor.log'}",
        "! arrival metrics-2 has no run after 3 announcements: Deployment not found; `just show metrics-2` shows more",
        f"! rejected in inbox metrics: b.csv: line 3: 5 columns; {mended}",
        f"! and 2 files more; all of them are in {tmp_path / 'failed'}; `just dismiss --all` takes them off this list",
    ]


def test_the_watch_the_duplicates_and_what_is_overdue_are_shown(tmp_path):
    trouble = NeedsAttention(overdue={"metrics": "2026-11-24 09:00 CET"})
    watching, skipped = {"metrics": "polling (nfs4 tells nothing)"}, {"metrics": 2}
    status = Status(Settings(state_dir=tmp_path), WELL, {"metrics": BOOKS}, trouble, watching, skipped)
    lines = shown(status)
    assert lines[0].startswith("! inbox metrics is overdue since 2026-11-24 09:00 CET; no one has dropped what ")
    assert "polling (nfs4 tells nothing)" in lines[-1]
    assert any("of these skipped" in line for line in lines)
    assert status.as_json()["watching"] == watching
    assert status.as_json()["skipped"] == skipped


def test_an_automation_that_was_changed_on_the_server_comes_with_what_to_do(tmp_path):
    status = Status(Settings(state_dir=tmp_path), WELL, {}, drift={"run-on-arrival": "disabled"})
    [line] = status.needs_a_person()
    assert line.startswith("automation run-on-arrival was changed on the server (disabled); `just plan` shows how")
    assert status.as_json()["drift"] == ["run-on-arrival"]
    assert status.healthy


DOWN = dict.fromkeys(Service, Health(healthy=False, detail="not running"))
REJECTED = bad("a.csv", "line 3: 5 columns", None)


@pytest.mark.parametrize(
    ("services", "trouble", "exit_status"),
    [
        (WELL, NeedsAttention(), 0),
        ({**WELL, Service.WARM: Health(healthy=False, detail="not running")}, NeedsAttention(), 0),
        (SICK, NeedsAttention(), 1),
        (WELL, NeedsAttention((REJECTED,)), 1),
        (WELL, NeedsAttention(overdue={"metrics": "2026-11-24 09:00 CET"}), 1),
        (DOWN, NeedsAttention(), 2),
        (DOWN, NeedsAttention((REJECTED,)), 2),
    ],
)
def test_the_exit_status_is_0_if_all_is_well_1_if_something_needs_attention_2_if_nothing_runs(
    tmp_path, services, trouble, exit_status
):
    assert Status(Settings(state_dir=tmp_path), services, {}, trouble).exit_status == exit_status


def test_a_stack_that_runs_on_other_ports_is_not_called_stopped(tmp_path):
    assert Status(Settings(state_dir=tmp_path), DOWN, {}, other_ports="runs on other ports").exit_status == 1


def test_a_failed_file_comes_with_the_command_that_tries_it_again(tmp_path):
    failed = bad("a.csv", "Cancelled", state=FileState.FAILED)
    status = Status(Settings(state_dir=tmp_path), WELL, {}, NeedsAttention((failed,)))
    assert status.needs_a_person() == [
        "failed in inbox metrics: a.csv: Cancelled; `just retry metrics-1` tries it again, or `just dismiss metrics-1`"
    ]


ISSUE = RunIssue(
    IssueKind.FAILED,
    "r-1",
    "ETL/etl",
    "run otter of ETL/etl Failed at nine",
    "no source",
    "`just prefect flow-run retry r-1` tries it again, or `just dismiss r-1`",
    datetime(2026, 11, 24, 9, tzinfo=UTC),
    "r-1",
    "otter",
    more=2,
)


def test_a_failed_run_needs_attention_with_its_reason_and_command_and_makes_the_exit_status_1(tmp_path):
    status = Status(Settings(state_dir=tmp_path), WELL, {}, run_issues=(ISSUE,))
    assert status.needs_a_person() == [
        "run otter of ETL/etl Failed at nine, and 2 more: no source; "
        "`just prefect flow-run retry r-1` tries it again, or `just dismiss r-1`"
    ]
    assert status.healthy
    assert status.exit_status == 1
    assert Status(Settings(state_dir=tmp_path), WELL, {}).exit_status == 0
    assert status.as_json()["run_issues"] == [
        {
            "kind": "failed",
            "deployment": "ETL/etl",
            "run_id": "r-1",
            "run": "otter",
            "more": 2,
            "since": "2026-11-24T09:00:00+00:00",
            "reason": "no source",
            "mend": ISSUE.mend,
        }
    ]


def test_the_status_asks_the_server_for_the_runs_that_failed_and_forgets_those_that_were_dismissed(tmp_path, server):
    settings = Settings(state_dir=tmp_path, api_port=server.port, auth=Auth.OFF)
    server.failed_run("r-1", datetime.now(UTC) - timedelta(minutes=1))
    assert [one.run_id for one in read_status(settings).run_issues] == ["r-1"]
    with Ledger(settings.ledger_path) as ledger:
        files.record_runs(ledger, ["r-1"], datetime.now(UTC))
    assert read_status(settings).run_issues == ()


def test_a_server_that_gives_no_usable_answer_hides_no_other_part_of_the_status(tmp_path, server):
    server.status = 500
    status = read_status(Settings(state_dir=tmp_path, api_port=server.port, auth=Auth.OFF))
    assert status.run_issues == ()
    assert not status.healthy


NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
GLANCE = InboxActivity(3, 30, NOON - timedelta(minutes=4), "[red]a\x1b[2J.csv", NOON - timedelta(hours=2))


def glanced(tmp_path):
    next_runs = (
        NextRun("late-one", NOON - timedelta(minutes=2), "Late"),
        NextRun("production-etl", NOON + timedelta(hours=3)),
        NextRun("weekly", None, "paused"),
    )
    inboxes, glances = {"metrics": BOOKS}, {"metrics": GLANCE}
    return Status(Settings(state_dir=tmp_path), WELL, inboxes, glances=glances, next_runs=next_runs, at=NOON)


def test_today_what_waits_longest_and_what_came_last_are_shown(tmp_path):
    _, line = [line for line in shown(glanced(tmp_path)) if line.startswith("metrics")]
    assert "3           4 min" in line
    assert "2 h ago: [red]a\\x1b[2J.csv" in line


def test_on_a_narrow_terminal_nothing_is_cut_off(tmp_path):
    out = io.StringIO()
    print_status(glanced(tmp_path), Console(file=out, width=80))
    assert "…" not in out.getvalue()
    assert "in flight" in out.getvalue()
    assert r"a\x1b[2J.csv" in out.getvalue()


def test_the_next_run_of_each_deployment_is_shown_in_local_time(tmp_path):
    local = f"{(NOON + timedelta(hours=3)).astimezone():%Y-%m-%d %H:%M:%S}"
    late, planned, paused = [line.split(maxsplit=1) for line in shown(glanced(tmp_path))[-3:]]
    assert late[0] == "late-one"
    assert late[1].rstrip().endswith("due for 2 min, Late")
    assert planned[0] == "production-etl"
    assert planned[1].startswith(local)
    assert planned[1].rstrip().endswith("in 3 h")
    assert paused[1].rstrip().endswith("its schedules are paused on Prefect's page")


def test_the_json_has_all_that_is_shown_under_keys_of_its_own(tmp_path):
    document = json.loads(json.dumps(glanced(tmp_path).as_json()))
    assert document["inboxes"]["metrics"].keys() == BOOKS.model_dump().keys()
    assert document["today"] == {"metrics": {"files": 3, "rows": 30}}
    assert document["oldest_waiting"] == {"metrics": "2026-11-24T11:56:00+00:00"}
    assert document["last_file"]["metrics"]["seen_at"] == "2026-11-24T10:00:00+00:00"
    assert document["next_runs"][1] == {
        "deployment": "production-etl",
        "at": "2026-11-24T15:00:00+00:00",
        "state": "Scheduled",
    }
    assert document["needs_a_person"] == glanced(tmp_path).needs_a_person()


def test_nothing_needs_a_person_when_all_is_well(tmp_path):
    status = Status(Settings(state_dir=tmp_path), WELL, {"metrics": InboxCounts(seen=1, loaded=1)})
    assert status.needs_a_person() == []


def test_a_stack_that_is_down_can_be_looked_at(tmp_path):
    api_port, sensor_port = free_ports(2)
    status = read_status(Settings(state_dir=tmp_path, api_port=api_port, sensor_port=sensor_port))
    assert {health.detail for health in status.services.values()} == {"not running"}
    assert status.inboxes == {"metrics": InboxCounts()}
    assert status.needs_a_person() == ["the stack is not running; start it with `just up`"]


def test_a_stack_that_runs_on_other_ports_is_reported_with_them(tmp_path):
    api_port, sensor_port, other = free_ports(3)
    asked = Settings(state_dir=tmp_path, api_port=api_port, sensor_port=sensor_port)
    with hold_state_folder(asked.model_copy(update={"api_port": other})):
        assert read_status(asked).needs_a_person() == [
            f"the stack of {tmp_path} runs on API_PORT {other}, you asked for {api_port}; set that in .env"
        ]
    assert read_status(asked).needs_a_person() == ["the stack is not running; start it with `just up`"]


def test_so_it_is_though_the_warm_server_answers_which_is_asked_by_the_state_folder(tmp_path):
    api_port, sensor_port, other = free_ports(3)
    asked = Settings(state_dir=tmp_path / "state", api_port=api_port, sensor_port=sensor_port)
    runs = asked.model_copy(update={"sensor_port": other})
    with hold_state_folder(runs), warm_server(tmp_path / "warm", warm_socket(asked)):
        status = read_status(asked)
    assert status.services[Service.WARM].healthy
    assert status.needs_a_person() == [
        f"the stack of {asked.state_dir} runs on SENSOR_PORT {other}, you asked for {sensor_port}; set that in .env"
    ]
