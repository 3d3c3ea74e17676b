"""What becomes of runs that were at work when the stack went down."""

from datetime import UTC, datetime, timedelta

from sensors.settings import Settings
from sensors.stack.interrupted_runs import is_interrupted, is_of, next_state

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


def test_with_several_machines_each_sees_to_the_runs_of_its_own_workers():
    given = {"profile": "scale", "database_url": "postgresql://db/prefect", "redis_url": "redis://cache"}
    here = Settings(node_name="here", **given)
    assert is_of(here, "here-2")
    assert is_of(here, "here-17")  # of a start that had more workers
    assert not is_of(here, "there-1")
    assert not is_of(here, "here-and-there-1")
    assert is_of(here, None)  # nobody has said that it has it


def test_on_a_machine_by_itself_every_run_is_its_own():
    assert is_of(Settings(), "what-this-machine-was-called-yesterday")
