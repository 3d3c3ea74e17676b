"""The systems of the part `arrivals`: ours on either profile, with the work pool paused until it is opened."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil
import psycopg

from sensors.stack import processes as marking
from tests.benchmarks.processes import cpu_percent
from tests.free_ports import free_ports_in_a_row
from tests.journeys.stack import Stack
from tests.postgres import postgres_server
from tests.redis_server import redis_server

API_SERVERS = 2
RUNS_AT_ONCE = 4
CALM_SECONDS = 30.0
STILL_PERCENT = 15.0
"""Of one core: by how much less it does in the next seconds while something is still going on."""
ROLES = {
    "services start": "services",
    "server start": "API servers",
    "haproxy": "balancer",
    "postgres": "PostgreSQL",
    "redis-server": "Redis",
    "flows.forkserver.worker": "workers",
    "flows/forkserver/client.py": "workers",
    "flows.forkserver.server": "runs",
    "prefect.engine": "runs",
    "sensors run": "sensor",
}
"""What a process is whose command line has this in it; the first that fits."""
RUNS = "runs"


@dataclass(frozen=True)
class Running:
    """A system that is up, with its pool paused; the servers that are not of its stack are `shared`."""

    stack: Stack
    services: int
    shared: tuple[psutil.Process, ...]
    database: Callable[[], int]
    """Gives the size of Prefect's database in bytes."""
    planned: int = 0
    """How many runs the server has that the schedule has planned ahead."""

    def cpu(self) -> Counter[str]:
        """Return the CPU seconds so far, by role.

        A run is a fork that has nobody to account for it when it has ended. So runs have what the machine has spent and
        nobody else did; nothing else may be at work on it.
        """
        machine, own = psutil.cpu_times(), psutil.Process().cpu_times()
        found: Counter[str] = Counter()
        for role, process in self.processes():
            with suppress(psutil.Error):
                times = process.cpu_times()
                found[role] += times.user + times.system + times.children_user + times.children_system
        del found[RUNS]
        busy = machine.user + machine.nice + machine.system + machine.irq + machine.softirq
        found[RUNS] = busy - own.user - own.system - found.total()
        return found

    def memory(self) -> dict[str, float]:
        """Return what one process of each role takes now, on the average: its proportional set size in MB."""
        sizes: defaultdict[str, list[float]] = defaultdict(list)
        for role, process in self.processes():
            with suppress(psutil.Error):
                sizes[role].append(process.memory_full_info().pss / 2**20)
        return {role: round(sum(some) / len(some), 1) for role, some in sizes.items()}

    def processes(self) -> Iterator[tuple[str, psutil.Process]]:
        """Yield the processes that there are, each with its role."""
        children = [child for process in self.shared for child in [process, *process.children()]]
        for process in [*marking.marked_processes(self.stack.state_dir), *children]:
            with suppress(psutil.Error):
                line = " ".join(process.cmdline())
                yield next((name for part, name in ROLES.items() if part in line), "other"), process

    def runs(self, **state: list[str]) -> int:
        """Count the runs that the server has, or those in a state."""
        wanted = {"flow_runs": {"state": {"type": state}}} if state else {}
        return self.stack.api.post("/flow_runs/count", json=wanted).raise_for_status().json()

    def pause_pool(self, *, is_paused: bool) -> None:
        """Have no run started; or those that wait, so many at a time as a sensor would have of one inbox."""
        given = {"is_paused": is_paused, "concurrency_limit": RUNS_AT_ONCE}
        self.stack.api.patch("/work_pools/local-process-pool", json=given).raise_for_status()

    def calm(self) -> None:
        """Wait until it does no more than before, at most CALM_SECONDS: service processes are never quite still."""
        before, deadline = float("inf"), time.monotonic() + CALM_SECONDS
        while time.monotonic() < deadline:
            now = cpu_percent(lambda: marking.marked_processes(self.stack.state_dir), 3)
            if now > before - STILL_PERCENT:
                return
            before = now


@contextmanager
def system(folder: Path, services: int) -> Generator[Running]:
    """Run a system with its pool paused."""
    with ExitStack() as exits:
        given, shared, database = {}, (), None
        if services:
            postgres, redis = exits.enter_context(postgres_server()), exits.enter_context(redis_server())
            given = {
                "PROFILE": "scale",
                "DATABASE_URL": postgres.create("prefect"),
                "WAREHOUSE_URL": postgres.create("warehouse"),
                "REDIS_URL": redis.url,
                "API_SERVERS": str(API_SERVERS),
                "API_SERVER_PORT": str(free_ports_in_a_row(API_SERVERS)),
                "SERVICE_PROCESSES": str(services),
                "WORKERS": "1",
            }
            shared = (psutil.Process(postgres.pid), psutil.Process(redis.pid))
            database = partial(size_of, postgres.url("prefect"))
        stack = Stack(folder / "state", **given)
        stack.state_dir.mkdir(parents=True)
        stack.start(300)
        exits.callback(lambda: marking.sweep(stack.state_dir, grace_seconds=3))
        exits.callback(stack.stop)
        file = stack.state_dir / "prefect" / "prefect.db"
        running = Running(stack, services, shared, database or (lambda: file.stat().st_size))
        running.pause_pool(is_paused=True)
        running.calm()
        yield replace(running, planned=running.runs())


def size_of(url: str) -> int:
    """Return the size of a PostgreSQL database in bytes."""
    with psycopg.connect(url) as connection:
        (size,) = connection.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
    return size
