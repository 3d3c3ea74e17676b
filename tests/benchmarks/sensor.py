"""Part `sensor`: what sensor_alone.py measures, among the others."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from tests.benchmarks.options import Options
from tests.benchmarks.part import Figure, Grid, Part
from tests.benchmarks.sensor_alone import measure as measure_alone

RATES = ("taken_while_running", "taken_after_start", "bare_watchdog", "bare_walk")
STEPS = ("written_to_each_step_ms", "renamed_to_each_step_ms")


class SensorSamples(BaseModel):
    """What `measure()` there returns: numbers, lists of samples, and mappings of them by name."""

    measured: dict[str, Any]


def measure(_options: Options) -> SensorSamples:
    """Measure the sensor alone."""
    return SensorSamples(measured=measure_alone())


def numbers(found: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """Give all numbers of nested mappings under the names on the way to them; one of a list by its number of files.

    >>> list(numbers({"restart": {"seconds": 2}, "walk": [{"files": 100, "cpu_seconds": 0.5}], "why": "text"}))
    [('restart, seconds', 2.0), ('walk, 100 files, cpu_seconds', 0.5)]
    """
    for name, value in found.items():
        path = f"{above}, {name}" if above else name
        if isinstance(value, Mapping):
            yield from numbers(value, path)
        elif isinstance(value, list):
            for one in filter(lambda one: isinstance(one, Mapping) and "files" in one, value):
                rest = {key: number for key, number in one.items() if key != "files"}
                yield from numbers(rest, f"{path}, {one['files']:,} files")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield path, float(value)


def figures(samples: SensorSamples) -> list[Figure]:
    """Return each number; what is counted per second is the better the higher, all else the worse."""
    return [
        Figure(
            name=f"sensor: {name}",
            unit="s" if name.endswith("seconds") else "",
            median=value,
            higher_is_better="per_second" in name,
            is_ours="bare" not in name,
        )
        for name, value in numbers(samples.measured)
    ]


def tables(samples: SensorSamples) -> list[Grid]:
    """Return how fast files are taken, when which step of a single one was reached, and what rest and restart cost."""
    found = samples.measured
    rates = tuple(
        (
            name.replace("_", " "),
            f"{one['files']:,}",
            f"{one['seconds']:.2f} s",
            f"{one['files_per_second']:,.0f}",
            f"{one['cpu_ms_per_file']:.3f}",
        )
        for name in RATES
        for one in found[name]
    )
    steps = tuple((name.split("_")[0], *(f"{value:.1f}" for value in found[name].values())) for name in STEPS)
    alone = tuple(
        (name, key.replace("_", " "), f"{value:,.2f}")
        for name in ("start", "idle", "restart")
        for key, value in found[name].items()
    )
    return [
        Grid("Files taken by the sensor alone", ("how", "files", "time", "files/s", "CPU ms a file"), rates),
        Grid("One drop, ms to each step", ("file", *found[STEPS[0]]), steps),
        Grid("Rest and restart of the sensor", ("when", "what", "measured"), alone),
    ]


PART = Part("sensor", SensorSamples, measure, figures, tables)
