"""Files that are expected by certain times: who is told when, and that it is once."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensors.config.inboxes import Expectation, Inbox
from sensors.inbox.deadlines import OVERDUE, RECOVERED, OverdueCheck, judge, next_due, previous_due
from sensors.ledger import files, notices
from sensors.ledger.files import Dropped
from sensors.ledger.notices import Expected
from tests.conftest import HandClock

WEEKDAYS = Expectation(cron="0 8 * * 1-5", timezone="Europe/Berlin")


def utc(day: int, hour: int, minute: int = 0, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def test_due_times_keep_their_local_hour_on_both_sides_of_daylight_saving_time():
    assert next_due(WEEKDAYS, utc(23, 12, month=10)) == utc(26, 7, month=10), "winter time began on Sunday"
    assert previous_due(WEEKDAYS, utc(26, 7, month=10)) == utc(23, 6, month=10)


def test_a_weekend_is_not_due():
    assert next_due(WEEKDAYS, utc(20, 12)) == utc(23, 7)


@dataclass
class Arrivals:
    """Files that came at certain times."""

    at: list[datetime] = field(default_factory=list[datetime])

    def count(self, after: datetime, until: datetime) -> int:
        return sum(after < moment <= until for moment in self.at)


def test_a_file_that_came_in_time_is_nothing_to_report():
    arrived = Arrivals([utc(23, 18)]).count
    after, event = judge(WEEKDAYS, Expected("", utc(23, 12)), utc(24, 7, 1), arrived)
    assert (after, event) == (Expected("", utc(24, 7)), None)


def test_before_the_time_nothing_is_overdue():
    before = Expected("", utc(23, 12))
    assert judge(WEEKDAYS, before, utc(24, 6, 59), Arrivals().count) == (before, None)


def test_a_file_that_did_not_come_is_overdue_once_and_then_recovers_once():
    arrivals = Arrivals()
    events: list[tuple[datetime, str]] = []
    standing, now = Expected("", utc(23, 12)), utc(23, 12)
    while now < utc(27, 12):
        now += timedelta(minutes=30)
        if now == utc(25, 15):
            arrivals.at.append(now)
        standing, event = judge(WEEKDAYS, standing, now, arrivals.count)
        events += [(now, event)] if event else []
        if now == utc(25, 15):
            arrivals.at += [utc(25, 16), utc(26, 16)]
    assert events == [(utc(24, 7), OVERDUE), (utc(25, 15), RECOVERED)]


def test_too_few_files_are_overdue_until_the_rest_has_come():
    two = Expectation(cron="0 8 * * *", timezone="UTC", at_least=2)
    arrivals = Arrivals([utc(24, 1)])
    standing, event = judge(two, Expected("", utc(23, 12)), utc(24, 8), arrivals.count)
    assert event == OVERDUE
    assert judge(two, standing, utc(24, 8, 30), arrivals.count) == (standing, None)
    arrivals.at.append(utc(24, 8, 31))
    assert judge(two, standing, utc(24, 8, 32), arrivals.count)[1] == RECOVERED


@settings(deadline=None)
@given(st.lists(st.integers(0, 10 * 24 * 60), max_size=12), st.integers(1, 3), st.integers(30, 600))
def test_overdue_and_recovered_always_alternate(minutes, at_least, every):
    start = utc(1, 0)
    expect = Expectation(cron="0 8 * * *", timezone="America/Chicago", at_least=at_least)
    arrived = Arrivals([start + timedelta(minutes=minute) for minute in minutes])
    standing, now, reported = Expected("", start), start, []
    while now < start + timedelta(days=10):
        now += timedelta(minutes=every)
        standing, event = judge(
            expect, standing, now, lambda after, until, now=now: arrived.count(after, min(until, now))
        )
        reported += [event] if event else []
    assert all(event == (OVERDUE if at % 2 == 0 else RECOVERED) for at, event in enumerate(reported))


@pytest.fixture
def punctual(ledger, tmp_path, hand_clock: HandClock):
    inbox = Inbox(name="metrics", path=tmp_path, expect=Expectation(cron="0 10 * * *"))
    return OverdueCheck(ledger, [inbox], hand_clock.clock), inbox


def see(ledger, inbox, hand_clock, name, identity) -> None:
    files.record_seen(ledger, inbox.name, [Dropped(inbox.path / name, name, identity)], hand_clock.now)


def reported(ledger) -> list[tuple[str, str]]:
    return [(one.notice.event, one.notice.payload["subject"]) for one in notices.unsent(ledger, 10)]


def test_the_ledger_counts_and_the_report_is_in_local_time(punctual, ledger, hand_clock, identity):
    step, inbox = punctual
    assert not step.step()
    hand_clock.turn(3600)
    assert step.step()
    assert not step.step()
    assert reported(ledger) == [(OVERDUE, "Inbox metrics is overdue")]
    (overdue,) = notices.unsent(ledger, 10)
    assert "Expected: 1 file by 2026-11-24 10:00 UTC" in overdue.notice.payload["text"]
    hand_clock.turn(60)
    see(ledger, inbox, hand_clock, "late.csv", identity(hand_clock.now))
    assert step.step()
    assert reported(ledger)[1] == (RECOVERED, "Inbox metrics has its files")


def test_a_file_that_came_in_time_while_the_sensor_was_down_is_in_time(punctual, ledger, hand_clock, identity):
    step, inbox = punctual
    step.step()
    came = hand_clock.now + timedelta(minutes=30)
    hand_clock.turn(7200)
    see(ledger, inbox, hand_clock, "a.csv", identity(came))
    assert not step.step()
    assert reported(ledger) == []


def test_a_refused_file_is_none_that_has_come(punctual, ledger, hand_clock, identity):
    step, inbox = punctual
    step.step()
    see(ledger, inbox, hand_clock, "a.csv", identity(hand_clock.now))
    ledger.change("UPDATE files SET state = 'rejected', reason = 'x'")
    hand_clock.turn(3600)
    assert step.step()


def test_another_rule_begins_anew(punctual, ledger, hand_clock):
    step, inbox = punctual
    step.step()
    hand_clock.turn(3600)
    step.step()
    changed = inbox.model_copy(update={"expect": Expectation(cron="0 11 * * *")})
    assert not OverdueCheck(ledger, [changed], hand_clock.clock).step()
    assert len(reported(ledger)) == 1
