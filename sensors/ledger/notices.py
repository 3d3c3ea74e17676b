"""What the ledger keeps of what a person is to be told: an event each, until Prefect has it."""

import json
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sensors.ledger.database import Ledger, moment, stamp

NAMED = 10
"""How many files a notice names."""


@dataclass(frozen=True)
class Notice:
    """Something a person is to be told once; `key` says what it is about."""

    key: str
    event: str
    inbox: str
    payload: Mapping[str, Any]
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class StoredNotice:
    """A notice, when it was written down, and since when Prefect has it, if it has."""

    notice: Notice
    created_at: datetime
    sent_at: datetime | None = None


def first_lines(lines: Sequence[str]) -> list[str]:
    """Return the lines of a notice about files: the first of them, and how many more there are."""
    more = [f"and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return [*lines[:NAMED], *more]


def write(ledger: Ledger, notice: Notice, now: datetime) -> bool:
    """Write a notice down, inside the caller's transaction; False when its key has one already."""
    return bool(
        ledger.change(
            "INSERT INTO notices (key, event_id, event, inbox, payload, created_at) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (key) DO NOTHING",
            (notice.key, notice.event_id, notice.event, notice.inbox, json.dumps(notice.payload), stamp(now)),
        )
    )


def covered(ledger: Ledger, prefix: str) -> set[str]:
    """Return the keys of all things that notices cover whose own keys begin with a prefix, such as `unfinished/`."""
    rows = ledger.rows(
        "SELECT value FROM notices, json_each(payload, '$.covers') WHERE notices.key >= ? AND notices.key < ?",
        (prefix, f"{prefix}\U0010ffff"),
    )
    return {row["value"] for row in rows}


def unsent(ledger: Ledger, limit: int) -> list[StoredNotice]:
    """Return at most `limit` notices that Prefect does not have, the oldest first."""
    rows = ledger.rows("SELECT * FROM notices WHERE sent_at IS NULL ORDER BY created_at, key LIMIT ?", (limit,))
    return [_stored(row) for row in rows]


def sent_since(ledger: Ledger, since: datetime) -> list[StoredNotice]:
    """Return the notices that Prefect has since a time, the oldest first."""
    return [
        _stored(row) for row in ledger.rows("SELECT * FROM notices WHERE sent_at > ? ORDER BY sent_at", (stamp(since),))
    ]


def _stored(row: sqlite3.Row) -> StoredNotice:
    notice = Notice(row["key"], row["event"], row["inbox"], json.loads(row["payload"]), row["event_id"])
    return StoredNotice(notice, datetime.fromisoformat(row["created_at"]), moment(row["sent_at"]))


def record_sent(ledger: Ledger, notices: list[Notice], now: datetime) -> None:
    """Write down that Prefect has these notices."""
    with ledger.transaction():
        ledger.change_many(
            "UPDATE notices SET sent_at = ? WHERE event_id = ? AND sent_at IS NULL",
            [(stamp(now), notice.event_id) for notice in notices],
        )
