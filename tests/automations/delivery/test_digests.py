"""Digests in the outbox: a storm or a night, from the first alert to the last message."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from threading import Barrier

import pytest

from automations.delivery import digests, enqueue
from automations.delivery.channels import Policy
from automations.delivery.enqueue import EnqueueResult, post
from automations.delivery.outbox import Outbox
from automations.delivery.rate_limit import Gathering
from tests.postings import NOW, at, policy, posting

STORM = policy(storm="2/10m")
NIGHT = policy(storm="2/10m", silence="08:00-10:00 UTC", silence_except="env:prod")
MORNING = at(3600)


@pytest.fixture
def outbox(tmp_path: Path) -> Generator[Outbox, None, None]:
    with Outbox(tmp_path / "alerts.db") as opened:
        yield opened


def post_some(
    outbox: Outbox,
    count: int,
    configured: Policy,
    now: datetime = NOW,
    group: str = "daily",
    tags: tuple[str, ...] = (),
    prefix: str = "c",
) -> list[EnqueueResult]:
    some = [posting(f"{prefix}-{number}", group=group, tags=tags) for number in range(count)]
    return [post(outbox, one, configured, now) for one in some]


def subjects(outbox: Outbox, configured: Policy, now: datetime) -> list[str]:
    return [one.alert.subject for one in digests.sum_up_due(outbox, configured, now)]


def states(outbox: Outbox) -> dict[str, str]:
    return {row["cause"].partition("/")[0]: row["state"] for row in outbox.rows("SELECT cause, state FROM alerts")}


def channels_of(outbox: Outbox, cause: str) -> set[str]:
    return {row["channel"] for row in outbox.rows("SELECT channel FROM deliveries WHERE cause = ?", (cause,))}


def test_a_storm_is_two_messages_a_digest_a_minute_later_and_one_when_it_is_over(outbox: Outbox) -> None:
    assert post_some(outbox, 5, STORM) == [EnqueueResult.PENDING] * 2 + [EnqueueResult.GATHERED] * 3
    assert subjects(outbox, STORM, at(59)) == []
    assert subjects(outbox, STORM, at(60)) == ["3 alerts of daily"]
    assert subjects(outbox, STORM, at(61)) == []
    assert subjects(outbox, STORM, at(660)) == ["Quiet again: daily"]
    assert subjects(outbox, STORM, at(9999)) == []


def test_of_two_that_see_the_same_storm_due_one_reports_it(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    post_some(outbox, 5, STORM)
    both_have_seen, due = Barrier(2, timeout=10), enqueue.due

    def seen_by_both(own: Outbox, now: datetime) -> list[Gathering]:
        found = due(own, now)
        both_have_seen.wait()
        return found

    def deal(_: int) -> list[str]:
        with Outbox(outbox.path) as own:
            return subjects(own, STORM, at(60))

    monkeypatch.setattr(enqueue, "due", seen_by_both)
    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(deal, range(2))) == [[], ["3 alerts of daily"]]
    monkeypatch.undo()
    assert subjects(outbox, STORM, at(660)) == ["Quiet again: daily"]


def test_what_comes_between_two_digests_is_reported_by_the_next(outbox: Outbox) -> None:
    post_some(outbox, 4, STORM)
    digests.sum_up_due(outbox, STORM, at(60))
    assert post_some(outbox, 2, STORM, at(90), prefix="d") == [EnqueueResult.GATHERED] * 2
    assert subjects(outbox, STORM, at(660)) == ["2 alerts of daily"]
    message = digests.sum_up_due(outbox, STORM, at(1260))[0].alert
    assert "4 alerts were summed up" in message.body


def test_a_storm_that_no_digest_reported_ends_without_an_alert(outbox: Outbox) -> None:
    post_some(outbox, 3, STORM)
    assert subjects(outbox, STORM, at(60)) == []
    assert states(outbox) == {"c-0": "pending", "c-1": "pending", "c-2": "pending"}
    assert subjects(outbox, STORM, at(660)) == []
    assert outbox.rows("SELECT * FROM gatherings") == []


def test_after_a_storm_the_first_ones_are_reported_one_by_one_again(outbox: Outbox) -> None:
    post_some(outbox, 5, STORM)
    for moment in (60, 660):
        digests.sum_up_due(outbox, STORM, at(moment))
    assert post_some(outbox, 3, STORM, at(700), prefix="d") == [EnqueueResult.PENDING] * 2 + [EnqueueResult.GATHERED]


def test_one_group_says_nothing_about_another(outbox: Outbox) -> None:
    post_some(outbox, 5, STORM)
    assert post_some(outbox, 2, STORM, group="weekly", prefix="d") == [EnqueueResult.PENDING] * 2


def test_each_alert_of_a_storm_is_reported_by_the_digest_that_goes_where_it_would_have_gone(outbox: Outbox) -> None:
    routed = policy(storm="1/10m", routes="env:prod=json://127.0.0.1/prod env:test=json://127.0.0.1/test")
    post_some(outbox, 2, routed, tags=("env:prod",), prefix="p")
    post_some(outbox, 3, routed, tags=("env:test",), prefix="t")
    post_some(outbox, 2, routed, prefix="u")
    made = digests.sum_up_due(outbox, routed, at(60))
    assert [one.alert.subject.split()[0] for one in made] == ["1", "3", "2"]
    for message, prefix in zip(made, "ptu", strict=True):
        reported = outbox.rows("SELECT cause FROM alerts WHERE told_by = ?", (message.cause.id,))
        assert {row["cause"][0] for row in reported} == {prefix}
        tags = {"p": ("env:prod",), "t": ("env:test",), "u": ()}[prefix]
        assert channels_of(outbox, message.cause.id) == {one.id for one in routed.channels("alerts", tags)}
    assert len(digests.sum_up_due(outbox, routed, at(660))) == 3


def test_at_night_nothing_is_reported_and_in_the_morning_a_few_are_reported_one_by_one(outbox: Outbox) -> None:
    assert post_some(outbox, 2, NIGHT) == [EnqueueResult.GATHERED] * 2
    assert subjects(outbox, NIGHT, at(3599)) == []
    assert states(outbox) == {"c-0": "gathered", "c-1": "gathered"}
    assert subjects(outbox, NIGHT, MORNING) == []
    assert states(outbox) == {"c-0": "pending", "c-1": "pending"}
    assert all(channels_of(outbox, f"c-{number}") for number in range(2))


def test_in_the_morning_many_are_one_digest_and_no_message_says_that_it_is_quiet_again(outbox: Outbox) -> None:
    post_some(outbox, 3, NIGHT)
    assert subjects(outbox, NIGHT, MORNING) == ["3 alerts of daily"]
    assert subjects(outbox, NIGHT, at(9999)) == []


def test_what_is_released_in_the_morning_counts_for_the_storm_of_the_morning(outbox: Outbox) -> None:
    post_some(outbox, 2, NIGHT)
    digests.sum_up_due(outbox, NIGHT, MORNING)
    assert post_some(outbox, 1, NIGHT, at(3700), prefix="d") == [EnqueueResult.GATHERED]


def test_one_that_is_never_silenced_is_reported_at_night_though_others_of_its_group_are_held(outbox: Outbox) -> None:
    for group in ("daily", ""):
        assert post_some(outbox, 1, NIGHT, group=group, prefix=f"c{group}") == [EnqueueResult.GATHERED]
        assert post_some(outbox, 1, NIGHT, group=group, tags=("env:prod",), prefix=f"p{group}") == [
            EnqueueResult.PENDING
        ]


def test_too_many_that_are_never_silenced_are_summed_up_at_night(outbox: Outbox) -> None:
    post_some(outbox, 1, NIGHT)
    assert post_some(outbox, 4, NIGHT, at(1), tags=("env:prod",), prefix="p")[2:] == [EnqueueResult.GATHERED] * 2
    assert subjects(outbox, NIGHT, at(601)) == ["3 alerts of daily"]


def test_a_storm_that_goes_on_into_the_night_waits_for_the_morning(outbox: Outbox) -> None:
    late = policy(storm="2/10m", silence="09:00-10:00 UTC")
    post_some(outbox, 5, late, at(-30))
    assert subjects(outbox, late, at(30)) == []
    assert subjects(outbox, late, MORNING) == ["3 alerts of daily"]


def test_a_policy_without_silence_or_storm_lets_go_what_another_has_gathered(outbox: Outbox) -> None:
    post_some(outbox, 2, NIGHT)
    assert subjects(outbox, policy(), MORNING) == []
    assert states(outbox) == {"c-0": "pending", "c-1": "pending"}
