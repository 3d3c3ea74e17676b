"""Escalation: when the primary channels do not take an alert, the fallback gets it, and Prefect is told once."""

from collections.abc import Generator
from pathlib import Path

import pytest

from automations.delivery import deliver, digests, dispatcher
from automations.delivery.channels import FALLBACK, Channel
from automations.delivery.dispatcher import FALLBACK_AFTER, PRIMARY_FOR
from automations.delivery.enqueue import post
from automations.delivery.outbox import Outbox
from tests.postings import NOW, at, policy, posting

CONFIGURED = policy("json://127.0.0.1/one", "json://127.0.0.1/two", fallback_urls="json://127.0.0.1/fallback")
FIRST, SECOND = CONFIGURED.channels("alerts", ())
[RESERVE] = CONFIGURED.fallback_channels
AFTER = FALLBACK_AFTER.total_seconds()


@pytest.fixture
def outbox(tmp_path: Path) -> Generator[Outbox, None, None]:
    with Outbox(tmp_path / "alerts.db") as opened:
        yield opened


def attempt(outbox: Outbox, channel: Channel, seconds: float, *, works: bool = False) -> bool:
    one = deliver.claim(outbox, channel.id, at(seconds))
    if one is None:
        return False
    if works:
        deliver.record_delivered(outbox, one, channel, at(seconds))
    else:
        deliver.record_failed(outbox, one, channel, "refused", at(seconds))
    return True


def state(outbox: Outbox) -> str:
    return outbox.rows("SELECT state FROM alerts")[0]["state"]


def test_what_has_not_got_through_for_half_a_minute_goes_to_the_fallback_as_well(outbox: Outbox) -> None:
    post(outbox, posting(), CONFIGURED, NOW)
    attempt(outbox, FIRST, 0)
    assert dispatcher.step(outbox, CONFIGURED, at(AFTER - 1)) == 0
    assert dispatcher.step(outbox, CONFIGURED, at(AFTER)) == 1
    assert dispatcher.step(outbox, CONFIGURED, at(AFTER + 1)) == 0
    assert attempt(outbox, RESERVE, AFTER, works=True)


def test_the_primary_channels_are_tried_for_a_day_when_the_fallback_has_it(outbox: Outbox) -> None:
    post(outbox, posting(), CONFIGURED, NOW)
    attempt(outbox, FIRST, 0)
    dispatcher.step(outbox, CONFIGURED, at(AFTER))
    attempt(outbox, RESERVE, AFTER, works=True)
    day = PRIMARY_FOR.total_seconds()
    dispatcher.step(outbox, CONFIGURED, at(day))
    assert state(outbox) == "pending"
    dispatcher.step(outbox, CONFIGURED, at(AFTER + day + 1))
    assert state(outbox) == "delivered"


def test_it_is_over_when_the_primary_channels_have_it_after_all(outbox: Outbox) -> None:
    post(outbox, posting(), CONFIGURED, NOW)
    attempt(outbox, FIRST, 0)
    dispatcher.step(outbox, CONFIGURED, at(AFTER))
    for channel in (FIRST, SECOND):
        attempt(outbox, channel, 60, works=True)
    assert state(outbox) == "delivered"
    assert not attempt(outbox, RESERVE, 61)


def test_what_one_channel_has_taken_does_not_go_to_the_fallback(outbox: Outbox) -> None:
    post(outbox, posting(), CONFIGURED, NOW)
    attempt(outbox, FIRST, 0)
    attempt(outbox, SECOND, 0, works=True)
    assert dispatcher.step(outbox, CONFIGURED, at(99)) == 0


def test_what_was_not_tried_yet_does_not_go_to_the_fallback(outbox: Outbox) -> None:
    post(outbox, posting(), CONFIGURED, NOW)
    assert dispatcher.step(outbox, CONFIGURED, at(99)) == 0


def test_what_was_held_back_overnight_has_half_a_minute_of_its_own(outbox: Outbox) -> None:
    night = policy("json://127.0.0.1/one", fallback_urls="json://127.0.0.1/fallback", silence="08:00-10:00 UTC")
    post(outbox, posting(), night, NOW)
    digests.sum_up_due(outbox, night, at(3600))
    attempt(outbox, FIRST, 3600)
    assert dispatcher.step(outbox, night, at(3600 + AFTER - 1)) == 0
    assert dispatcher.step(outbox, night, at(3600 + AFTER)) == 1


def test_what_goes_to_the_fallback_itself_has_no_other(outbox: Outbox) -> None:
    post(outbox, posting(block=FALLBACK), CONFIGURED, NOW)
    attempt(outbox, RESERVE, 0)
    assert dispatcher.step(outbox, CONFIGURED, at(99)) == 0
    assert attempt(outbox, RESERVE, 99, works=True)


def test_without_a_fallback_the_primary_channels_are_tried_on(outbox: Outbox) -> None:
    alone = policy("json://127.0.0.1/one")
    post(outbox, posting(), alone, NOW)
    attempt(outbox, FIRST, 0)
    assert dispatcher.step(outbox, alone, at(10 * 86_400)) == 0
    assert attempt(outbox, FIRST, 10 * 86_400, works=True)


def test_a_channel_that_fails_is_reported_once_until_it_works_again(outbox: Outbox) -> None:
    post(outbox, posting(), CONFIGURED, NOW)
    attempt(outbox, FIRST, 0)
    attempt(outbox, FIRST, 2)
    assert dispatcher.failing_channels(outbox, at(AFTER - 1), unreported=True) == []
    [failing] = dispatcher.failing_channels(outbox, at(AFTER), unreported=True)
    assert (failing.channel, failing.name, failing.failure) == (FIRST.id, "1 (JSON)", "refused")
    assert (failing.failing_since, failing.waiting) == (NOW, 1)
    dispatcher.record_reported(outbox, failing.channel, at(AFTER))
    attempt(outbox, FIRST, AFTER + 5)
    assert dispatcher.failing_channels(outbox, at(99), unreported=True) == []
    assert [one.channel for one in dispatcher.failing_channels(outbox, at(99))] == [FIRST.id]
    attempt(outbox, FIRST, 200, works=True)
    assert dispatcher.failing_channels(outbox, at(999)) == []


def test_a_channel_for_which_nothing_waits_any_more_is_not_reported(outbox: Outbox) -> None:
    post(outbox, posting(), CONFIGURED, NOW)
    attempt(outbox, FIRST, 0)
    outbox.change("UPDATE alerts SET state = 'cancelled'")
    assert dispatcher.failing_channels(outbox, at(99), unreported=True) == []
