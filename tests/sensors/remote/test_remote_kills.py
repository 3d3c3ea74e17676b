"""kill -9 of a sensor at every step of taking remote files: it starts again, and each file is staged exactly once."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from sensors.config.settings import PROJECT_ROOT
from sensors.ledger import Ledger
from sensors.runtime import crash_points
from tests.remote_world import World

SHORT = ["taken", "copy-in-place"]
LONG = ["scanned", "seen", "settled", "begun", "taken:2", "copied", "copy-in-place:2", "original-gone", "all-taken"]
FILES = {"a.csv": b"a" * 1000, "b.csv": b"b" * 1000, "below/c.csv": b"c"}


@dataclass
class Sensor:
    """The process, and what it has of its own."""

    folder: Path

    def killed_at(self, point: str, **environment: str) -> int:
        """Have it killed at a point and go on; return 0 if that was so."""
        return subprocess.run(
            [sys.executable, "-m", "tests.remote_sensor", str(self.folder), point],
            env={**os.environ, crash_points.VARIABLE: "armed later", **environment},
            cwd=PROJECT_ROOT,
            check=False,
            timeout=200,
        ).returncode

    def staged(self) -> list[tuple[str, bytes]]:
        found = [path for path in (self.folder / "state" / "arrivals").glob("*/*/**/[!.]*") if path.is_file()]
        return sorted((str(Path(*path.parts[path.parts.index("arrivals") + 3 :])), path.read_bytes()) for path in found)

    def states(self) -> list[str]:
        with Ledger(self.folder / "state" / "ledger.db", read_only=True) as ledger:
            return [row["state"] for row in ledger.rows("SELECT state FROM files")]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("point", [*SHORT, *(pytest.param(point, marks=pytest.mark.slow) for point in LONG)])
@pytest.mark.parametrize("world", ["s3", "s3 by the ledger", "sftp"], indirect=True)
def test_killed_at_any_step_each_file_is_staged_once(world: World, point: str):
    if point == "original-gone" and world.kind == "sftp":
        pytest.skip("there the claim is the original, so that both go in one step")
    for name, content in FILES.items():
        world.remote.write(name, content)
    rules = {"url": world.remote.url, "options": world.remote.options, "subfolders": True}
    rules |= {"unproven_quiet_seconds": 2, "rescan_seconds": 1}
    (world.folder / "inboxes.yaml").write_text(yaml.safe_dump({"inboxes": {"partner": rules}}))
    sensor = Sensor(world.folder)
    by_the_ledger = {"TEST_WITHOUT_CLAIMS": "1"} if world.kind == "s3 by the ledger" else {}
    assert sensor.killed_at(point, **by_the_ledger) == 0
    assert sensor.staged() == sorted(FILES.items())
    assert sensor.states() == ["staged"] * len(FILES)
    assert world.remote.all_names() == []
