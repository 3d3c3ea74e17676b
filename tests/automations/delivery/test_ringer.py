"""Ringing a bell whose outbox cannot be written."""

from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from automations.alert_service import AlertService, Dispatcher, EnqueueResult
from tests.postings import policy, posting
from tests.receiver import Receiver, receiving

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


@pytest.fixture
def receiver() -> Generator[Receiver, None, None]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def ringer(tmp_path: Path, receiver: Receiver) -> Generator[AlertService, None, None]:
    """Rings a bell whose outbox takes nothing any more, as on a full disk."""
    bell = Dispatcher(tmp_path / "alerts.db", tmp_path / "alerts.log", policy(receiver.url()))
    ringer = AlertService(bell)
    bell.outbox.change("CREATE TRIGGER full BEFORE INSERT ON alerts BEGIN SELECT RAISE (FAIL, 'disk is full'); END")
    yield ringer
    ringer.close()
    bell.close()


def test_an_alert_that_cannot_be_written_down_is_delivered_at_once_and_not_again(
    ringer: AlertService, receiver: Receiver
) -> None:
    ringer.post(posting("one"), NOW)
    assert ringer.post(posting("one"), NOW) is EnqueueResult.KNOWN
    assert len(receiver.posts) == 1


def test_one_that_no_one_took_is_tried_again_when_it_is_posted_again(ringer: AlertService, receiver: Receiver) -> None:
    receiver.status = 500
    ringer.post(posting("one"), NOW)
    receiver.status = 200
    ringer.post(posting("one"), NOW)
    assert receiver.answers == [500, 200]
