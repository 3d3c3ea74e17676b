"""What the ledger says of files that wait because they may not be moved out of their inbox."""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sensors.ledger.database import Ledger, stamp
from sensors.ledger.notices import Notice, write

STILL_BLOCKED = "f.blocked_since IS NOT NULL AND f.state IN ('seen', 'settled', 'staging')"
"""The condition on files `f`: they cannot be moved, and are not."""


@dataclass(frozen=True)
class BlockedFile:
    """A file that waits because it may not be moved."""

    inbox: str
    name: str
    path: str
    inode: str
    reason: str
    """Why, and after `; ` what to do."""
    since: datetime


def record_blocked(ledger: Ledger, arrival_id: str, reasons: Mapping[int, str], now: datetime) -> None:
    """Hand files back that could not be moved, by their ids; inside the caller's transaction."""
    ledger.change_many(
        "UPDATE files SET state = 'seen', settled_at = NULL, sha256 = NULL, reason = NULL, arrival_id = NULL,"
        " blocked_since = coalesce(blocked_since, ?), blocked_reason = ?, blocked_as = coalesce(blocked_as, ?)"
        " WHERE id = ? AND state = 'staging'",
        [(stamp(now), reason, arrival_id, id_) for id_, reason in reasons.items()],
    )


def record_due(ledger: Ledger, paths: Iterable[str], now: datetime) -> int:
    """Write down that blocked files count as settled, so that they are tried again; return how many do."""
    with ledger.transaction():
        return ledger.change_many(
            "UPDATE files SET state = 'settled', settled_at = ? WHERE path = ? AND state IN ('seen', 'settled')"
            " AND state = 'seen' AND blocked_since IS NOT NULL",
            [(stamp(now), path) for path in paths],
        )


def report(
    ledger: Ledger, inbox: str, before: datetime, notice_of: Callable[[Sequence[BlockedFile]], Notice], now: datetime
) -> int:
    """Write one notice of all files that have been blocked since before a time and are in none; return how many."""
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
    """Return the files of all inboxes that cannot be moved, the longest waiting first."""
    return [
        _blocked_file(row)
        for row in ledger.rows(
            f"SELECT * FROM files f WHERE {STILL_BLOCKED} ORDER BY blocked_since, id LIMIT ?", (limit,)
        )
    ]


def count_still_blocked(ledger: Ledger) -> dict[str, int]:
    """Return how many files cannot be moved, for each inbox that has one."""
    rows = ledger.rows(f"SELECT inbox, count(*) AS files FROM files f WHERE {STILL_BLOCKED} GROUP BY inbox")
    return {row["inbox"]: row["files"] for row in rows}


def names_blocked(ledger: Ledger, inbox: str) -> dict[str, str]:
    """Return the names of an inbox's files that cannot be moved, and why."""
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
