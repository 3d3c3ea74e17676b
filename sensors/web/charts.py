"""A plot's geometry: where its columns, lines and words stand. Pure; a template draws it as SVG."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

WIDTH, HEIGHT = 360.0, 176.0
"""Of the drawing, in its own units: at this size a phone shows its letters about as large as they are meant."""
LEFT, RIGHT, TOP, BOTTOM = 46.0, 6.0, 10.0, 26.0
MOST_TICKS = 4
LEAST = 0.001
"""No axis is finer."""
GAP = 0.24
"""The share of a column's place that is left free."""


@dataclass(frozen=True)
class Value:
    """What one column shows; `most` is drawn as a thin line above it."""

    label: str
    value: float | None
    most: float | None = None


@dataclass(frozen=True)
class Column:
    """A column, with the line to its `most` if there is one; y grows downwards."""

    x: float
    y: float
    width: float
    height: float
    middle: float
    most_y: float | None
    label: str


@dataclass(frozen=True)
class Tick:
    """A word at an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Plot:
    """Everything that is drawn, and what it is called."""

    name: str
    title: str
    summary: str
    """What it shows, for somebody who does not see it."""
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
    """Return the plot of some values side by side; `said` writes a value, `whole` keeps the axis to whole numbers."""
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
    """Return at most five round numbers from 0 to one that is not below `top`, at even distances.

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
    """Return the next number that is 1, 2 or 5 times a power of ten."""
    power = 10.0 ** floor(log10(step))
    return next(nice * power for nice in (1, 2, 5, 10) if nice * power >= step * (1 - 1e-9))
