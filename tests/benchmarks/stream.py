"""Part `stream`: some files a second for minutes on end: does the latency stay, and the memory?"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime

from pydantic import BaseModel

from tests.benchmarks.options import Options
from tests.benchmarks.our_stack import OurStack
from tests.benchmarks.part import Figure, Grid, Part, console, median, p95
from tests.benchmarks.processes import cpu_seconds, memory, wait_until_calm
from tests.benchmarks.single_drop import STEPS as RUN_STEPS
from tests.benchmarks.single_drop import step_times
from tests.benchmarks.small_files import ROWS, drop, write_batch
from tests.benchmarks.system import System, running

FILES_PER_SECOND = 5
MEMORY_SECONDS = 10
DONE_SECONDS = 120


class StreamedFile(BaseModel):
    """One file: seconds since the stream's start, and from its drop to its rows; None if it was not loaded."""

    dropped: float
    latency: float | None


class StreamedRun(BaseModel):
    """One run: how many files it had, and the seconds since the stream's start at each of its steps."""

    files: int
    steps: dict[str, float]


class Memory(BaseModel):
    """The PSS in MB by role at a moment of the stream; runs are forks of the warm server and counted with it."""

    at: float
    megabytes: dict[str, float]


class StreamSamples(BaseModel):
    """The whole stream."""

    files: list[StreamedFile]
    memory: list[Memory]
    """The first before the stream, when the system was calm; the last when it was calm again."""
    cpu_percent: float
    """Of a core, all processes together, during the stream."""
    runs: list[StreamedRun]
    """Those that have ended, in the order of their announcements."""
    lost: int
    duplicated: int

    def latencies(self) -> list[float]:
        """Return the seconds of all files that were loaded."""
        return [one.latency for one in self.files if one.latency is not None]

    def step(self, name: str) -> list[float]:
        """Return the seconds that a step took after the one before it, of all runs."""
        before = RUN_STEPS[RUN_STEPS.index(name) - 1]
        return [one.steps[name] - one.steps[before] for one in self.runs]


def measure(options: Options) -> StreamSamples:
    """Drop files at a steady pace into our stack."""
    count = int(options.minutes * 60 * FILES_PER_SECOND)
    console.print(f"{count:,} files, {FILES_PER_SECOND} a second")
    with options.folder() as folder:
        system = OurStack(folder)
        with running(system):
            return _stream(system, count)


def _stream(system: OurStack, count: int) -> StreamSamples:
    drop(write_batch(system.folder / "written", "warm", 1), system.inbox)
    _wait(system, 1)
    wait_until_calm(system.processes)
    measured = [Memory(at=0, megabytes=memory(system.processes()))]
    cpu, began = cpu_seconds(system.processes()), time.monotonic()
    dropped: dict[str, datetime] = {}
    for n in _ticks(count):
        batch = write_batch(system.folder / "written", f"s{n}", 1, first=ROWS * (n + 1))
        dropped[batch.names[0]], _ = drop(batch, system.inbox)
        if time.monotonic() - began > len(measured) * MEMORY_SECONDS:
            measured.append(Memory(at=time.monotonic() - began, megabytes=memory(system.processes())))
    percent = 100 * (cpu_seconds(system.processes()) - cpu) / (time.monotonic() - began)
    _wait(system, count + 1)
    wait_until_calm(system.processes)
    measured.append(Memory(at=time.monotonic() - began, megabytes=memory(system.processes())))
    run_of = {name: run_id for name, run_id in system.runs_of_files("s").items() if run_id}
    start = min(dropped.values())
    runs = _steps(system, run_of, start)
    rows = system.rows(f"orders >= {ROWS}")
    drops = {name: (at - start).total_seconds() for name, at in dropped.items()}
    commits = {name: runs[run_id].steps["committed"] for name, run_id in run_of.items() if run_id in runs}
    return StreamSamples(
        files=[
            StreamedFile(dropped=at, latency=commits[name] - at if name in commits else None)
            for name, at in drops.items()
        ],
        memory=measured,
        cpu_percent=round(percent, 1),
        runs=sorted(runs.values(), key=lambda one: one.steps["event"]),
        lost=(ROWS * count - rows.distinct) // ROWS,
        duplicated=rows.rows - rows.distinct,
    )


def _ticks(count: int) -> Iterator[int]:
    """Give numbers at the pace of the stream; late ones at once."""
    began = time.monotonic()
    for n in range(count):
        time.sleep(max(0.0, began + n / FILES_PER_SECOND - time.monotonic()))
        yield n


def _wait(system: System, files: int) -> None:
    """Wait until so many files have ended, or for the deadline: what is missing shows in the figures."""
    deadline = time.monotonic() + DONE_SECONDS
    while time.monotonic() < deadline:
        progress = system.progress()
        if progress.loaded + progress.failed >= files:
            return
        time.sleep(0.5)


def _steps(system: OurStack, run_of: Mapping[str, str], start: datetime) -> dict[str, StreamedRun]:
    """Return the steps of the runs that have ended; a file of each is enough to find them."""
    found: dict[str, StreamedRun] = {}
    counts = Counter(run_of.values())
    for run_id, name in {run_id: name for name, run_id in run_of.items()}.items():
        with suppress(LookupError):
            times = step_times(system, name, start)
            steps = {step: (times[step] - start).total_seconds() for step in RUN_STEPS}
            found[run_id] = StreamedRun(files=counts[run_id], steps=steps)
    return found


def figures(samples: StreamSamples) -> list[Figure]:
    """Return the latency of the whole stream and of its last tenth, and the memory at its end."""
    latencies = samples.latencies()
    last = latencies[-max(1, len(latencies) // 10) :]
    grown = sum(samples.memory[-1].megabytes.values()) - sum(samples.memory[0].megabytes.values())
    return [
        Figure(name="stream, drop to committed", unit="s", median=median(latencies), p95=p95(latencies)),
        Figure(name="stream, its last tenth", unit="s", median=median(last), p95=p95(last)),
        Figure(name="stream, CPU", unit="% of a core", median=samples.cpu_percent),
        Figure(name="stream, memory grown", unit="MB", median=round(grown, 1)),
        Figure(name="stream, files lost", unit="files", median=samples.lost),
        Figure(name="stream, rows duplicated", unit="rows", median=samples.duplicated),
    ]


def tables(samples: StreamSamples) -> list[Grid]:
    """Return the latency by tenths of the stream, and the memory of each process at its start and its end."""
    files, size = samples.files, max(1, len(samples.files) // 10)
    tenths = [files[n : n + size] for n in range(0, size * 10, size)]
    rows = [
        (f"{tenth[0].dropped:.0f} s", f"{median(found):.2f} s", f"{p95(found):.2f} s", f"{max(found):.2f} s")
        for tenth in tenths
        if (found := [one.latency for one in tenth if one.latency is not None])
    ]
    title = (
        f"Stream of {len(files):,} files, {FILES_PER_SECOND} a second, in {len(samples.runs)} runs: drop to committed; "
        f"{samples.cpu_percent:.0f} % of a core, {samples.lost} lost, {samples.duplicated} duplicated"
    )
    start, end = samples.memory[0].megabytes, samples.memory[-1].megabytes
    grown = [(role, f"{start.get(role, 0):.0f} MB", f"{end.get(role, 0):.0f} MB") for role in sorted({*start, *end})]
    steps = [
        (step, f"+{median(taken):.2f} s", f"+{p95(taken):.2f} s")
        for step in RUN_STEPS[1:]
        if (taken := samples.step(step))
    ]
    return [
        Grid(title, ("from", "p50", "p95", "longest"), tuple(rows)),
        Grid("A run's steps during the stream", ("step", "p50", "p95"), tuple(steps)),
        Grid("Memory (PSS) before the stream and after it", ("process", "before", "after"), tuple(grown)),
    ]


PART = Part("stream", StreamSamples, measure, figures, tables)
