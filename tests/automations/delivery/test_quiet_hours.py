"""Silence: in which hours alerts are held back, and until when."""

import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automations.delivery.channels import QuietHours

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = QuietHours.parse("22:00-07:00 Europe/Berlin")


def berlin(year: int, month: int, day: int, hour: int, minute: int) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=BERLIN)


def until(hours: QuietHours, moment: datetime) -> datetime | None:
    over = hours.silent_until(moment)
    return over and over.astimezone(BERLIN)


def test_without_spans_it_is_never_silent() -> None:
    assert QuietHours.parse("").silent_until(berlin(2026, 11, 24, 3, 0)) is None


@pytest.mark.parametrize(
    ("hour", "minute", "is_silent"),
    [(21, 59, False), (22, 0, True), (23, 59, True), (0, 0, True), (6, 59, True), (7, 0, False)],
)
def test_a_span_goes_on_past_midnight_and_its_end_belongs_to_the_day(
    hour: int, minute: int, *, is_silent: bool
) -> None:
    assert (NIGHT.silent_until(berlin(2026, 11, 24, hour, minute)) is not None) is is_silent


def test_a_night_is_over_at_seven_whether_it_is_before_or_after_midnight() -> None:
    assert until(NIGHT, berlin(2026, 11, 24, 22, 30)) == berlin(2026, 11, 25, 7, 0)
    assert until(NIGHT, berlin(2026, 11, 25, 2, 30)) == berlin(2026, 11, 25, 7, 0)


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 28), 8), ((2026, 10, 24), 10)])
def test_a_night_keeps_its_local_end_when_the_clocks_are_changed(day: tuple[int, int, int], hours: int) -> None:
    begin = berlin(*day, 22, 0)
    over = NIGHT.silent_until(begin)
    assert over is not None
    assert over.astimezone(BERLIN).hour == 7
    assert over - begin.astimezone(UTC) == timedelta(hours=hours)


def test_an_hour_that_there_is_not_on_one_night_is_silent_on_the_others() -> None:
    hours = QuietHours.parse("02:00-03:00 Europe/Berlin")
    assert hours.silent_until(berlin(2026, 3, 28, 2, 30))
    assert hours.silent_until(berlin(2026, 3, 29, 1, 59)) is None
    assert hours.silent_until(berlin(2026, 3, 29, 3, 0)) is None


def test_a_span_may_name_the_days_on_which_it_begins() -> None:
    hours = QuietHours.parse("Fri-Sat 22:00-07:00 Europe/Berlin")
    assert hours.silent_until(berlin(2026, 11, 26, 23, 0)) is None  # a Thursday
    assert until(hours, berlin(2026, 11, 27, 23, 0)) == berlin(2026, 11, 28, 7, 0)
    assert until(hours, berlin(2026, 11, 29, 6, 0)) == berlin(2026, 11, 29, 7, 0)  # began on Saturday
    assert hours.silent_until(berlin(2026, 11, 29, 23, 0)) is None


def test_days_may_go_on_into_the_next_week() -> None:
    hours = QuietHours.parse("Sat-Mon 10:00-11:00 UTC")
    silent = [day for day in range(23, 30) if hours.silent_until(datetime(2026, 11, day, 10, 30, tzinfo=UTC))]
    assert [datetime(2026, 11, day, tzinfo=UTC).strftime("%a") for day in silent] == ["Mon", "Sat", "Sun"]


def test_spans_that_touch_or_overlap_are_one_silence() -> None:
    hours = QuietHours.parse("22:00-07:00, Sat-Sun 00:00-24:00 Europe/Berlin")
    assert until(hours, berlin(2026, 11, 27, 22, 30)) == berlin(2026, 11, 30, 7, 0)


def test_a_day_may_be_silent_from_midnight_to_midnight() -> None:
    hours = QuietHours.parse("Sun 00:00-24:00 Europe/Berlin")
    assert until(hours, berlin(2026, 3, 29, 12, 0)) == berlin(2026, 3, 30, 0, 0)
    assert hours.silent_until(berlin(2026, 3, 30, 0, 0)) is None


def test_a_silence_without_end_ends_within_weeks_for_every_caller() -> None:
    now = berlin(2026, 11, 24, 12, 0)
    over = QuietHours.parse("00:00-24:00, 12:00-12:00 UTC").silent_until(now)
    assert over is not None
    assert now < over < now + timedelta(days=60)


@pytest.fixture
def in_new_york() -> Generator[None, None, None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_new_york")
@pytest.mark.parametrize(
    ("now", "over"),
    [
        (datetime(2026, 1, 10, 3, 30, tzinfo=UTC), datetime(2026, 1, 10, 12, 0, tzinfo=UTC)),
        (datetime(2026, 7, 10, 2, 30, tzinfo=UTC), datetime(2026, 7, 10, 11, 0, tzinfo=UTC)),
        (datetime(2026, 3, 8, 3, 0, tzinfo=UTC), datetime(2026, 3, 8, 11, 0, tzinfo=UTC)),
        (datetime(2026, 11, 1, 2, 0, tzinfo=UTC), datetime(2026, 11, 1, 12, 0, tzinfo=UTC)),
    ],
)
def test_without_a_zone_it_is_the_machines_own_with_its_changes(now: datetime, over: datetime) -> None:
    assert QuietHours.parse("22:00-07:00").silent_until(now) == over


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("22:00", "'22:00'"),
        ("25:00-07:00", "'25:00-07:00'"),
        ("22:60-07:00", "'22:60-07:00'"),
        ("24:00-07:00", "'24:00-07:00'"),
        ("Fre 22:00-07:00", "'Fre 22:00-07:00'"),
        ("22:00-07:00, later", "'later'"),
        ("22:00-07:00 Europe/Bonn", "time zone 'Europe/Bonn'"),
        ("22:00-07:00 America/Argentina", "time zone 'America/Argentina'"),
        ("22:00-07:00 Europe/../Berlin", "22:00-07:00 Europe/../Berlin"),
        ("Europe/Berlin", "only a time zone"),
    ],
)
def test_what_cannot_be_read_is_reported(text: str, reported: str) -> None:
    with pytest.raises(ValueError, match=r"expected spans|no time zone") as error:
        QuietHours.parse(text)
    assert reported in str(error.value)


def test_all_that_is_wrong_is_reported_together() -> None:
    with pytest.raises(ValueError, match=r"'a'.*'b'.*Nowhere/Land"):
        QuietHours.parse("a, 22:00-07:00, b Nowhere/Land")


@pytest.mark.parametrize("zone", ["UTC", "Etc/GMT+5", "America/Argentina/Buenos_Aires", "America/Port-au-Prince"])
def test_any_zone_of_the_world_is_known(zone: str) -> None:
    assert QuietHours.parse(f"22:00-07:00 {zone}").zone == zone


clock = st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda at: f"{at[0]:02}:{at[1]:02}")
days = st.sampled_from(["", "Mon ", "Sat-Sun ", "Fri-Mon ", "Wed-Tue "])
spans = st.lists(st.builds(lambda day, begin, end: f"{day}{begin}-{end}", days, clock, clock), min_size=1, max_size=4)
zones = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"])
moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(spans, zones, moments)
def test_a_silence_ends_later_and_at_its_end_it_is_not_silent(written: list[str], zone: str, now: datetime) -> None:
    hours = QuietHours.parse(f"{', '.join(written)} {zone}")
    over = hours.silent_until(now)
    if over is not None:
        assert over > now
        at_once = hours.silent_until(over)
        assert at_once is None or over - now > timedelta(days=7)  # spans that leave no gap in a week


@given(spans, zones, moments)
def test_it_is_silent_all_the_time_until_the_end(written: list[str], zone: str, now: datetime) -> None:
    hours = QuietHours.parse(f"{', '.join(written)} {zone}")
    over = hours.silent_until(now)
    if over is not None and over - now < timedelta(days=7):
        middle = now + (over - now) / 2
        assert hours.silent_until(middle) == over
