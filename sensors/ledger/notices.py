"""Notices in the ledger: events about an inbox that users should know of, resent until Prefect has them."""

import json
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sensors.ledger.database import Ledger, moment, stamp

NAMED = 10
"""How many files a notice lists by name."""


@dataclass(frozen=True)
class Notice:
    """An event that is sent once; `key` identifies its subject."""

    key: str
    event: str
    inbox: str
    payload: Mapping[str, Any]
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class StoredNotice:
    """A notice, the time it was written, and the time since which Prefect has it."""

    notice: Notice
    created_at: datetime
    sent_at: datetime | None = None


def first_lines(lines: Sequence[str]) -> list[str]:
    """Return the first NAMED lines, and a line with the number of those left out."""
    more = [f"and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return [*lines[:NAMED], *more]


def write(ledger: Ledger, notice: Notice, now: datetime) -> bool:
    """Write a notice, inside the caller's transaction; False if its key already has one."""
    return bool(
        ledger.change(
            "INSERT INTO notices (key, event_id, event, inbox, payload, created_at) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (key) DO NOTHING",
            (notice.key, notice.event_id, notice.event, notice.inbox, json.dumps(notice.payload), stamp(now)),
        )
    )


def covered(ledger: Ledger, prefix: str) -> set[str]:
    """Return all keys in the `covers` list of the notices whose own key starts with a prefix, such as `unfinished/`."""
    rows = ledger.rows(
        "SELECT value FROM notices, json_each(payload, '$.covers') WHERE notices.key >= ? AND notices.key < ?",
        (prefix, f"{prefix}\U0010ffff"),
    )
    return {row["value"] for row in rows}


def unsent(ledger: Ledger, limit: int) -> list[StoredNotice]:
    """Return at most `limit` notices that Prefect does not have, oldest first."""
    rows = ledger.rows("SELECT * FROM notices WHERE sent_at IS NULL ORDER BY created_at, key LIMIT ?", (limit,))
    return [_stored(row) for row in rows]


def sent_since(ledger: Ledger, since: datetime) -> list[StoredNotice]:
    """Return the notices that Prefect received after a time, oldest first."""
    return [
        _stored(row) for row in ledger.rows("SELECT * FROM notices WHERE sent_at > ? ORDER BY sent_at", (stamp(since),))
    ]


def _stored(row: sqlite3.Row) -> StoredNotice:
    notice = Notice(row["key"], row["event"], row["inbox"], json.loads(row["payload"]), row["event_id"])
    return StoredNotice(notice, datetime.fromisoformat(row["created_at"]), moment(row["sent_at"]))


def record_sent(ledger: Ledger, notices: list[Notice], now: datetime) -> None:
    """Record that Prefect has these notices."""
    with ledger.transaction():
        ledger.change_many(
            "UPDATE notices SET sent_at = ? WHERE event_id = ? AND sent_at IS NULL",
            [(stamp(now), notice.event_id) for notice in notices],
        )


# Deadlines of inboxes that expect files: how far each was checked, and which are overdue.


@dataclass(frozen=True)
class Expected:
    """How far an inbox's deadlines have been checked, and since when its files are overdue."""

    rule: str
    checked_until: datetime
    overdue_since: datetime | None = None


def read(ledger: Ledger, inbox: str) -> Expected | None:
    """Return the recorded state of an inbox's deadlines, or None before the first check."""
    found = ledger.rows("SELECT * FROM expectations WHERE inbox = ?", (inbox,))
    if not found:
        return None
    row = found[0]
    return Expected(row["rule"], datetime.fromisoformat(row["checked_until"]), moment(row["overdue_since"]))


def record(ledger: Ledger, inbox: str, expected: Expected, notice: Notice | None, now: datetime) -> None:
    """Record the state of an inbox's deadlines, with a notice if there is one to send."""
    since = expected.overdue_since
    with ledger.transaction():
        ledger.change(
            "INSERT INTO expectations (inbox, rule, checked_until, overdue_since) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (inbox) DO UPDATE SET rule = excluded.rule, checked_until = excluded.checked_until,"
            " overdue_since = excluded.overdue_since",
            (inbox, expected.rule, stamp(expected.checked_until), None if since is None else stamp(since)),
        )
        if notice is not None:
            write(ledger, notice, now)


def count_arrived(ledger: Ledger, inbox: str, after: datetime, until: datetime) -> int:
    """Return how many files came into an inbox after `after` and until `until`.

    Files that were withdrawn, or rejected in the inbox, are left out. A file that was seen late, because the sensor
    was down, is counted by its modification time.
    """
    return ledger.rows(
        "SELECT count(*) FROM files WHERE inbox = :inbox AND seen_at > :after"
        " AND (seen_at <= :until OR mtime_ns <= :until_ns)"
        " AND state <> 'withdrawn' AND (state <> 'rejected' OR arrival_id IS NOT NULL)",
        {
            "inbox": inbox,
            "after": stamp(after),
            "until": stamp(until),
            "until_ns": int(until.timestamp() * 1e9),
        },
    )[0][0]
