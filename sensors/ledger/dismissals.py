"""What the ledger says when a person has dismissed files that were not loaded: nobody needs to see to them any more."""

from collections.abc import Sequence
from datetime import datetime

from sensors.ledger.database import Ledger, stamp
from sensors.ledger.files import EVERY_INBOX

NEEDS_A_PERSON = (
    "f.state IN ('rejected', 'failed') AND (f.dismissed_at IS NULL OR f.dismissed_at < f.ended_at)"
    f" AND f.inbox IN (WITH {EVERY_INBOX} SELECT one FROM every_inbox)"
)
"""The condition on files `f`: not loaded, and not dismissed since. Tried again in vain, they need a person anew."""


def record_file(ledger: Ledger, file_id: int, now: datetime) -> int:
    """Write down that a file is dismissed and return how many were: none if it needs nobody."""
    return _record(ledger, "f.id = ?", [file_id], now)


def record_arrival(ledger: Ledger, arrival_id: str, now: datetime) -> int:
    """Write down that an arrival's files are dismissed and return how many were."""
    return _record(ledger, "f.arrival_id = ?", [arrival_id], now)


def record_named(ledger: Ledger, name: str, now: datetime) -> int:
    """Write down that all files of a name are dismissed and return how many were."""
    return _record(ledger, "f.name = ?", [name], now)


def record_until(ledger: Ledger, moment: datetime, now: datetime) -> int:
    """Write down that all files are dismissed whose end came no later than a moment, and return how many were."""
    return _record(ledger, "f.ended_at <= ?", [stamp(moment)], now)


def _record(ledger: Ledger, which: str, parameters: Sequence[str | int], now: datetime) -> int:
    with ledger.transaction():
        return ledger.change(
            f"UPDATE files AS f SET dismissed_at = ? WHERE {which} AND {NEEDS_A_PERSON}", [stamp(now), *parameters]
        )
