"""Result of each file of a run: loaded, skipped or rejected."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

_NAMED = 5
"""How many rejected files the run's message names."""


class Outcome(StrEnum):
    """What became of a file; the sensor reads these values from the run's artifact."""

    LOADED = "loaded"
    SKIPPED = "skipped"
    """Its load key existed: an earlier run had loaded it."""
    REJECTED = "rejected"


@dataclass(frozen=True)
class FileResult:
    """Result of one file."""

    file: str
    outcome: Outcome
    rows: int
    """Rows of the file that are in the table, also if an earlier run loaded them; 0 if it was rejected, even if the
    rows of an earlier load remain."""
    bytes: int
    seconds: float
    reason: str | None = None
    replaced: int | None = None
    """How many rows of an earlier load were replaced; None if the file was not reloaded."""
    original: str | None = None
    """The error's own message, for the log, if it says more than the reason."""
    widened: tuple[str, ...] = ()
    """The columns of the table that were widened for it, a sentence each."""

    @property
    def log_level(self) -> int:
        return logging.WARNING if self.outcome is Outcome.REJECTED else logging.INFO

    def __str__(self) -> str:
        match self.outcome:
            case Outcome.LOADED:
                replaced = [] if self.replaced is None else [f"replaced {self.replaced:,} rows"]
                more = "".join(f"; {one}" for one in (*replaced, *self.widened))
                return f"{self.file}: loaded {self.rows:,} rows, {self.bytes:,} bytes, in {self.seconds:.2f} s{more}"
            case Outcome.SKIPPED:
                return f"{self.file}: skipped, its {self.rows:,} rows were loaded before under the same load key"
            case Outcome.REJECTED:
                return f"{self.file}: rejected: {self.reason}"


def has_rejected(results: Sequence[FileResult]) -> bool:
    """Return whether any file was rejected."""
    return any(result.outcome is Outcome.REJECTED for result in results)


def counts(results: Iterable[FileResult]) -> str:
    """Return how many files had each outcome, as text.

    >>> counts([FileResult("a.csv", Outcome.LOADED, 1234, 9000, 0.1)])
    '1 loaded with 1,234 rows, 0 skipped, 0 rejected'
    """
    files = Counter[Outcome]()
    rows = 0
    for result in results:
        files[result.outcome] += 1
        rows += result.rows if result.outcome is Outcome.LOADED else 0
    loaded, skipped, rejected = (files[outcome] for outcome in Outcome)
    return f"{loaded:,} loaded with {rows:,} rows, {skipped:,} skipped, {rejected:,} rejected"


def summary(results: Sequence[FileResult]) -> str:
    """Return the final message of a run.

    >>> summary([FileResult("a.csv", Outcome.LOADED, 1234, 9000, 0.1)])
    '1 file, 1,234 rows loaded, 0 skipped'
    """
    rejected = [result for result in results if result.outcome is Outcome.REJECTED]
    if rejected:
        named = "; ".join(f"{result.file}: {result.reason}" for result in rejected[:_NAMED])
        more = f"; and {len(rejected) - _NAMED} more" if len(rejected) > _NAMED else ""
        return f"{len(rejected)} of {len(results)} files rejected: {named}{more}"
    rows = sum(result.rows for result in results if result.outcome is Outcome.LOADED)
    skipped = sum(result.outcome is Outcome.SKIPPED for result in results)
    said = f"{len(results)} file{'' if len(results) == 1 else 's'}, {rows:,} rows loaded, {skipped} skipped"
    return "; ".join([said, *widened(results)[:_NAMED]])


def widened(results: Iterable[FileResult]) -> list[str]:
    """Return the sentences about columns that were widened."""
    return [line for result in results for line in result.widened]
