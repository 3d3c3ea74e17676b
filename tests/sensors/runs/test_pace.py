"""The pace at which Prefect is asked."""

from datetime import UTC, datetime, timedelta

from sensors.runs.api import FASTEST, IDLE, SLOWEST, pause

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def test_with_nothing_to_wait_for_the_server_is_not_asked():
    assert pause([], NOW) == IDLE


def test_what_is_young_is_asked_about_often_and_what_is_old_less_so():
    assert pause([NOW], NOW) == FASTEST
    assert pause([NOW - timedelta(seconds=10)], NOW) == 1.0
    assert pause([NOW - timedelta(hours=1)], NOW) == SLOWEST


def test_the_youngest_sets_the_pace():
    assert pause([NOW - timedelta(hours=1), NOW], NOW) == FASTEST


def test_a_clock_that_was_set_back_does_not_matter():
    assert pause([NOW + timedelta(hours=1)], NOW) == FASTEST
