"""What is pending now: files that wait, arrivals on their way, alerts that nobody has."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from automations.alert_service import OutboxError, read_undelivered
from sensors.ledger import Ledger
from sensors.ledger.arrivals import UNFINISHED
from sensors.ledger.database import moment
from sensors.reports.inbox_glance import waiting_since


@dataclass(frozen=True)
class Pending:
    """What is pending of one inbox; ages in seconds, 0 where there is nothing."""

    oldest_waiting: float = 0.0
    in_flight: int = 0
    """Arrivals without an outcome."""
    oldest_in_flight: float = 0.0


def read_pending(ledger: Ledger, inboxes: Iterable[str], now: datetime) -> dict[str, Pending]:
    """Return what is pending of these inboxes, and of any other that has arrivals on their way.

    Raises LedgerError, sqlite3.Error.
    """
    on_their_way = {
        row["inbox"]: row
        for row in ledger.rows(
            "SELECT inbox, count(*) AS arrivals, min(created_at) AS since FROM arrivals"
            f" WHERE {UNFINISHED} GROUP BY inbox"
        )
    }
    found: dict[str, Pending] = {}
    for inbox in dict.fromkeys([*inboxes, *on_their_way]):
        row = on_their_way.get(inbox)
        found[inbox] = Pending(
            _age(waiting_since(ledger, inbox), now),
            row["arrivals"] if row else 0,
            _age(moment(row["since"]) if row else None, now),
        )
    return found


@dataclass(frozen=True)
class PendingAlerts:
    """How many alerts nobody has, and how many channels do not take theirs."""

    alerts: int = 0
    failing_channels: int = 0


def read_pending_alerts(outbox: Path) -> PendingAlerts | None:
    """Look into the outbox; None if it cannot be read, which the loop `bell` tells."""
    try:
        found = read_undelivered(outbox)
    except (OutboxError, sqlite3.Error):
        return None
    return PendingAlerts(found.alerts + found.perhaps, len(found.channels))


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
