"""kill -9 of the sensor between every two steps of the journey: it starts again, and everything is counted."""

import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sensors.ledger import Ledger
from sensors.runtime import crash_points
from sensors.stack.services import Service
from tests.crashes.installation import Installation, sensor_alone, until
from tests.free_ports import free_ports
from tests.journeys.stack import ROOT, wait_until

SHORT = ["taken:2", "emitted", "ended"]
LONG = [
    "scanned",
    "scanned:3",
    "seen",
    "settled",
    "refused",
    "begun",
    "taken",
    "copied",
    "copy-in-place",
    "all-taken",
    "staged",
    "intended",
    "receipt",
]
POINTS = [*SHORT, *(pytest.param(point, marks=pytest.mark.slow) for point in LONG)]
ELSEWHERE = {
    "files-pruned",  # tests/sensors/daemon/test_retention.py
    "original-gone",  # tests/sensors/remote/test_remote_kills.py
    "rejection-withdrawn",  # tests/sensors/inbox/test_rejections.py
}
ROWS = 5


def test_every_kill_point_of_the_code_is_in_the_matrix():
    named = {
        found
        for file in (ROOT / "sensors").rglob("*.py")
        for found in re.findall(r'kill_point\("([a-z-]+)"\)', file.read_text())
    }
    assert named == {point.partition(":")[0] for point in [*SHORT, *LONG]} | ELSEWHERE


@dataclass
class Victim:
    """A sensor that is to be killed at one point, and its files."""

    point: str
    state_dir: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    death: int | None = None

    @property
    def name(self) -> str:
        return self.point.replace(":", "-")

    def drop(self) -> None:
        inbox = self.state_dir / "inbox" / "metrics"
        inbox.mkdir(parents=True)
        rows = "killed\n" + "".join(f"{n}\n" for n in range(ROWS))
        (inbox / f"{self.name}-a.csv").write_text(rows)
        outside = self.state_dir / "outside.csv"
        outside.write_text(rows)
        (inbox / f"{self.name}-linked.csv").hardlink_to(outside)
        (inbox / f"{self.name}.pdf").write_text("%PDF")

    def start(self, installation: Installation, **environment: str) -> None:
        self.process = sensor_alone(installation, self.state_dir, SENSOR_PORT=str(self.port), **environment)

    def files(self) -> dict[str, str]:
        """Return the state of each file, by what follows the point's name."""
        if not (self.state_dir / "ledger.db").exists():
            return {}
        with Ledger(self.state_dir / "ledger.db", read_only=True) as ledger:
            rows = ledger.rows("SELECT name, state FROM files ORDER BY name")
        assert len(rows) == len({row["name"] for row in rows}), "no file is there twice"
        return {row["name"].removeprefix(self.name): row["state"] for row in rows}

    def is_done(self) -> bool:
        return self.files() == {"-a.csv": "loaded", "-linked.csv": "loaded", ".pdf": "rejected"}


@pytest.fixture(scope="module")
def victims(
    request: pytest.FixtureRequest, installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Victim]]:
    """Have a sensor killed at every point that is to be tested, all at the same time, and start each again."""
    installation.stack.know_one_of(["killed"], "BIGINT")  # another test's files may have made the table
    installation.ensure(Service.WORKER)
    points = [
        item.callspec.params["point"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module and hasattr(item, "callspec")
    ]
    folder = tmp_path_factory.mktemp("victims")
    places = [(point, folder / point.replace(":", "-")) for point in points]
    victims = [Victim(*place, port) for place, port in zip(places, free_ports(len(points)), strict=True)]
    try:
        for victim in victims:
            victim.drop()
            victim.start(installation, **{crash_points.VARIABLE: victim.point})
        for victim in victims:
            assert victim.process is not None
            until(lambda process=victim.process: process.poll() is not None, 120)
            victim.death = victim.process.poll()
            if victim.death is not None:
                victim.start(installation)
        until(lambda: all(victim.is_done() for victim in victims), 240)
        yield {victim.point: victim for victim in victims}
    finally:
        for victim in victims:
            if victim.process is not None:
                victim.process.kill()
                victim.process.wait()


@pytest.mark.parametrize("point", POINTS)
def test_whatever_was_being_done_every_file_is_loaded_once(
    point: str, victims: dict[str, Victim], installation: Installation
):
    victim = victims[point]
    assert victim.death == -signal.SIGKILL, "it was killed at that point"
    log = (victim.state_dir / "logs" / "sensor.log").read_text()
    wait_until(victim.is_done, f"its files are loaded; the sensor said: {log[-2000:]}", 60)
    expected = [(f"{victim.name}-a.csv", ROWS, ROWS), (f"{victim.name}-linked.csv", ROWS, ROWS)]
    assert (
        installation.stack.rows(
            "SELECT _file_name, count(*), count(DISTINCT killed) FROM public.daily_metrics"
            f" WHERE _file_name IN ('{victim.name}-a.csv', '{victim.name}-linked.csv') GROUP BY 1 ORDER BY 1"
        )
        == expected
    )
    inbox = victim.state_dir / "inbox" / "metrics"
    assert [path.name for path in inbox.iterdir()] == [f"{victim.name}.pdf"], "what is not taken stays"
    taken = sorted(path.name for path in (victim.state_dir / "arrivals").glob("*/*/[!.]*"))
    assert taken == [name for name, _, _ in expected], "each file is at one address, and no part of a copy is left"
    assert (victim.state_dir / "outside.csv").read_text().count("\n") == ROWS + 1
    assert (victim.state_dir / "failed" / "inboxes" / "metrics" / "links" / f"{victim.name}.pdf").is_symlink()
    with Ledger(victim.state_dir / "ledger.db", read_only=True) as ledger:
        assert ledger.rows("SELECT count(*) FROM notices")[0][0] == 1, "the rejection is reported once"
