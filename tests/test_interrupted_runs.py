"""What becomes of runs that were at work when the stack went down."""

from datetime import UTC, datetime, timedelta

from sensors.stack.interrupted_runs import is_interrupted, next_state

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def run(state_type, since=NOW):
    return {"id": "1", "state_type": state_type, "state": {"timestamp": since.isoformat()}}


def test_a_run_that_was_at_work_starts_again_at_once():
    state = next_state(run("RUNNING"), NOW)
    assert (state["type"], state["name"]) == ("SCHEDULED", "AwaitingRetry")
    assert state["state_details"] == {"scheduled_time": NOW.isoformat()}


def test_a_run_that_was_being_cancelled_is_cancelled_and_not_started_again():
    assert next_state(run("CANCELLING"), NOW)["type"] == "CANCELLED"


def test_a_run_that_changed_its_state_since_this_start_is_alive():
    assert is_interrupted(run("PENDING", NOW - timedelta(seconds=1)), NOW)
    assert not is_interrupted(run("PENDING", NOW + timedelta(seconds=1)), NOW)
