"""What a run says in its log about its files: of few a line each, of many how far it has come.

Every line costs a row in Prefect's database, and nobody reads 10,000; the report has all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from flows.loading.file_result import FileResult, Outcome, counts

NAMED = 20
"""How many files an arrival may have for each to get its own line; among more, that many rejected ones are named."""
PAUSE = 2.0
"""Seconds between two lines about how far it has come."""


@dataclass
class LoadLog:
    """The lines about the files of one run."""

    total: int
    """How many files the run has."""
    began: float
    """When it began, in seconds of any clock that does not jump."""
    results: list[FileResult] = field(default_factory=list[FileResult], init=False)
    """All that have come."""
    _rejected: int = field(default=0, init=False)
    _said_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._said_at = self.began

    def lines(self, results: Sequence[FileResult], now: float) -> Iterator[tuple[int, str]]:
        """Yield the level and text of what there is to say when these results have come, at this moment."""
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
