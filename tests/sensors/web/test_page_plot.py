"""A plot's geometry: columns as high as their values, axes with round numbers, words for who does not see it."""

from datetime import UTC, date, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.reports.days import read_day
from sensors.web.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MOST_TICKS,
    RIGHT,
    TOP,
    WIDTH,
    Value,
    day_plots,
    make_plot,
    ticks_for,
)
from tests.dropped_arrivals import record_arrival

NINE = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def plot_of(*values: float | None, most: float | None = None):
    return make_plot(
        "p", "P", [Value(f"{at:02}:00", value, most) for at, value in enumerate(values)], said="{:g}".format, summary=""
    )


@pytest.mark.parametrize(
    ("top", "ticks"),
    [(1, [0, 1]), (4, [0, 1, 2, 3, 4]), (5, [0, 2, 4, 6]), (10, [0, 5, 10]), (1234, [0, 500, 1000, 1500])],
)
def test_an_axis_has_round_numbers_up_to_the_highest_value(top: float, ticks: list[float]):
    assert ticks_for(top) == ticks


@given(st.floats(0, 1e12, exclude_min=True), st.booleans())
def test_an_axis_always_reaches_its_highest_value_in_a_few_even_steps(top: float, whole: bool):
    ticks = ticks_for(top, whole=whole)
    assert ticks[0] == 0
    assert ticks[-1] >= top * (1 - 1e-5)
    assert 2 <= len(ticks) <= MOST_TICKS + 1


def test_the_highest_column_reaches_the_top_and_half_of_it_the_middle():
    low, high = plot_of(5, 10).columns
    assert (high.y, low.y) == (TOP, (TOP + HEIGHT - BOTTOM) / 2)
    assert low.y + low.height == high.y + high.height == HEIGHT - BOTTOM


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e9)), min_size=1, max_size=25))
def test_every_column_stands_within_the_axes_and_none_overlaps_another(values: list[float | None]):
    columns = plot_of(*values).columns
    assert all(one.x >= LEFT and one.x + one.width <= WIDTH - RIGHT + 0.01 for one in columns)
    assert all(TOP - 0.01 <= one.y <= HEIGHT - BOTTOM for one in columns)
    assert all(one.x + one.width < other.x for one, other in pairwise(columns))


def test_where_nothing_was_there_is_no_column():
    assert [column.label for column in plot_of(0, None, 3).columns] == ["02:00: 3"]


def test_the_most_is_a_line_above_the_column_and_the_axis_reaches_it():
    (column,) = plot_of(4, most=8).columns
    assert column.most_y == TOP
    assert column.most_y < column.y
    assert column.label == "00:00: 4, slowest 8"


@pytest.mark.parametrize(("hours", "words"), [(24, 8), (25, 7), (23, 8), (1, 1)])
def test_the_hours_are_named_at_most_eight_times(hours: int, words: int):
    assert len(plot_of(*range(hours)).x_ticks) == words


def test_a_day_is_reported_by_four_plots_and_each_of_them_in_words(ledger):
    record_arrival(ledger, "m-1", NINE, {"a.csv": "loaded", "b.csv": "rejected"}, state="failed", seconds_to_run=0.5)
    plots = day_plots(read_day(ledger, date(2026, 11, 24), UTC))
    assert [(plot.name, plot.summary) for plot in plots] == [
        ("arrivals", "1 arrival of 2 files; most of them, 1, in the hour from 09:00"),
        ("rows", "10 rows loaded"),
        ("failures", "1 file rejected or failed"),
        ("latency", "the median is 0.50 s, 95 of 100 take at most 0.50 s, the slowest took 0.50 s"),
    ]
    assert [len(plot.columns) for plot in plots] == [1, 1, 1, 1]


def test_a_day_on_which_nothing_came_says_so(ledger):
    plots = day_plots(read_day(ledger, date(2026, 11, 24), UTC))
    assert [plot.summary for plot in plots] == [
        "nothing came",
        "0 rows loaded",
        "0 files rejected or failed",
        "no run began",
    ]
    assert all(plot.columns == () for plot in plots)
