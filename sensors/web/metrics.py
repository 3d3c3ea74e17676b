"""Prometheus metrics of the sensor: the collector and the route `/metrics` on SENSOR_PORT.

The metrics contain no secrets and no file names.
"""

import platform
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sensors.alerts.issues import Issue
from sensors.config.settings import Settings
from sensors.files.file_systems import DiskSpace
from sensors.inbox.rejections import in_words
from sensors.inbox.scanner import WatchMode
from sensors.ledger import Ledger, LedgerError
from sensors.reports.arrivals import InboxCounts
from sensors.reports.days import (
    FollowedArrivals,
    InboxTally,
    PendingCounts,
    Span,
    Tally,
    TallyKeeper,
    read_pending,
    read_pending_alerts,
)
from sensors.runtime.clock import Clock
from sensors.runtime.loop import Loop

# Health and readiness probes of the sensor on SENSOR_PORT: `/healthz` and `/readyz`.

STUCK = "stuck"
"""The trouble of a loop that makes no progress."""
ENDED = "its thread has ended"


class WatchStatus(Protocol):
    """The watch mode of an inbox, the reason if it is polled, and the files that are being written."""

    @property
    def mode(self) -> WatchMode: ...
    @property
    def why_polling(self) -> str: ...
    @property
    def being_written(self) -> tuple[str, ...]: ...


def troubles(loops: Sequence[Loop]) -> dict[str, str]:
    """Return the troubles of the loops that make no progress or whose last step failed, by the names of the loops."""
    return {
        loop.name: ENDED if loop.has_ended else loop.trouble or STUCK
        for loop in loops
        if loop.trouble or not loop.alive
    }


def no_issues() -> dict[str, Issue]:
    """Return no issues."""
    return {}


def health_page(
    loops: Sequence[Loop],
    watches: Mapping[str, WatchStatus],
    issues: Callable[[], Mapping[str, Issue]] = no_issues,
) -> Route:
    """Return the route `/healthz`: 200 while every loop makes progress without trouble, else 503 and `detail`.

    `issues` returns problems other than those of the loops. A warning among them leaves the sensor healthy.
    """

    def healthz(_: Request) -> JSONResponse:
        found = issues().values()
        wrong = [f"{name}: {trouble}" for name, trouble in troubles(loops).items()]
        wrong += [f"{issue.title}: {issue.detail}" for issue in found if not issue.is_warning]
        document = {
            "healthy": not wrong,
            "detail": "; ".join(wrong),
            "loops": {loop.name: {"alive": loop.alive, "trouble": loop.trouble} for loop in loops},
            "issues": [
                {"title": one.title, "detail": one.detail, "mend": one.mend, "is_warning": one.is_warning}
                for one in found
            ],
            "inboxes": {name: _watching(watch) for name, watch in watches.items()},
        }
        return JSONResponse(document, status_code=503 if wrong else 200)

    return Route("/healthz", healthz)


def _watching(watch: WatchStatus) -> dict[str, str]:
    return {"mode": watch.mode, "why": watch.why_polling, "being_written": in_words(watch.being_written)}


def ready_page(loops: Sequence[Loop], ledger_path: Path) -> Route:
    """Return the route `/readyz`: 200 if every loop has finished its first step and the ledger opens, else 503.

    A failed first step counts as finished: a remote store that is down delays only its own inbox, and `/healthz`
    reports it.
    """

    def readyz(_: Request) -> JSONResponse:
        reasons = [f"{loop.name}: its first step is not over" for loop in loops if not loop.has_stepped]
        try:
            Ledger(ledger_path, read_only=True).close()
        except LedgerError as error:
            reasons.append(str(error))
        document = {"ready": not reasons, "detail": "; ".join(reasons)}
        return JSONResponse(document, status_code=503 if reasons else 200)

    return Route("/readyz", readyz)


ENTRIES = tuple(name for name in InboxCounts.model_fields if name != "seen")
BUCKETS = (0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 1800, 7200)
"""Seconds; close together around one second, the time that a file should take."""

_SINCE = "Of the arrivals taken since this process started, read at each scrape; a restart begins anew"
_SPANS = {
    Span.STAGING: "Seconds from the decision to take an arrival to all its files being in its folder",
    Span.SEEN_TO_RUN: "Seconds from an arrival's first file being seen to its flow run being known",
    Span.SEEN_TO_OUTCOME: "Seconds from an arrival's first file being seen to its outcome, loaded or failed",
}

disable_created_metrics()  # else each histogram has a second series, which is not used


class SensorCollector(Collector):
    """Collects the metrics of this sensor, one scrape at a time: each reports the arrivals' changes since the last."""

    def __init__(
        self,
        settings: Settings,
        loops: Sequence[Loop],
        watches: Mapping[str, WatchStatus],
        clock: Clock,
        issues: Callable[[], Mapping[str, Issue]] = no_issues,
        space: DiskSpace | None = None,
    ) -> None:
        self._settings = settings
        self._loops = loops
        self._watches = watches
        self._issues = issues
        self._space = space
        self._clock = clock
        self._lock = threading.Lock()
        self._ledger: Ledger | None = None
        self._keeper = TallyKeeper(settings.ledger_path, clock)
        self._followed = FollowedArrivals(clock.utc())
        self._histograms = {
            span: Histogram(
                f"blueprint_{span}_seconds", f"{meaning}. {_SINCE}.", ["inbox"], registry=None, buckets=BUCKETS
            )
            for span, meaning in _SPANS.items()
        }
        self._repeated = Counter(
            "blueprint_announcements_repeated",
            "Announcements of arrivals that had led to no run before. Counted since this process started.",
            ["inbox"],
            registry=None,
        )
        for inbox in watches:  # a series that begins with 0 shows its first increase
            self._repeated.labels(inbox)
            for histogram in self._histograms.values():
                histogram.labels(inbox)

    def collect(self) -> Generator[Metric]:
        """Yield every metric. If the ledger cannot be read, a metric says so and the others are still reported."""
        with self._lock:
            began = self._clock.monotonic()
            yield from self._of_the_process()
            yield from self._of_the_disks()
            yield from self._of_the_ledger()
            yield from self._of_the_alerts()
            took = self._clock.monotonic() - began
            yield _gauge("blueprint_scrape_seconds", "Seconds that it took to gather these metrics", took)

    # -- the process

    def _of_the_process(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "blueprint_build",
            "Which version runs here",
            value={
                "version": version("prefect-blueprint"),
                "prefect": version("prefect"),
                "python": platform.python_version(),
            },
        )
        alive = GaugeMetricFamily(
            "blueprint_loop_alive", "1 while a loop of the sensor runs and none of its steps hangs", labels=["loop"]
        )
        troubled = GaugeMetricFamily(
            "blueprint_loop_troubled", "1 while a loop's last step failed; /healthz says why", labels=["loop"]
        )
        for loop in self._loops:
            alive.add_metric([loop.name], loop.alive)
            troubled.add_metric([loop.name], loop.trouble is not None)
        watch = GaugeMetricFamily(
            "blueprint_inbox_watch", "1 for the way in which an inbox is watched", labels=["inbox", "mode"]
        )
        for inbox, watched in self._watches.items():
            watch.add_metric([inbox, watched.mode.value], 1)
        yield from (alive, troubled, watch)
        meaning = "How much is wrong with the sensor's files, disks or page; /healthz has the reasons"
        yield _gauge("blueprint_sensor_issues", meaning, len(self._issues()))

    def _of_the_disks(self) -> Iterator[Metric]:
        free = GaugeMetricFamily(
            "blueprint_disk_free_bytes",
            "Bytes that are free on the disk that holds something of ours",
            labels=["holds"],
        )
        total = GaugeMetricFamily(
            "blueprint_disk_bytes", "Bytes of the disk that holds something of ours", labels=["holds"]
        )
        inodes = GaugeMetricFamily(
            "blueprint_disk_free_inodes", "Inodes (files) that are free on that disk", labels=["holds"]
        )
        for disk in self._space.file_systems if self._space else ():
            holds = [", ".join(disk.parts)]
            free.add_metric(holds, disk.free)
            total.add_metric(holds, disk.total)
            if disk.inodes:
                inodes.add_metric(holds, disk.free_inodes)
        yield from (free, total, inodes)
        paused = self._space is not None and bool(self._space.paused_by)
        yield _gauge("blueprint_intake_paused", "1 while files wait in their inboxes because a disk is full", paused)

    # -- the ledger

    def _of_the_ledger(self) -> Iterator[Metric]:
        readable = 1
        try:
            if self._ledger is not None and not self._ledger.is_in_place:
                self._ledger.close()
                self._ledger = None
            ledger = self._ledger = self._ledger or Ledger(self._settings.ledger_path, read_only=True)
            tally = self._keeper.tally(ledger)
            pending = read_pending(ledger, [*self._watches, *tally.inboxes], self._clock.utc())
            self._follow(ledger)
        except (LedgerError, sqlite3.Error):
            readable = 0
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None
        else:
            yield from _books(tally, pending)
            yield from _ages(pending)
        yield _gauge("blueprint_ledger_readable", "1 if the ledger could be read for this scrape", readable)
        for histogram in self._histograms.values():
            yield from histogram.collect()
        yield from self._repeated.collect()

    def _follow(self, ledger: Ledger) -> None:
        look = self._followed.look(ledger)
        for timing in look.timings:
            self._histograms[timing.span].labels(timing.inbox).observe(timing.seconds)
        for inbox, times in look.repeated:
            self._repeated.labels(inbox).inc(times)

    # -- the alerts

    def _of_the_alerts(self) -> Iterator[Metric]:
        found = read_pending_alerts(self._settings.state_dir / "alerts.db")
        if found is not None:
            yield _gauge("blueprint_alerts_pending", "Alerts that no channel has taken yet", found.alerts)
            yield _gauge(
                "blueprint_alert_channels_failing", "Channels that do not take their alerts", found.failing_channels
            )

    def close(self) -> None:
        """Wait for a running count and close the ledger."""
        with self._lock:
            self._keeper.wait()
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None


def _books(tally: Tally, pending: Mapping[str, PendingCounts]) -> Iterator[Metric]:
    """Yield the file counts of every inbox, including those without files."""
    seen = GaugeMetricFamily(
        "blueprint_files_seen", "Files that an inbox has seen and the ledger still knows", labels=["inbox"]
    )
    files = GaugeMetricFamily("blueprint_files", "What became of the files of an inbox", labels=["inbox", "entry"])
    imbalance = GaugeMetricFamily(
        "blueprint_books_imbalance",
        "Files seen, counted by themselves, less the sum of what became of them; anything but 0 is a bug",
        labels=["inbox"],
    )
    for inbox in pending:
        one = tally.inboxes.get(inbox, InboxTally())
        seen.add_metric([inbox], one.seen)
        imbalance.add_metric([inbox], one.imbalance)
        for entry in ENTRIES:
            files.add_metric([inbox, entry], getattr(one.books, entry))
    yield from (seen, files, imbalance)
    yield _gauge(
        "blueprint_books_counted_timestamp_seconds",
        "When the files were counted, in seconds since 1970; with very many files not at every scrape",
        tally.at.timestamp(),
    )


def _ages(pending: Mapping[str, PendingCounts]) -> Iterator[Metric]:
    waiting = GaugeMetricFamily(
        "blueprint_oldest_waiting_seconds",
        "For how long the oldest file waits in an inbox, 0 for none",
        labels=["inbox"],
    )
    in_flight = GaugeMetricFamily("blueprint_arrivals_in_flight", "Arrivals without an outcome", labels=["inbox"])
    oldest = GaugeMetricFamily(
        "blueprint_oldest_arrival_seconds", "Age of the oldest arrival without an outcome, 0 for none", labels=["inbox"]
    )
    for inbox, one in pending.items():
        waiting.add_metric([inbox], one.oldest_waiting)
        in_flight.add_metric([inbox], one.in_flight)
        oldest.add_metric([inbox], one.oldest_in_flight)
    yield from (waiting, in_flight, oldest)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)


def metrics_page(collector: SensorCollector) -> Route:
    """Return the route `/metrics`; it responds in the format that the Accept header asks for."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type})

    return Route("/metrics", metrics)
