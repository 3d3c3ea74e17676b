"""What a person is to be told goes to Prefect once, and again as long as Prefect does not have it."""

import pytest

from sensors.ledger import notices
from sensors.ledger.notices import Notice
from sensors.runs.announcer import NoticeSender
from sensors.runs.api import NotReachedError, PrefectApi
from tests.receiver import receiving


def note(ledger, hand_clock, key: str) -> None:
    with ledger.transaction():
        notices.write(ledger, Notice(key, "inbox.overdue", "metrics", {"subject": key}), hand_clock.now)


def test_notices_are_sent_in_their_order_and_once(ledger, hand_clock):
    with receiving() as server, PrefectApi(server.page("/api"), None) as api:
        messenger = NoticeSender(ledger, api, hand_clock.clock)
        for key in ("one", "two"):
            note(ledger, hand_clock, key)
            hand_clock.turn(1)
        assert messenger.step()
        assert not messenger.step()
    ((_, sent),) = server.posts
    assert [event["payload"] for event in sent] == [
        {"inbox": "metrics", "subject": "one"},
        {"inbox": "metrics", "subject": "two"},
    ]
    assert sent[0]["resource"]["prefect.resource.id"] != sent[1]["resource"]["prefect.resource.id"]
    assert sent[0]["related"] == [{"prefect.resource.id": "inbox.metrics", "prefect.resource.role": "inbox"}]


def test_without_a_server_they_are_kept_and_have_the_same_event_id_later(ledger, hand_clock, unreachable):
    note(ledger, hand_clock, "one")
    with PrefectApi(unreachable, None) as api, pytest.raises(NotReachedError):
        NoticeSender(ledger, api, hand_clock.clock).step()
    (kept,) = notices.unsent(ledger, 10)
    with receiving() as server, PrefectApi(server.page("/api"), None) as api:
        NoticeSender(ledger, api, hand_clock.clock).step()
    ((_, (sent,)),) = server.posts
    assert sent["id"] == kept.notice.event_id


def test_the_same_is_not_reported_twice(ledger, hand_clock):
    note(ledger, hand_clock, "one")
    note(ledger, hand_clock, "one")
    assert len(notices.unsent(ledger, 10)) == 1
