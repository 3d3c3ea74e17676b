"""Deliveries in the outbox: who may try what when, and what is written down of it."""

from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from automations.delivery import deliver as deliveries
from automations.delivery import dispatcher
from automations.delivery.channels import Channel
from automations.delivery.deliver import CLAIM, FIRST_PAUSE, LONGEST_PAUSE, DeliveryClaim, pause
from automations.delivery.enqueue import post
from automations.delivery.outbox import Outbox
from tests.postings import NOW, at, policy, posting

ONE, TWO, FALLBACK = "json://127.0.0.1/one", "json://127.0.0.1/two", "json://127.0.0.1/fallback"
BOTH = policy(ONE, TWO, storm="99/1s")
FIRST, SECOND = BOTH.channels("alerts", ())


@pytest.fixture
def outbox(tmp_path: Path) -> Generator[Outbox, None, None]:
    with Outbox(tmp_path / "alerts.db") as opened:
        yield opened


def claim(outbox: Outbox, channel: Channel = FIRST, seconds: float = 0) -> str | None:
    claimed = deliveries.claim(outbox, channel.id, at(seconds))
    return claimed and claimed.cause


def claimed(outbox: Outbox, channel: Channel = FIRST, seconds: float = 0) -> DeliveryClaim:
    found = deliveries.claim(outbox, channel.id, at(seconds))
    assert found is not None
    return found


def fail(outbox: Outbox, channel: Channel = FIRST, seconds: float = 0, why: str = "refused") -> str:
    one = claimed(outbox, channel, seconds)
    deliveries.record_failed(outbox, one, channel, why, at(seconds))
    return one.cause


def deliver(outbox: Outbox, channel: Channel = FIRST, seconds: float = 0) -> str:
    one = claimed(outbox, channel, seconds)
    assert deliveries.record_delivered(outbox, one, channel, at(seconds))
    return one.cause


def state(outbox: Outbox, cause: str = "c-1") -> str:
    return outbox.rows("SELECT state FROM alerts WHERE cause = ?", (cause,))[0]["state"]


def test_pauses_grow_up_to_two_minutes() -> None:
    pauses = [pause(failures).total_seconds() for failures in range(1, 12)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 120, 120, 120, 120]
    assert pause(10_000) == LONGEST_PAUSE


def test_an_alert_is_delivered_when_every_channel_has_it(outbox: Outbox) -> None:
    post(outbox, posting(), BOTH, NOW)
    deliver(outbox, FIRST)
    assert state(outbox) == "pending"
    deliver(outbox, SECOND)
    assert state(outbox) == "delivered"
    assert claim(outbox, FIRST, 9999) is None


def test_only_one_of_many_gets_a_claim(outbox: Outbox) -> None:
    post(outbox, posting(), BOTH, NOW)

    def try_it(_: int) -> DeliveryClaim | None:
        with Outbox(outbox.path) as another:
            return deliveries.claim(another, FIRST.id, NOW)

    with ThreadPoolExecutor(8) as threads:
        assert sum(one is not None for one in threads.map(try_it, range(8))) == 1


def test_who_waits_for_the_outbox_with_an_older_time_takes_no_claim_away(outbox: Outbox) -> None:
    post(outbox, posting(), BOTH, NOW)
    assert claim(outbox, seconds=5) == "c-1"
    assert claim(outbox, seconds=4.9) is None, "it read the clock, and another was quicker"


def test_of_several_that_deliver_by_their_own_clocks_each_alert_is_claimed_by_one(outbox: Outbox) -> None:
    causes = {f"c-{number}" for number in range(100)}
    for cause in causes:
        post(outbox, posting(cause), BOTH, datetime.now(UTC))

    def drain(_: int) -> list[str]:
        with Outbox(outbox.path) as own:
            return [one.cause for one in iter(lambda: deliveries.claim(own, FIRST.id, datetime.now(UTC)), None)]

    with ThreadPoolExecutor(4) as threads:
        taken = Counter(cause for some in threads.map(drain, range(4)) for cause in some)
    assert taken == Counter(causes)


def test_the_oldest_comes_first(outbox: Outbox) -> None:
    for cause in ("b", "a", "c"):
        post(outbox, posting(cause), BOTH, NOW)
    assert [claim(outbox) for _ in range(4)] == ["b", "a", "c", None]


def test_a_claim_of_a_process_that_was_killed_expires(outbox: Outbox) -> None:
    post(outbox, posting(), BOTH, NOW)
    assert claim(outbox) == "c-1"
    assert claim(outbox, seconds=CLAIM.total_seconds() - 1) is None
    again = claimed(outbox, seconds=CLAIM.total_seconds())
    assert (again.cause, again.attempt) == ("c-1", 2)


def test_a_claim_lasts_longer_than_an_attempt() -> None:
    assert timedelta(seconds=deliveries.TIME_LIMIT_SECONDS) < CLAIM


def test_a_late_failure_takes_no_one_elses_claim_away(outbox: Outbox) -> None:
    post(outbox, posting(), BOTH, NOW)
    late = claimed(outbox)
    assert claim(outbox, seconds=60) == "c-1"
    deliveries.record_failed(outbox, late, FIRST, "no answer", at(61))
    assert claim(outbox, seconds=64) is None


def test_a_late_success_is_a_success(outbox: Outbox) -> None:
    post(outbox, posting(), policy(ONE), NOW)
    late, again = claimed(outbox), claimed(outbox, seconds=60)
    assert deliveries.record_delivered(outbox, late, FIRST, at(61))
    assert not deliveries.record_delivered(outbox, again, FIRST, at(62))
    assert state(outbox) == "delivered"


def test_after_a_failure_the_channel_rests_and_the_other_goes_on(outbox: Outbox) -> None:
    for number in range(2):
        post(outbox, posting(f"c-{number}"), BOTH, NOW)
    fail(outbox)
    rest = FIRST_PAUSE.total_seconds()
    assert not deliveries.has_something_due(outbox, FIRST.id, at(rest / 2))
    assert claim(outbox, seconds=rest / 2) is None
    assert deliveries.has_something_due(outbox, SECOND.id, at(rest / 2))
    assert deliveries.has_something_due(outbox, FIRST.id, at(rest))
    assert claim(outbox, seconds=rest) == "c-1"


def test_an_alert_that_a_channel_never_takes_blocks_no_other(outbox: Outbox) -> None:
    post(outbox, posting("poison"), BOTH, NOW)
    taken: list[str] = []
    seconds = 0.0
    for number in range(5):
        post(outbox, posting(f"c-{number}"), BOTH, at(seconds))
        for _ in range(2):
            seconds += 200
            one = claimed(outbox, FIRST, seconds)
            if one.cause == "poison":
                deliveries.record_failed(outbox, one, FIRST, "too long", at(seconds))
            else:
                deliveries.record_delivered(outbox, one, FIRST, at(seconds))
                taken.append(one.cause)
    assert taken == [f"c-{number}" for number in range(5)]


def test_one_attempt_at_a_certain_alert_heeds_no_pause(outbox: Outbox) -> None:
    for number in range(2):
        post(outbox, posting(f"c-{number}"), BOTH, NOW)
    fail(outbox)
    found = deliveries.claim(outbox, FIRST.id, at(0.1), "c-1")
    assert found is not None
    assert found.cause == "c-1"
    assert deliveries.claim(outbox, FIRST.id, at(0.1), "c-1") is None


def test_a_clock_that_was_set_back_stops_nothing_for_longer_than_a_pause(outbox: Outbox) -> None:
    for number in range(2):
        post(outbox, posting(f"c-{number}"), BOTH, at(86_400))
    fail(outbox, seconds=86_400)
    assert claim(outbox, seconds=86_401) == "c-1"  # and killed
    assert deliveries.has_something_due(outbox, FIRST.id, NOW)
    assert {claim(outbox), claim(outbox)} == {"c-0", "c-1"}


def test_the_next_failure_is_reported_with_the_one_before_it(outbox: Outbox) -> None:
    post(outbox, posting(), BOTH, NOW)
    assert claimed(outbox).last_failure is None
    fail(outbox, seconds=60, why="refused")
    assert claimed(outbox, seconds=120).last_failure == "refused"


def test_a_url_that_was_mended_is_tried_at_once_and_is_the_same_channel(outbox: Outbox) -> None:
    wrong, mended = policy("json://me:wr0ng@127.0.0.1/one"), policy("json://me:r1ght@127.0.0.1/one")
    [channel], [same] = wrong.channels("alerts", ()), mended.channels("alerts", ())
    assert channel.id == same.id
    post(outbox, posting(), wrong, NOW)
    for seconds in (0, 10, 20, 40):
        fail(outbox, channel, seconds)
    deliveries.retarget(outbox, mended, at(41))
    assert deliver(outbox, same, 41) == "c-1"


def test_a_url_that_was_added_gets_what_waits_and_nothing_else(outbox: Outbox) -> None:
    alone = policy(ONE)
    post(outbox, posting("had"), alone, NOW)
    deliver(outbox)
    post(outbox, posting("waits"), alone, NOW)
    deliveries.retarget(outbox, BOTH, at(1))
    assert [claim(outbox, SECOND, 1), claim(outbox, SECOND, 1)] == ["waits", None]


def test_a_url_that_was_removed_is_waited_for_no_longer(outbox: Outbox) -> None:
    for number in range(2):
        post(outbox, posting(f"c-{number}"), BOTH, NOW)
    assert deliver(outbox, FIRST) == "c-0"
    fail(outbox, SECOND)
    deliveries.retarget(outbox, policy(ONE), at(1))
    assert (state(outbox, "c-0"), state(outbox, "c-1")) == ("delivered", "pending")
    assert deliver(outbox, FIRST, 1) == "c-1"
    assert dispatcher.failing_channels(outbox, at(9999)) == []


def test_what_was_delivered_is_not_delivered_again_whatever_is_configured(outbox: Outbox) -> None:
    post(outbox, posting(), policy(ONE), NOW)
    deliver(outbox)
    deliveries.retarget(outbox, policy(TWO), at(1))
    deliveries.retarget(outbox, BOTH, at(2))
    assert (claim(outbox, FIRST, 3), claim(outbox, SECOND, 3)) == (None, None)


def test_a_result_for_a_url_that_was_removed_meanwhile_leaves_the_alert_to_the_others(outbox: Outbox) -> None:
    post(outbox, posting(), policy(ONE), NOW)
    sent = claimed(outbox)
    deliveries.retarget(outbox, policy(TWO), at(1))
    deliveries.record_failed(outbox, sent, FIRST, "refused", at(2))
    assert deliver(outbox, SECOND, 2) == "c-1"
    assert state(outbox) == "delivered"


def test_what_was_taken_while_its_url_was_removed_is_not_sent_again_when_it_is_put_back(outbox: Outbox) -> None:
    post(outbox, posting(), policy(ONE), NOW)
    sent = claimed(outbox)
    deliveries.retarget(outbox, policy(TWO), at(1))
    deliveries.record_delivered(outbox, sent, FIRST, at(2))
    deliveries.retarget(outbox, BOTH, at(3))
    assert claim(outbox, FIRST, 99) is None
    assert claim(outbox, SECOND, 99) == "c-1"


def test_what_was_forgotten_while_it_was_sent_is_no_error(outbox: Outbox) -> None:
    post(outbox, posting(), BOTH, NOW)
    sent = claimed(outbox)
    outbox.change("DELETE FROM alerts")
    assert not deliveries.record_delivered(outbox, sent, FIRST, at(1))


def leave_open(outbox: Outbox, seconds: float = 0) -> datetime:
    one = claimed(outbox, seconds=seconds)
    return deliveries.record_failed(outbox, one, FIRST, "no answer", at(seconds), is_open=True)


HOUR = 3600


def test_an_alert_that_is_perhaps_delivered_waits_for_an_hour_and_then_longer_each_time(outbox: Outbox) -> None:
    post(outbox, posting(), policy(ONE), NOW)
    assert leave_open(outbox) == at(HOUR)
    assert claim(outbox, seconds=HOUR - 1) is None
    assert leave_open(outbox, HOUR) == at(2 * HOUR)
    assert leave_open(outbox, 2 * HOUR) == at(4 * HOUR)
    assert leave_open(outbox, 100 * HOUR) == at(124 * HOUR)
    deliver(outbox, FIRST, 124 * HOUR)
    assert state(outbox) == "delivered"


def test_a_plain_failure_after_that_does_not_make_copies_any_faster(outbox: Outbox) -> None:
    post(outbox, posting(), policy(ONE), NOW)
    leave_open(outbox)
    fail(outbox, seconds=HOUR)
    assert claim(outbox, seconds=2 * HOUR - 1) is None
    assert claimed(outbox, seconds=2 * HOUR).perhaps_at == NOW


def test_another_alert_to_the_same_channel_does_not_wait_for_an_hour(outbox: Outbox) -> None:
    post(outbox, posting(), policy(ONE), NOW)
    leave_open(outbox)
    post(outbox, posting("c-2"), policy(ONE), NOW)
    assert claim(outbox, seconds=2) == "c-2"


def test_an_alert_that_is_perhaps_delivered_goes_to_the_fallback_too(outbox: Outbox) -> None:
    configured = policy(ONE, fallback_urls=FALLBACK)
    post(outbox, posting(), configured, NOW)
    leave_open(outbox)
    dispatcher.step(outbox, configured, at(31))
    [fallback] = configured.fallback_channels
    assert claim(outbox, fallback, 31) == "c-1"


def test_a_restart_or_a_mended_address_sends_no_copy_of_it(outbox: Outbox) -> None:
    post(outbox, posting(), policy(ONE), NOW)
    leave_open(outbox)
    deliveries.retarget(outbox, policy(ONE), at(60))
    assert claim(outbox, seconds=61) is None


def test_a_service_that_asks_to_wait_is_left_alone_that_long(outbox: Outbox) -> None:
    for cause in ("c-1", "c-2"):
        post(outbox, posting(cause), policy(ONE), NOW)
    one = claimed(outbox)
    assert deliveries.record_failed(outbox, one, FIRST, "429", NOW, retry_after=300) == at(300)
    assert claim(outbox, seconds=299) is None
    assert claim(outbox, seconds=300) == "c-2"


def test_a_clock_that_is_set_back_keeps_neither_waiting(outbox: Outbox) -> None:
    post(outbox, posting(), policy(ONE), NOW)
    leave_open(outbox, 10 * HOUR)
    assert claim(outbox, seconds=0) == "c-1"
