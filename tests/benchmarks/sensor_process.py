"""The real sensor in a process of its own, in a temporary state folder, and what fills that beforehand."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from sensors.ledger import Ledger, LedgerError
from tests.benchmarks.processes import peak_mb
from tests.free_ports import free_ports
from tests.journeys.stack import ROOT, wait_until


class Sensor:
    """A sensor in a process of its own, started when this is made."""

    def __init__(self, folder: Path, inboxes: dict[str, dict[str, Any]], api_port: int | None = None) -> None:
        self.ledger = folder / "ledger.db"
        dead, self.port = free_ports(2)
        (folder / "inboxes.yaml").write_text(yaml.safe_dump({"inboxes": inboxes}))
        own = ("PREFECT_", "NOTIFY_", "SENSOR_", "API_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        environment |= {"STATE_DIR": str(folder), "INBOXES_FILE": str(folder / "inboxes.yaml"), "AUTH": "off"}
        environment |= {"API_PORT": str(api_port or dead), "SENSOR_PORT": str(self.port), "ENV_FILE": os.devnull}
        self.began = time.monotonic()
        with (folder / "sensor.log").open("ab") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "sensors", "run"], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        self.process = psutil.Process(self._popen.pid)

    def cpu(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system

    def megabytes(self) -> dict[str, float]:
        memory = self.process.memory_full_info()
        peak = peak_mb(self.process.pid)
        return {"rss_mb": memory.rss / 2**20, "pss_mb": memory.pss / 2**20, "peak_mb": peak}

    def is_watching(self) -> bool:
        """Say whether it answers: its inboxes are looked at from then on."""
        try:
            found = httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=30, trust_env=False).json()
        except httpx.TransportError:
            return False
        return all(loop["alive"] for name, loop in found["loops"].items() if name.startswith("inbox "))

    def count(self, condition: str) -> int:
        try:
            with Ledger(self.ledger, read_only=True) as ledger:
                return ledger.rows(f"SELECT count(*) FROM files WHERE {condition}")[0][0]
        except LedgerError:  # it is being made
            return 0

    def wait(self, condition: Callable[[], object], what: str) -> float:
        wait_until(condition, what, 900, pause=0.05)
        return time.monotonic()

    def stop(self) -> None:
        self._popen.terminate()
        self._popen.wait()


@contextmanager
def sensor(inboxes: dict[str, dict[str, Any]], folder: Path, api_port: int | None = None) -> Generator[Sensor]:
    running = Sensor(folder, inboxes, api_port)
    try:
        yield running
    finally:
        running.stop()


@contextmanager
def state_dir() -> Generator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "inbox" / "metrics").mkdir(parents=True)
        (Path(folder) / "outside").mkdir()
        yield Path(folder)


def fill(folder: Path, count: int, name: str = "{}.csv", text: str = "a\n1\n") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        (folder / name.format(n)).write_text(text)


def write_rows(ledger: Ledger, rows: int) -> None:
    """Write rows of loaded files into a ledger, a thousand an arrival."""
    numbers = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1)"
    at = "'2026-11-01T00:00:00.000000+00:00'"
    ledger.change(
        f"{numbers} INSERT INTO arrivals (id, inbox, folder, state, attempt, created_at, staged_at, ended_at, run_id)"
        f" SELECT 'metrics-20261101-' || i, 'metrics', '/old/' || i, 'loaded', 1, {at}, {at}, {at}, 'run-' || i FROM n",
        (max(1, rows // 1000),),
    )
    ledger.change(
        f"{numbers} INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, arrival_id, rows,"
        f" seen_at, settled_at, staged_at, ended_at) SELECT 'metrics', '/inbox/old-' || i || '.csv', 'old-' || i"
        " || '.csv', '1', i, 4, i, 'loaded', 'metrics-20261101-' || (i / 1000), 1,"
        f" {at}, {at}, {at}, {at} FROM n",
        (rows,),
    )
