"""What the ledger says of files: one function a state change, each conditional on the state before it."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sensors.identity import Identity
from sensors.ledger.database import Ledger, stamp
from sensors.ledger.states import FileState


@dataclass(frozen=True)
class WaitingFile:
    """A file that lies in its inbox and is not in an arrival yet."""

    id: int
    path: Path
    name: str
    identity: Identity
    state: FileState


def record_seen(ledger: Ledger, inbox: str, sightings: Iterable[tuple[Path, Identity]], now: datetime) -> int:
    """Write down files that were not known to lie in their inbox; return how many were new."""
    with ledger.transaction():
        return ledger.change_many(
            "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, seen_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 'seen', ?) ON CONFLICT DO NOTHING",
            [(inbox, str(path), path.name, *_columns(identity), stamp(now)) for path, identity in sightings],
        )


def record_settled(ledger: Ledger, settled: Sequence[tuple[Path, Identity]], now: datetime) -> int:
    """Write down that files are complete as they are now; return how many were waiting for it."""
    with ledger.transaction():
        return ledger.change_many(
            "UPDATE files SET state = 'settled', settled_at = ?, device = ?, inode = ?, size = ?, mtime_ns = ?"
            " WHERE path = ? AND state = 'seen'",
            [(stamp(now), *_columns(identity), str(path)) for path, identity in settled],
        )


def record_unsettled(ledger: Ledger, ids: Iterable[int]) -> int:
    """Write down that settled files changed again before they were taken."""
    return ledger.change_many(
        "UPDATE files SET state = 'seen', settled_at = NULL WHERE id = ? AND state = 'settled'",
        [(id_,) for id_ in ids],
    )


def record_withdrawn(ledger: Ledger, paths: Iterable[Path], now: datetime) -> int:
    """Write down that waiting files were taken away by their owner; they were never ours."""
    with ledger.transaction():
        return ledger.change_many(
            "UPDATE files SET state = 'withdrawn', ended_at = ? WHERE path = ? AND state IN ('seen', 'settled')",
            [(stamp(now), str(path)) for path in paths],
        )


def record_rejected(
    ledger: Ledger, inbox: str, path: str, name: str, identity: Identity, reason: str, now: datetime
) -> None:
    """Write down a file that is refused where it lies."""
    with ledger.transaction():
        ledger.change(
            "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, reason, seen_at, ended_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 'rejected', ?, ?, ?)",
            (inbox, path, name, *_columns(identity), reason, stamp(now), stamp(now)),
        )


def rejected_in_place(ledger: Ledger, inbox: str) -> dict[str, Identity]:
    """Return the path and identity of each file of an inbox that was refused where it lies."""
    return {
        row["path"]: _identity(row)
        for row in ledger.rows(
            "SELECT path, device, inode, size, mtime_ns FROM files"
            " WHERE inbox = ? AND state = 'rejected' AND arrival_id IS NULL ORDER BY id",
            (inbox,),
        )
    }


def waiting(ledger: Ledger, inbox: str) -> list[WaitingFile]:
    """Return the files of an inbox that are seen or settled."""
    return [
        _waiting_file(row)
        for row in ledger.rows(
            "SELECT * FROM files WHERE inbox = ? AND state IN ('seen', 'settled') ORDER BY id", (inbox,)
        )
    ]


def settled(ledger: Ledger, inbox: str, limit: int) -> list[WaitingFile]:
    """Return at most `limit` settled files of an inbox, in the order in which they settled."""
    return [
        _waiting_file(row)
        for row in ledger.rows(
            "SELECT * FROM files WHERE inbox = ? AND state = 'settled' ORDER BY settled_at, id LIMIT ?",
            (inbox, limit),
        )
    ]


def _columns(identity: Identity) -> tuple[str, str, int, int]:
    return str(identity.device), str(identity.inode), identity.size, identity.mtime_ns


def _identity(row: sqlite3.Row) -> Identity:
    return Identity(int(row["device"]), int(row["inode"]), row["size"], row["mtime_ns"])


def _waiting_file(row: sqlite3.Row) -> WaitingFile:
    return WaitingFile(row["id"], Path(row["path"]), row["name"], _identity(row), FileState(row["state"]))
