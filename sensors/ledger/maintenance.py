"""What is written into a new ledger of arrivals that are on the disk already."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from sensors.ledger.arrivals import Arrival
from sensors.ledger.database import Ledger, stamp
from sensors.ledger.files import Dropped
from sensors.ledger.states import ArrivalState, FileState


def record_found(
    ledger: Ledger, arrival: Arrival, run_name: str | None, files: Sequence[Dropped], taken_at: datetime
) -> None:
    """Write down an arrival that is staged, running or of duplicates, and its files; all its times are one."""
    skipped = arrival.state is ArrivalState.SKIPPED
    reason = "a duplicate: the same content as a file that had come before" if skipped else None
    at, ended = stamp(taken_at), stamp(taken_at) if skipped else None
    with ledger.transaction():
        ledger.change(
            "INSERT INTO arrivals (id, inbox, folder, state, is_duplicate, attempt, created_at, staged_at, ended_at,"
            " run_id, run_name) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                arrival.id,
                arrival.inbox,
                str(arrival.folder),
                arrival.state,
                int(arrival.is_duplicate),
                arrival.attempt,
                at,
                at,
                ended,
                arrival.run_id,
                run_name,
            ),
        )
        state = FileState.SKIPPED if skipped else FileState.STAGED
        ledger.change_many(
            "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, arrival_id, reason, seen_at,"
            " settled_at, staged_at, ended_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    arrival.inbox,
                    str(file.path),
                    file.name,
                    str(file.identity.device),
                    str(file.identity.inode),
                    file.identity.size,
                    file.identity.mtime_ns,
                    state,
                    arrival.id,
                    reason,
                    at,
                    at,
                    at,
                    ended,
                )
                for file in files
            ],
        )


def record_digests(ledger: Ledger, arrival_id: str, digests: Mapping[str, str], manifest: str | None = None) -> None:
    """Write down the SHA-256 of an arrival's files by their names, and that of its manifest if it has one."""
    with ledger.transaction():
        ledger.change("UPDATE arrivals SET manifest = ? WHERE id = ?", (manifest, arrival_id))
        ledger.change_many(
            "UPDATE files SET sha256 = ? WHERE arrival_id = ? AND name = ?",
            [(sha256, arrival_id, name) for name, sha256 in digests.items()],
        )


def counts(ledger: Ledger, table: str) -> dict[str, int]:
    """Return how many rows of `arrivals` or `files` are in each state."""
    return {
        row["state"]: row["found"]
        for row in ledger.rows(f"SELECT state, count(*) AS found FROM {table} GROUP BY state ORDER BY state")
    }


def hurry(ledger: Ledger) -> None:
    """Write without waiting for the disk: nobody uses this ledger before `finish`."""
    ledger.rows("PRAGMA synchronous = OFF")


def finish(ledger: Ledger) -> None:
    """Have everything on the disk and in the one file, so that it can be renamed once it is closed."""
    ledger.rows("PRAGMA synchronous = FULL")
    ledger.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    ledger.check()


def files_of_ledger(path: Path) -> tuple[Path, ...]:
    """Return the files that a ledger consists of; it is none any more without the first one."""
    return tuple(path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm"))
