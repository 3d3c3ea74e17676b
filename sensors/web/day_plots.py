"""The plots of a day: arrivals, rows, files that were not loaded, and how fast runs began, hour by hour."""

from collections.abc import Callable

from sensors.reports.days import Day, Hour
from sensors.web.charts import Plot, Value, make_plot
from sensors.web.formats import counted, duration, number, short


def day_plots(day: Day) -> tuple[Plot, ...]:
    """Return the plots in the order in which they are looked at; pure."""

    def values(figure: Callable[[Hour], float | None], most: Callable[[Hour], float | None] | None = None):
        return [Value(f"{hour.start:%H:%M}", figure(hour), most(hour) if most else None) for hour in day.hours]

    total = day.total
    return (
        make_plot(
            "arrivals",
            "Arrivals",
            values(lambda hour: hour.arrivals),
            said=short,
            summary=_arrivals(day),
        ),
        make_plot(
            "rows", "Rows", values(lambda hour: hour.rows), said=short, summary=f"{counted(total.rows, 'row')} loaded"
        ),
        make_plot(
            "failures",
            "Files not loaded",
            values(lambda hour: hour.failures),
            said=short,
            summary=f"{counted(total.failures, 'file')} rejected or failed",
        ),
        make_plot(
            "latency",
            "From seen to run",
            values(lambda hour: hour.median_to_run, lambda hour: hour.slowest_to_run),
            said=_seconds,
            summary=_latency(day),
            whole=False,
        ),
    )


def _arrivals(day: Day) -> str:
    if not day.total.arrivals:
        return "nothing came"
    busiest = max(day.hours, key=lambda hour: hour.arrivals)
    return (
        f"{counted(day.total.arrivals, 'arrival')} of {counted(day.total.files, 'file')}; "
        f"most of them, {number(busiest.arrivals)}, in the hour from {busiest.start:%H:%M}"
    )


def _latency(day: Day) -> str:
    if day.total.median_to_run is None:
        return "no run began"
    return (
        f"the median is {duration(day.total.median_to_run)}, 95 of 100 take at most {duration(day.p95_to_run)}, "
        f"the slowest took {duration(day.total.slowest_to_run)}"
    )


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.3g} s"
    return f"{value / 60:.3g} min" if value < 3600 else f"{value / 3600:.3g} h"
