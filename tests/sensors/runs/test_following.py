"""Following runs to their end, also after it: what is resumed, what is lost, what a person reads."""

import json
from datetime import datetime, timedelta

import pytest

from sensors.arrivals.failed_links import FailedFolder
from sensors.ledger import arrivals, notices
from sensors.runs.api import PrefectApi
from sensors.runs.facts import HEARTBEAT, LostRuns
from sensors.runs.outcomes import ARRIVAL_FAILED, COLUMNS_WIDENED, FAILED_SECONDS, UNSTARTED_LIMIT, RunFollower
from tests.prefect_server import prefect_answering


@pytest.fixture
def api():
    with prefect_answering() as server:
        yield server


@pytest.fixture
def follower(ledger, api, tmp_path, hand_clock):
    with PrefectApi(api.url, None) as client:
        failed = FailedFolder(ledger, tmp_path / "failed")
        yield RunFollower(ledger, client, failed, LostRuns(client, hand_clock.clock), hand_clock.clock)


@pytest.fixture
def arrival(ledger, tmp_path):
    """An arrival of two files whose run r1 is under way."""
    folder = tmp_path / "arrivals" / "m-1"
    folder.mkdir(parents=True)
    ledger.change(
        "INSERT INTO arrivals (id, inbox, folder, state, attempt, created_at, run_id, run_name)"
        " VALUES ('m-1', 'metrics', ?, 'running', 1, '2026', 'r1', 'run r1')",
        (str(folder),),
    )
    ledger.change("INSERT INTO announcements VALUES ('e1', 'm-1', 1, '2026-11-24T09:00:00+00:00', NULL, NULL, 'r1')")
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text(name)
        ledger.change(
            "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, arrival_id, seen_at)"
            " VALUES ('metrics', ?, ?, '1', '1', 1, 1, 'staged', 'm-1', '2026')",
            (name, name),
        )
    return "m-1"


def states(ledger) -> dict[str, str]:
    return {row["name"]: row["state"] for row in ledger.rows("SELECT name, state FROM files ORDER BY id")}


def test_a_failed_run_that_is_tried_again_and_succeeds_flips_the_outcome(
    ledger, follower, api, arrival, hand_clock, tmp_path
):
    api.run("r1", "FAILED", message="2 of 2")
    api.report("m-1", "r1", a="rejected", b="rejected")
    assert follower.step()
    assert arrivals.get(ledger, arrival).state == "failed"
    assert (tmp_path / "failed" / "arrivals" / "m-1" / "links" / "b.csv").exists()

    api.run("r1", "SCHEDULED")
    hand_clock.turn(FAILED_SECONDS)
    assert follower.step()
    assert arrivals.get(ledger, arrival).state == "running"
    assert states(ledger) == {"a.csv": "staged", "b.csv": "staged"}

    api.artifacts.clear()
    api.run("r1", "COMPLETED")
    api.report("m-1", "r1", a="loaded", b="skipped")
    assert follower.step()
    assert arrivals.get(ledger, arrival).state == "loaded"
    assert states(ledger) == {"a.csv": "loaded", "b.csv": "loaded"}
    assert not (tmp_path / "failed" / "arrivals" / "m-1").exists()


def test_failed_arrivals_are_asked_about_now_and_then_only(ledger, follower, api, arrival, hand_clock):
    api.run("r1", "FAILED")
    follower.step()
    asked = len(api.asked)
    for _ in range(20):
        hand_clock.turn(FAILED_SECONDS / 20.5)
        follower.step()
    assert len(api.asked) <= asked + 1


def remember(api, run_id: str, state: str = "Pending") -> None:
    """Have the server keep an event of a run, as it does when the run itself is deleted."""
    resource = {"prefect.resource.id": f"prefect.flow-run.{run_id}"}
    occurred = "2026-11-24T09:00:00+00:00"
    api.events.append(
        {"id": "p", "event": f"prefect.flow-run.{state}", "occurred": occurred, "resource": resource, "related": []}
    )


@pytest.mark.parametrize(
    ("state_type", "message", "reason"),
    [
        ("CANCELLED", "", "Cancelled"),
        ("FAILED", "no source", "Failed: no source"),
        (None, "", "its run was deleted"),
    ],
)
@pytest.mark.usefixtures("arrival")
def test_a_run_that_ends_otherwise_gives_each_file_its_reason(
    ledger, follower, api, tmp_path, state_type, message, reason
):
    if state_type:
        api.run("r1", state_type, message=message)
    else:
        remember(api, "r1")
    assert follower.step()
    assert arrivals.get(ledger, "m-1").state == "failed"
    shown = tmp_path / "failed" / "arrivals" / "m-1"
    assert (shown / "REASONS.txt").read_text() == f"a.csv: {reason}\nb.csv: {reason}\n"


def test_columns_that_were_widened_are_reported_once_with_the_outcome(ledger, follower, api, arrival):
    api.run("r1", "COMPLETED")
    api.report("m-1", "r1", a="loaded", b="loaded")
    line = 'column "a" is widened from BIGINT to DOUBLE'
    table = json.loads(api.artifacts[-1]["data"])
    table[1] |= {"file": "b\n.csv", "widened": [line]}
    api.artifacts[-1]["data"] = json.dumps(table)
    assert follower.step()
    follower.step()
    [stored] = notices.unsent(ledger, 10)
    assert (stored.notice.event, stored.notice.inbox) == (COLUMNS_WIDENED, "metrics")
    assert stored.notice.payload["subject"] == "A file of inbox metrics has widened a column"
    assert f"b\\n.csv: {line}" in stored.notice.payload["text"].splitlines()


def failed_arrivals(ledger) -> list[str]:
    """Return what is reported of arrivals that failed."""
    return [one.notice.payload["reason"] for one in notices.unsent(ledger, 10) if one.notice.event == ARRIVAL_FAILED]


@pytest.mark.parametrize(
    ("state_type", "message", "alerts"),
    [
        ("CANCELLED", "", ["Cancelled"]),
        ("CANCELLED", "no more of this", ["Cancelled: no more of this"]),
        (None, "", ["its run was deleted"]),
        ("FAILED", "no source", []),  # the run's own alert reports that
        ("COMPLETED", "", []),
    ],
)
@pytest.mark.usefixtures("arrival")
def test_an_arrival_that_fails_without_a_failed_run_is_reported_once(
    ledger, follower, api, state_type, message, alerts
):
    if state_type:
        api.run("r1", state_type, message=message)
    else:
        remember(api, "r1")
    for _ in range(3):
        follower.step()
    assert failed_arrivals(ledger) == alerts


LIMITED = "Deployment concurrency limit reached."


@pytest.mark.usefixtures("arrival")
def test_a_run_that_a_concurrency_limit_cancelled_is_started_again_with_growing_pauses_up_to_a_bound(
    ledger, follower, api, hand_clock
):
    pauses = []
    for attempt in range(2, UNSTARTED_LIMIT + 1):
        api.run(f"r{attempt - 1}", "CANCELLED", message=LIMITED)
        follower.step()
        (row,) = ledger.rows("SELECT state, reason, announce_after FROM arrivals")
        assert (row["state"], row["reason"]) == (
            "staged",
            f"run run-r{attempt - 1} was cancelled before it started: {LIMITED}",
        )
        pauses.append((datetime.fromisoformat(row["announce_after"]) - hand_clock.now).total_seconds())
        ledger.change(
            "INSERT INTO announcements VALUES (?, 'm-1', ?, '2026-11-24T09:00:00+00:00', NULL, NULL, ?)",
            (f"e{attempt}", attempt, f"r{attempt}"),
        )
        ledger.change("UPDATE arrivals SET state = 'running', attempt = ?, run_id = ?", (attempt, f"r{attempt}"))
    assert pauses == [15, 30, 60, 120, 240, 480, 600, 600, 600]
    assert failed_arrivals(ledger) == []
    api.run(f"r{UNSTARTED_LIMIT}", "CANCELLED", message=LIMITED)
    follower.step()
    assert arrivals.get(ledger, "m-1").state == "failed"
    assert failed_arrivals(ledger) == [f"Cancelled: {LIMITED}"]


@pytest.mark.usefixtures("arrival")
def test_a_run_that_was_cancelled_while_it_ran_is_not_started_again_whatever_its_message(ledger, follower, api):
    api.run("r1", "CANCELLED", message=LIMITED)
    api.runs[-1]["run_count"] = 1
    follower.step()
    assert arrivals.get(ledger, "m-1").state == "failed"


@pytest.mark.parametrize(("seen", "state"), [("Scheduled", "staged"), ("Late", "staged"), ("Running", "failed")])
@pytest.mark.usefixtures("arrival")
def test_a_deleted_run_is_started_again_unless_a_worker_had_taken_it(ledger, follower, api, seen, state):
    remember(api, "r1", seen)
    follower.step()
    assert arrivals.get(ledger, "m-1").state == state
    assert failed_arrivals(ledger) == ([] if state == "staged" else ["its run was deleted"])


def test_an_arrival_whose_run_the_server_never_heard_of_is_announced_again(ledger, follower, api, arrival):
    remember(api, "another's")
    assert follower.step()
    found = arrivals.get(ledger, arrival)
    assert (found.state, found.run_id, found.attempt) == ("staged", None, 1)
    assert states(ledger) == {"a.csv": "staged", "b.csv": "staged"}
    assert [one.id for one in arrivals.to_announce(ledger, follower.clock.utc())] == [arrival]


def test_a_crashed_run_is_announced_again_up_to_a_limit(ledger, follower, api, arrival, hand_clock):
    for attempt in range(2, 6):
        api.run(f"r{attempt - 1}", "CRASHED", message="killed")
        follower.step()
        assert arrivals.get(ledger, arrival).state == "staged"
        ledger.change(
            "INSERT INTO announcements VALUES (?, 'm-1', ?, '2026-11-24T09:00:00+00:00', NULL, NULL, ?)",
            (f"e{attempt}", attempt, f"r{attempt}"),
        )
        ledger.change("UPDATE arrivals SET state = 'running', attempt = ?, run_id = ?", (attempt, f"r{attempt}"))
    api.run("r5", "CRASHED", message="killed")
    follower.step()
    assert arrivals.get(ledger, arrival).state == "failed"


def crashed(api) -> list[str]:
    assert {(run_id, state["type"]) for run_id, state in api.states_set} <= {("r1", "CRASHED")}
    return [state["message"] for _, state in api.states_set]


@pytest.mark.parametrize(
    ("state_type", "after", "message"),
    [
        ("RUNNING", 101, "its process has given no sign of life for 100 s"),
        ("PENDING", 121, "its process has not started for 120 s"),
    ],
)
def test_a_run_that_is_lost_is_set_to_crashed(follower, api, arrival, hand_clock, state_type, after, message):
    api.run("r1", state_type, since=hand_clock.now.isoformat())
    hand_clock.turn(after - 2)
    follower.step()
    assert crashed(api) == []
    hand_clock.turn(2)
    follower.step()
    assert crashed(api) == [message]


def test_a_run_that_sends_heartbeats_is_alive_however_long_it_takes(follower, api, arrival, hand_clock):
    api.run("r1", "RUNNING", since=hand_clock.now.isoformat())
    api.events = [
        {"id": "h", "event": HEARTBEAT, "occurred": "2026-11-24T09:00:00+00:00", "resource": {}, "related": []}
    ]
    hand_clock.turn(5000)
    follower.step()
    assert crashed(api) == []


def test_a_run_that_waits_for_a_worker_is_not_lost(follower, api, arrival, hand_clock):
    api.run("r1", "SCHEDULED", since=hand_clock.now.isoformat())
    hand_clock.turn(5000)
    follower.step()
    assert crashed(api) == []


def test_while_the_server_was_away_no_run_is_called_silent(follower, api, arrival, hand_clock):
    api.run("r1", "RUNNING", since=hand_clock.now.isoformat())
    hand_clock.turn(5000)
    follower.api.unreached_at = hand_clock.now - timedelta(seconds=10)
    follower.step()
    assert crashed(api) == []
