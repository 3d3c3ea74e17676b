"""Part `drop`: where the time goes between one dropped file and its rows, ours next to stock Prefect.

The systems are never up together, as even an idle one takes CPU time: each in turn is brought up, left alone until it
is calm, measured while idle, given one file to warm up, then one file at a time; then it is taken down.
"""

import random
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import httpx
from pydantic import BaseModel

from tests.benchmarks.options import Options
from tests.benchmarks.our_stack import OurStack
from tests.benchmarks.part import Figure, Grid, Part, console, median, p95
from tests.benchmarks.prefect_record import committed_at, created_at, event_times, state_times
from tests.benchmarks.processes import Idle, idle, wait_until_calm
from tests.benchmarks.small_files import drop, write_batch
from tests.benchmarks.stock import StockPrefect
from tests.benchmarks.system import Kind, System, running
from tests.journeys.stack import wait_until

STEPS = ("event", "received", "run created", "pending", "running", "committed", "completed")
DONE_SECONDS = 120
POLL_SECONDS = {Kind.OURS: 1.0, Kind.TUNED: 1.0, Kind.STOCK: 10.0}
"""How often the worker looks for runs. Drops come at any moment of that."""


class Drop(BaseModel):
    """One drop: the seconds from the rename to each step, by Prefect's own record."""

    system: Kind
    steps: dict[str, float]
    ledger: dict[str, float]
    """The same for the steps of the sensor's ledger."""


class DropSamples(BaseModel):
    """All drops, and the systems while idle, a sample a round."""

    drops: list[Drop]
    idle: dict[Kind, list[Idle]]

    def seconds(self, kind: Kind, step: str) -> list[float]:
        """Return all samples of one step."""
        return [one.steps[step] for one in self.drops if one.system is kind]

    def share(self, kind: Kind) -> dict[str, float]:
        """Return the median seconds that each step takes after the one before it."""
        drops = [one.steps for one in self.drops if one.system is kind]
        before = {step: STEPS[n - 1] if n else None for n, step in enumerate(STEPS)}
        return {
            step: median([one[step] - (one[previous] if previous else 0.0) for one in drops])
            for step, previous in before.items()
        }


def system_of(kind: Kind, folder: Path) -> System:
    """Make a system in a new folder below this one."""
    place = folder / f"{kind.name.lower()}-{len(list(folder.iterdir()))}"
    place.mkdir()
    return OurStack(place) if kind is Kind.OURS else StockPrefect(place, kind)


def measure(options: Options) -> DropSamples:
    """Measure all systems in turns."""
    samples = DropSamples(drops=[], idle={kind: [] for kind in Kind})
    with options.folder() as folder:
        for turn in range(options.rounds):
            for kind in Kind:
                total = options.drops if kind is Kind.OURS else options.stock_drops
                count = total * (turn + 1) // options.rounds - total * turn // options.rounds
                if count:
                    console.print(f"round {turn + 1}: {count} drops on {kind}")
                    with running(system_of(kind, folder)) as system:
                        wait_until_calm(system.processes)
                        samples.idle[kind].append(idle(system.processes, options.idle_seconds))
                        samples.drops.extend(drops_on(system, count))
    return samples


def drops_on(system: System, count: int) -> list[Drop]:
    """Drop one file after the other, each on an idle system, and return what became of all but the first."""
    chance = random.Random(1)
    dropped: list[tuple[str, datetime]] = []
    for n in range(count + 1):
        batch = write_batch(system.folder / "written", f"drop-{n}", 1, first=3 * n)
        at, _ = drop(batch, system.inbox)
        dropped.append((batch.names[0], at))
        wait_until(lambda: _is_over(system, n + 1), f"{system.kind} has loaded {batch.names[0]}", DONE_SECONDS)  # noqa: B023
        time.sleep(2 + chance.uniform(0, POLL_SECONDS[system.kind]))
    return [_record(system, name, at) for name, at in dropped[1:]]


def _is_over(system: System, files: int) -> bool:
    progress = system.progress()
    if progress.failed:
        raise RuntimeError(f"{system.kind} has failed to load {progress.failed} of {files} files")
    return progress.loaded == files


def _record(system: System, name: str, dropped: datetime) -> Drop:
    """Gather the steps of one file from Prefect's record; ours may lag behind the ledger by some seconds."""
    found: dict[str, datetime] = {}

    def complete() -> bool:
        with suppress(LookupError, httpx.HTTPStatusError):
            found.update(step_times(system, name, dropped))
        return len(found) == len(STEPS)

    wait_until(complete, f"Prefect has recorded all of {name}", 60, pause=1)
    ledger = system.trace(name, dropped).ledger
    return Drop(
        system=system.kind,
        steps={step: (found[step] - dropped).total_seconds() for step in STEPS},
        ledger={step: (at - dropped).total_seconds() for step, at in ledger.items()},
    )


def step_times(system: System, name: str, dropped: datetime) -> dict[str, datetime]:
    """Return when each step of a file was that was dropped after a moment; raises LookupError while one is missing."""
    trace = system.trace(name, dropped)
    occurred, received = event_times(system.api, trace.resource_id, dropped)
    states = state_times(system.api, trace.run_id)
    return {
        "event": occurred,
        "received": received,
        "run created": created_at(system.api, trace.run_id),
        "pending": states["PENDING"],
        "running": states["RUNNING"],
        "committed": committed_at(system.api, trace.run_id, system.commit_line),
        "completed": states["COMPLETED"],
    }


def figures(samples: DropSamples) -> list[Figure]:
    """Return drop to Running, to committed and to completed of each system, and what it takes while idle."""
    found: list[Figure] = []
    for kind, idles in samples.idle.items():
        if not idles:
            continue
        for step in ("running", "committed", "completed"):
            seconds = samples.seconds(kind, step)
            name = f"drop to {step}, {kind}"
            found.append(
                Figure(name=name, unit="s", median=median(seconds), p95=p95(seconds), is_ours=kind is Kind.OURS)
            )
        percent = [one.cpu_percent for one in idles]
        megabytes = [sum(one.memory_mb.values()) for one in idles]
        ours = kind is Kind.OURS
        found.append(Figure(name=f"idle CPU, {kind}", unit="% of a core", median=median(percent), is_ours=ours))
        found.append(Figure(name=f"idle memory, {kind}", unit="MB", median=median(megabytes), is_ours=ours))
    return found


def tables(samples: DropSamples) -> list[Grid]:
    """Return the steps side by side, then what the systems take while idle."""
    kinds = [kind for kind in Kind if samples.idle.get(kind)]
    columns = [text for kind in kinds for text in (f"{kind} p50", "p95", "step")]
    rows = [(step, *(cell for kind in kinds for cell in _cells(samples, kind, step))) for step in STEPS]
    counts = ", ".join(f"{len(samples.seconds(kind, 'running'))} of {kind}" for kind in kinds)
    title = f"Single drop on an idle system: seconds since the rename, and what the step took ({counts})"
    idle_rows = tuple(
        (
            kind.value,
            f"{median([one.cpu_percent for one in samples.idle[kind]]):.1f} %",
            f"{median([sum(one.memory_mb.values()) for one in samples.idle[kind]]):.0f} MB",
            ", ".join(f"{name} {size:.0f}" for name, size in samples.idle[kind][-1].memory_mb.items()),
        )
        for kind in kinds
    )
    return [
        Grid(title, ("step", *columns), tuple(rows)),
        Grid("Idle", ("system", "CPU, of a core", "memory (PSS)", "of which"), idle_rows),
    ]


def _cells(samples: DropSamples, kind: Kind, step: str) -> tuple[str, str, str]:
    seconds = samples.seconds(kind, step)
    return f"{median(seconds):.2f}", f"{p95(seconds):.2f}", f"+{samples.share(kind)[step]:.2f}"


PART = Part("drop", DropSamples, measure, figures, tables)
