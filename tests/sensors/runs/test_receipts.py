"""Receipts: what counts as one, and how long to wait for it."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from sensors.ledger.announcements import Receipt
from sensors.ledger.arrivals import Arrival
from sensors.ledger.states import ArrivalState
from sensors.runs.api import Event
from sensors.runs.receipts import (
    EXECUTED,
    FIRST_WAIT,
    LONGEST_WAIT,
    announced_event,
    is_overdue,
    patience,
    receipt_in,
)

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def related(role: str, resource_id: str, name: str = "") -> dict[str, str]:
    return {"prefect.resource.role": role, "prefect.resource.id": resource_id, "prefect.resource.name": name}


def executed(*others: dict[str, str]) -> Event:
    return Event("e2", EXECUTED, NOW, {"prefect.resource.id": "prefect.automation.1"}, list(others))


def test_a_receipt_names_the_event_and_the_run():
    event = executed(
        related("flow-run", "prefect.flow-run.r1", "wise-owl"),
        related("automation-triggered-event", "prefect.event.other"),
        related("triggering-event", "prefect.event.e1"),
    )
    assert announced_event(event) == "e1"
    assert receipt_in(event, "e1") == Receipt("e1", "r1", "wise-owl")


def test_an_action_that_started_no_run_is_no_receipt():
    assert receipt_in(executed(related("triggering-event", "prefect.event.e1")), "e1") is None
    assert announced_event(executed()) == ""


def test_patience_grows_with_each_attempt_up_to_a_limit():
    waits = [patience(attempt) for attempt in range(1, 20)]
    assert waits[0] == FIRST_WAIT
    assert all(later >= earlier for earlier, later in pairwise(waits))
    assert waits[-1] == LONGEST_WAIT


def test_an_arrival_is_overdue_when_its_patience_has_run_out():
    arrival = Arrival("a", "metrics", Path("/a"), ArrivalState.ANNOUNCED, 7, NOW, None, None, unanswered=2)
    assert not is_overdue(arrival, NOW + 2 * FIRST_WAIT - timedelta(seconds=1))
    assert is_overdue(arrival, NOW + 2 * FIRST_WAIT)


def test_an_arrival_that_was_announced_before_the_clock_was_set_back_does_not_wait_for_that_time():
    arrival = Arrival("a", "metrics", Path("/a"), ArrivalState.ANNOUNCED, 1, NOW, None, None, unanswered=1)
    assert is_overdue(arrival, NOW - timedelta(hours=1))
    assert not is_overdue(arrival, NOW - timedelta(seconds=1)), "two clocks may be a little apart"
