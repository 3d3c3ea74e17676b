"""`just bench [PART...]`: measures, prints tables, writes the figures of this version, and draws them."""

import signal
import sys
import time
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from tests.benchmarks import alert_latency, arrivals, big_file, burst, plot, results, sensor, single_drop, stream
from tests.benchmarks.machine import Machine, describe_machine
from tests.benchmarks.options import Options
from tests.benchmarks.part import Part, console
from tests.benchmarks.results import Result
from tests.benchmarks.table import show, show_comparison

PARTS: dict[str, Part[Any]] = {
    part.name: part
    for part in (
        single_drop.PART,
        burst.PART,
        big_file.PART,
        stream.PART,
        sensor.PART,
        alert_latency.PART,
        arrivals.PART,
    )
}
PartName = StrEnum("PartName", {name: name for name in PARTS})

Parts = Annotated[list[PartName] | None, typer.Argument(help="What to measure; all of it if nothing is named.")]


def numbers(text: str) -> list[int]:
    """Return the numbers of a list such as `100,1_000`; raises ValueError for anything else."""
    try:
        return [int(one) for one in text.split(",") if one]
    except ValueError:
        raise ValueError(f"expected whole numbers separated by commas, got {text!r}") from None


def bench(
    parts: Parts = None,
    *,
    drops: Annotated[int | None, typer.Option(help="drop: drops of ours (20)")] = None,
    stock_drops: Annotated[int | None, typer.Option(help="drop: drops of each stock system (8)")] = None,
    rounds: Annotated[int | None, typer.Option(help="drop: how often the systems take turns (2)")] = None,
    idle_seconds: Annotated[int | None, typer.Option(help="drop: seconds of each idle measurement (40)")] = None,
    sizes: Annotated[
        Any, typer.Option(help="burst: files (100,1000,10000,100000)", parser=numbers, metavar="N,...")
    ] = None,
    stock_files: Annotated[int | None, typer.Option(help="burst: files of stock's, 0 for none (100)")] = None,
    repeats: Annotated[int | None, typer.Option(help="burst: bursts of each size (5, 3 from 10,000 on, 1)")] = None,
    rows: Annotated[
        Any, typer.Option(help="big: rows (1000000,10000000,100000000)", parser=numbers, metavar="N,...")
    ] = None,
    pairs: Annotated[int | None, typer.Option(help="big: loads by each side (5, 3 from 10,000,000 on)")] = None,
    minutes: Annotated[float | None, typer.Option(help="stream: how long (10)")] = None,
    alerts: Annotated[int | None, typer.Option(help="alert: failing runs of each kind (20)")] = None,
    floods: Annotated[int | None, typer.Option(help="arrivals: floods of each system (3)")] = None,
    flood: Annotated[int | None, typer.Option(help="arrivals: how many are announced at once (300)")] = None,
    work_dir: Annotated[Path | None, typer.Option(help="where the systems keep their state meanwhile")] = None,
    folder: Annotated[Path | None, typer.Option("--results", help="where figures and plots go")] = None,
    redraw: Annotated[bool, typer.Option("--redraw", help="measure nothing; show and draw what is there")] = False,
) -> None:
    """Measure this project next to stock Prefect, and keep the figures of this version."""
    given = {
        "drops": drops,
        "stock_drops": stock_drops,
        "rounds": rounds,
        "idle_seconds": idle_seconds,
        "sizes": sizes,
        "stock_files": stock_files,
        "repeats": repeats,
        "rows": rows,
        "pairs": pairs,
        "minutes": minutes,
        "alerts": alerts,
        "floods": floods,
        "arrivals": flood,
        "work_dir": work_dir,
    }
    options = Options.model_validate({name: value for name, value in given.items() if value is not None})
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    chosen = [PARTS[name] for name in parts or PARTS]
    folder = folder or results.RESULTS / results.this_version()
    failed = [] if redraw else [part.name for part in chosen if not measure(part, options, folder)]
    found = {name: result for name, result in results.read(folder).items() if is_readable(result)}
    for part in chosen:
        if part.name in found:
            report(part, found[part.name])
    for file in plot.draw(found, folder):
        console.print(f"drawn: {file}")
    if failed:
        console.print(f"failed: {', '.join(failed)}", style="bold red")
        raise typer.Exit(1)


def measure(part: Part[Any], options: Options, folder: Path) -> bool:
    """Measure one part and write its result; tell what went wrong if something did, and whether all is well."""
    with options.folder() as place:
        machine = describe_machine(place)
    console.rule(part.name)
    console.print(machine.describe())
    began = time.monotonic()
    try:
        samples = part.measure(options)
    except Exception as error:  # noqa: BLE001 - the other parts go on
        console.print(f"{part.name} failed: {error}", style="bold red", markup=False)
        traceback.print_exc()
        return False
    result = Result(
        part=part.name,
        version=results.this_version(),
        machine=machine,
        options=options,
        figures=tuple(part.figures(samples)),
        samples=samples.model_dump(mode="json"),
    )
    console.print(f"measured in {time.monotonic() - began:.0f} s, written to {results.write(folder, result)}")
    return True


def is_readable(result: Result) -> bool:
    """Return whether samples are what this version makes of them; say so if not."""
    try:
        PARTS[result.part].samples.model_validate(result.samples)
    except (ValidationError, KeyError):
        console.print(f"{result.part} was measured by another version of this program; measure it again", style="red")
        return False
    return True


def report(part: Part[Any], result: Result) -> None:
    """Print a part's tables, and its figures next to those of the release before."""
    console.rule(f"{part.name} of {result.version}")
    samples = part.samples.model_validate(result.samples)
    for grid in part.tables(samples):
        show(grid)
    earlier = results.before(result.version)
    then = results.read(earlier).get(part.name) if earlier else None
    if earlier and then:
        show_comparison(earlier.name, results.compare(part.figures(samples), then.figures))
        _report_other_machine(result.machine, then.machine)


def _report_other_machine(now: Machine, then: Machine) -> None:
    if now.kind != then.kind:
        console.print(f"These are two machines, that was {then.describe()}", style="bold yellow")


def interrupt(_number: int, _frame: object) -> NoReturn:
    """End as on Ctrl-C, so that everything that was started is stopped."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        typer.run(bench)
    except KeyboardInterrupt:
        sys.exit(130)
