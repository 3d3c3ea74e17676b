"""Prefect as its documentation leads one to use it, for side-by-side figures.

`prefect server start`, `prefect worker start` on a process pool, a deployed flow with an event trigger, and a watchdog
callback that emits an event per file, all of it in one folder. What a person would write is in stock_prefect/.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

import duckdb
import httpx
import psutil

from sensors.config.settings import Settings
from sensors.stack import processes as marking
from sensors.stack.environment import stack_environment
from sensors.stack.supervisor import DIE_WITH_PARENT
from tests.benchmarks.prefect_record import TERMINAL
from tests.benchmarks.system import Kind, Progress, Rows, Trace
from tests.free_ports import free_ports
from tests.journeys.stack import ROOT, PatientTransport, wait_until

PROGRAM = Path(__file__).with_name("stock_prefect")
NOT_TUNING = ("API", "HOME", "UI", "SERVER_API", "SERVER_UI", "SERVER_ANALYTICS", "LOGGING", "CLI")
"""The settings of our stack's Prefect that are addresses, credentials or looks; all others are tuning."""


def tuning() -> dict[str, str]:
    """Return the settings by which our stack's Prefect is faster, or slower, than one as it comes.

    Our worker is told of runs and polls seldom; one that is not told polls every second here.
    """
    ours = stack_environment(Settings(), {})
    prefixes = tuple(f"PREFECT_{one}_" for one in NOT_TUNING)
    taken = {
        name: value
        for name, value in ours.items()
        if name.startswith("PREFECT_") and not f"{name}_".startswith(prefixes)
    }
    return {**taken, "PREFECT_WORKER_QUERY_SECONDS": "1"}


class StockPrefect:
    """A `System`: server, worker and watcher."""

    commit_line = "Rows committed"

    def __init__(self, folder: Path, kind: Kind) -> None:
        """`kind` says whether its settings are those of our stack's Prefect."""
        self.kind = kind
        self.folder = folder
        self.inbox = folder / "inbox"
        self._program = folder / "program"
        (port,) = free_ports(1)
        self._url = f"http://127.0.0.1:{port}/api"
        self._port = port
        self._processes: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            **(tuning() if kind is Kind.TUNED else {}),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self._url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            # By the mark every process is found again, those of flow runs included.
            marking.MARK: str(folder),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": os.pathsep.join([str(self._program), str(ROOT)]),  # the watcher, and the tether
        }
        self.api = httpx.Client(base_url=self._url, timeout=180, transport=PatientTransport(trust_env=False))

    def start(self) -> None:
        """Start the server, deploy, start the worker and the watcher."""
        self.inbox.mkdir(parents=True)
        shutil.copytree(PROGRAM, self._program, ignore=shutil.ignore_patterns("__pycache__"))
        self._run("server", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self._port))
        wait_until(self._server_answers, "the stock server answers", 120)
        self._do("-m", "prefect", "work-pool", "create", "default", "--type", "process")
        self._do(str(self._program / "deploy.py"))
        self._run("worker", "prefect", "worker", "start", "--pool", "default")
        self._run("watcher", "watcher", str(self.inbox))
        wait_until(self._worker_is_online, "the stock worker is online", 60)
        wait_until(lambda: "watching" in self._log("watcher").read_text(), "the watcher watches", 60)

    def stop(self) -> None:
        """End every process that bears the mark."""
        marking.sweep(self.folder, grace_seconds=3)
        for process in self._processes:
            process.kill()
            process.wait()

    def processes(self) -> list[psutil.Process]:
        """Return all that bears the mark."""
        return marking.marked_processes(self.folder)

    def progress(self) -> Progress:
        """Count the runs that have ended, each of which loads one file.

        In Prefect's database: the server answers nobody for up to a minute when it has created twenty runs, and asking
        it would be work for it.
        """
        database = f"file:{self.folder / 'prefect' / 'prefect.db'}?mode=ro"
        with closing(sqlite3.connect(database, uri=True, timeout=60)) as opened:
            counts = dict(opened.execute("SELECT state_type, count(*) FROM flow_run GROUP BY state_type").fetchall())
        done = counts.get("COMPLETED", 0)
        return Progress(loaded=done, failed=sum(counts.get(one, 0) for one in TERMINAL) - done)

    def trace(self, name: str, since: datetime) -> Trace:
        """Look through the latest runs for the one with this file among its parameters."""
        body = {"sort": "EXPECTED_START_TIME_DESC", "limit": 200}
        runs = self.api.post("/flow_runs/filter", json=body).raise_for_status().json()
        found = [run["id"] for run in runs if Path(run["parameters"]["path"]).name == name]
        if not found:
            raise LookupError(f"expected a run of {name}, Prefect has none since {since}")
        return Trace(found[-1], f"file.{name}", {})

    def rows(self, condition: str) -> Rows:
        """Count rows in the warehouse; none when nothing was ever loaded. Waits while a run has it open."""
        warehouse = self._program / "warehouse.duckdb"
        query = f"SELECT count(*), count(DISTINCT orders) FROM daily_metrics WHERE {condition}"

        def ask() -> Rows | None:
            try:
                with duckdb.connect(warehouse, read_only=True) as opened:
                    return Rows(*opened.sql(query).fetchall()[0])
            except duckdb.CatalogException:
                return Rows(0, 0)
            except duckdb.IOException:
                return None

        return wait_until(ask, "nobody has stock's warehouse open", 120) if warehouse.exists() else Rows(0, 0)

    # -- processes

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _run(self, name: str, *arguments: str) -> None:
        with self._log(name).open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [*DIE_WITH_PARENT, *arguments],
                    env=self.environment,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def _do(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"python {' '.join(arguments)} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")

    def _server_answers(self) -> bool:
        with suppress(httpx.TransportError):
            return self.api.get("/health").is_success
        return False

    def _worker_is_online(self) -> bool:
        workers = self.api.post("/work_pools/default/workers/filter", json={}).raise_for_status().json()
        return any(worker["status"] == "ONLINE" for worker in workers)
