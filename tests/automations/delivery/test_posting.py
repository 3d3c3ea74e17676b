"""Posting an alert: once for its cause, for whom, and what becomes of it."""

import json
import sqlite3
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from automations.delivery import digests
from automations.delivery.channels import FALLBACK
from automations.delivery.enqueue import EnqueueResult, post
from automations.delivery.outbox import Outbox
from tests.postings import NOW, at, policy, posting

UNLESS = {"event": "sensor.heartbeat", "resource": "sensor.a", "after": NOW.isoformat(), "wait_seconds": 15}


@pytest.fixture
def outbox(tmp_path: Path) -> Generator[Outbox, None, None]:
    with Outbox(tmp_path / "alerts.db") as opened:
        yield opened


def state(outbox: Outbox, cause: str = "c-1") -> str | None:
    rows = outbox.rows("SELECT state FROM alerts WHERE cause = ?", (cause,))
    return rows[0]["state"] if rows else None


def channels_of(outbox: Outbox, cause: str = "c-1") -> set[str]:
    return {row["channel"] for row in outbox.rows("SELECT channel FROM deliveries WHERE cause = ?", (cause,))}


def test_an_alert_is_to_be_delivered_to_every_channel(outbox: Outbox) -> None:
    two = policy("json://127.0.0.1/a", "json://127.0.0.1/b")
    assert post(outbox, posting(), two, NOW) is EnqueueResult.PENDING
    assert channels_of(outbox) == set(two.all_channels)


def test_the_same_is_not_reported_twice_whatever_is_said_the_second_time(outbox: Outbox) -> None:
    post(outbox, posting(subject="first"), policy(), NOW)
    assert (
        post(outbox, posting(subject="second", group="another"), policy("json://127.0.0.1/b"), at(1))
        is EnqueueResult.KNOWN
    )
    assert [row["subject"] for row in outbox.rows("SELECT subject FROM alerts")] == ["first"]
    assert len(channels_of(outbox)) == 1


def test_what_is_reported_twice_shortly_after_each_other_is_reported_once(outbox: Outbox) -> None:
    post(outbox, posting("state-1", alias="run-1/1", occurred=at(0)), policy(), at(1))
    assert post(outbox, posting("state-2", alias="run-1/1", occurred=at(119)), policy(), at(120)) is EnqueueResult.KNOWN
    assert post(outbox, posting("state-2", alias="run-1/1", occurred=at(119)), policy(), at(121)) is EnqueueResult.KNOWN
    assert (state(outbox, "state-1"), state(outbox, "state-2")) == ("pending", "summed up")
    assert channels_of(outbox, "state-2") == set()


@pytest.mark.parametrize(("alias", "occurred"), [("run-1/2", 1), ("run-2/1", 1), ("run-1/1", 121), ("run-1/1", -121)])
def test_what_happened_to_another_run_or_after_another_start_or_much_later_is_reported(
    outbox: Outbox, alias: str, occurred: float
) -> None:
    post(outbox, posting("state-1", alias="run-1/1", occurred=at(0)), policy(), at(1))
    assert (
        post(outbox, posting("state-2", alias=alias, occurred=at(occurred)), policy(), at(122)) is EnqueueResult.PENDING
    )


def test_alerts_without_another_name_are_never_taken_for_the_same(outbox: Outbox) -> None:
    posted = [post(outbox, posting(cause, occurred=at(0)), policy(), at(1)) for cause in ("c-1", "c-2")]
    assert posted == [EnqueueResult.PENDING, EnqueueResult.PENDING]


def test_of_several_that_post_the_same_at_once_one_has_posted_it(outbox: Outbox) -> None:
    barrier = threading.Barrier(6)

    def post_it(_: int) -> EnqueueResult:
        with Outbox(outbox.path) as another:
            barrier.wait(30)
            return post(another, posting(), policy(), NOW)

    with ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(post_it, range(6))) == [EnqueueResult.KNOWN] * 5 + [EnqueueResult.PENDING]


def test_without_channels_it_has_got_through_as_the_log_has_it(outbox: Outbox) -> None:
    assert post(outbox, posting(), policy(""), NOW) is EnqueueResult.PENDING
    assert state(outbox) == "delivered"


def test_what_was_over_before_it_could_be_reported_is_not_reported(outbox: Outbox) -> None:
    assert post(outbox, posting(void=True), policy(), NOW) is EnqueueResult.CANCELLED
    assert state(outbox) is None


def test_a_tag_finds_its_channels_and_the_fallback_has_its_own(outbox: Outbox) -> None:
    routed = policy("json://127.0.0.1/a", routes="env:prod=json://127.0.0.1/p", fallback_urls="json://127.0.0.1/f")
    post(outbox, posting("p", tags=("env:prod",)), routed, NOW)
    post(outbox, posting("f", block=FALLBACK, tags=("env:prod",)), routed, NOW)
    assert channels_of(outbox, "p") == {one.id for one in routed.channels("alerts", ["env:prod"])}
    assert channels_of(outbox, "f") == {one.id for one in routed.fallback_channels}


def test_what_goes_to_the_fallback_is_reported_in_a_storm_and_in_silence(outbox: Outbox) -> None:
    strict = policy(storm="1/10m", silence="00:00-24:00 UTC", fallback_urls="json://127.0.0.1/f")
    for number in range(3):
        assert post(outbox, posting(f"c-{number}", block=FALLBACK, group="x"), strict, NOW) is EnqueueResult.PENDING


def end(outbox: Outbox, seconds: float, cause: str = "back") -> EnqueueResult:
    return post(outbox, posting(cause, ends="trouble"), policy(), at(seconds))


def test_the_end_of_a_trouble_is_reported_once_and_only_where_the_trouble_was_reported(outbox: Outbox) -> None:
    assert end(outbox, 0, "unheard of") is EnqueueResult.CANCELLED
    post(outbox, posting(opens="trouble"), policy(), at(1))
    assert end(outbox, 2) is EnqueueResult.PENDING
    assert end(outbox, 3, "back again") is EnqueueResult.CANCELLED


def test_a_trouble_that_begins_twice_ends_once(outbox: Outbox) -> None:
    for number in range(2):
        post(outbox, posting(f"c-{number}", opens="trouble"), policy(), NOW)
    assert end(outbox, 1) is EnqueueResult.PENDING
    assert end(outbox, 2, "back again") is EnqueueResult.CANCELLED


def test_the_end_of_a_trouble_that_still_waits_calls_it_off_and_neither_is_reported(outbox: Outbox) -> None:
    assert post(outbox, posting(opens="trouble", unless=UNLESS), policy(), NOW) is EnqueueResult.WAITING
    assert end(outbox, 1) is EnqueueResult.CANCELLED
    assert state(outbox) == "cancelled"


def test_a_trouble_whose_alert_is_gathered_has_its_end_gathered_as_well(outbox: Outbox) -> None:
    night = policy(silence="08:00-10:00 UTC")
    post(outbox, posting(opens="trouble"), night, NOW)
    assert post(outbox, posting("back", ends="trouble"), night, at(1)) is EnqueueResult.GATHERED


def test_an_alert_that_an_event_may_make_needless_waits_for_it(outbox: Outbox) -> None:
    asked: list[str] = []

    def has_come(unless: Any) -> bool:
        asked.append(unless.event)
        return False

    assert post(outbox, posting(unless=UNLESS), policy(), NOW) is EnqueueResult.WAITING
    digests.release_waiting(outbox, policy(), has_come, at(14))
    assert (state(outbox), channels_of(outbox)) == ("waiting", set())
    digests.release_waiting(outbox, policy(), has_come, at(15))
    assert state(outbox) == "pending"
    assert channels_of(outbox) == set(policy().all_channels)
    assert asked == ["sensor.heartbeat"] * 2


def test_the_event_calls_it_off_and_its_trouble_has_no_end_to_report(outbox: Outbox) -> None:
    post(outbox, posting(opens="trouble", unless=UNLESS), policy(), NOW)
    digests.release_waiting(outbox, policy(), lambda _: True, at(1))
    assert state(outbox) == "cancelled"
    assert end(outbox, 2) is EnqueueResult.CANCELLED


def test_one_of_which_no_one_can_say_whether_it_is_needless_is_reported_a_while_later(outbox: Outbox) -> None:
    post(outbox, posting(unless=UNLESS), policy(), NOW)
    patience = at(60) - NOW
    digests.release_overdue(outbox, policy(), at(74), patience)
    assert state(outbox) == "waiting"
    digests.release_overdue(outbox, policy(), at(75), patience)
    assert state(outbox) == "pending"


def test_one_that_has_waited_counts_for_a_storm_from_then_on(outbox: Outbox) -> None:
    strict = policy(storm="1/10s")
    post(outbox, posting("a", group="g", unless=UNLESS), strict, NOW)
    post(outbox, posting("b", group="g", unless=UNLESS), strict, NOW)
    digests.release_waiting(outbox, strict, lambda _: False, at(15))
    assert (state(outbox, "a"), state(outbox, "b")) == ("pending", "gathered")


def test_what_is_long_over_is_forgotten_with_its_deliveries(outbox: Outbox) -> None:
    for cause, seconds in (("old", 0), ("new", 100)):
        post(outbox, posting(cause), policy(), at(seconds))
    outbox.change("UPDATE alerts SET state = 'delivered', delivered_at = told_at")
    assert digests.forget_old(outbox, at(50)) == 1
    assert (state(outbox, "old"), channels_of(outbox, "old")) == (None, set())
    assert state(outbox, "new") == "delivered"


def test_what_was_not_delivered_is_forgotten_only_if_it_was_tried_often(outbox: Outbox) -> None:
    for cause in ("tried", "of a clock that was not set"):
        post(outbox, posting(cause), policy(), NOW)
    outbox.change("UPDATE deliveries SET attempts = 100 WHERE cause = 'tried'")
    assert digests.forget_old(outbox, at(50 * 365 * 86_400)) == 1
    assert state(outbox, "of a clock that was not set") == "pending"


def test_nothing_is_written_if_the_channels_cannot_be(outbox: Outbox) -> None:
    outbox.change("CREATE TEMP TRIGGER full BEFORE INSERT ON deliveries BEGIN SELECT RAISE(FAIL, 'disk full'); END")
    with pytest.raises(sqlite3.Error, match="disk full"):
        post(outbox, posting(opens="trouble"), policy(), NOW)
    assert state(outbox) is None
    assert outbox.rows("SELECT * FROM troubles") == []


def test_no_url_is_in_the_outbox(outbox: Outbox) -> None:
    secret = policy("json://me:hunter22@127.0.0.1/s3cr3tt0ken", routes="env:prod=json://127.0.0.1/t0kent0ken")
    post(outbox, posting(tags=("env:prod",)), secret, NOW)
    post(outbox, posting("c-2"), secret, NOW)
    tables = [row["name"] for row in outbox.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    kept = json.dumps([[dict(row) for row in outbox.rows(f"SELECT * FROM {table}")] for table in tables])
    for reported in (kept, repr(secret)):
        assert not [word for word in ("hunter22", "s3cr3tt0ken", "t0kent0ken") if word in reported]
