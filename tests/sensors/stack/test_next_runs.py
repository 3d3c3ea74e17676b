"""The next runs of our deployments, out of what Prefect has planned."""

from datetime import UTC, datetime

from sensors.config.settings import Settings
from sensors.stack.status import NextRun, next_runs, read_next_runs
from tests.free_ports import free_ports
from tests.prefect_server import PAGE, prefect_answering

NINE = datetime(2026, 11, 25, 15, 0, tzinfo=UTC)


def deployment(name, *, schedules=1, active=True, paused=False):
    return {"id": f"id-{name}", "name": name, "paused": paused, "schedules": [{"active": active}] * schedules}


def run(deployment_name, at, state="Scheduled", **parameters):
    return {
        "deployment_id": f"id-{deployment_name}",
        "expected_start_time": at.isoformat(),
        "next_scheduled_start_time": at.isoformat(),
        "state_name": state,
        "parameters": parameters,
    }


def test_only_the_first_of_the_planned_runs_counts():
    planned = [run("etl", NINE), run("etl", NINE.replace(day=26))]
    assert next_runs([deployment("etl")], planned) == (NextRun("etl", NINE),)


def test_the_soonest_comes_first_and_what_is_paused_last():
    deployments = [
        deployment("off", active=False),
        deployment("later"),
        deployment("soon"),
        deployment("x", paused=True),
    ]
    planned = [run("soon", NINE), run("later", NINE.replace(hour=16))]
    assert [(one.deployment, one.state) for one in next_runs(deployments, planned)] == [
        ("soon", "Scheduled"),
        ("later", "Scheduled"),
        ("off", "paused"),
        ("x", "paused"),
    ]


def test_a_run_for_an_arrival_is_not_what_the_schedule_brings():
    planned = [run("etl", NINE.replace(hour=1), arrival_id="metrics-1"), run("etl", NINE)]
    assert next_runs([deployment("etl")], planned) == (NextRun("etl", NINE),)


def test_a_run_that_is_late_says_so():
    assert next_runs([deployment("etl")], [run("etl", NINE, "Late")]) == (NextRun("etl", NINE, "Late"),)


def test_a_deployment_without_a_schedule_has_none():
    assert next_runs([deployment("by-hand", schedules=0)], []) == ()


def test_the_runs_of_any_number_of_arrivals_do_not_hide_the_next_run_of_a_schedule(tmp_path):
    with prefect_answering() as server:
        server.stored["deployments"] = [deployment("etl")]
        for number in range(PAGE + 10):
            server.run(f"r{number}", "SCHEDULED", arrival_id=f"metrics-{number}")
            server.runs[-1] |= {"deployment_id": "id-etl", "created_by": {"type": "AUTOMATION"}}
        server.runs.append({**run("etl", NINE), "id": "planned", "state_type": "SCHEDULED"})
        assert read_next_runs(Settings(state_dir=tmp_path, api_port=server.port)) == (NextRun("etl", NINE),)
        assert len(server.asked) == 2


def test_every_deployment_has_its_next_run_also_if_there_are_more_than_a_page_of_them(tmp_path):
    names = [f"etl-{number}" for number in range(PAGE + 10)]
    with prefect_answering() as server:
        server.stored["deployments"] = [deployment(name) for name in names]
        server.runs = [{**run(name, NINE), "id": name, "state_type": "SCHEDULED"} for name in names]
        found = read_next_runs(Settings(state_dir=tmp_path, api_port=server.port))
    assert {one.deployment for one in found} == {*names}


def test_without_a_server_nothing_is_known(tmp_path):
    (port,) = free_ports(1)
    assert read_next_runs(Settings(state_dir=tmp_path, api_port=port)) == ()
