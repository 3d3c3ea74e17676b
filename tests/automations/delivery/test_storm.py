"""The limit on messages: which alert is sent immediately, which is gathered, and what becomes of those."""

from datetime import timedelta

import pytest

from automations.delivery import rate_limit
from automations.delivery.rate_limit import FIRST_DIGEST, GatherDecision, Gathered, Gathering, GatherReason, StormLimit
from tests.postings import NOW, at

LIMIT = StormLimit(3, timedelta(minutes=10))
STORM = Gathering("daily", GatherReason.STORM, NOW, at(60))
SILENCE = Gathering("daily", GatherReason.SILENCE, NOW, at(3600))


def gathered(count: int, kind: str = "run-failed") -> list[Gathered]:
    return [Gathered(f"c-{number}", kind, f"Failed: run {number}", ()) for number in range(count)]


@pytest.mark.parametrize(
    ("text", "messages", "window"),
    [
        ("5/10m", 5, timedelta(minutes=10)),
        (" 1/30s ", 1, timedelta(seconds=30)),
        ("20/24h", 20, timedelta(hours=24)),
    ],
)
def test_a_limit_is_a_number_of_messages_and_a_window(text: str, messages: int, window: timedelta) -> None:
    assert StormLimit.parse(text) == StormLimit(messages, window)


@pytest.mark.parametrize("text", ["", "5", "0/10m", "5/0m", "5/10", "5/10d", "5/-1m", "1e3/10m", "5/10m 5/10m"])
def test_what_is_no_limit_is_reported_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="5/10m"):
        StormLimit.parse(text)


def joins(recent: int, gathering: Gathering | None = None, *, group: str = "daily", silent: bool = False):
    return rate_limit.joins(group, recent, gathering, LIMIT, at(7200) if silent else None, NOW)


def test_as_many_as_the_limit_are_reported_immediately() -> None:
    assert [joins(recent) for recent in range(3)] == [None] * 3


def test_the_next_one_opens_a_gathering_whose_first_digest_comes_soon() -> None:
    assert joins(3) == Gathering("daily", GatherReason.STORM, NOW, NOW + FIRST_DIGEST)


def test_a_window_shorter_than_that_brings_its_digest_sooner() -> None:
    opened = rate_limit.joins("daily", 1, None, StormLimit(1, timedelta(seconds=5)), None, NOW)
    assert opened is not None
    assert opened.due_at == at(5)


def test_what_has_no_group_is_never_too_much() -> None:
    assert joins(1000, group="") is None


def test_an_open_storm_takes_whatever_comes() -> None:
    assert joins(0, STORM) == STORM


def test_in_silence_everything_is_gathered_until_it_is_over() -> None:
    assert joins(0, silent=True) == Gathering("daily", GatherReason.SILENCE, NOW, at(7200))
    assert joins(0, group="", silent=True) == Gathering("", GatherReason.SILENCE, NOW, at(7200))


def test_one_that_is_not_silenced_is_reported_at_once_whatever_the_night_has_gathered() -> None:
    assert joins(0, SILENCE) is None


def test_too_many_that_are_not_silenced_bring_the_nights_digest_into_the_window() -> None:
    until_morning = Gathering("daily", GatherReason.SILENCE, NOW, at(30_000))
    joined = joins(3, until_morning)
    assert joined is not None
    assert joined.due_at == NOW + LIMIT.window


def test_one_that_is_not_silenced_brings_a_storms_digest_back_that_waits_for_the_morning() -> None:
    joined = joins(0, Gathering("daily", GatherReason.STORM, NOW, at(30_000)))
    assert joined is not None
    assert joined.due_at == NOW + LIMIT.window


def test_a_single_one_in_a_storm_is_reported_instead_of_its_digest() -> None:
    assert [rate_limit.judge(STORM, waiting, 3, LIMIT) for waiting in range(3)] == [
        GatherDecision.CALM,
        GatherDecision.RELEASE,
        GatherDecision.DIGEST,
    ]


@pytest.mark.parametrize(
    ("waiting", "recent", "verdict"),
    [
        (0, 0, GatherDecision.CALM),
        (3, 0, GatherDecision.RELEASE),
        (4, 0, GatherDecision.DIGEST),
        (2, 1, GatherDecision.RELEASE),
        (3, 1, GatherDecision.DIGEST),
        (1, 9, GatherDecision.DIGEST),
    ],
)
def test_after_a_silence_no_more_are_reported_one_by_one_than_at_any_other_time(
    waiting: int, recent: int, verdict: GatherDecision
) -> None:
    assert rate_limit.judge(SILENCE, waiting, recent, LIMIT) is verdict


def test_a_storm_goes_on_with_a_digest_a_window_until_nothing_comes_any_more() -> None:
    after = rate_limit.goes_on(STORM, GatherDecision.DIGEST, LIMIT, at(60))
    assert after == Gathering("daily", GatherReason.STORM, NOW, at(660), digests=1)
    assert rate_limit.goes_on(STORM, GatherDecision.CALM, LIMIT, at(60)) is None


@pytest.mark.parametrize("verdict", list(GatherDecision))
def test_a_silence_is_over_with_its_end(verdict: GatherDecision) -> None:
    assert rate_limit.goes_on(SILENCE, verdict, LIMIT, at(3600)) is None


def run_failed(number: int) -> Gathered:
    body = f"Flow: daily\nMessage: file {number} has no column id\nParameters: none\nhttp://host/runs/{number}"
    return Gathered(f"c-{number}", "run-failed", f"Failed: run {number}", (), body)


def test_a_digest_gives_subject_reason_and_link_of_each_alert() -> None:
    message = rate_limit.digest(STORM, [run_failed(0), run_failed(1), *gathered(1, "run-stuck")])
    assert message.subject == "3 alerts of daily"
    lines = message.body.splitlines()
    assert lines[0] == "Kinds: 2 run-failed, 1 run-stuck"
    assert lines[1].startswith("Since: 2026-11-24")
    assert lines[2:] == [
        "- Failed: run 0: file 0 has no column id",
        "  http://host/runs/0",
        "- Failed: run 1: file 1 has no column id",
        "  http://host/runs/1",
        "- Failed: run 0",
    ]


@pytest.mark.parametrize("room", [10, 300, 1000, 2000])
def test_a_digest_names_as_many_alerts_as_fit_and_counts_the_others(room: int) -> None:
    message = rate_limit.digest(
        STORM, [run_failed(number) for number in range(40)], lambda alert: len(alert.body) <= room
    )
    named = message.body.count("- Failed")
    assert message.body.splitlines()[-1] == f"- and {40 - named} more, all in the log of alerts"
    assert named == 1 or len(message.body) <= room
    longer = len(message.body) + len("- Failed: run 39: file 39 has no column id\n  http://host/runs/39\n")
    assert longer > room


def test_a_digest_names_at_most_fifty_alerts() -> None:
    message = rate_limit.digest(STORM, [run_failed(number) for number in range(2000)])
    assert message.body.count("- Failed") == 50
    assert "- and 1950 more" in message.body


def test_a_long_reason_is_cut_in_a_digest() -> None:
    long = Gathered("c", "run-failed", "Failed", (), f"Message: {'x' * 5000}\nhttp://host/runs/1")
    assert len(rate_limit.digest(STORM, [long] * 3).body) < 1000


def test_the_reason_of_an_alert_without_a_message_is_its_first_line() -> None:
    rejected = Gathered("c", "file-rejected", "2 files rejected", (), "a.csv: it is empty\nb.csv: it is empty")
    assert "- 2 files rejected: a.csv: it is empty" in rate_limit.digest(STORM, [rejected] * 2).body


def test_a_digest_of_a_silence_says_so_and_one_of_no_group_names_none() -> None:
    message = rate_limit.digest(Gathering("", GatherReason.SILENCE, NOW, NOW), gathered(2))
    assert message.subject == "2 alerts of several places"
    assert "(hours of silence)" in message.body
    assert "more" not in message.body


def test_a_hostile_place_cannot_call_anybody_or_start_a_line() -> None:
    message = rate_limit.digest(Gathering("@everyone\nSubject: x", GatherReason.STORM, NOW, NOW), gathered(2))
    assert "@everyone" not in message.subject
    assert message.subject.endswith("Subject: x")


def test_the_end_of_a_storm_is_one_message_that_says_how_many_there_were() -> None:
    message = rate_limit.calm(Gathering("daily", GatherReason.STORM, NOW, at(660), 2, 97), LIMIT)
    assert message.subject == "Quiet again: daily"
    assert "No alert for 10 min." in message.body
    assert "97 alerts were summed up" in message.body
