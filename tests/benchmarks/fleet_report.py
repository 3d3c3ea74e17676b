"""`just simulate`: what a fleet of many inboxes and sensors would need of each part, by the measured figures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tests.benchmarks import arrivals, results
from tests.benchmarks.fleet import Costs, Fleet, Report, simulate
from tests.benchmarks.part import Grid, console, median
from tests.benchmarks.table import show

DAY = 86_400
CORE_SHARE = 0.7
"""How much of a core or process is planned to be at work; what is more waits in bursts."""
SERVICES = 2
"""How many service processes the system had whose costs are taken."""
SENSOR_FILE_SECONDS = 0.00023
"""CPU of a sensor for each file: README.md, the sensor alone, files renamed in."""


def fleet_report(
    *,
    files: Annotated[int, typer.Option(help="files a day")] = 10_000_000,
    inboxes: Annotated[int, typer.Option(help="inboxes of all sensors together")] = 1_000,
    sensors: Annotated[int, typer.Option(help="sensors")] = 100,
    peak: Annotated[float, typer.Option(help="how many times the mean the busiest hour has")] = 3.0,
    max_in_flight: Annotated[int, typer.Option(help="unfinished arrivals of an inbox")] = 1,
    minutes: Annotated[float, typer.Option(help="simulated time of the busiest hour")] = 10,
    folder: Annotated[Path | None, typer.Option("--results", help="where the measured figures are")] = None,
) -> None:
    """Simulate the busiest hour with more and more of everything, and tell what a fleet needs."""
    samples = measured(folder or results.RESULTS / results.this_version())
    costs, memory = costs_of(samples), samples.loadings[SERVICES].memory_mb
    rate = files / DAY * peak
    console.print(
        f"{files:,} files a day into {inboxes:,} inboxes of {sensors} sensors; {rate:.0f} a second in the busiest hour"
    )
    tried = [
        (fleet, simulate(fleet, costs, minutes * 60))
        for services in (2, 4, 8, 16, 32)
        for fleet in [Fleet(inboxes, rate, services, _cores(services, costs), max_in_flight)]
    ]
    show(sizes(tried))
    fleet, report = next((one for one in tried if one[1].services_busy <= CORE_SHARE), tried[-1])
    show(needs(fleet, report, costs, memory, Asked(sensors, files)))


def measured(folder: Path) -> arrivals.ArrivalSamples:
    """Return what was measured. Raises LookupError when nothing was."""
    found = results.read(folder)
    if arrivals.PART.name not in found:
        raise LookupError(f"expected measured figures in {folder}, got none; run `just bench arrivals`")
    return arrivals.ArrivalSamples.model_validate(found[arrivals.PART.name].samples)


def costs_of(samples: arrivals.ArrivalSamples) -> Costs:
    """Return the costs that were measured with two service processes."""
    floods, loading = samples.of(SERVICES), samples.loadings[SERVICES]

    def made(role: str) -> float:
        return median([one.cpu_seconds.get(role, 0.0) / one.runs for one in floods])

    def run(*roles: str) -> float:
        return sum(loading.cpu_seconds.get(role, 0.0) for role in roles) / loading.runs

    return Costs(
        services=made("services") + run("services"),
        api=made("API servers") + run("API servers"),
        run=run("runs", "workers"),
        file=0.001,
        database_bytes=loading.database_bytes / loading.runs,
        postgres=made("PostgreSQL") + run("PostgreSQL"),
        redis=made("Redis") + run("Redis"),
    )


def _cores(services: int, costs: Costs) -> int:
    """Return the workers' cores that keep up with so many service processes."""
    return max(1, math.ceil(services / costs.services * costs.run / CORE_SHARE))


def sizes(tried: list[tuple[Fleet, Report]]) -> Grid:
    """Return what each size comes to."""
    rows = [
        (
            str(fleet.service_processes),
            str(fleet.worker_cores),
            f"{report.arrivals_per_second:.1f}",
            f"{report.files / max(1, report.arrivals):.1f}",
            *(f"{report.latency(share):.1f} s" for share in (0.5, 0.95, 0.99)),
            f"{report.services_busy:.0%}",
            f"{report.workers_busy:.0%}",
        )
        for fleet, report in tried
    ]
    columns = ("service processes", "worker cores", "arrivals a second", "files each", "p50", "p95", "p99")
    return Grid("The busiest hour, drop to load", (*columns, "services busy", "workers busy"), (*rows,))


@dataclass(frozen=True)
class Asked:
    """What the fleet is for: sensors, and files a day."""

    sensors: int
    files: int


def needs(fleet: Fleet, report: Report, costs: Costs, memory: Mapping[str, float], asked: Asked) -> Grid:
    """Return what each part needs in the busiest hour, and what a day leaves behind; `memory` is in MB a process."""
    rate = report.arrivals_per_second
    each_day = asked.files / max(1.0, report.files / max(1, report.arrivals))
    parts = {
        "service processes": (fleet.service_processes, "services"),
        "API servers": (math.ceil(rate * costs.api / CORE_SHARE), "API servers"),
        "PostgreSQL, cores": (math.ceil(rate * costs.postgres / CORE_SHARE), ""),
        "Redis, cores": (math.ceil(rate * costs.redis / CORE_SHARE), ""),
        "workers' cores": (math.ceil(rate * costs.run / CORE_SHARE), "runs"),
        f"sensors, cores of {asked.sensors}": (math.ceil(report.files / report.seconds * SENSOR_FILE_SECONDS), ""),
    }
    rows = [
        (name, f"{count:,}", f"{count * memory[role] / 1000:.1f} GB" if role in memory else "")
        for name, (count, role) in parts.items()
    ]
    rows += [
        ("runs a day", f"{each_day:,.0f}", ""),
        ("Prefect's database grows a day", "", f"{each_day * costs.database_bytes / 1e9:.1f} GB"),
    ]
    return Grid("What that needs", ("part", "how many", "memory"), (*rows,))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(fleet_report)
    app()
