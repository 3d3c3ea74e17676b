"""The benchmarks measure, each in its smallest size: no figure of them is looked at here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import PARTS
from tests.journeys.stack import ROOT

SMALLEST = (
    *("--drops", "1", "--stock-drops", "1", "--rounds", "1", "--idle-seconds", "1"),
    *("--sizes", "5", "--stock-files", "1", "--repeats", "1", "--rows", "1000", "--pairs", "1"),
    *("--minutes", "0.05", "--alerts", "1", "--floods", "1", "--flood", "5"),
)
QUICK = {"big"}
"""The parts that start no system."""


@pytest.mark.parametrize(
    "part",
    [
        name if name in QUICK else pytest.param(name, marks=[pytest.mark.slow, pytest.mark.timeout(900)])
        for name in PARTS
    ],
)
def test_a_part_measures_writes_its_figures_and_draws_them(part: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks", part, *SMALLEST, "--results", str(tmp_path / "figures")]
    done = subprocess.run(
        [*command, "--work-dir", str(tmp_path / "work")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "figures" / f"{part}.json").read_text())
    assert result["part"] == part
    assert result["figures"]
    drawn = [line.removeprefix("drawn: ") for line in done.stdout.splitlines() if line.startswith("drawn: ")]
    assert all(Path(one).stat().st_size for one in drawn)
    assert not [*(tmp_path / "work").iterdir()], "a system's state is left"
