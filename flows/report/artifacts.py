"""Publish a run's table artifact, with the outcome of each file, and the chart in its description.

The sensor reads the outcomes of an arrival's files from this artifact.
"""

from __future__ import annotations

import contextvars
import logging
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

import duckdb
from prefect.artifacts import create_progress_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from tenacity import Retrying, stop_after_attempt, wait_fixed

from flows.loading.file_result import FileResult, Outcome, counts, put_aside, remarks

SHOWN = 12
"""How many files get a bar; the table below lists all files."""
WIDTH = 20
"""Length of the longest bar in characters."""
_NAME_LIMIT = 60
_ESCAPED = r"\\\g<0>"
_MARKUP = re.compile(r"[\\`*_{}\[\]()<>#+\-.!|~&:@$]")


def chart(results: Sequence[FileResult]) -> str:
    """Return a bar chart of the rows per file, rejected files first, then the largest; "" for a single file.

    >>> loaded = FileResult("a.csv", Outcome.LOADED, 40, 9, 0.1)
    >>> rejected = FileResult("b.csv", Outcome.REJECTED, 0, 9, 0.0)
    >>> print(chart([loaded, rejected]))
    | file | rows | |
    |:--|--:|:--|
    | b\\.csv | | &ensp;✗ rejected |
    | a\\.csv | 40 | &ensp;▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇ |
    """
    if len(results) < 2:
        return ""
    ordered = sorted(results, key=lambda one: (one.outcome is not Outcome.REJECTED, -one.rows))
    longest = max(one.rows for one in results)
    lines = ["| file | rows | |", "|:--|--:|:--|", *(_line(one, longest) for one in ordered[:SHOWN])]
    if rest := ordered[SHOWN:]:
        lines.append(f"| and {len(rest):,} more | {sum(one.rows for one in rest):,} | |")
    return "\n".join(lines)


def plain(text: str) -> str:
    r"""Escape a text for Markdown, on one line and cut to at most 60 characters.

    >>> plain("[x](http://bad) <b>|")
    '\\[x\\]\\(http\\://bad\\) \\<b\\>\\|'
    """
    one_line = " ".join(text.split())
    cut = one_line if len(one_line) <= _NAME_LIMIT else f"{one_line[: _NAME_LIMIT - 1]}…"
    return _MARKUP.sub(_ESCAPED, cut)


def bar(value: int, longest: int) -> str:
    """Return a bar of block characters; any value above 0 gets at least a thin one.

    >>> bar(1, 1000), bar(500, 1000)
    ('▏', '▇▇▇▇▇▇▇▇▇▇')
    """
    if not value or not longest:
        return ""
    return "▇" * round(value / longest * WIDTH) or "▏"


def _line(result: FileResult, longest: int) -> str:
    if result.outcome is Outcome.REJECTED:
        return f"| {plain(result.file)} | | &ensp;✗ rejected |"
    skipped = " ↷ skipped, it was loaded before" if result.outcome is Outcome.SKIPPED else ""
    aside = f" {put_aside(result.quarantined)}" if result.quarantined else ""
    return f"| {plain(result.file)} | {result.rows:,} | &ensp;{bar(result.rows, longest)}{skipped}{aside} |"


ARTIFACT_KEY = "arrival-{}"
"""Formatted with the arrival's id, or with the run's id if the run has no arrival."""


FEW = 100
"""Up to this many files, the table keeps the order of the run's files."""
_URGENCY = (Outcome.REJECTED, Outcome.SKIPPED, Outcome.LOADED)


def report_rows(results: Sequence[FileResult]) -> list[dict[str, Any]]:
    """Return the table's rows; the sensor depends on their keys."""
    return [
        {
            "file": result.file,
            "outcome": result.outcome.value,
            "rows": result.rows,
            "bytes": result.bytes,
            "seconds": result.seconds,
            "reason": result.reason,
            **({"widened": list(result.widened)} if result.widened else {}),
            **({"left_out": list(result.left_out)} if result.left_out else {}),
            **({"quarantined": result.quarantined} if result.quarantined else {}),
        }
        for result in results
    ]


def report_order(results: Sequence[FileResult]) -> Sequence[FileResult]:
    """Return the results in the order of the table: of more than FEW files, those that may need attention first."""
    if len(results) <= FEW:
        return results
    return sorted(results, key=lambda result: _URGENCY.index(result.outcome))


def description_of(results: Sequence[FileResult], page: str | None = None) -> str:
    """Return the Markdown above the table: counts, a link to the arrival's page, widened columns, and the chart.

    It is the description of the table artifact, because an artifact of its own would cost each run another request.
    """
    link = f"[The arrival's page ↗]({page})" if page else ""
    lines = "\n".join(f"- {_MARKUP.sub(_ESCAPED, line)}" for line in remarks(results))
    return "\n\n".join(filter(None, [f"{counts(results)}.", link, lines, chart(results)]))


def publish(
    load_id: str,
    results: Sequence[FileResult],
    logger: logging.Logger | logging.LoggerAdapter[Any],
    page: str | None = None,
) -> None:
    """Write the artifact in up to three attempts. Failure is only logged, as the rows are in the warehouse already.

    `page` is the URL of the arrival's page.
    """
    retrying = Retrying(stop=stop_after_attempt(3), wait=wait_fixed(1), reraise=True)
    try:
        retrying(
            create_table_artifact,
            table=report_rows(report_order(results)),
            key=ARTIFACT_KEY.format(load_id),
            description=description_of(results, page),
        )
    except Exception as error:  # noqa: BLE001 - a failed report must not fail the load
        logger.warning("the report of the files could not be written to Prefect: %s", error)


# A progress artifact on the run's page in Prefect, updated during a long load.
#
# A separate thread polls DuckDB for the progress of the query that the load is waiting for.

POLL_SECONDS = 1.0
LARGE = 20 * 2**20
"""Minimum size of a load, in bytes, for polling DuckDB: less than this is loaded in a second."""


@contextmanager
def watched(
    connected: Callable[[], duckdb.DuckDBPyConnection], size: int, estimate: Callable[[float, float], None]
) -> Generator[None, None, None]:
    """During the block, call `estimate` regularly with the current query's progress and the monotonic time.

    The progress, from 0 to 1, is DuckDB's estimate from the bytes that it has read. `size` is the load's size in bytes;
    a load smaller than LARGE is not watched.
    """
    if size < LARGE:
        yield
        return
    connected().execute("SET enable_progress_bar = true")
    connected().execute("SET enable_progress_bar_print = false")
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            try:
                share = connected().query_progress() / 100
            except duckdb.Error:  # the connection is being reopened
                continue
            if 0 <= share <= 1:
                estimate(share, time.monotonic())

    # Prefect reads the run that an artifact belongs to from the context.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(watch,), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


PROGRESS_KEY = "progress-{}"
"""Formatted with the arrival's id, or with the run's id if the run has no arrival."""
AFTER = 3.0
"""Seconds before a load gets a progress artifact; most loads are shorter and cost no request."""
PAUSE = 2.0
"""Minimum seconds between two updates; each is a request to Prefect's API of some 10 ms."""


@dataclass
class LoadProgress:
    """Progress of a run, by the bytes of the files that were loaded, skipped or rejected so far.

    For the last file, DuckDB's estimate is added. Methods may be called from any thread.
    """

    load_id: str
    files: int
    total: int
    """Bytes of all files together."""
    began: float
    """When the load began, in seconds of a monotonic clock."""
    logger: logging.Logger | logging.LoggerAdapter[Any]
    _done: int = field(default=0, init=False)
    _said: str = field(default="The first files are being loaded.", init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _told_at: float = field(init=False)
    _artifact: UUID | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._told_at = self.began + AFTER - PAUSE

    def update(self, results: Sequence[FileResult], known: Sequence[FileResult], now: float) -> None:
        """Add new results, which are the end of `known`, and update the artifact if that is due.

        An error from Prefect is only logged; the load continues.
        """
        with self._lock:
            self._done += sum(result.bytes for result in results)
            self.files -= len(results)
            self._said = f"{counts(known)}."
            is_over = self._done >= self.total
            if (is_over and self._artifact is not None) or (not is_over and now - self._told_at >= PAUSE):
                self._tell(100.0 if is_over else 100 * self._done / self.total, now)

    def estimate(self, share: float, now: float) -> None:
        """Update the artifact with the current query's progress, from 0 to 1, if only the last file is left."""
        with self._lock:
            if self.files == 1 and share > 0 and now - self._told_at >= PAUSE:
                self._tell(100 * (self._done + share * (self.total - self._done)) / self.total, now)

    def _tell(self, percent: float, now: float) -> None:
        self._told_at = now
        try:
            self._show(percent, self._said)
        except Exception as error:  # noqa: BLE001 - a failed progress update must not fail the load
            self.logger.warning("the progress of the load could not be written to Prefect: %s", error)

    def _show(self, percent: float, what: str) -> None:
        if self._artifact is None:
            key = PROGRESS_KEY.format(self.load_id)
            self._artifact = cast(UUID, create_progress_artifact(percent, key=key, description=what))
        else:
            # Not Prefect's update_progress_artifact, which opens a client for every call and never closes it.
            with get_client(sync_client=True) as client:
                client.update_artifact(self._artifact, ArtifactUpdate(data=round(percent, 2), description=what))


# Log lines of a run about its files: a line per file for a few, a count at intervals for many.
#
# Every line is a row in Prefect's database, and the table artifact has all files anyway.

NAMED = 20
"""Up to this many files, each gets its own line; of more files, only this many rejected ones do."""


@dataclass
class LoadLog:
    """Produces the log lines about the files of one run."""

    total: int
    """Number of files of the run."""
    began: float
    """When the run began, in seconds of a monotonic clock."""
    results: list[FileResult] = field(default_factory=list[FileResult], init=False)
    _rejected: int = field(default=0, init=False)
    _said_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._said_at = self.began

    def lines(self, results: Sequence[FileResult], now: float) -> Iterator[tuple[int, str]]:
        """Add results, and yield level and text of each line to log; `now` is on the same clock as `began`."""
        self.results.extend(results)
        for result in results:
            is_rejected = result.outcome is Outcome.REJECTED
            self._rejected += is_rejected
            if self.total <= NAMED or (is_rejected and self._rejected <= NAMED):
                yield result.log_level, str(result)
                if result.original:
                    yield logging.INFO, f"{result.file}: the error was {result.original}"
        done = len(self.results)
        if self.total > NAMED and (now - self._said_at >= PAUSE or done == self.total):
            self._said_at = now
            rate = done / max(now - self.began, 0.001)
            yield (
                logging.INFO,
                f"{done:,} of {self.total:,} files: {counts(self.results)}; {rate:,.0f} files a second",
            )
