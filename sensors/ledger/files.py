"""What the ledger says of files: one function a state change, each conditional on the state before it."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sensors.files.identity import Identity
from sensors.ledger.database import Ledger, stamp
from sensors.ledger.notices import Notice, write
from sensors.ledger.states import FileState

_WAITING = "state IN ('seen', 'settled')"
"""Word for word as in the index `files_waiting`: else SQLite reads the whole table for each path (measured: 10,000
files took 15 s instead of 0.2 s)."""


EVERY_INBOX = (
    "RECURSIVE every_inbox (one) AS (SELECT min(inbox) FROM files UNION ALL"
    " SELECT (SELECT min(inbox) FROM files WHERE inbox > one) FROM every_inbox WHERE one IS NOT NULL)"
)
"""A table of all inboxes that have files, read off the index by one step an inbox: with it a query for files in some
state reads these alone."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file as it was found in its inbox."""

    path: Path | str
    name: str
    """Its path below the inbox, with `/`; without subfolders its plain name."""
    identity: Identity


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """A file that lies in its inbox and is not in an arrival yet."""

    id: int
    path: Path
    name: str
    identity: Identity
    state: FileState
    is_blocked: bool = False
    """Whether it could not be moved when that was tried last."""


def record_seen(ledger: Ledger, inbox: str, dropped: Iterable[Dropped], now: datetime) -> int:
    """Write down files that were not known to lie in their inbox; return how many were new."""
    at = stamp(now)
    with ledger.transaction():
        return ledger.change_many(
            "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, seen_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 'seen', ?) ON CONFLICT DO NOTHING",
            ((inbox, str(file.path), file.name, *_columns(file.identity), at) for file in dropped),
        )


def record_settled(ledger: Ledger, settled: Iterable[Dropped], now: datetime) -> int:
    """Write down that files are complete as they are now; return how many were waiting for it."""
    at = stamp(now)
    with ledger.transaction():
        return ledger.change_many(
            "UPDATE files SET state = 'settled', settled_at = ?, device = ?, inode = ?, size = ?, mtime_ns = ?,"
            f" sha256 = NULL WHERE path = ? AND {_WAITING} AND state = 'seen'",
            ((at, *_columns(file.identity), str(file.path)) for file in settled),
        )


def record_unsettled(ledger: Ledger, paths: Iterable[Path | str]) -> int:
    """Write down that settled files changed again before they were taken; return how many had settled."""
    with ledger.transaction():
        return ledger.change_many(
            f"UPDATE files SET state = 'seen', settled_at = NULL WHERE path = ? AND {_WAITING} AND state = 'settled'",
            ((str(path),) for path in paths),
        )


def record_all_unsettled(ledger: Ledger, inbox: str) -> int:
    """Write down that no file of an inbox counts as complete any more; return how many did."""
    with ledger.transaction():
        return ledger.change(
            "UPDATE files SET state = 'seen', settled_at = NULL WHERE inbox = ? AND state = 'settled'", (inbox,)
        )


def record_content(ledger: Ledger, digests: Iterable[tuple[int, str]]) -> None:
    """Write down the SHA-256 of settled files by their ids."""
    with ledger.transaction():
        ledger.change_many(
            "UPDATE files SET sha256 = ? WHERE id = ? AND state = 'settled'",
            [(sha256, id_) for id_, sha256 in digests],
        )


def first_with_content(ledger: Ledger, inbox: str, sha256: str) -> str | None:
    """Return which file, in words, had this content and is loaded or on its way, or None if there is none."""
    found = ledger.rows(
        "SELECT name, arrival_id FROM files WHERE inbox = ? AND sha256 = ? AND arrival_id IS NOT NULL"
        " AND state IN ('staging', 'staged', 'loaded') ORDER BY id LIMIT 1",
        (inbox, sha256),
    )
    return f"{found[0]['name']} of arrival {found[0]['arrival_id']}" if found else None


def record_withdrawn(ledger: Ledger, paths: Iterable[Path | str], now: datetime) -> int:
    """Write down that waiting files were taken away by their owner; they were never ours."""
    at = stamp(now)
    with ledger.transaction():
        return ledger.change_many(
            f"UPDATE files SET state = 'withdrawn', ended_at = ?, blocked_since = NULL WHERE path = ? AND {_WAITING}",
            ((at, str(path)) for path in paths),
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that is refused where it lies; path and name are as they can be written down."""

    path: str
    name: str
    identity: Identity
    reason: str


def record_refused(ledger: Ledger, inbox: str, refused: Iterable[Refused], notice: Notice, now: datetime) -> None:
    """Write down files that are refused where they lie, waiting ones included, and that a person is to be told."""
    with ledger.transaction():
        for file in refused:
            known = ledger.change(
                f"UPDATE files SET state = 'rejected', reason = ?, ended_at = ? WHERE path = ? AND {_WAITING}",
                (file.reason, stamp(now), file.path),
            )
            if not known:
                ledger.change(
                    "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, reason, seen_at,"
                    " ended_at) VALUES (?, ?, ?, ?, ?, ?, ?, 'rejected', ?, ?, ?)",
                    (inbox, file.path, file.name, *_columns(file.identity), file.reason, stamp(now), stamp(now)),
                )
        write(ledger, notice, now)


def refused_in_place(ledger: Ledger, inbox: str) -> list[tuple[str, Identity]]:
    """Return the path and identity of each file that an inbox has rejected in place, the latest last."""
    return [
        (row["path"], _identity(row))
        for row in ledger.rows(
            "SELECT path, device, inode, size, mtime_ns FROM files"
            " WHERE inbox = ? AND state = 'rejected' AND arrival_id IS NULL ORDER BY id",
            (inbox,),
        )
    ]


def record_rejections_withdrawn(ledger: Ledger, gone: Iterable[tuple[str, str, int]], now: datetime) -> int:
    """Write down that files, by name, path and inode, were rejected and are not there any more; return how many."""
    with ledger.transaction():
        return ledger.change_many(
            "UPDATE files SET state = 'withdrawn', ended_at = ? WHERE name = ? AND path = ?"
            " AND inode = ? AND state = 'rejected' AND arrival_id IS NULL",
            [(stamp(now), name, path, str(inode)) for name, path, inode in gone],
        )


@dataclass(frozen=True)
class Before:
    """The files of an inbox that wait according to the ledger."""

    names: set[str]
    elsewhere: list[str]
    """The paths of those that lay in another folder, where the inbox was before."""


def waiting_before(ledger: Ledger, inbox: str, folder: str) -> Before:
    """Return the files of an inbox that are seen or settled; `folder` is where it is now, with a `/` at the end."""
    query = "FROM files WHERE inbox = ? AND state IN ('seen', 'settled') AND path"
    return Before(
        {name for (name,) in ledger.rows(f"SELECT name {query} = ? || name", (inbox, folder))},
        [path for (path,) in ledger.rows(f"SELECT path {query} <> ? || name", (inbox, folder))],
    )


def waiting(ledger: Ledger, inbox: str) -> list[WaitingFile]:
    """Return the files of an inbox that are seen or settled."""
    return [
        _waiting_file(row)
        for row in ledger.rows(
            "SELECT * FROM files WHERE inbox = ? AND state IN ('seen', 'settled') ORDER BY id", (inbox,)
        )
    ]


def settled(ledger: Ledger, inbox: str, limit: int) -> list[WaitingFile]:
    """Return at most `limit` settled files of an inbox, in the order in which they were seen.

    That is the order of the index, so that `limit` rows are read, however many have settled.
    """
    return [
        _waiting_file(row)
        for row in ledger.rows(
            "SELECT * FROM files WHERE inbox = ? AND state = 'settled' ORDER BY id LIMIT ?",
            (inbox, limit),
        )
    ]


def _columns(identity: Identity) -> tuple[str, str, int, int]:
    return str(identity.device), str(identity.inode), identity.size, identity.mtime_ns


def _identity(row: sqlite3.Row) -> Identity:
    return Identity(int(row["device"]), int(row["inode"]), row["size"], row["mtime_ns"])


def _waiting_file(row: sqlite3.Row) -> WaitingFile:
    return WaitingFile(
        row["id"],
        Path(row["path"]),
        row["name"],
        _identity(row),
        FileState(row["state"]),
        row["blocked_since"] is not None,
    )


# What the ledger says of files that were not loaded, and of runs, that a person has dismissed: both are settled.

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
