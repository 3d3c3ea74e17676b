"""Geometry of the bar charts on the page of a day: arrivals, rows, files not loaded and latency, hour by hour.

Pure: a template draws the result as SVG.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from sensors.reports.days import Day, Hour
from sensors.runtime.text import counted, duration, number, short_number

WIDTH, HEIGHT = 360.0, 176.0
"""Size of the drawing in SVG units; at this size a phone shows its text at about the intended size."""
LEFT, RIGHT, TOP, BOTTOM = 46.0, 6.0, 10.0, 26.0
MOST_TICKS = 4
LEAST = 0.001
"""The smallest top value of an axis."""
GAP = 0.24
"""The share of a column's slot that stays empty."""


@dataclass(frozen=True)
class Value:
    """The value of one column; `most` is drawn as a thin line above it."""

    label: str
    value: float | None
    most: float | None = None


@dataclass(frozen=True)
class Column:
    """A column and, if it has a `most`, the end of the line to that; y grows downwards."""

    x: float
    y: float
    width: float
    height: float
    middle: float
    most_y: float | None
    label: str


@dataclass(frozen=True)
class Tick:
    """A label of an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Plot:
    """The title, summary and geometry of one chart."""

    name: str
    title: str
    summary: str
    """The content in words, for screen readers."""
    columns: tuple[Column, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    bottom: float = HEIGHT - BOTTOM


def make_plot(
    name: str,
    title: str,
    values: Sequence[Value],
    *,
    said: Callable[[float], str],
    summary: str,
    whole: bool = True,
) -> Plot:
    """Return a bar chart of the values; `said` formats a value, `whole` restricts the axis to whole numbers."""
    top = max((each for one in values for each in (one.value, one.most) if each is not None), default=0.0)
    ticks = ticks_for(top, whole=whole)
    place = (WIDTH - LEFT - RIGHT) / max(1, len(values))

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / ticks[-1], 2)

    columns = tuple(
        Column(
            x=round(LEFT + place * (at + GAP / 2), 2),
            y=y(one.value),
            width=round(place * (1 - GAP), 2),
            height=round(HEIGHT - BOTTOM - y(one.value), 2),
            middle=round(LEFT + place * (at + 0.5), 2),
            most_y=None if one.most is None else y(one.most),
            label=f"{one.label}: {said(one.value)}" + ("" if one.most is None else f", slowest {said(one.most)}"),
        )
        for at, one in enumerate(values)
        if one.value
    )
    step = max(1, ceil(len(values) / 8))
    x_ticks = tuple(
        Tick(round(LEFT + place * (at + 0.5), 2), values[at].label.partition(":")[0])
        for at in range(0, len(values), step)
    )
    return Plot(name, title, summary, columns, x_ticks, tuple(Tick(y(tick), said(tick)) for tick in ticks))


def ticks_for(top: float, *, whole: bool = True) -> list[float]:
    """Return at most five evenly spaced round numbers, from 0 up to at least `top`.

    >>> ticks_for(7)
    [0.0, 2.0, 4.0, 6.0, 8.0]
    >>> ticks_for(0)
    [0.0, 1.0]
    >>> ticks_for(0.83, whole=False)
    [0.0, 0.5, 1.0]
    """
    if top <= 0:
        return [0.0, 1.0]
    step = _round_up(max(top, LEAST) / MOST_TICKS)
    if whole:
        step = max(1.0, step)
    return [round(at * step, 10) for at in range(max(1, ceil(round(top / step, 6))) + 1)]


def _round_up(step: float) -> float:
    """Round up to the next number that is 1, 2 or 5 times a power of ten."""
    power = 10.0 ** floor(log10(step))
    return next(nice * power for nice in (1, 2, 5, 10) if nice * power >= step * (1 - 1e-9))


def day_plots(day: Day) -> tuple[Plot, ...]:
    """Return the plots in the order in which the page shows them."""

    def values(figure: Callable[[Hour], float | None], most: Callable[[Hour], float | None] | None = None):
        return [Value(f"{hour.start:%H:%M}", figure(hour), most(hour) if most else None) for hour in day.hours]

    total = day.total
    return (
        make_plot(
            "arrivals",
            "Arrivals",
            values(lambda hour: hour.arrivals),
            said=short_number,
            summary=_arrivals(day),
        ),
        make_plot(
            "rows",
            "Rows",
            values(lambda hour: hour.rows),
            said=short_number,
            summary=f"{counted(total.rows, 'row')} loaded",
        ),
        make_plot(
            "failures",
            "Files not loaded",
            values(lambda hour: hour.failures),
            said=short_number,
            summary=f"{counted(total.failures, 'file')} rejected or failed",
        ),
        make_plot(
            "latency",
            "From seen to run",
            values(lambda hour: hour.median_to_run, lambda hour: hour.slowest_to_run),
            said=_seconds,
            summary=_latency(day),
            whole=False,
        ),
    )


def _arrivals(day: Day) -> str:
    if not day.total.arrivals:
        return "nothing came"
    busiest = max(day.hours, key=lambda hour: hour.arrivals)
    return (
        f"{counted(day.total.arrivals, 'arrival')} of {counted(day.total.files, 'file')}; "
        f"most of them, {number(busiest.arrivals)}, in the hour from {busiest.start:%H:%M}"
    )


def _latency(day: Day) -> str:
    if day.total.median_to_run is None:
        return "no run began"
    return (
        f"the median is {duration(day.total.median_to_run)}, 95 of 100 take at most {duration(day.p95_to_run)}, "
        f"the slowest took {duration(day.total.slowest_to_run)}"
    )


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.3g} s"
    return f"{value / 60:.3g} min" if value < 3600 else f"{value / 3600:.3g} h"
