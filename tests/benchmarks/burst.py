"""Part `burst`: many small files at once, until all their rows are committed, ours next to stock Prefect.

The files lie next to the inbox, on the same file system, and are renamed into it as fast as one process can.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel

from tests.benchmarks.options import Options
from tests.benchmarks.our_stack import OurStack
from tests.benchmarks.part import Figure, Grid, Part, console, median, p95
from tests.benchmarks.prefect_record import committed_at
from tests.benchmarks.processes import wait_until_calm
from tests.benchmarks.single_drop import system_of
from tests.benchmarks.small_files import ROWS, Batch, drop, write_batch
from tests.benchmarks.system import Kind, Progress, System, running

STOCK_DEADLINE_SECONDS = 240


class Burst(BaseModel):
    """One burst and what became of it."""

    system: Kind
    files: int
    renaming_seconds: float
    """How long it took to rename them in."""
    committed_seconds: float
    """From the first rename until the last rows were committed of what was loaded by the deadline."""
    books_seconds: float
    """Until the system knew of all files how they ended: the ledger, and for stock the state of the runs."""
    runs: int
    failed: int
    """Files that the system said it could not load."""
    unfinished: int
    """Files that had not ended at the deadline and the minute after it in which the system may become calm."""
    missing: int
    """Files whose rows are not in the warehouse."""
    lost: int
    """Those of them that the system neither has in hand nor told of."""
    duplicated: int
    """Rows that are there more than once."""

    @property
    def loaded(self) -> int:
        """Files whose rows are in the warehouse."""
        return self.files - self.missing

    @property
    def is_whole(self) -> bool:
        """Whether each file is there exactly once."""
        return not (self.failed or self.unfinished or self.missing or self.duplicated)


class BurstSamples(BaseModel):
    """All bursts."""

    bursts: list[Burst]

    def sizes(self, kind: Kind) -> list[int]:
        """Return the sizes that were measured, in order."""
        return sorted({one.files for one in self.bursts if one.system is kind})

    def seconds(self, kind: Kind, files: int) -> list[float]:
        """Return all samples of one size, those left out that were not whole."""
        return [
            one.committed_seconds for one in self.bursts if (one.system, one.files) == (kind, files) and one.is_whole
        ]

    def pace(self, kind: Kind, files: int) -> float | None:
        """Return the seconds a file; where no burst is whole, those of what was loaded, until the last of it was."""
        if seconds := self.seconds(kind, files):
            return median(seconds) / files
        found = [one for one in self.bursts if (one.system, one.files) == (kind, files) and one.loaded]
        return median([one.committed_seconds / one.loaded for one in found]) if found else None


def measure(options: Options) -> BurstSamples:
    """Measure each size on a new stack of ours, and after the size of stock's burst that on both stock systems."""
    bursts: list[Burst] = []
    for kind, size in _turns(options):
        count = options.bursts(size) if kind is Kind.OURS else 1
        console.print(f"{count} bursts of {size:,} files on {kind}")
        with options.folder() as folder, running(system_of(kind, folder)) as system:
            wait_until_calm(system.processes)
            bursts.extend(_bursts(system, size, count))
    return BurstSamples(bursts=bursts)


def _turns(options: Options) -> Iterator[tuple[Kind, int]]:
    stock = [(kind, options.stock_files) for kind in (Kind.TUNED, Kind.STOCK) if options.stock_files]
    for size in sorted(options.sizes):
        yield Kind.OURS, size
        yield from stock if size >= options.stock_files else []
        stock = stock if size < options.stock_files else []
    yield from stock


def _bursts(system: System, size: int, count: int) -> Iterator[Burst]:
    # The first file of a stack has to make the table, the server's caches and the like; a busy inbox has them.
    warm = write_batch(system.folder / "written", "warm", 1)
    drop(warm, system.inbox)
    done = _wait(system, files=1, deadline=time.monotonic() + 120)
    first = ROWS
    for n in range(count):
        batch = write_batch(system.folder / "written", f"b{n}", size, first)
        first += batch.rows
        yield _burst(system, batch, done)
        done = system.progress()
        if done.loaded + done.failed < 1 + size * (n + 1):
            return  # the rest would come into the next one
        wait_until_calm(system.processes)


def _burst(system: System, batch: Batch, before: Progress) -> Burst:
    files = len(batch.names)
    dropped, renaming = drop(batch, system.inbox)
    began = time.monotonic() - renaming
    # Ours at 20 files a second at the least.
    seconds = STOCK_DEADLINE_SECONDS if system.kind is not Kind.OURS else 120 + files / 20
    _wait(system, before.loaded + before.failed + files, began + seconds)
    books = time.monotonic() - began
    # Their end is in the ledger some moments before their processes' end, and those may hold the warehouse.
    wait_until_calm(system.processes)
    after = system.progress()
    ended = after.loaded + after.failed - before.loaded - before.failed
    failed, unfinished = after.failed - before.failed, files - ended
    runs, committed = _runs(system, batch, dropped)
    rows = system.rows(batch.numbers)
    missing = (batch.rows - rows.distinct) // ROWS
    burst = Burst(
        system=system.kind,
        files=files,
        renaming_seconds=renaming,
        committed_seconds=(committed - dropped).total_seconds() if committed else books,
        books_seconds=books,
        runs=runs,
        failed=failed,
        unfinished=unfinished,
        missing=missing,
        lost=max(0, missing - failed - unfinished),
        duplicated=rows.rows - rows.distinct,
    )
    console.print(
        f"  {burst.committed_seconds:.1f} s, {runs} runs" + ("" if burst.is_whole else f", NOT WHOLE: {burst}")
    )
    return burst


def _wait(system: System, files: int, deadline: float) -> Progress:
    """Wait until so many files have ended since the system's start, or for the deadline."""
    while True:
        progress = system.progress()
        if progress.loaded + progress.failed >= files or time.monotonic() > deadline:
            return progress
        time.sleep(0.5)


def _runs(system: System, batch: Batch, since: datetime) -> tuple[int, datetime | None]:
    """Return how many runs loaded a batch, and when the last of them committed."""
    if isinstance(system, OurStack):
        found = set(system.runs_of_files(f"{Path(batch.names[0]).stem.partition('-')[0]}-").values()) - {None}
        run_ids = [run_id for run_id in found if run_id]
    else:
        run_ids = _stock_runs(system, since)
    times: list[datetime] = []
    for run_id in run_ids:
        with suppress(LookupError):
            times.append(committed_at(system.api, run_id, system.commit_line))
    return len(run_ids), max(times, default=None)


def _stock_runs(system: System, since: datetime) -> list[str]:
    body = {"flow_runs": {"expected_start_time": {"after_": since.isoformat()}}, "limit": 200}
    found: list[str] = []
    while page := system.api.post("/flow_runs/filter", json={**body, "offset": len(found)}).raise_for_status().json():
        found += [run["id"] for run in page]
    return found


def figures(samples: BurstSamples) -> list[Figure]:
    """Return the seconds of each size, and what was lost or duplicated in all of them."""
    found = [
        Figure(
            name=f"burst of {size:,}, {kind}",
            unit="s",
            median=median(samples.seconds(kind, size)),
            p95=p95(samples.seconds(kind, size)),
            is_ours=kind is Kind.OURS,
        )
        for kind in Kind
        for size in samples.sizes(kind)
        if samples.seconds(kind, size)
    ]
    ours = [one for one in samples.bursts if one.system is Kind.OURS]
    lost = sum(one.lost for one in ours)
    duplicated = sum(one.duplicated for one in ours)
    return [
        *found,
        Figure(name="files lost in bursts, ours", unit="files", median=lost),
        Figure(name="rows duplicated in bursts, ours", unit="rows", median=duplicated),
    ]


def tables(samples: BurstSamples) -> list[Grid]:
    """Return a line for each system and size, and stock's projection to the sizes that only ours was given."""
    columns = ("system", "files", "bursts", "p50", "p95", "files/s", "ms a file", "runs")
    columns += ("failed", "unfinished", "lost", "duplicated")
    rows = [_row(samples, kind, size) for kind in Kind for size in samples.sizes(kind)]
    rows += [_projection(samples, kind, size) for kind in (Kind.TUNED, Kind.STOCK) for size in samples.sizes(Kind.OURS)]
    return [Grid("Burst of small files: seconds until all rows are committed", columns, tuple(filter(None, rows)))]


def _row(samples: BurstSamples, kind: Kind, size: int) -> tuple[str, ...]:
    bursts = [one for one in samples.bursts if (one.system, one.files) == (kind, size)]
    seconds, pace = samples.seconds(kind, size), samples.pace(kind, size)
    counts = (str(sum(getattr(one, name) for one in bursts)) for name in ("failed", "unfinished", "lost", "duplicated"))
    loaded = median([one.loaded for one in bursts])
    timing = (f"{median(seconds):.1f} s", f"{p95(seconds):.1f} s") if seconds else (f"only {loaded:.0f} loaded", "")
    speed = (f"{1 / pace:.2f}", f"{1000 * pace:.1f}") if pace else ("", "")
    runs = f"{median([one.runs for one in bursts]):.0f}"
    return kind.value, f"{size:,}", str(len(bursts)), *timing, *speed, runs, *counts


def _projection(samples: BurstSamples, kind: Kind, size: int) -> tuple[str, ...]:
    """Return what a stock system would need at the pace of its largest burst; nothing where it was measured."""
    largest = max(samples.sizes(kind), default=0)
    pace = samples.pace(kind, largest)
    if pace is None or size <= largest:
        return ()
    speed = (f"{pace * size:,.0f} s", "", f"{1 / pace:.2f}", f"{1000 * pace:.1f}")
    return f"{kind}, projected", f"{size:,}", "0", *speed, *[""] * 5


PART = Part("burst", BurstSamples, measure, figures, tables)
