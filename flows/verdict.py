"""What became of each file of a run."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

_NAMED = 5
"""How many rejected files the run's message names."""


class Outcome(StrEnum):
    """What became of a file; the sensor reads these words in the run's artifact."""

    LOADED = "loaded"
    SKIPPED = "skipped"
    """Its load key was there: an earlier run had loaded it."""
    REJECTED = "rejected"


@dataclass(frozen=True)
class Verdict:
    """What became of one file."""

    file: str
    outcome: Outcome
    rows: int
    """Rows that are in the table because of the file, also when an earlier run has loaded it; 0 if it was rejected,
    also when those of an earlier load stay."""
    bytes: int
    seconds: float
    reason: str | None = None
    """Why it was rejected."""
    replaced: int | None = None
    """How many rows of an earlier load its own have replaced; None if it was not loaded again."""

    @property
    def log_level(self) -> int:
        """The level at which it is logged."""
        return logging.WARNING if self.outcome is Outcome.REJECTED else logging.INFO

    def __str__(self) -> str:
        match self.outcome:
            case Outcome.LOADED:
                replaced = "" if self.replaced is None else f"; replaced {self.replaced:,} rows"
                return (
                    f"{self.file}: loaded {self.rows:,} rows, {self.bytes:,} bytes, in {self.seconds:.2f} s{replaced}"
                )
            case Outcome.SKIPPED:
                return f"{self.file}: skipped, its {self.rows:,} rows were loaded before under the same load key"
            case Outcome.REJECTED:
                return f"{self.file}: rejected: {self.reason}"


def has_rejected(verdicts: Sequence[Verdict]) -> bool:
    """Tell whether any file was rejected."""
    return any(verdict.outcome is Outcome.REJECTED for verdict in verdicts)


def counts(verdicts: Iterable[Verdict]) -> str:
    """Return how many files came to what.

    >>> counts([Verdict("a.csv", Outcome.LOADED, 1234, 9000, 0.1)])
    '1 loaded with 1,234 rows, 0 skipped, 0 rejected'
    """
    files = Counter[Outcome]()
    rows = 0
    for verdict in verdicts:
        files[verdict.outcome] += 1
        rows += verdict.rows if verdict.outcome is Outcome.LOADED else 0
    loaded, skipped, rejected = (files[outcome] for outcome in Outcome)
    return f"{loaded:,} loaded with {rows:,} rows, {skipped:,} skipped, {rejected:,} rejected"


def summary(verdicts: Sequence[Verdict]) -> str:
    """Return the message that a run ends with.

    >>> summary([Verdict("a.csv", Outcome.LOADED, 1234, 9000, 0.1)])
    '1 file, 1,234 rows loaded, 0 skipped'
    """
    rejected = [verdict for verdict in verdicts if verdict.outcome is Outcome.REJECTED]
    if rejected:
        named = "; ".join(f"{verdict.file}: {verdict.reason}" for verdict in rejected[:_NAMED])
        more = f"; and {len(rejected) - _NAMED} more" if len(rejected) > _NAMED else ""
        return f"{len(rejected)} of {len(verdicts)} files rejected: {named}{more}"
    rows = sum(verdict.rows for verdict in verdicts if verdict.outcome is Outcome.LOADED)
    skipped = sum(verdict.outcome is Outcome.SKIPPED for verdict in verdicts)
    return f"{len(verdicts)} file{'' if len(verdicts) == 1 else 's'}, {rows:,} rows loaded, {skipped} skipped"
