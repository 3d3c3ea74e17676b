"""What is measured side by side: our stack, and Prefect as it comes."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import httpx
import psutil


class Kind(StrEnum):
    """The systems, in the order in which they take turns."""

    OURS = "ours"
    TUNED = "stock, tuned"
    STOCK = "stock"


@dataclass(frozen=True)
class Trace:
    """Where Prefect's record of one dropped file is, and what our ledger says of it, if it is ours."""

    run_id: str
    resource_id: str
    """Of the event that announced it."""
    ledger: dict[str, datetime]


@dataclass(frozen=True)
class Rows:
    """What the warehouse has of a batch of files."""

    rows: int
    distinct: int


@dataclass(frozen=True)
class Progress:
    """How far a system is with all files that were dropped since its start."""

    loaded: int
    failed: int
    """Files that will not be loaded any more, by what the system knows."""


class System(Protocol):
    """One system in a folder of its own."""

    kind: Kind
    folder: Path
    inbox: Path
    api: httpx.Client
    commit_line: str
    """What a run logs when its rows are committed."""

    def start(self) -> None:
        """Bring it up; return when it is ready for files."""
        ...

    def stop(self) -> None:
        """End every process of it."""
        ...

    def processes(self) -> list[psutil.Process]:
        """Return its living processes."""
        ...

    def progress(self) -> Progress:
        """Return how far it is, without disturbing it."""
        ...

    def trace(self, name: str, since: datetime) -> Trace:
        """Return where the record of a file is that was dropped after a moment."""
        ...

    def rows(self, condition: str) -> Rows:
        """Count the rows that meet a condition; `distinct` by their column `orders`. No run may be at work."""
        ...


@contextmanager
def running(system: System) -> Generator[System, None, None]:
    """Have a system up for the length of a block."""
    try:
        system.start()
        yield system
    finally:
        system.stop()
