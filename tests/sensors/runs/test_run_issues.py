"""Run issues: which runs need attention, until when, and what is said of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sensors.config.settings import PROJECT_ROOT
from sensors.runs.api import EVENTS_PAGE, PrefectApi
from sensors.runs.facts import our_deployments, read_run_facts
from sensors.runs.issues import (
    ALL,
    MOST_FAILED,
    MOST_SUCCEEDED,
    IssueKind,
    RunIssue,
    long_after,
    read_run_issues,
    undismissed,
)
from tests.prefect_server import PrefectServer

NINE = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SCHEDULE = {"type": "SCHEDULE", "id": "s-1"}


def issues(
    server: PrefectServer, now: datetime = NINE + HOUR, dismissed: dict[str, datetime] | None = None
) -> list[RunIssue]:
    with PrefectApi(server.url, None) as api:
        facts = read_run_facts(api, now)
        return list(read_run_issues(api, facts, our_deployments(facts, PROJECT_ROOT), dismissed or {}, now))


def succeed(server: PrefectServer, run_id: str, at: datetime, **more: Any) -> None:
    run = server.failed_run(run_id, at, "Completed", **more)
    run["state_type"] = run["state"]["type"] = "COMPLETED"


def test_a_failed_run_comes_with_its_reason_and_the_command_that_tries_it_again(server: PrefectServer) -> None:
    server.failed_run("r1", NINE, message="no\nsource at https://admin:secret@example.com/v1\x1b[2J")
    [found] = issues(server)
    at = f"{NINE.astimezone():%Y-%m-%d %H:%M:%S %Z}"
    assert found.line == (
        f"run run-r1 of Enterprise Data Pipeline/production-etl failed at {at}: "
        "no source at https://***@example.com/v1\N{REPLACEMENT CHARACTER}[2J; "
        "`just prefect flow-run retry r1` tries it again, or `just dismiss r1`"
    )


@pytest.mark.parametrize(
    ("state", "said"), [("Failed", "failed"), ("Crashed", "crashed"), ("TimedOut", "timed out"), ("Bad", "bad")]
)
def test_however_it_failed_it_needs_attention(server: PrefectServer, state: str, said: str) -> None:
    server.failed_run("r1", NINE, state)
    [found] = issues(server)
    assert found.kind is IssueKind.FAILED
    assert f"production-etl {said} at " in found.title


@pytest.mark.parametrize(
    ("message", "run_count", "needs"),
    [("Deployment concurrency limit reached.", 0, True), ("", 0, False), ("Cancelled by a person", 1, False)],
)
def test_a_run_that_a_limit_cancelled_needs_attention_and_one_that_a_person_cancelled_does_not(
    server: PrefectServer, message: str, run_count: int, *, needs: bool
) -> None:
    run = server.failed_run("r1", NINE, "Cancelled", message, run_count=run_count)
    run["state_type"] = run["state"]["type"] = "CANCELLED"
    assert bool(issues(server)) is needs


def test_a_run_of_an_arrival_is_not_here(server: PrefectServer) -> None:
    server.failed_run("r1", NINE, parameters={"arrival_id": "m-1"})
    assert issues(server) == []


def test_a_later_run_with_the_same_parameters_makes_up_for_it_however_it_was_started(server: PrefectServer) -> None:
    server.failed_run("r1", NINE, parameters={"a": 1}, created_by=SCHEDULE)
    succeed(server, "r2", NINE - HOUR, parameters={"a": 1})
    succeed(server, "r3", NINE + HOUR / 2, parameters={"a": 2})
    succeed(server, "r4", NINE + HOUR / 2, parameters={"a": 1}, deployment_id="another")
    assert len(issues(server)) == 1
    succeed(server, "r5", NINE + HOUR / 2, parameters={"a": 1})
    assert issues(server) == []


def test_a_later_run_of_the_same_schedule_makes_up_for_it_whatever_its_parameters(server: PrefectServer) -> None:
    server.know_deployment(schedules=[{"id": "s-1"}, {"id": "s-2"}])
    server.failed_run("r1", NINE, parameters={"a": 1}, created_by=SCHEDULE)
    succeed(server, "r2", NINE + HOUR / 2, parameters={"a": 2}, created_by={"type": "SCHEDULE", "id": "s-2"})
    assert len(issues(server)) == 1
    succeed(server, "r3", NINE + HOUR / 2, parameters={"a": 2}, created_by=SCHEDULE)
    assert issues(server) == []


def test_a_schedule_that_took_the_place_of_another_makes_up_for_its_runs(server: PrefectServer) -> None:
    server.know_deployment(schedules=[{"id": "s-2"}])
    server.failed_run("r1", NINE, parameters={"a": 1}, created_by=SCHEDULE)
    succeed(server, "r2", NINE + HOUR / 2, parameters={"a": 2}, created_by={"type": "SCHEDULE", "id": "s-2"})
    assert issues(server) == []


def test_runs_that_fail_again_and_again_are_one_issue_with_the_latest_of_them(server: PrefectServer) -> None:
    for number in range(5):
        server.failed_run(f"r{number}", NINE + number * timedelta(minutes=1))
    [found] = issues(server)
    assert (found.run_id, found.more) == ("r4", 4)


def test_a_dismissed_run_takes_those_before_it_along_and_none_that_fails_later(server: PrefectServer) -> None:
    server.failed_run("r1", NINE)
    server.failed_run("r2", NINE + timedelta(minutes=1))
    dismissed = {"r2": NINE + timedelta(minutes=2)}
    assert issues(server, dismissed=dismissed) == []
    server.failed_run("r3", NINE + timedelta(minutes=3))
    [found] = issues(server, dismissed=dismissed)
    assert (found.run_id, found.more) == ("r3", 0)


def test_all_dismisses_what_there_is_and_nothing_that_comes(server: PrefectServer) -> None:
    server.failed_run("r1", NINE)
    server.failed_run("r2", NINE + HOUR / 2, parameters={"a": 1})
    left = undismissed(issues(server), {ALL: NINE + timedelta(minutes=1)})
    assert [one.run_id for one in left] == ["r2"]


def test_a_run_that_failed_a_month_ago_is_forgotten(server: PrefectServer) -> None:
    server.failed_run("r1", NINE)
    assert issues(server, NINE + timedelta(days=31)) == []


def test_a_run_that_takes_long_needs_attention_until_it_ends(server: PrefectServer) -> None:
    run = server.failed_run("r1", NINE, "Running")
    run["state_type"] = run["state"]["type"] = "RUNNING"
    assert issues(server, NINE + long_after()) == []
    [found] = issues(server, NINE + long_after() + timedelta(seconds=1))
    assert found.kind is IssueKind.LONG
    assert "`just prefect flow-run cancel r1`" in found.mend


def missing(server: PrefectServer, due: datetime, deployment: str = "deployment-1") -> None:
    server.know_deployment()
    server.events.append(
        {
            "id": f"missing-{deployment}-{due.isoformat()}",
            "event": "run.missing",
            "occurred": due.isoformat(),
            "resource": {"prefect.resource.id": f"prefect.deployment.{deployment}"},
            "related": [],
            "payload": {"deployment": "ETL/it's", "due": due.isoformat(), "first": "9:00", "more": 2},
        }
    )


def test_a_missing_run_needs_attention_until_another_one_has_succeeded(server: PrefectServer) -> None:
    missing(server, NINE)
    missing(server, NINE, "somebody-elses")
    [found] = issues(server)
    assert found.line.startswith("the run of ETL/it's at 9:00 does not exist, and 2 more: the schedule wanted it")
    assert "`just prefect deployment run 'ETL/it'\\''s'` runs it now, or `just dismiss deployment-1`" in found.mend
    succeed(server, "r1", NINE + timedelta(minutes=5))
    assert issues(server) == []


def know_second_deployment(server: PrefectServer) -> None:
    first = server.know_deployment()
    server.stored["deployments"].append({**first, "id": "deployment-2", "name": "second"})


def test_missing_runs_of_a_deployment_do_not_hide_an_earlier_one_of_another_deployment(server: PrefectServer) -> None:
    know_second_deployment(server)
    missing(server, NINE - HOUR, "deployment-2")
    for minute in range(EVENTS_PAGE + 10):
        missing(server, NINE + timedelta(minutes=minute))
    assert {one.key for one in issues(server, NINE + 2 * HOUR)} == {"deployment-1", "deployment-2"}


def test_all_missing_runs_of_a_deployment_are_not_read_as_the_latest_one_is_shown(server: PrefectServer) -> None:
    server.know_deployment()
    for minute in range(10 * EVENTS_PAGE):
        missing(server, NINE + timedelta(minutes=minute))
    [found] = issues(server, NINE + 10 * HOUR)
    assert found.since == NINE + timedelta(minutes=10 * EVENTS_PAGE - 1)
    assert sum(path.startswith("/api/events/filter") for path in server.asked) == 1


def test_a_missing_run_is_made_up_for_also_while_a_run_of_another_deployment_has_failed(server: PrefectServer) -> None:
    know_second_deployment(server)
    missing(server, NINE, "deployment-2")
    succeed(server, "r1", NINE + timedelta(minutes=5), deployment_id="deployment-2")
    server.failed_run("r2", NINE)
    assert [one.key for one in issues(server)] == ["r2"]


def test_failed_runs_of_a_deployment_do_not_hide_an_earlier_one_of_another_deployment(server: PrefectServer) -> None:
    know_second_deployment(server)
    for number in range(MOST_FAILED + 10):
        server.failed_run(f"r{number}", NINE + timedelta(seconds=MOST_FAILED - number))
    server.failed_run("earlier", NINE - HOUR, deployment_id="deployment-2")
    assert [one.key for one in issues(server)] == ["r0", "earlier"]


def test_successes_of_a_deployment_do_not_hide_that_a_run_of_another_one_was_made_up_for(server: PrefectServer) -> None:
    know_second_deployment(server)
    server.failed_run("r1", NINE, parameters={"day": 1})
    for number in range(MOST_SUCCEEDED + 10):
        succeed(server, f"s{number}", NINE + timedelta(seconds=MOST_SUCCEEDED - number))
    server.failed_run("r2", NINE - HOUR, deployment_id="deployment-2")
    succeed(server, "s", NINE - HOUR + timedelta(minutes=5), deployment_id="deployment-2")
    assert [one.key for one in issues(server)] == ["r1"]


def test_ours_are_the_deployments_of_the_project_and_those_in_its_work_pools(server: PrefectServer) -> None:
    server.failed_run("r1", NINE)
    server.stored["deployments"] += [
        {**server.stored["deployments"][0], "id": "mine", "name": "made-by-hand"},
        {**server.stored["deployments"][0], "id": "other", "name": "other", "work_pool_name": "theirs"},
        {**server.stored["deployments"][0], "id": "homeless", "work_pool_name": None},
    ]
    with PrefectApi(server.url, None) as api:
        found = our_deployments(read_run_facts(api, NINE), PROJECT_ROOT)
    assert found == {"deployment-1", "mine", "homeless"}
