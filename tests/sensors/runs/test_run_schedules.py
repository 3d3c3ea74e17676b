"""The times of a schedule are those at which Prefect's own scheduler plans runs."""

import asyncio
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from sensors.runs.schedules import in_words, times

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ZONES = ("UTC", "America/Chicago", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata")
CRONS = ("0 9 * * *", "*/7 * * * *", "30 6 * * 1-5", "0 9,17 * * *", "15 0 1 * *", "@hourly", "0 3 * * 7")
RULES = (
    "FREQ=DAILY",
    "FREQ=DAILY;BYHOUR=9;BYMINUTE=30;BYSECOND=0",
    "FREQ=WEEKLY;BYDAY=MO,WE,FR;BYHOUR=6",
    "FREQ=HOURLY;INTERVAL=5",
    "DTSTART:20240229T173000\nRRULE:FREQ=DAILY;INTERVAL=2",
    "DTSTART:20240229T173000Z\nRRULE:FREQ=DAILY;COUNT=900",
    "DTSTART:20250101T120000\nRRULE:FREQ=DAILY\nEXDATE:20260303T120000,20260304T120000",
    "DTSTART:20250101T120000\nRRULE:FREQ=WEEKLY;BYDAY=TU\nRDATE:20260303T130000",
)
WEEK = timedelta(days=7)
starts = st.integers(0, 3 * 365 * 86_400).map(
    lambda seconds: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)


def planned(
    schedule: CronSchedule | IntervalSchedule | RRuleSchedule, after: datetime, until: datetime
) -> list[datetime]:
    """Return what Prefect plans; it includes the start."""
    found = asyncio.run(schedule.get_dates(start=after + timedelta(seconds=1), end=until, n=1000))
    return [at.astimezone(UTC) for at in found]


def changes_clock(zone: str, after: datetime, until: datetime) -> bool:
    days = range(-9, (until - after).days + 2)
    return len({(after + timedelta(days=day)).astimezone(ZoneInfo(zone)).utcoffset() for day in days}) > 1


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(CRONS), st.sampled_from(ZONES), starts)
def test_the_times_of_a_cron_schedule_are_prefects(cron: str, zone: str, after: datetime) -> None:
    until = after + (WEEK if not cron.startswith("*/") else timedelta(hours=12))
    if changes_clock(zone, after, until):
        return
    schedule = CronSchedule(cron=cron, timezone=zone)
    assert times(schedule.model_dump(mode="json"), after, until) == planned(schedule, after, until)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from([60, 900, 5400, 86_400, 2 * 86_400]), st.sampled_from(ZONES), starts)
def test_the_times_of_an_interval_are_prefects(seconds: int, zone: str, after: datetime) -> None:
    until = after + min(WEEK, 100 * timedelta(seconds=seconds))
    if changes_clock(zone, after, until):
        return
    anchor = datetime(2026, 3, 1, 9, 30, tzinfo=ZoneInfo(zone))
    schedule = IntervalSchedule(interval=timedelta(seconds=seconds), anchor_date=anchor, timezone=zone)
    assert times(schedule.model_dump(mode="json"), after, until) == planned(schedule, after, until)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(RULES), st.sampled_from(ZONES), starts)
def test_the_times_of_a_rule_are_prefects(rule: str, zone: str, after: datetime) -> None:
    until = after + WEEK
    if changes_clock(zone, after, until):
        return
    schedule = RRuleSchedule(rrule=rule, timezone=zone)
    assert times(schedule.model_dump(mode="json"), after, until) == planned(schedule, after, until)


@pytest.mark.parametrize("day", ["2026-03-07", "2026-03-08", "2026-03-09", "2026-11-01", "2026-11-02"])
def test_nine_in_the_morning_is_nine_in_the_morning_on_both_sides_of_a_change_of_the_clock(day: str) -> None:
    midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("America/Chicago"))
    schedule = {"cron": "0 9 * * *", "timezone": "America/Chicago"}
    [at] = times(schedule, midnight, midnight + timedelta(hours=20))
    assert at.astimezone(ZoneInfo("America/Chicago")).hour == 9


def test_what_is_in_the_hours_around_a_change_of_the_clock_is_left_out() -> None:
    schedule = {"cron": "0 * * * *", "timezone": "America/Chicago"}
    midnight = datetime(2026, 3, 8, tzinfo=ZoneInfo("America/Chicago"))
    hours = [at.astimezone(ZoneInfo("America/Chicago")).hour for at in times(schedule, midnight, midnight + WEEK / 14)]
    assert hours == [6, 7, 8, 9, 10, 11, 12]


@pytest.mark.parametrize(
    "schedule",
    [
        {"cron": "0 9 13 * 5", "day_or": False},
        {"cron": "nonsense"},
        {"cron": "0 9 * * *", "timezone": "Mars/Olympus"},
        {"rrule": "FREQ=MINUTELY"},
        {"rrule": "FREQ=NEVER"},
        {"rrule": "RRULE:FREQ=DAILY;BYHOUR=nine"},
        {"interval": 0, "anchor_date": "2026-01-01T00:00:00Z"},
        {},
    ],
)
def test_a_schedule_that_cannot_be_computed_wants_nothing(schedule: dict[str, object]) -> None:
    assert times(schedule, NOON, NOON + WEEK) == []


def test_a_schedule_is_written_as_a_person_writes_it() -> None:
    assert in_words({"cron": "0 9 * * *", "timezone": "America/Chicago"}) == "0 9 * * * America/Chicago"
    assert in_words({"interval": 5400}) == "every 1:30:00"
