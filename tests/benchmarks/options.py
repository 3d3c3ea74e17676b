"""What is measured, how often, and where the temporary folders are."""

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """The sizes of all parts; the defaults are those of a release's figures."""

    model_config = ConfigDict(frozen=True)

    work_dir: Path | None = None
    """Where the systems keep their state while they are measured; None: the temporary folder."""
    drops: int = 20
    """Single drops of ours, over all rounds."""
    stock_drops: int = 8
    """Single drops of each stock system, over all rounds."""
    rounds: int = 2
    """How often the systems of the single drop take turns."""
    idle_seconds: int = 40
    """How long CPU time is counted while nothing happens, in each round."""
    sizes: tuple[int, ...] = (100, 1_000, 10_000, 100_000)
    """Files of the bursts of ours."""
    stock_files: int = 100
    """Files of the burst of each stock system; 0 leaves them out."""
    repeats: int | None = None
    """Bursts of each size; None: 5 up to 1,000 files, 3 up to 10,000, else 1."""
    rows: tuple[int, ...] = (1_000_000, 10_000_000, 100_000_000)
    """Rows of the big files."""
    pairs: int | None = None
    """Loads of each big file by each side; None: 5 up to a million rows, else 3."""
    minutes: float = 10
    """How long the stream lasts."""
    alerts: int = 20
    """Failing runs of each kind."""
    arrivals: int = 300
    """Arrivals that are announced at once."""
    floods: int = 3
    """How often that is done on each system."""

    @contextmanager
    def folder(self) -> Generator[Path, None, None]:
        """Have a temporary folder for the length of a block."""
        if self.work_dir is not None:
            self.work_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="bench-", dir=self.work_dir, ignore_cleanup_errors=True) as folder:
            yield Path(folder).resolve()

    def bursts(self, size: int) -> int:
        """Return how many bursts of a size are measured."""
        return self.repeats or (5 if size <= 1_000 else 3 if size <= 10_000 else 1)

    def loads(self, rows: int) -> int:
        """Return how many times each side loads a big file."""
        return self.pairs or (5 if rows <= 1_000_000 else 3)
