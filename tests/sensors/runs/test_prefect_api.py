"""The calls of Prefect's API, and what the sensor makes of an answer that is none."""

import socket
from datetime import UTC, datetime

import pytest

from sensors.runs.api import ApiError, Event, NotReachedError, PrefectApi
from tests.receiver import receiving

EVENT = Event(
    "e1", "inbox.arrival.ready", datetime(2026, 11, 24, tzinfo=UTC), {"prefect.resource.id": "inbox.arrival.1"}
)


@pytest.fixture
def server():
    with receiving() as listening:
        yield listening


def test_an_event_is_sent_whole(server):
    with PrefectApi(server.page("/api"), "admin:secret") as api:
        api.emit([EVENT])
    ((path, (sent,)),) = server.posts
    assert path == "/api/events"
    assert sent == {
        "id": "e1",
        "event": "inbox.arrival.ready",
        "occurred": "2026-11-24T00:00:00+00:00",
        "resource": {"prefect.resource.id": "inbox.arrival.1"},
        "related": [],
        "payload": {},
    }


def test_a_server_that_is_too_busy_has_not_taken_the_event(server):
    server.status = 503
    with PrefectApi(server.page("/api"), None) as api, pytest.raises(NotReachedError, match="too busy"):
        api.emit([EVENT])


@pytest.mark.parametrize(
    ("status", "reported"),
    [(401, "refused the credentials; check PREFECT_API_AUTH_STRING"), (500, r"POST /events: 500")],
)
def test_an_answer_that_is_an_error_may_have_come_after_the_event_was_taken(server, status, reported):
    server.status = status
    with PrefectApi(server.page("/api"), None) as api, pytest.raises(ApiError, match=reported) as raised:
        api.emit([EVENT])
    assert not isinstance(raised.value, NotReachedError)


def test_a_server_that_was_not_there_is_knocked_at_before_it_is_asked_again(unreachable):
    with PrefectApi(unreachable, None) as api:
        api.knock()
        assert api.unreached_at is None, "it was never asked"
        with pytest.raises(NotReachedError):
            api.emit([EVENT])
        asked_at = api.unreached_at
        with pytest.raises(NotReachedError, match="nothing listens at"):
            api.knock()
        assert asked_at is not None
        assert api.unreached_at is not None
        assert api.unreached_at > asked_at


def test_a_server_that_is_back_is_asked_again():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        with PrefectApi(f"http://127.0.0.1:{listener.getsockname()[1]}/api", None) as api:
            with pytest.raises(NotReachedError):
                api.emit([EVENT])
            listener.listen()
            api.knock()
