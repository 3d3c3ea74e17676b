"""Part `big`: one file of many rows through our flow's functions, next to DuckDB's own `read_csv`, in turns.

Each load is in a process of its own, `python -m tests.benchmarks.big_file HOW FILE FOLDER`, which prints its figures:
the seconds from opening the warehouse to having closed it, without the start of Python, and the process's peak memory.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from enum import StrEnum
from pathlib import Path

import duckdb
from pydantic import BaseModel

from tests.benchmarks.options import Options
from tests.benchmarks.part import Figure, Grid, Part, console, median, p95
from tests.benchmarks.processes import peak_mb
from tests.journeys.stack import ROOT

BYTES_PER_ROW = 120
"""What the file, two warehouses and what DuckDB puts aside may take; the file itself takes about 35."""

_ROW = (
    "DATE '2026-01-01' + (range % 365)::INTEGER AS date, ['north', 'south', 'east', 'west'][range % 4 + 1] AS region,"
    " range AS orders, round((range * 7919 % 1000000) / 100, 2) AS revenue"
)


class How(StrEnum):
    """Who loads."""

    OURS = "ours"
    BARE = "bare"


class Load(BaseModel):
    """One load of one file."""

    how: How
    rows: int
    bytes: int
    seconds: float
    cpu_seconds: float
    peak_mb: float


class BigSamples(BaseModel):
    """All loads, and which sizes the disk had no room for."""

    loads: list[Load]
    left_out: list[int]

    def seconds(self, how: How, rows: int) -> list[float]:
        """Return all samples of one side and size."""
        return [one.seconds for one in self.loads if (one.how, one.rows) == (how, rows)]

    def ratios(self, rows: int) -> list[float]:
        """Return by how much longer ours took, pair by pair."""
        pairs = zip(self.seconds(How.OURS, rows), self.seconds(How.BARE, rows), strict=True)
        return [ours / bare for ours, bare in pairs]

    def peak(self, how: How, rows: int) -> float:
        """Return the highest peak memory in MB."""
        return max(one.peak_mb for one in self.loads if (one.how, one.rows) == (how, rows))


def measure(options: Options) -> BigSamples:
    """Load each size by turns."""
    samples = BigSamples(loads=[], left_out=[])
    for rows in sorted(options.rows):
        with options.folder() as folder:
            free, needed = shutil.disk_usage(folder).free, rows * BYTES_PER_ROW
            if free < needed:
                samples.left_out.append(rows)
                console.print(f"{rows:,} rows are left out: they need {needed:,} bytes of disk, {free:,} are free")
                continue
            file = folder / "daily_metrics.csv"
            duckdb.sql(f"COPY (SELECT {_ROW} FROM range({rows})) TO '{file}' (HEADER)")
            for turn in range(options.loads(rows)):
                pair = [How.OURS, How.BARE] if turn % 2 == 0 else [How.BARE, How.OURS]
                samples.loads.extend(_load(how, file, folder, rows) for how in pair)
    return samples


def _load(how: How, file: Path, folder: Path, rows: int) -> Load:
    state = folder / "state"
    state.mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "STATE_DIR": str(state),
        "ENV_FILE": str(folder / "no.env"),
        "PREFECT_HOME": str(folder / "prefect"),
    }
    command = [sys.executable, "-m", "tests.benchmarks.big_file", how, str(file), str(state)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    if found.pop("loaded") != rows:
        raise RuntimeError(f"{how}: expected {rows:,} rows, got {found}")
    shutil.rmtree(state)
    load = Load(how=how, rows=rows, bytes=file.stat().st_size, **found)
    console.print(f"{rows:,} rows, {how}: {load.seconds:.2f} s, {load.peak_mb:.0f} MB")
    return load


def load_ours(file: Path) -> int:
    """Run the flow's three tasks as plain functions and return how many rows they loaded."""
    from prefect.logging import disable_run_logger

    from flows.data_pipeline import extract_data, load_data, transform_data
    from flows.settings import read_settings
    from flows.sources.spool import spool_folder

    with disable_run_logger(), spool_folder(read_settings().spool_dir, "big") as spool:
        extraction = extract_data.fn(
            file.as_uri(), "warehouse.public.daily_metrics", 500, "big", None, None, None, spool
        )
        plans = transform_data.fn(extraction, spool)
        return sum(result.rows or 0 for result in load_data.fn(extraction.config, plans, "big"))


def load_bare(file: Path, folder: Path) -> int:
    """Have DuckDB load it, as it comes, and return how many rows it has loaded."""
    with duckdb.connect(folder / "bare.duckdb") as warehouse:
        warehouse.execute(f"CREATE TABLE daily_metrics AS FROM read_csv('{file}')")
        return warehouse.sql("SELECT count(*) FROM daily_metrics").fetchall()[0][0]


def main() -> None:
    """Load one file in this process and print what it took."""
    how, file, folder = How(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    if how is How.OURS:
        import flows.data_pipeline  # noqa: F401 - a run of the warm server has it imported

    began, cpu = time.monotonic(), time.process_time()
    loaded = load_ours(file) if how is How.OURS else load_bare(file, folder)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    print(json.dumps({"loaded": loaded, "seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak_mb(os.getpid())}))
    sys.stdout.flush()
    os._exit(0)  # DuckDB 2.0's bindings would list what they did not free


def figures(samples: BigSamples) -> list[Figure]:
    """Return our seconds, their ratio to DuckDB's, and our peak memory, for each size."""
    found: list[Figure] = []
    for rows in _sizes(samples):
        seconds, ratios = samples.seconds(How.OURS, rows), samples.ratios(rows)
        name = f"{rows:,} rows"
        found.append(Figure(name=f"{name}, ours", unit="s", median=median(seconds), p95=p95(seconds)))
        found.append(Figure(name=f"{name}, ours / read_csv", unit="times", median=median(ratios), p95=p95(ratios)))
        found.append(Figure(name=f"{name}, peak memory", unit="MB", median=samples.peak(How.OURS, rows)))
    return found


def tables(samples: BigSamples) -> list[Grid]:
    """Return a line for each size."""
    columns = ("rows", "file", "loads", "ours p50", "read_csv p50", "paired ratio p50", "p95")
    columns += ("ours M rows/s", "ours peak", "read_csv peak")
    lines: list[tuple[str, ...]] = []
    for rows in _sizes(samples):
        ours, bare, ratios = samples.seconds(How.OURS, rows), samples.seconds(How.BARE, rows), samples.ratios(rows)
        size = next(one.bytes for one in samples.loads if one.rows == rows)
        timing = (f"{median(ours):.2f} s", f"{median(bare):.2f} s", f"{median(ratios):.2f}", f"{p95(ratios):.2f}")
        peaks = (f"{samples.peak(how, rows):.0f} MB" for how in (How.OURS, How.BARE))
        speed = f"{rows / median(ours) / 1e6:.2f}"
        lines.append((f"{rows:,}", f"{size / 1e6:,.0f} MB", str(len(ours)), *timing, speed, *peaks))
    lines += [(f"{rows:,}", "no room on the disk", *[""] * 8) for rows in samples.left_out]
    return [Grid("One big file: our flow's functions against DuckDB's own read_csv", columns, tuple(lines))]


def _sizes(samples: BigSamples) -> list[int]:
    return sorted({one.rows for one in samples.loads})


PART = Part("big", BigSamples, measure, figures, tables)

if __name__ == "__main__":
    main()
