"""Arrivals as a ledger has them after a day's work, written down with all their moments."""

import os
from datetime import datetime, timedelta
from pathlib import Path

from sensors.files.beneath import Identity
from sensors.ledger import Ledger
from sensors.ledger.database import stamp
from sensors.ledger.files import WaitingFile, waiting_file


def record_arrival(
    ledger: Ledger,
    arrival_id: str,
    taken: datetime,
    files: dict[str, str],
    *,
    inbox: str = "metrics",
    state: str = "loaded",
    seconds_to_run: float = 0.5,
) -> None:
    """Write down an arrival whose `files` (name to state) were seen 0.1 s before it was taken; 10 rows each."""
    ended = state in {"loaded", "failed", "skipped"}
    ran = ended or state == "running"
    with ledger.transaction():
        ledger.change(
            "INSERT INTO arrivals (id, inbox, folder, state, attempt, created_at, staged_at, announced_at, receipt_at,"
            " ended_at, run_id, run_name) VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)",
            (
                arrival_id,
                inbox,
                f"/arrivals/{arrival_id}",
                state,
                stamp(taken),
                stamp(taken),
                stamp(taken) if ran else None,
                stamp(taken + timedelta(seconds=seconds_to_run - 0.1)) if ran else None,
                stamp(taken + timedelta(seconds=1)) if ended else None,
                f"run of {arrival_id}" if ran else None,
                "swift-owl" if ran else None,
            ),
        )
        for name, file_state in files.items():
            ledger.change(
                "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, arrival_id, rows, reason,"
                " seen_at, settled_at, staged_at, ended_at)"
                " VALUES (?, ?, ?, '1', '1', 100, 1, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    inbox,
                    f"/inbox/{arrival_id}/{name}",
                    name,
                    file_state,
                    arrival_id,
                    10 if file_state == "loaded" else None,
                    "line 3: no number" if file_state in {"rejected", "failed"} else None,
                    stamp(taken - timedelta(seconds=0.1)),
                    stamp(taken),
                    stamp(taken),
                    stamp(taken + timedelta(seconds=1)) if ended else None,
                ),
            )


def record_waiting(ledger: Ledger, name: str, seen: datetime, *, inbox: str = "metrics") -> None:
    """Write down a file that was seen and not taken yet."""
    with ledger.transaction():
        ledger.change(
            "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, seen_at)"
            " VALUES (?, ?, ?, '1', '1', 100, 1, 'seen', ?)",
            (inbox, f"/inbox/{name}", name, stamp(seen)),
        )


def waiting_files(ledger: Ledger, inbox: str, state: str = "state IN ('seen', 'settled')") -> list[WaitingFile]:
    """Return the files of an inbox that are seen or settled."""
    return [waiting_file(row) for row in ledger.rows(f"SELECT * FROM files WHERE inbox = ? AND {state}", (inbox,))]


def identity_at(path: Path | str) -> Identity:
    """Return the identity of the file at a path; a symlink is not followed."""
    return Identity.of(os.lstat(path))
