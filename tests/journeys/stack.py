"""A whole stack for the journeys: the real server, worker and sensor, started as a person starts them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import httpx
import psutil

from sensors.ledger import Ledger
from sensors.reports.arrivals import books_of
from sensors.stack.processes import environment_of
from tests.free_ports import free_ports

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
FLOW = "Enterprise Data Pipeline"
DEPLOYMENT = "production-etl"
CREDENTIALS = "admin:journeys"
UP_SECONDS = 150.0


def wait_until(look: Callable[[], T], what: str | Callable[[], str], seconds: float = 60.0, pause: float = 0.1) -> T:
    """Return what `look` returns as soon as that is true; fail with `what` when it never is."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:g} s still not: {what if isinstance(what, str) else what()}")
        time.sleep(pause)
    return found


def process_of(run_id: str) -> psutil.Process | None:
    """Return the process of a flow run."""
    found = [one for one in psutil.process_iter() if environment_of(one).get("PREFECT__FLOW_RUN_ID") == run_id]
    return found[0] if found else None


def flow_process_of(run_id: str) -> psutil.Process | None:
    """Return the process that a run's flow is in: that of the run, or the fork that has its standard error."""
    if (process := process_of(run_id)) is None or not is_warm_client(process):
        return process
    errors = standard_error_of(process)
    forks = [one for one in psutil.process_iter() if "flows.forkserver.server" in command_of(one)]
    return next((one for one in forks if standard_error_of(one) == errors), None)


def is_warm_client(process: psutil.Process) -> bool:
    """Return whether a run's process is one that has the flow run in a fork of the warm server."""
    return any(part.endswith("flows/forkserver/client.py") for part in command_of(process))


def command_of(process: psutil.Process) -> list[str]:
    """Return a process's command; empty for one that has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def standard_error_of(process: psutil.Process) -> str | None:
    """Return what a process's standard error is, as the kernel calls it."""
    try:
        return str(Path(f"/proc/{process.pid}/fd/2").readlink())
    except OSError:
        return None


class PatientTransport(httpx.HTTPTransport):
    """Asks again for a minute while the server says 503, its way of saying that its database is locked just now.

    Prefect's own client does the same. The server has done nothing of what it was asked then.
    """

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        deadline = time.monotonic() + 60
        request.read()
        while True:
            response = super().handle_request(request)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                return response
            response.close()
            time.sleep(0.5)


class Stack:
    """One stack in a state folder of its own, on free ports; the project is this one, or a copy of it at `root`."""

    def __init__(self, state_dir: Path, root: Path = ROOT, **environment: str) -> None:
        self.state_dir = state_dir
        self.root = root
        self.inbox = state_dir / "inbox" / "metrics"
        self.api_port, self.sensor_port = free_ports(2)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "STATE_DIR": str(state_dir),
            "API_PORT": str(self.api_port),
            "SENSOR_PORT": str(self.sensor_port),
            "ENV_FILE": str(state_dir.with_name(f"{state_dir.name}.env")),
            "NOTIFY_URLS": "",
            "NOTIFY_STORM": "1000/1m",  # every alert is looked for by itself
            "AUTH": "on",
            "PREFECT_API_AUTH_STRING": CREDENTIALS,
            **environment,
        }
        self.terminal = state_dir.with_name(f"{state_dir.name}.terminal.log")
        self.umask = -1
        """The umask with which `up` and the commands are typed; -1 is that of the tests."""
        self._process: subprocess.Popen[bytes] | None = None
        user, _, password = CREDENTIALS.partition(":")
        self.api = httpx.Client(
            base_url=f"http://127.0.0.1:{self.api_port}/api",
            auth=(user, password),
            timeout=30,
            # No connection is kept: a stack is stopped and started again.
            transport=PatientTransport(limits=httpx.Limits(max_keepalive_connections=0), trust_env=False),
        )

    # -- the front door

    def start(self, seconds: float = UP_SECONDS) -> "Stack":
        """Run `up` and return when it says that everything is healthy."""
        with self.terminal.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sensors", "up"],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                umask=self.umask,
            )
        try:
            wait_until(self._is_up, "the stack is healthy", seconds)
        except BaseException:
            self.stop()
            print(self.terminal.read_text())
            raise
        return self

    def _is_up(self) -> bool:
        said = self.terminal.read_text()
        assert self._process is not None
        assert self._process.poll() is None, f"`up` ended: {said}"
        return "everything is healthy" in said

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop `up` by a signal and return its exit status."""
        assert self._process is not None
        self._process.send_signal(how)
        try:
            return self._process.wait(timeout=30)
        finally:
            self._process.kill()

    def end(self) -> None:
        """Stop `up` if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.stop()

    @property
    def pid(self) -> int:
        """The process id of `up`."""
        assert self._process is not None
        return self._process.pid

    def service(self, *words: str) -> psutil.Process:
        """Return the process of the stack whose command line has these words in a row."""
        children = psutil.Process(self.pid).children(recursive=True)
        (found,) = [process for process in children if " ".join(words) in " ".join(command_of(process))]
        return found

    def program(self, name: str) -> psutil.Process:
        """Return the process that supervisord has started under this name last."""
        said = (self.state_dir / "logs" / "supervisor.log").read_text()
        return psutil.Process(int(re.findall(rf"spawned: '{name}' with pid (\d+)", said)[-1]))

    def command(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run `python -m ARGUMENTS` in the project's folder with this stack's environment."""
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            umask=self.umask,
        )

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `prefect` command against this stack, as a person would who has PREFECT_API_URL set."""
        environment = {
            **self.environment,
            "PREFECT_API_URL": str(self.api.base_url).rstrip("/"),
            "PREFECT_HOME": str(self.state_dir / "prefect"),
        }
        return subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=150,  # its client waits longer and longer while the database is locked
            check=False,
        )

    def status(self) -> dict[str, Any]:
        """Return what `status --json` prints."""
        return json.loads(self.command("sensors", "status", "--json").stdout)

    def books(self) -> dict[str, int]:
        """Return the counts of files of the inbox `metrics`."""
        return self.status()["inboxes"]["metrics"]

    def books_when(self, hold: Callable[[dict[str, int]], bool], what: str, seconds: float = 60) -> dict[str, int]:
        """Return the counts of files of the inbox `metrics` as the status has them, as soon as a condition holds.

        The wait reads the ledger: each `just status` is a process that takes a second of CPU from what is waited for.
        """

        def in_ledger() -> bool:
            with Ledger(self.state_dir / "ledger.db", read_only=True) as ledger:
                return hold(books_of(ledger, ["metrics"])["metrics"].model_dump())

        wait_until(in_ledger, what, seconds)
        books = self.books()
        assert hold(books), books
        return books

    # -- files and rows

    def drop(self, name: str, content: str | bytes) -> Path:
        """Write a file into the inbox, as a copying program does.

        Journeys share one table, and a file of which it knows no column is rejected: it learns the first of a CSV file.
        """
        if name.endswith(".csv"):
            self.learn(content)
        path = self.inbox / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def learn(self, content: str | bytes) -> None:
        """Have the table, if it is there, know a column of this CSV file."""
        text = content if isinstance(content, str) else content.decode("latin-1")
        names, _, rows = text.partition("\n")
        first = rows.partition("\n")[0].partition(",")[0].strip()
        self.know_one_of(names.strip().split(","), "BIGINT" if first.isdigit() else "VARCHAR")

    def know_one_of(self, names: Sequence[str], type_: str = "VARCHAR") -> None:
        """Have the table, if it is there, know one of these columns: the first one, unless it knows another."""
        file = self.state_dir / "warehouse.duckdb"

        def known() -> bool:
            try:
                with duckdb.connect(file) as warehouse:
                    found = warehouse.execute(
                        "SELECT lower(column_name) FROM duckdb_columns() WHERE table_name = 'daily_metrics'"
                    ).fetchall()
                    there = {column for (column,) in found}
                    if there and not there & {name.lower() for name in names}:
                        quoted = names[0].replace('"', '""')
                        warehouse.execute(f'ALTER TABLE public.daily_metrics ADD COLUMN "{quoted}" {type_}')
            except duckdb.IOException:
                return False  # a run is loading into it
            return True

        if file.exists():
            wait_until(known, "the table knows a column of the file")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query on the warehouse.

        Waits while a run is loading into it, and until the tables and columns of the query are there.
        """

        rejections: list[str] = []

        def ask() -> list[tuple[Any, ...]] | None:
            try:
                with duckdb.connect(self.state_dir / "warehouse.duckdb", read_only=True) as warehouse:
                    return [*warehouse.sql(query).fetchall(), ()]
            except (duckdb.IOException, duckdb.CatalogException, duckdb.BinderException) as error:
                rejections[:] = [str(error)]
                return None

        return wait_until(ask, lambda: f"the warehouse answers {query}, not {rejections}")[:-1]

    # -- runs

    def deployment(self) -> dict[str, Any]:
        """Return the deployment as the server has it."""
        return self.api.get(f"/deployments/name/{FLOW}/{DEPLOYMENT}").raise_for_status().json()

    def run(self, run_id: str) -> dict[str, Any]:
        """Return a flow run as the server has it."""
        return self.api.get(f"/flow_runs/{run_id}").raise_for_status().json()

    def run_now(self, parameters: Mapping[str, Any] = {}) -> str:
        """Start a run of the deployment and return its id."""
        body = {"parameters": dict(parameters), "state": {"type": "SCHEDULED"}}
        answer = self.api.post(f"/deployments/{self.deployment()['id']}/create_flow_run", json=body)
        return answer.raise_for_status().json()["id"]

    def wait_for_end(self, run_id: str, seconds: float = 60) -> dict[str, Any]:
        """Return a flow run when it has ended."""

        def ended() -> dict[str, Any] | None:
            run = self.run(run_id)
            return run if run["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

        return wait_until(ended, f"run {run_id} has ended", seconds, pause=0.2)
