"""Announcing while there is no server to announce to."""

import socket

import pytest

from sensors.announce import Announcer
from sensors.ledger import announcements, arrivals
from sensors.ledger.states import ArrivalState
from sensors.prefect_api import NotReachedError, PrefectApi


@pytest.fixture
def nobody():
    """The address of an API where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/api"


def test_without_a_server_an_arrival_stays_staged_and_no_attempt_is_counted(ledger, hand_clock, nobody):
    ledger.change(
        "INSERT INTO arrivals (id, inbox, folder, state, created_at, staged_at)"
        " VALUES ('metrics-1', 'metrics', '/arrivals/1', 'staged', '2026', '2026')"
    )
    with PrefectApi(nobody, None) as api:
        announcer = Announcer(ledger, api, hand_clock.clock)
        for _ in range(3):
            with pytest.raises(NotReachedError, match="nobody listens at"):
                announcer.step()
    (arrival,) = arrivals.in_state(ledger, ArrivalState.STAGED)
    assert arrival.attempt == 0
    assert announcements.awaiting_receipt(ledger) == []
