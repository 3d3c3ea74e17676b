"""Blocked files in the ledger: files that the sensor may not move out of their inbox."""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sensors.ledger.database import Ledger, stamp
from sensors.ledger.notices import Notice, write

STILL_BLOCKED = "f.blocked_since IS NOT NULL AND f.state IN ('seen', 'settled', 'staging')"
"""SQL condition on files `f`: a move failed, and the file is still in its inbox."""


@dataclass(frozen=True)
class BlockedFile:
    """A file that stays in its inbox because the sensor may not move it."""

    inbox: str
    name: str
    path: str
    inode: str
    reason: str
    """The cause, followed by `; ` and what to do."""
    since: datetime


def record_blocked(ledger: Ledger, arrival_id: str, reasons: Mapping[int, str], now: datetime) -> None:
    """Reset files that could not be moved to `seen`, inside the caller's transaction; `reasons` is by file id."""
    ledger.change_many(
        "UPDATE files SET state = 'seen', settled_at = NULL, sha256 = NULL, reason = NULL, arrival_id = NULL,"
        " blocked_since = coalesce(blocked_since, ?), blocked_reason = ?, blocked_as = coalesce(blocked_as, ?)"
        " WHERE id = ? AND state = 'staging'",
        [(stamp(now), reason, arrival_id, id_) for id_, reason in reasons.items()],
    )


def record_due(ledger: Ledger, paths: Iterable[str], now: datetime) -> int:
    """Mark blocked files as settled, so that the move is tried again; return how many were marked."""
    with ledger.transaction():
        return ledger.change_many(
            "UPDATE files SET state = 'settled', settled_at = ? WHERE path = ? AND state IN ('seen', 'settled')"
            " AND state = 'seen' AND blocked_since IS NOT NULL",
            [(stamp(now), path) for path in paths],
        )


def report(
    ledger: Ledger, inbox: str, before: datetime, notice_of: Callable[[Sequence[BlockedFile]], Notice], now: datetime
) -> int:
    """Write one notice about the files that were blocked before a time and are in no notice yet; return how many."""
    with ledger.transaction():
        files = [
            _blocked_file(row)
            for row in ledger.rows(
                f"SELECT * FROM files f WHERE inbox = ? AND blocked_since <= ? AND {STILL_BLOCKED}"
                " AND blocked_reported_at IS NULL ORDER BY id",
                (inbox, stamp(before)),
            )
        ]
        if files:
            ledger.change(
                f"UPDATE files AS f SET blocked_reported_at = ? WHERE inbox = ? AND blocked_since <= ?"
                f" AND {STILL_BLOCKED} AND blocked_reported_at IS NULL",
                (stamp(now), inbox, stamp(before)),
            )
            write(ledger, notice_of(files), now)
        return len(files)


def still_blocked(ledger: Ledger, limit: int) -> list[BlockedFile]:
    """Return at most `limit` blocked files of all inboxes, longest waiting first."""
    return [
        _blocked_file(row)
        for row in ledger.rows(
            f"SELECT * FROM files f WHERE {STILL_BLOCKED} ORDER BY blocked_since, id LIMIT ?", (limit,)
        )
    ]


def count_still_blocked(ledger: Ledger) -> dict[str, int]:
    """Return the number of blocked files of each inbox that has any."""
    rows = ledger.rows(f"SELECT inbox, count(*) AS files FROM files f WHERE {STILL_BLOCKED} GROUP BY inbox")
    return {row["inbox"]: row["files"] for row in rows}


def names_blocked(ledger: Ledger, inbox: str) -> dict[str, str]:
    """Return the names of an inbox's blocked files, each with the reason."""
    rows = ledger.rows(f"SELECT name, blocked_reason FROM files f WHERE inbox = ? AND {STILL_BLOCKED}", (inbox,))
    return {row["name"]: row["blocked_reason"] for row in rows}


def _blocked_file(row: sqlite3.Row) -> BlockedFile:
    return BlockedFile(
        row["inbox"],
        row["name"],
        row["path"],
        row["inode"],
        row["blocked_reason"],
        datetime.fromisoformat(row["blocked_since"]),
    )
