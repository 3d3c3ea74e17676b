"""Part `sensor`: what sensor_alone.py measures, among the others."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from tests.benchmarks.options import Options
from tests.benchmarks.part import Figure, Grid, Part

MODULE = "tests.benchmarks.sensor_alone"


class SensorSamples(BaseModel):
    """What `measure()` there returns: numbers, lists of samples, and mappings of them by name."""

    measured: dict[str, Any]


def measure(_options: Options) -> SensorSamples:
    """Measure the sensor alone; raises ModuleNotFoundError while there is no such script."""
    return SensorSamples(measured=importlib.import_module(MODULE).measure())


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
    """Return a line for each number."""
    rows = tuple((name, f"{value:,.4g}") for name, value in numbers(samples.measured))
    return [Grid("Sensor alone", ("what", "measured"), rows)]


PART = Part("sensor", SensorSamples, measure, figures, tables)
