"""The check of the ledger: a small one is read whole before anything starts, a large one while the sensor works.

A ledger with a million files takes six seconds to read. What a check finds, SQLite also finds, and refuses, when it
comes upon it; so nothing is done with a broken page meanwhile.
"""

from pathlib import Path

from sensors.ledger import Ledger, LedgerError
from sensors.runtime.loop import beat

LARGE_BYTES = 50_000_000
"""From here on a check takes most of a second."""
PAUSE_SECONDS = 60.0


def is_large(ledger_path: Path) -> bool:
    """Tell whether a ledger takes too long to check before the start."""
    return ledger_path.is_file() and ledger_path.stat().st_size > LARGE_BYTES


class LedgerCheck:
    """The loop's step that checks a large ledger once after the start, and goes on to tell what it found."""

    def __init__(self, ledger_path: Path) -> None:
        self._path = ledger_path
        self._is_checked = not is_large(ledger_path)
        self._trouble: LedgerError | None = None

    def step(self) -> float:
        """Check the ledger, or do nothing; return the seconds until the next step. Raises LedgerError."""
        if not self._is_checked:
            try:
                with Ledger(self._path, read_only=True) as ledger:
                    ledger.check(beat)
            except LedgerError as error:
                self._trouble = error
            self._is_checked = True
        if self._trouble is not None:
            raise self._trouble
        return PAUSE_SECONDS
