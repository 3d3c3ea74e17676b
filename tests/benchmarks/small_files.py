"""Small CSV files, like those of the demo, and how they are dropped."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROWS = 3
HEADER = "date,region,orders,revenue\n"


@dataclass(frozen=True)
class Batch:
    """Files that were written next to an inbox and wait to be renamed into it.

    Their rows are numbered in the column `orders`: file n of the batch has the numbers from `first + 3 n`.
    """

    folder: Path
    names: tuple[str, ...]
    first: int

    @property
    def rows(self) -> int:
        """How many rows they have."""
        return ROWS * len(self.names)

    @property
    def numbers(self) -> str:
        """The SQL that selects their rows."""
        return f"orders BETWEEN {self.first} AND {self.first + self.rows - 1}"


def write_batch(folder: Path, prefix: str, count: int, first: int = 0) -> Batch:
    """Write files into a folder of the same file system as the inbox."""
    folder.mkdir(parents=True, exist_ok=True)
    names = tuple(f"{prefix}-{n}.csv" for n in range(count))
    for n, name in enumerate(names):
        (folder / name).write_text(content(first + ROWS * n))
    return Batch(folder, names, first)


def content(first: int) -> str:
    """Return a file's text; its rows are numbered from `first`."""
    lines = (f"2026-01-05,{region},{first + n},6411.20\n" for n, region in enumerate(("north", "south", "east")))
    return HEADER + "".join(lines)


def drop(batch: Batch, inbox: Path) -> tuple[datetime, float]:
    """Rename all files of a batch into an inbox; return the moment before the first, and how many seconds it took."""
    moves: Sequence[tuple[str, str]] = [(str(batch.folder / name), str(inbox / name)) for name in batch.names]
    at, began = datetime.now(UTC), time.monotonic()
    for source, target in moves:
        os.rename(source, target)  # noqa: PTH104 - as fast as it goes
    return at, time.monotonic() - began
