"""What the ledger says of files that were not loaded, and of runs, that a person has dismissed: both are settled."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from sensors.ledger.database import Ledger, stamp
from sensors.ledger.files import EVERY_INBOX

NEEDS_A_PERSON = (
    "f.state IN ('rejected', 'failed') AND (f.dismissed_at IS NULL OR f.dismissed_at < f.ended_at)"
    f" AND f.inbox IN (WITH {EVERY_INBOX} SELECT one FROM every_inbox)"
)
"""The condition on files `f`: not loaded, and not dismissed since. Tried again in vain, they need a person anew."""


KEPT_FOR = timedelta(days=60)
"""How long it is kept that a run was dismissed: twice as long as failed runs are looked for."""


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


def of_runs(ledger: Ledger) -> dict[str, datetime]:
    """Return when runs were dismissed, by what was dismissed: run ids, deployment ids, `*`."""
    rows = ledger.rows("SELECT what, dismissed_at FROM dismissed_runs")
    return {row["what"]: datetime.fromisoformat(row["dismissed_at"]) for row in rows}


def record_runs(ledger: Ledger, what: Iterable[str], now: datetime) -> None:
    """Write down that runs are dismissed, and forget those that were long ago."""
    with ledger.transaction():
        ledger.change("DELETE FROM dismissed_runs WHERE dismissed_at < ?", (stamp(now - KEPT_FOR),))
        ledger.change_many(
            "INSERT INTO dismissed_runs (what, dismissed_at) VALUES (?, ?)"
            " ON CONFLICT (what) DO UPDATE SET dismissed_at = excluded.dismissed_at",
            [(one, stamp(now)) for one in what],
        )


def _record(ledger: Ledger, which: str, parameters: Sequence[str | int], now: datetime) -> int:
    with ledger.transaction():
        return ledger.change(
            f"UPDATE files AS f SET dismissed_at = ? WHERE {which} AND {NEEDS_A_PERSON}", [stamp(now), *parameters]
        )
