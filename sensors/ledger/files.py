"""Files in the ledger: their state changes until they are in an arrival, rejections in the inbox, and dismissals.

Each state change is one function whose UPDATE is conditional on the previous state, so that it has no effect on a file
that has moved on.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sensors.files.beneath import Identity
from sensors.ledger.database import Ledger, stamp
from sensors.ledger.notices import Notice, write

_WAITING = "state IN ('seen', 'settled')"
"""Must repeat the condition of the index `files_waiting` literally: otherwise SQLite reads the whole table for each
path (measured: 10,000 files took 15 s instead of 0.2 s)."""


EVERY_INBOX = (
    "RECURSIVE every_inbox (one) AS (SELECT min(inbox) FROM files UNION ALL"
    " SELECT (SELECT min(inbox) FROM files WHERE inbox > one) FROM every_inbox WHERE one IS NOT NULL)"
)
"""Common table expression of all inboxes that have files, found with one index lookup per inbox. It lets a query for
files in some state use the index on (inbox, state)."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file as it was found in its inbox."""

    path: Path | str
    name: str
    """Its path below the inbox, with `/` as separator."""
    identity: Identity


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """A file that waits in its inbox, or of an arrival that has yet to be moved into the arrival's folder."""

    id: int
    path: Path
    name: str
    identity: Identity
    is_blocked: bool = False
    """Whether the last attempt to move it failed."""
    blocked_as: str | None = None
    """Id of the arrival in which the move first failed; a remote store may still hold a claim under that id."""
    sha256: str | None = None
    """SHA-256 of its content, if that was read already."""


def record_seen(ledger: Ledger, inbox: str, dropped: Iterable[Dropped], now: datetime) -> int:
    """Record files that were found in their inbox; return how many were new."""
    at = stamp(now)
    with ledger.transaction():
        return ledger.change_many(
            "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, seen_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 'seen', ?) ON CONFLICT DO NOTHING",
            ((inbox, str(file.path), file.name, *_columns(file.identity), at) for file in dropped),
        )


def record_settled(ledger: Ledger, settled: Iterable[Dropped], now: datetime) -> int:
    """Record that files are complete as they are now; return how many were seen and had not settled."""
    at = stamp(now)
    with ledger.transaction():
        return ledger.change_many(
            "UPDATE files SET state = 'settled', settled_at = ?, device = ?, inode = ?, size = ?, mtime_ns = ?,"
            f" sha256 = NULL WHERE path = ? AND {_WAITING} AND state = 'seen'",
            ((at, *_columns(file.identity), str(file.path)) for file in settled),
        )


def record_unsettled(ledger: Ledger, paths: Iterable[Path | str]) -> int:
    """Record that settled files changed again before they were moved; return how many had settled."""
    with ledger.transaction():
        return ledger.change_many(
            f"UPDATE files SET state = 'seen', settled_at = NULL WHERE path = ? AND {_WAITING} AND state = 'settled'",
            ((str(path),) for path in paths),
        )


def record_all_unsettled(ledger: Ledger, inbox: str) -> int:
    """Reset all settled files of an inbox to `seen`; return how many there were."""
    with ledger.transaction():
        return ledger.change(
            "UPDATE files SET state = 'seen', settled_at = NULL WHERE inbox = ? AND state = 'settled'", (inbox,)
        )


def record_content(ledger: Ledger, digests: Iterable[tuple[int, str]]) -> None:
    """Record the SHA-256 of settled files by file id."""
    with ledger.transaction():
        ledger.change_many(
            "UPDATE files SET sha256 = ? WHERE id = ? AND state = 'settled'",
            [(sha256, id_) for id_, sha256 in digests],
        )


def first_with_content(ledger: Ledger, inbox: str, sha256: str) -> str | None:
    """Return, as text, name and arrival of the first file with this content that is loaded or in flight, or None."""
    found = ledger.rows(
        "SELECT name, arrival_id FROM files WHERE inbox = ? AND sha256 = ? AND arrival_id IS NOT NULL"
        " AND state IN ('staging', 'staged', 'loaded') ORDER BY id LIMIT 1",
        (inbox, sha256),
    )
    return f"{found[0]['name']} of arrival {found[0]['arrival_id']}" if found else None


def record_withdrawn(ledger: Ledger, paths: Iterable[Path | str], now: datetime) -> int:
    """Record that waiting files were removed from their inbox."""
    at = stamp(now)
    with ledger.transaction():
        return ledger.change_many(
            f"UPDATE files SET state = 'withdrawn', ended_at = ?, blocked_since = NULL WHERE path = ? AND {_WAITING}",
            ((at, str(path)) for path in paths),
        )


@dataclass(frozen=True, slots=True)
class RejectedInPlace:
    """A file that was rejected and stays in its inbox; path and name are escaped where they cannot be stored as is."""

    path: str
    name: str
    identity: Identity
    reason: str


def record_rejected_in_place(
    ledger: Ledger, inbox: str, refused: Iterable[RejectedInPlace], notice: Notice, now: datetime
) -> None:
    """Record files that were rejected in their inbox, waiting ones included, and write the notice about them."""
    with ledger.transaction():
        for file in refused:
            # One by one: two names that cannot be stored as they are may be escaped to the same path.
            record_seen(ledger, inbox, [Dropped(file.path, file.name, file.identity)], now)
            ledger.change(
                f"UPDATE files SET state = 'rejected', reason = ?, ended_at = ? WHERE path = ? AND {_WAITING}",
                (file.reason, stamp(now), file.path),
            )
        write(ledger, notice, now)


def rejected_in_place(ledger: Ledger, inbox: str) -> list[tuple[str, Identity]]:
    """Return the path and identity of each file that was rejected in an inbox, latest last."""
    return [
        (row["path"], _identity(row))
        for row in ledger.rows(
            "SELECT path, device, inode, size, mtime_ns FROM files"
            " WHERE inbox = ? AND state = 'rejected' AND arrival_id IS NULL ORDER BY id",
            (inbox,),
        )
    ]


def record_rejections_withdrawn(ledger: Ledger, gone: Iterable[tuple[str, str, int]], now: datetime) -> int:
    """Record that rejected files, by name, path and inode, are gone from their inbox; return how many."""
    with ledger.transaction():
        return ledger.change_many(
            "UPDATE files SET state = 'withdrawn', ended_at = ? WHERE name = ? AND path = ?"
            " AND inode = ? AND state = 'rejected' AND arrival_id IS NULL",
            [(stamp(now), name, path, str(inode)) for name, path, inode in gone],
        )


@dataclass(frozen=True)
class Before:
    """The files of an inbox that are waiting according to the ledger."""

    names: set[str]
    elsewhere: list[str]
    """Paths of files in another folder, which was the inbox's folder before."""


def waiting_before(ledger: Ledger, inbox: str, folder: str) -> Before:
    """Return the files of an inbox that are seen or settled; `folder` is the inbox's present folder and ends in `/`."""
    query = "FROM files WHERE inbox = ? AND state IN ('seen', 'settled') AND path"
    return Before(
        {name for (name,) in ledger.rows(f"SELECT name {query} = ? || name", (inbox, folder))},
        [path for (path,) in ledger.rows(f"SELECT path {query} <> ? || name", (inbox, folder))],
    )


def settled(ledger: Ledger, inbox: str, limit: int) -> list[WaitingFile]:
    """Return at most `limit` settled files of an inbox, in the order in which they were seen.

    The index has the same order, so only `limit` rows are read however many files have settled.
    """
    return [
        waiting_file(row)
        for row in ledger.rows(
            "SELECT * FROM files WHERE inbox = ? AND state = 'settled' ORDER BY id LIMIT ?",
            (inbox, limit),
        )
    ]


def _columns(identity: Identity) -> tuple[str, str, int, int]:
    return str(identity.device), str(identity.inode), identity.size, identity.mtime_ns


def _identity(row: sqlite3.Row) -> Identity:
    return Identity(int(row["device"]), int(row["inode"]), row["size"], row["mtime_ns"])


def waiting_file(row: sqlite3.Row) -> WaitingFile:
    """Return the file in a row of the table of files."""
    return WaitingFile(
        row["id"],
        Path(row["path"]),
        row["name"],
        _identity(row),
        row["blocked_since"] is not None,
        row["blocked_as"],
        row["sha256"],
    )


# Dismissals: files that were not loaded, and runs, that a user has marked as dealt with.

NEEDS_ATTENTION = (
    "f.state IN ('rejected', 'failed') AND (f.dismissed_at IS NULL OR f.dismissed_at < f.ended_at)"
    f" AND f.inbox IN (WITH {EVERY_INBOX} SELECT one FROM every_inbox)"
)
"""SQL condition on files `f`: not loaded, and not dismissed since. A dismissed file that fails again needs attention
again."""


KEPT_FOR = timedelta(days=60)
"""How long a run's dismissal is kept: twice as long as failed runs are looked for."""


def record_file(ledger: Ledger, file_id: int, now: datetime) -> int:
    """Dismiss a file; return how many files that were: 0 if it needs no attention."""
    return _record(ledger, "f.id = ?", [file_id], now)


def record_arrival(ledger: Ledger, arrival_id: str, now: datetime) -> int:
    """Dismiss the files of an arrival that need attention; return how many."""
    return _record(ledger, "f.arrival_id = ?", [arrival_id], now)


def record_named(ledger: Ledger, name: str, now: datetime) -> int:
    """Dismiss the files of this name that need attention; return how many."""
    return _record(ledger, "f.name = ?", [name], now)


def record_until(ledger: Ledger, moment: datetime, now: datetime) -> int:
    """Dismiss the files that need attention and ended no later than a moment; return how many."""
    return _record(ledger, "f.ended_at <= ?", [stamp(moment)], now)


def of_runs(ledger: Ledger) -> dict[str, datetime]:
    """Return the time of each dismissal of runs, by run id, deployment id or `*`."""
    rows = ledger.rows("SELECT what, dismissed_at FROM dismissed_runs")
    return {row["what"]: datetime.fromisoformat(row["dismissed_at"]) for row in rows}


def record_runs(ledger: Ledger, what: Iterable[str], now: datetime) -> None:
    """Record dismissals of runs, and delete those older than KEPT_FOR."""
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
            f"UPDATE files AS f SET dismissed_at = ? WHERE {which} AND {NEEDS_ATTENTION}", [stamp(now), *parameters]
        )


@dataclass(frozen=True)
class NotLoaded:
    """A file that was rejected or failed, and where it is."""

    name: str
    path: str
    reason: str | None
    inode: int | None = None
    """Set for a file that was rejected in its inbox; its name and path may be escaped."""


def not_loaded_of(ledger: Ledger, arrival_id: str) -> list[NotLoaded]:
    """Return the rejected and failed files of a failed arrival, by their paths in its folder."""
    return _not_loaded(
        ledger,
        "SELECT f.name, f.reason, NULL AS inode, a.folder || '/' || f.name AS path FROM files f"
        " JOIN arrivals a ON a.id = f.arrival_id"
        " WHERE a.id = ? AND a.state = 'failed' AND f.state IN ('failed', 'rejected') ORDER BY f.id",
        arrival_id,
    )


def rejected_in(ledger: Ledger, inbox: str) -> list[NotLoaded]:
    """Return the files that were rejected in an inbox, where they still are."""
    return _not_loaded(
        ledger,
        "SELECT name, reason, inode, path FROM files"
        " WHERE inbox = ? AND state = 'rejected' AND arrival_id IS NULL ORDER BY id",
        inbox,
    )


def has_rejected(ledger: Ledger, inbox: str) -> bool:
    """Return whether a file was rejected in an inbox."""
    query = "SELECT 1 FROM files WHERE inbox = ? AND state = 'rejected' AND arrival_id IS NULL LIMIT 1"
    return bool(ledger.rows(query, (inbox,)))


def _not_loaded(ledger: Ledger, query: str, parameter: str) -> list[NotLoaded]:
    return [
        NotLoaded(row["name"], row["path"], row["reason"], row["inode"] and int(row["inode"]))
        for row in ledger.rows(query, (parameter,))
    ]


def arrival_of(ledger: Ledger, name: str) -> str | None:
    """Return the id of the latest arrival that has a file of this name, or None."""
    query = "SELECT arrival_id FROM files WHERE name = ? AND arrival_id IS NOT NULL ORDER BY id DESC LIMIT 1"
    return next((row["arrival_id"] for row in ledger.rows(query, (name,))), None)


def was_seen(ledger: Ledger, name: str, inbox: str) -> bool:
    """Return whether an inbox has, or had, a file of this name; a withdrawn one does not count."""
    query = "SELECT 1 FROM files WHERE name = ? AND inbox = ? AND state <> 'withdrawn' LIMIT 1"
    return bool(ledger.rows(query, (name, inbox)))


def inboxes_of(ledger: Ledger) -> list[str]:
    """Return the names of all inboxes that have had files."""
    return [row["one"] for row in ledger.rows(f"WITH {EVERY_INBOX} SELECT one FROM every_inbox WHERE one IS NOT NULL")]


# Blocked files in the ledger: files that the sensor may not move out of their inbox.

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
