"""Maintenance of the ledger: retention, writing a rebuilt ledger, and the integrity check after the start."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from sensors.ledger import Ledger, LedgerError
from sensors.ledger.arrivals import Arrival
from sensors.ledger.database import stamp
from sensors.ledger.files import Dropped
from sensors.ledger.states import ArrivalState, FileState
from sensors.runtime.loop import beat


def prunable(ledger: Ledger, inbox: str, before: datetime, limit: int) -> list[tuple[str, Path]]:
    """Return id and folder of at most `limit` arrivals that ended before a time, every file loaded or skipped.

    The oldest come first.
    """
    return [
        (row["id"], Path(row["folder"]))
        for row in ledger.rows(
            "SELECT id, folder FROM arrivals a WHERE inbox = ? AND state IN ('loaded', 'skipped') AND ended_at < ?"
            " AND NOT EXISTS (SELECT 1 FROM files WHERE arrival_id = a.id AND state NOT IN ('loaded', 'skipped'))"
            " ORDER BY ended_at LIMIT ?",
            (inbox, stamp(before), limit),
        )
    ]


def forget(ledger: Ledger, arrival_id: str) -> bool:
    """Delete a loaded or skipped arrival with its files and announcements, inside the caller's transaction.

    Returns False if it is no longer loaded or skipped, because it was replayed.
    """
    well = ledger.rows("SELECT 1 FROM arrivals WHERE id = ? AND state IN ('loaded', 'skipped')", (arrival_id,))
    if not well:
        return False
    ledger.change("DELETE FROM announcements WHERE arrival_id = ?", (arrival_id,))
    ledger.change("DELETE FROM files WHERE arrival_id = ?", (arrival_id,))
    ledger.change("DELETE FROM arrivals WHERE id = ?", (arrival_id,))
    return True


def forget_leftovers(ledger: Ledger, inbox: str, before: datetime) -> int:
    """Delete withdrawn files, and notices that Prefect has, from before a time; return how many rows were deleted."""
    with ledger.transaction():
        withdrawn = ledger.change(
            "DELETE FROM files WHERE inbox = ? AND state = 'withdrawn' AND ended_at < ?", (inbox, stamp(before))
        )
        sent = ledger.change("DELETE FROM notices WHERE inbox = ? AND sent_at < ?", (inbox, stamp(before)))
        return withdrawn + sent


# Rebuild: writing a new ledger from the arrivals on the disk.


def record_found(
    ledger: Ledger, arrival: Arrival, run_name: str | None, files: Sequence[Dropped], taken_at: datetime
) -> None:
    """Record an arrival that is staged, running or skipped, and its files; `taken_at` is used for all its times."""
    skipped = arrival.state is ArrivalState.SKIPPED
    reason = "a duplicate: the same content as a file that had come before" if skipped else None
    at, ended = stamp(taken_at), stamp(taken_at) if skipped else None
    with ledger.transaction():
        ledger.change(
            "INSERT INTO arrivals (id, inbox, folder, state, is_duplicate, attempt, created_at, staged_at, ended_at,"
            " run_id, run_name, rules) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                arrival.rules,
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
    """Record the SHA-256 of an arrival's files by name, and that of its manifest if it has one."""
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
    """Write without waiting for the disk: no other process uses this ledger before `finish`."""
    ledger.pragma("synchronous = OFF")


def finish(ledger: Ledger) -> None:
    """Sync everything into the main file, which can be renamed once closed. Raises LedgerError if it is corrupt."""
    ledger.pragma("synchronous = FULL")
    ledger.pragma("wal_checkpoint(TRUNCATE)")
    ledger.check()


def files_of_ledger(path: Path) -> tuple[Path, ...]:
    """Return the paths of a ledger's files: the database, which must exist, its write-ahead log and shared memory."""
    return tuple(path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm"))


# Integrity check: a small ledger is checked before the start, a large one while the sensor runs, because reading one
# with a million files takes six seconds. Running before the check ends is safe: SQLite rejects a corrupt page when it
# reads that page.

LARGE_BYTES = 50_000_000
"""A check of a ledger of this size takes most of a second."""
PAUSE_SECONDS = 60.0


def is_large(ledger_path: Path) -> bool:
    """Return whether a ledger is too large to check before the start."""
    return ledger_path.is_file() and ledger_path.stat().st_size > LARGE_BYTES


class LedgerCheck:
    """A loop step that checks a large ledger once after the start, and raises the error it found with every step."""

    def __init__(self, ledger_path: Path) -> None:
        self._path = ledger_path
        self._is_checked = not is_large(ledger_path)
        self._trouble: LedgerError | None = None

    def step(self) -> float:
        """Check the ledger if that is not done; return the seconds until the next step. Raises LedgerError."""
        if not self._is_checked:
            try:
                with Ledger(self._path, read_only=True) as ledger:
                    ledger.check(beat)
            except LedgerError as error:
                self._trouble = error
            self._is_checked = True
        if self._trouble is not None:
            raise self._trouble
        return PAUSE_SECONDS
