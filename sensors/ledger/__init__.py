"""The ledger: every file and every arrival and the step it has reached."""

from sensors.ledger.database import Ledger, LedgerError, LedgerMovedError

__all__ = ["Ledger", "LedgerError", "LedgerMovedError"]
