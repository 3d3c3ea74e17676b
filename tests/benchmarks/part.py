"""What a part of the benchmarks is, and what it gives."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from tests.benchmarks.options import Options

Samples = TypeVar("Samples", bound=BaseModel)

console = Console(highlight=False)
if not console.is_terminal:
    console.width = 160  # into a file; nothing has to be broken there


class Figure(BaseModel):
    """One figure of a release, compared with that of the release before."""

    model_config = ConfigDict(frozen=True)

    name: str
    unit: str
    median: float
    p95: float | None = None
    higher_is_better: bool = False
    is_ours: bool = True
    """False for what we compare ourselves with: that it is slower is no slowdown of ours."""


@dataclass(frozen=True)
class Grid:
    """A table to print."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Part(Generic[Samples]):
    """One thing that is measured. Figures and tables are made of the samples alone, so that they can be made again."""

    name: str
    samples: type[Samples]
    measure: Callable[[Options], Samples]
    figures: Callable[[Samples], Sequence[Figure]]
    tables: Callable[[Samples], Sequence[Grid]]


def median(values: Sequence[float]) -> float:
    """Return the median; NaN of nothing."""
    return statistics.median(values) if values else float("nan")


def p95(values: Sequence[float]) -> float:
    """Return what one in twenty exceeds, interpolated between samples; the only one of one, NaN of nothing."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=20, method="inclusive")[-1]
