"""What the ledger forgets: arrivals that ended well long ago, and what belongs to them."""

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
    """Return the id and folder of the oldest arrivals that ended before a time with every file loaded or skipped."""
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
    """Delete an arrival that ended well and all that belongs to it, inside the caller's transaction.

    Returns False when it is wanted again.
    """
    well = ledger.rows("SELECT 1 FROM arrivals WHERE id = ? AND state IN ('loaded', 'skipped')", (arrival_id,))
    if not well:
        return False
    ledger.change("DELETE FROM announcements WHERE arrival_id = ?", (arrival_id,))
    ledger.change("DELETE FROM files WHERE arrival_id = ?", (arrival_id,))
    ledger.change("DELETE FROM arrivals WHERE id = ?", (arrival_id,))
    return True


def forget_leftovers(ledger: Ledger, inbox: str, before: datetime) -> int:
    """Delete withdrawn files and notices that Prefect has, both older than a time; return how many."""
    with ledger.transaction():
        withdrawn = ledger.change(
            "DELETE FROM files WHERE inbox = ? AND state = 'withdrawn' AND ended_at < ?", (inbox, stamp(before))
        )
        told = ledger.change("DELETE FROM notices WHERE inbox = ? AND sent_at < ?", (inbox, stamp(before)))
        return withdrawn + told


# What is written into a new ledger of arrivals that are on the disk already.


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


# The check of the ledger: a small one is read whole before anything starts, a large one while the sensor works.
#
# A ledger with a million files takes six seconds to read. What a check finds, SQLite also finds, and refuses, when it
# comes upon it; so nothing is done with a broken page meanwhile.

LARGE_BYTES = 50_000_000
"""From here on a check takes most of a second."""
PAUSE_SECONDS = 60.0


def is_large(ledger_path: Path) -> bool:
    """Tell whether a ledger takes too long to check before the start."""
    return ledger_path.is_file() and ledger_path.stat().st_size > LARGE_BYTES


class LedgerCheck:
    """The loop's step that checks a large ledger once after the start, and goes on to tell what it found."""

    def __init__(self, ledger_path: Path) -> None:
        self._path = ledger_path
        self._is_checked = not is_large(ledger_path)
        self._trouble: LedgerError | None = None

    def step(self) -> float:
        """Check the ledger, or do nothing; return the seconds until the next step. Raises LedgerError."""
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
