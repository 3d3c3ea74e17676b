"""The ledger: a SQLite database of every file and arrival, and the step each has reached."""

from sensors.ledger.database import Ledger, LedgerError, LedgerMovedError

__all__ = ["Ledger", "LedgerError", "LedgerMovedError"]
