"""The figures of each release: results/<version>/<part>.json, and the comparison with the release before."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version
from pydantic import BaseModel, ConfigDict

from tests.benchmarks.machine import Machine
from tests.benchmarks.options import Options
from tests.benchmarks.part import Figure
from tests.journeys.stack import ROOT

RESULTS = Path(__file__).with_name("results")
SLOWER = 1.2
"""By how much a median may be worse than that of the release before without being flagged."""
LEAST = {"s": 0.05, "MB": 10.0, "% of a core": 1.0}
"""What is no slowdown whatever its ratio, by unit."""


class Result(BaseModel):
    """One part of one release: figures, and all samples that they were made of."""

    model_config = ConfigDict(frozen=True)

    part: str
    version: str
    machine: Machine
    options: Options
    figures: tuple[Figure, ...]
    samples: dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """One figure next to that of the release before."""

    figure: Figure
    before: Figure

    @property
    def ratio(self) -> float:
        """How many times the median it is now."""
        return self.figure.median / self.before.median if self.before.median else float("nan")

    @property
    def is_slower(self) -> bool:
        """Whether it is one of ours and worse than noise explains."""
        now, before = self.figure.median, self.before.median
        if self.figure.higher_is_better:
            return self.figure.is_ours and now * SLOWER < before
        return self.figure.is_ours and now > before * SLOWER and now - before > LEAST.get(self.figure.unit, 0.0)


def this_version() -> str:
    """Return the version that is being developed."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def write(folder: Path, result: Result) -> Path:
    """Write a part's result in place of an earlier one, and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{result.part}.json"
    file.write_text(result.model_dump_json(indent=1, exclude={"options": {"work_dir"}}) + "\n")
    return file


def read(folder: Path) -> dict[str, Result]:
    """Return the results that a folder has, by part."""
    files = sorted(folder.glob("*.json"))
    return {file.stem: Result.model_validate_json(file.read_bytes()) for file in files}


def before(version: str, results: Path = RESULTS) -> Path | None:
    """Return the folder of the latest release before a version, if there is one."""
    folders = {Version(one.name): one for one in results.iterdir() if one.is_dir()} if results.is_dir() else {}
    earlier = [one for one in folders if one < Version(version)]
    return folders[max(earlier)] if earlier else None


def compare(now: Sequence[Figure], then: Sequence[Figure]) -> list[Comparison]:
    """Return the figures that both have."""
    by_name: Mapping[str, Figure] = {one.name: one for one in then}
    return [Comparison(one, by_name[one.name]) for one in now if one.name in by_name]
