"""The pictures of the figures, on a white ground so that they can be read on any page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tests.benchmarks.burst import BurstSamples
from tests.benchmarks.part import median
from tests.benchmarks.results import Result
from tests.benchmarks.single_drop import STEPS, DropSamples
from tests.benchmarks.stream import StreamSamples
from tests.benchmarks.system import Kind

COLOURS = {Kind.OURS: "#0b6e4f", Kind.TUNED: "#e08e1b", Kind.STOCK: "#b3362b"}
STEP_COLOURS = ("#1b4965", "#62b6cb", "#a9d6e5", "#f4a259", "#bc4b51", "#0b6e4f", "#b5bfb9")
"""Of the steps of a drop, in their order."""
STEP_LABELS = (
    "event: noticed, complete, moved",
    "received by the server",
    "run created by the automation",
    "Pending: found by the worker",
    "Running: process started",
    "rows committed",
    "Completed",
)
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e7ea",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": 160,
}
NO_DATE = {"Software": None}
"""The same figures make the same file."""


def draw(found: Mapping[str, Result], folder: Path) -> list[Path]:
    """Draw what there are figures of and return the files."""
    files: list[Path] = []
    with mpl.rc_context(STYLE):
        if {"drop", "burst"} <= found.keys():
            files.append(_save(overview(_drops(found), _bursts(found)), folder / "overview.png"))
        if "burst" in found:
            files.append(_save(burst(_bursts(found)), folder / "burst.png"))
        if "stream" in found:
            streamed = StreamSamples.model_validate(found["stream"].samples)
            files.append(_save(stream(streamed), folder / "stream.png"))
    return files


def _drops(found: Mapping[str, Result]) -> DropSamples:
    return DropSamples.model_validate(found["drop"].samples)


def _bursts(found: Mapping[str, Result]) -> BurstSamples:
    return BurstSamples.model_validate(found["burst"].samples)


def _save(figure: Figure, file: Path) -> Path:
    figure.savefig(file, metadata=NO_DATE)
    return file


def overview(drops: DropSamples, bursts: BurstSamples) -> Figure:
    """Draw the README's picture: where a single drop's time goes, and files per second by the size of a burst."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    _steps(left, drops)
    _pace(right, bursts)
    return figure


def _steps(axes: Axes, samples: DropSamples) -> None:
    kinds = [kind for kind in Kind if samples.seconds(kind, "completed")]
    lefts = dict.fromkeys(kinds, 0.0)
    for step, label, colour in zip(STEPS, STEP_LABELS, STEP_COLOURS, strict=True):
        widths = [max(0.0, samples.share(kind)[step]) for kind in kinds]
        places = list(range(len(kinds)))
        axes.barh(places, widths, left=list(lefts.values()), height=0.55, color=colour, label=label)
        lefts = {kind: lefts[kind] + width for kind, width in zip(kinds, widths, strict=True)}
    longest = max(lefts.values())
    for place, kind in enumerate(kinds):
        running = median(samples.seconds(kind, "running"))
        text = f"{running:.2f} s to Running\n{median(samples.seconds(kind, 'committed')):.2f} s to rows"
        axes.text(lefts[kind] + longest * 0.015, place, text, va="center", fontsize=9)
    axes.set_yticks(range(len(kinds)), [_system(kind) for kind in kinds])
    axes.invert_yaxis()
    axes.set_xlim(0, longest * 1.35)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("seconds since the file was dropped (sum of the steps' medians)")
    axes.set_title("One file on an idle system")
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="upper left", bbox_to_anchor=(-0.02, -0.16))


def _system(kind: Kind) -> str:
    return {Kind.OURS: "ours", Kind.TUNED: "stock Prefect,\npolling each second", Kind.STOCK: "stock Prefect"}[kind]


def _pace(axes: Axes, samples: BurstSamples) -> None:
    stock = {kind: samples.pace(kind, max(samples.sizes(kind), default=0)) for kind in (Kind.TUNED, Kind.STOCK)}
    slowest = max(stock, key=lambda kind: stock[kind] or 0.0)
    for kind in Kind:
        known = [(size, pace) for size in samples.sizes(kind) if (pace := samples.pace(kind, size))]
        if not known:
            continue
        sizes, paces = [size for size, _ in known], [1 / pace for _, pace in known]
        label = _system(kind).replace("\n", " ") + ("" if samples.seconds(kind, sizes[-1]) else ", not all loaded")
        axes.plot(sizes, paces, "o-", color=COLOURS[kind], label=label)
        for size, pace in zip(sizes, paces, strict=True):
            text = f"{pace:,.0f}" if pace >= 10 else f"{pace:.2g}"
            offset = (0, -16) if kind is slowest else (0, 7)
            axes.annotate(text, (size, pace), offset, textcoords="offset points", ha="center", fontsize=9)
        largest = max(samples.sizes(Kind.OURS), default=0)
        if kind is not Kind.OURS and largest > sizes[-1]:
            axes.plot(
                [sizes[-1], largest],
                [paces[-1]] * 2,
                "--",
                color=COLOURS[kind],
                label="projected" if kind is Kind.STOCK else None,
            )
    _log_log(axes)
    axes.set_ylim(axes.get_ylim()[0] / 1.5, axes.get_ylim()[1] * 2)
    axes.set_xlabel("files in the burst")
    axes.set_ylabel("files per second")
    axes.set_title("A burst of small files, all rows committed")
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(-0.02, -0.16))


def burst(samples: BurstSamples) -> Figure:
    """Draw how long bursts take, every sample a point."""
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    for kind in Kind:
        bursts = [one for one in samples.bursts if one.system is kind and one.is_whole]
        if bursts:
            sizes = sorted({one.files for one in bursts})
            axes.plot(
                [one.files for one in bursts], [one.committed_seconds for one in bursts], "o", color=COLOURS[kind]
            )
            medians = [median(samples.seconds(kind, size)) for size in sizes]
            axes.plot(sizes, medians, "-", color=COLOURS[kind], label=_system(kind).replace("\n", " "))
    axes.plot(
        [10_000], [60], marker="_", markersize=26, markeredgewidth=2, color="#444", linestyle="none", label="must"
    )
    axes.plot(
        [10_000], [25], marker="_", markersize=26, markeredgewidth=2, color="#999", linestyle="none", label="goal"
    )
    _log_log(axes)
    axes.set_xlabel("files in the burst")
    axes.set_ylabel("seconds until all rows are committed")
    axes.set_title("Bursts of small files")
    axes.legend(fontsize=9, frameon=False)
    return figure


def _log_log(axes: Axes) -> None:
    plain = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(plain)
    axes.yaxis.set_major_formatter(plain)


def stream(samples: StreamSamples) -> Figure:
    """Draw the latency of each file of the stream and, below, the memory of the processes."""
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.5, 1])
    loaded = [(one.dropped / 60, one.latency) for one in samples.files if one.latency is not None]
    minutes, latencies = [at for at, _ in loaded], [latency for _, latency in loaded]
    above.plot(minutes, latencies, ".", color="#0b6e4f", alpha=0.35, markersize=4, label="a file")
    window = max(1, len(loaded) // 40)
    above.plot(minutes, _moving_median(latencies, window), color="#0b2b22", label=f"median of {2 * window + 1}")
    above.set_ylim(bottom=0)
    above.set_ylabel("drop to rows committed, s")
    above.set_title("A steady stream, 5 files a second")
    above.legend(fontsize=8, frameon=False, ncols=2, loc="upper right", bbox_to_anchor=(1.0, 1.16))
    roles = sorted({role for one in samples.memory for role in one.megabytes})
    for role in roles:
        at = [one.at / 60 for one in samples.memory]
        label = f"{role}, with its runs" if role == "warm server" else role
        below.plot(at, [one.megabytes.get(role, 0.0) for one in samples.memory], label=label)
    below.set_ylim(bottom=0)
    below.set_xlabel("minutes since the start")
    below.set_ylabel("memory (PSS), MB")
    below.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _moving_median(values: Sequence[float], window: int) -> list[float]:
    return [median(values[max(0, n - window) : n + window + 1]) for n in range(len(values))]
