"""Log lines of a run about its files: a line per file for a few, a count at intervals for many.

Every line is a row in Prefect's database, and the table artifact has all files anyway.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from flows.loading.file_result import FileResult, Outcome, counts

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
