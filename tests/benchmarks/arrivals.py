"""Part `arrivals`: how many arrivals a second become flow runs, on the embedded profile and with 1, 2 and 4 services.

What a sensor sends is sent, one event an arrival, all at once; the automation makes a run of each. The work pool is
paused, so that no run starts: what is measured is the way through API, broker, triggers and actions, which is Prefect's
own. Then the pool is opened, and the runs of the last flood load a small file each. The CPU time tells whose the limit
is, and what a fleet would need (fleet.py).
"""

import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from sensors.runs.announcer import EVENT
from sensors.runs.api import Event, PrefectApi
from tests.benchmarks.arrival_system import Running, system
from tests.benchmarks.options import Options
from tests.benchmarks.part import Figure, Grid, Part, console, median
from tests.journeys.stack import CREDENTIALS

EMBEDDED = 0
"""How many service processes the embedded profile has: they are part of its one server."""
SYSTEMS = (EMBEDDED, 1, 2, 4)
BATCH = 25
DEADLINE_SECONDS = 300.0
ENDED = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


class Loading(BaseModel):
    """All runs of a system, each with a small file, from the opening of the pool until the last has ended."""

    runs: int
    completed: int
    seconds: float
    cpu_seconds: dict[str, float]
    database_bytes: int
    """By how much Prefect's database has grown, from the first announcement."""
    memory_mb: dict[str, float] = {}
    """What a process of each role took when half of the runs had ended."""


class Flood(BaseModel):
    """Arrivals that were announced all at once, and the runs that came of them."""

    services: int
    arrivals: int
    runs: int
    """How many arrivals had a run by the deadline."""
    twice: int
    """How many runs came on top of the first of an arrival."""
    emitting_seconds: float
    seconds: float
    """From the first event until the last run was there."""
    cpu_seconds: dict[str, float]
    """By the role of the process."""

    @property
    def rate(self) -> float:
        """Runs a second."""
        return self.runs / self.seconds


class ArrivalSamples(BaseModel):
    """All floods, and what came of their runs on each system."""

    floods: list[Flood]
    loadings: dict[int, Loading]

    def of(self, services: int) -> list[Flood]:
        """Return the floods of one system."""
        return [one for one in self.floods if one.services == services]

    @property
    def systems(self) -> list[int]:
        """Return the systems that were measured, by the number of their service processes."""
        return sorted({one.services for one in self.floods})


def measure(options: Options) -> ArrivalSamples:
    """Flood each system as often as is asked for, then have all of it loaded."""
    floods: list[Flood] = []
    loadings: dict[int, Loading] = {}
    for services in SYSTEMS:
        console.print(f"{options.floods} floods of {options.arrivals} arrivals on {name_of(services)}")
        with options.folder() as folder, system(folder, services) as running:
            size = running.database()
            for number in range(options.floods):
                floods.append(flood(running, options.arrivals, f"f{number}"))
                console.print(f"  {floods[-1].rate:.1f} a second")
            loadings[services] = load(running, size)
            console.print(f"  loaded: {loadings[services].completed} in {loadings[services].seconds:.0f} s")
    return ArrivalSamples(floods=floods, loadings=loadings)


def name_of(services: int) -> str:
    """Return what a system is called."""
    return f"scale, {services} service processes" if services else "embedded"


def flood(running: Running, arrivals: int, name: str) -> Flood:
    """Announce arrivals as fast as one sensor can, and wait for their runs."""
    folders = [written(running.stack.state_dir / "arrivals" / "bench" / f"{name}-{n}") for n in range(arrivals)]
    before, known = running.cpu(), running.runs()
    began = time.monotonic()
    with PrefectApi(str(running.stack.api.base_url).rstrip("/"), CREDENTIALS) as api:
        for start in range(0, arrivals, BATCH):
            api.emit([event(one) for one in folders[start : start + BATCH]])
    emitting = time.monotonic() - began
    while (count := running.runs() - known) < arrivals and time.monotonic() < began + DEADLINE_SECONDS:
        time.sleep(0.1)
    seconds = time.monotonic() - began
    running.calm()
    spent = running.cpu() - before
    return Flood(
        services=running.services,
        arrivals=arrivals,
        runs=min(count, arrivals),
        twice=running.runs() - known - min(count, arrivals),
        emitting_seconds=emitting,
        seconds=seconds,
        cpu_seconds={role: round(cpu, 2) for role, cpu in spent.items()},
    )


def load(running: Running, size: int) -> Loading:
    """Have all runs started that wait; `size` is that of Prefect's database before they were made."""
    # Those of the schedule, which are planned ahead, wait for their time.
    before, began, waiting = running.cpu(), time.monotonic(), running.runs() - running.planned
    running.pause_pool(is_paused=False)
    deadline = began + 2 * DEADLINE_SECONDS
    memory: dict[str, float] = {}
    while (ended := running.runs(any_=ENDED)) < waiting and time.monotonic() < deadline:
        if ended >= waiting // 2 and not memory:
            memory = running.memory()
        time.sleep(0.2)
    seconds = time.monotonic() - began
    running.calm()
    return Loading(
        runs=waiting,
        completed=running.runs(any_=["COMPLETED"]),
        seconds=seconds,
        cpu_seconds={role: round(cpu, 2) for role, cpu in (running.cpu() - before).items()},
        database_bytes=running.database() - size,
        memory_mb=memory,
    )


def written(folder: Path) -> Path:
    """Make the folder of an arrival with one small file."""
    folder.mkdir(parents=True)
    (folder / "orders.csv").write_text("day,orders,revenue\n" + "2026-11-25,12,340.5\n" * 10, "utf-8")
    return folder


def event(folder: Path) -> Event:
    """Return what a sensor sends of an arrival of one small file."""
    arrival = f"{folder.name}-{uuid.uuid4().hex[:6]}"
    payload = {
        "arrival_id": arrival,
        "inbox": "metrics",
        "attempt": 1,
        "source_url": folder.as_uri(),
        "files": ["orders.csv"],
        "file_count": 1,
        "bytes": 200,
        "reload": None,
    }
    resource = {"prefect.resource.id": f"inbox.arrival.{arrival}", "prefect.resource.name": arrival, "inbox": "metrics"}
    return Event(str(uuid.uuid4()), EVENT, datetime.now(UTC), resource, payload=payload)


def figures(samples: ArrivalSamples) -> list[Figure]:
    """Return the rate of each system."""
    return [
        Figure(
            name=f"arrivals to runs, {name_of(services)}",
            unit="a second",
            median=median([one.rate for one in samples.of(services)]),
            higher_is_better=True,
        )
        for services in samples.systems
    ]


def tables(samples: ArrivalSamples) -> list[Grid]:
    """Return the rates, and what CPU time one arrival and one run cost where."""
    roles = sorted({role for one in samples.floods for role in one.cpu_seconds})
    rows = [
        (
            name_of(services),
            f"{median([one.rate for one in found]):.1f}",
            *(ms(median([one.cpu_seconds.get(role, 0) / max(1, one.runs) for one in found])) for role in roles),
            str(sum(one.arrivals - one.runs for one in found)),
            str(sum(one.twice for one in found)),
        )
        for services in samples.systems
        if (found := samples.of(services))
    ]
    through = Grid(
        "Arrivals through automations, CPU of each", ("profile", "a second", *roles, "lost", "twice"), (*rows,)
    )
    roles = sorted({role for one in samples.loadings.values() for role in one.cpu_seconds})
    rows = [
        (
            name_of(services),
            f"{one.completed} of {one.runs}",
            f"{one.runs / one.seconds:.1f}",
            *(ms(one.cpu_seconds.get(role, 0) / one.runs) for role in roles),
            f"{one.database_bytes / one.runs / 1000:.0f} kB",
        )
        for services, one in samples.loadings.items()
    ]
    columns = ("profile", "completed", "a second", *roles, "database, each")
    runs = Grid("Runs of a small file, CPU of each", columns, (*rows,))
    roles = sorted({role for one in samples.loadings.values() for role in one.memory_mb})
    rows = [
        (name_of(services), *(f"{one.memory_mb.get(role, 0):.0f} MB" for role in roles))
        for services, one in samples.loadings.items()
    ]
    return [through, runs, Grid("Memory of one process of each", ("profile", *roles), (*rows,))]


def ms(seconds: float) -> str:
    """Return a time in milliseconds."""
    return f"{1000 * seconds:.0f} ms"


PART = Part("arrivals", ArrivalSamples, measure, figures, tables)
