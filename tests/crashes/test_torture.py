"""Files of all kinds are dropped while everything is killed and stopped at random; then every row is counted.

`just crashes` runs the long version: TORTURE_KILLS and TORTURE_SEED say how many kills and which.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from sensors.reports.arrivals import read_counts
from sensors.stack.services import Service
from tests.crashes.installation import Installation, until
from tests.crashes.writers import Dropped, Writer

SEED = int(os.environ.get("TORTURE_SEED", "20261124"))
SHORT_KILLS = 6
LONG_KILLS = int(os.environ.get("TORTURE_KILLS", "200"))
SETTLED_WITHIN = 420
"""Seconds: a run whose worker died with it is given up after 100 to 120 of them."""


class Torturer:
    """Kills and stops what the dice say."""

    def __init__(self, installation: Installation, seed: int, targets: dict[str, int]) -> None:
        self._installation = installation
        self._chance = random.Random(seed)
        self._targets = targets
        self.done: Counter[str] = Counter()

    @property
    def count(self) -> int:
        return self.done.total()

    def step(self) -> None:
        """Do one cruelty, and start again what it has ended."""
        self._installation.keep_alive()
        (target,) = self._chance.choices(list(self._targets), list(self._targets.values()))
        if self._hurt(target):
            self.done[target] += 1
        time.sleep(self._chance.uniform(0.1, 3))

    def _hurt(self, target: str) -> bool:
        if target == "flow":
            until(self._installation.flow_processes, 4)
            time.sleep(self._chance.uniform(0, 3))  # a run takes about that long: it is hit anywhere
            flows = self._installation.flow_processes()
            if not flows:
                return False
            with suppress(psutil.NoSuchProcess):
                self._chance.choice(flows).kill()
            return True
        if target == "stop":
            process = self._chance.choice(list(self._installation.processes.values()))
            process.send_signal(signal.SIGSTOP)
            time.sleep(self._chance.uniform(0.5, 3))
            process.send_signal(signal.SIGCONT)
            return True
        self._installation.kill(Service(target))
        return True


def torture(installation: Installation, kills: int, targets: dict[str, int], writers: int) -> None:
    """Let files be dropped and processes die, then wait until all is quiet and count."""
    rules = {"grace_seconds": 1, "quiet_seconds": 1.5, "max_in_flight": 3, "max_files": 8}
    inboxes = installation.settings.state_dir / "inboxes.yaml"
    inboxes.write_text(yaml.safe_dump({"inboxes": {"metrics": rules}}))
    installation.environment["INBOXES_FILE"] = str(inboxes)
    settings = installation.settings.model_copy(update={"inboxes_file": inboxes})
    installation.stack.know_one_of(["n"], "BIGINT")  # another test's files may have made the table
    for service in (Service.WORKER, Service.SENSOR):
        installation.ensure(service)
    dropped = Dropped()
    inbox = installation.stack.inbox
    began = time.monotonic()
    running = [Writer(inbox, SEED + n, dropped, pause=0.6) for n in range(writers)]
    torturer = Torturer(installation, SEED, targets)
    while torturer.count < kills:
        torturer.step()
        if torturer.count % 20 == 0:
            print(
                f"{time.monotonic() - began:5.0f} s  {torturer.count} of {kills} kills, {dropped.files} files dropped"
            )
    for writer in running:
        writer.stop()

    replays = 0

    def all_loaded() -> bool:
        """Return whether all is done; what has failed, its runs killed too often, is tried again as a person would."""
        nonlocal replays
        installation.keep_alive()
        states = installation.states()
        if states.keys() == {"loaded", "failed"} and sum(states.values()) == dropped.files:
            replays += states["failed"]
            installation.replay_failed()
        return states == {"loaded": dropped.files}

    tortured_for = time.monotonic() - began
    until(all_loaded, SETTLED_WITHIN)
    counted = dict(
        installation.stack.rows("SELECT n, count(*) FROM public.daily_metrics WHERE n IS NOT NULL GROUP BY 1")
    )
    missing = dropped.numbers - counted.keys()
    twice = [number for number, count in counted.items() if count > 1]
    unknown = counted.keys() - dropped.numbers
    (arrivals,) = installation.ledger_rows("SELECT count(*), sum(attempt) FROM arrivals")[0:1] or [(0, 0)]
    print(
        f"\nseed {SEED}: {torturer.count} kills and stops in {tortured_for:.0f} s {dict(torturer.done)};"
        f" {dropped.files} files, {len(dropped.numbers)} rows, {arrivals[0]} arrivals, {arrivals[1]} announcements,"
        f" {replays} files tried again by hand, settled {time.monotonic() - began - tortured_for:.0f} s later;"
        f" rows missing {len(missing)}, twice {len(twice)}, unknown {len(unknown)}"
    )
    assert installation.states() == {"loaded": dropped.files}, [
        installation.tail(service) for service in (Service.SENSOR, Service.WORKER)
    ]
    assert (missing, twice, unknown) == (set(), [], set())
    books = read_counts(settings)["metrics"]
    assert books.seen == books.loaded == dropped.files
    assert list(inbox.iterdir()) == []
    on_disk = sum(1 for path in (installation.settings.arrivals_dir).glob("*/*/[!.]*") if path.is_file())
    assert on_disk == dropped.files, "every file is at its permanent address"


@pytest.fixture
def fresh(tmp_path: Path, new_installation: Callable[[Path], Installation]):
    made = new_installation(tmp_path / "state")
    try:
        made.prepare()
        yield made
    finally:
        made.stop()


def test_a_short_torture_loses_nothing_and_loads_nothing_twice(installation: Installation):
    torture(installation, SHORT_KILLS, {"sensor": 5, "flow": 4, "stop": 1}, writers=2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_long_torture_loses_nothing_and_loads_nothing_twice(fresh: Installation):
    torture(fresh, LONG_KILLS, {"sensor": 6, "flow": 8, "worker": 2, "server": 1, "stop": 3}, writers=5)
