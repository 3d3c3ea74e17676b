"""What the ledger says of arrivals: one function a state change, each conditional on the state before it."""

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sensors.files.identity import Identity
from sensors.ledger.blocked import record_blocked
from sensors.ledger.database import Ledger, moment, stamp
from sensors.ledger.files import WaitingFile
from sensors.ledger.states import ENDED, ArrivalState

UNFINISHED = "state NOT IN ('loaded', 'failed', 'skipped')"
"""Word for word as in the index `arrivals_unfinished`, which a query then reads instead of all arrivals of all time:
with a million of them each look would take a second."""
LONGEST_PAUSE = timedelta(minutes=10)
"""More than any pause before an arrival is announced again."""
_COLUMNS = (
    "*, attempt - max(given_up, coalesce((SELECT max(attempt) FROM announcements n"
    " WHERE n.arrival_id = arrivals.id AND n.run_id IS NOT NULL), 0)) AS unanswered"
)


@dataclass(frozen=True)
class Arrival:
    """One arrival as the ledger knows it."""

    id: str
    inbox: str
    folder: Path
    state: ArrivalState
    attempt: int
    announced_at: datetime | None
    run_id: str | None
    receipt_at: datetime | None
    is_duplicate: bool = False
    """Whether its files' content had come before, so that it is kept and never announced."""
    given_up: int = 0
    """How many of its attempts belong to earlier tries, which a person has had tried again."""
    reload: tuple[str, ...] = ()
    """The files whose rows are to be replaced; `*` means all of them."""
    manifest: str | None = None
    """The SHA-256 of the manifest beside its files; None if it was staged before there was one."""
    unanswered: int = 0
    """How many announcements in a row, the last ones, have led to no run."""


@dataclass(frozen=True)
class ArrivalFile:
    """A file that belongs to an arrival and is on its way into the arrival's folder."""

    id: int
    path: Path
    name: str
    identity: Identity
    blocked_as: str | None = None
    """The arrival's id when it could not be moved for the first time; in a store it may still be claimed by that."""
    sha256: str | None = None
    """Of its content, where that was read already."""


@dataclass(frozen=True)
class FileContent:
    """What a staged file holds: its size in bytes, its SHA-256, None if it could not be read, and when it changed."""

    name: str
    size: int
    sha256: str | None
    mtime_ns: int


def begin(
    ledger: Ledger, arrival: Arrival, files: Sequence[WaitingFile], now: datetime, reasons: Mapping[int, str] = {}
) -> int:
    """Write down the intent to take settled files as an arrival; return how many it got.

    A file that is not settled any more is left out; when none is left, nothing is written. `reasons` says of
    duplicates, by their ids, what they repeat.
    """
    with ledger.transaction():
        ledger.change(
            "INSERT INTO arrivals (id, inbox, folder, state, is_duplicate, created_at)"
            " VALUES (?, ?, ?, 'staging', ?, ?)",
            (arrival.id, arrival.inbox, str(arrival.folder), int(arrival.is_duplicate), stamp(now)),
        )
        taken = ledger.change_many(
            "UPDATE files SET state = 'staging', arrival_id = ?, reason = ? WHERE id = ? AND state = 'settled'",
            [(arrival.id, reasons.get(file.id), file.id) for file in files],
        )
        if taken == 0:
            ledger.change("DELETE FROM arrivals WHERE id = ?", (arrival.id,))
        return taken


def files_to_stage(ledger: Ledger, arrival_id: str) -> list[ArrivalFile]:
    """Return the files of an arrival that are not known to be in its folder."""
    return [
        ArrivalFile(
            row["id"],
            Path(row["path"]),
            row["name"],
            Identity(int(row["device"]), int(row["inode"]), row["size"], row["mtime_ns"]),
            row["blocked_as"],
            row["sha256"],
        )
        for row in ledger.rows(
            "SELECT * FROM files WHERE arrival_id = ? AND state = 'staging' ORDER BY id", (arrival_id,)
        )
    ]


def finish_staging(
    ledger: Ledger,
    arrival_id: str,
    staged: Sequence[int],
    returned: Sequence[int],
    gone: Sequence[int],
    now: datetime,
    blocked: Mapping[int, str] = {},
) -> None:
    """Write down which files reached the arrival's folder, and hand the others back.

    `returned` changed before they were taken and wait again; `gone` were taken away by their owner; `blocked` could
    not be moved, for these reasons.
    """
    at = stamp(now)
    with ledger.transaction():
        ledger.change_many(
            "UPDATE files SET state = 'staged', staged_at = ?, blocked_since = NULL WHERE id = ? AND state = 'staging'",
            [(at, id_) for id_ in staged],
        )
        ledger.change_many(
            "UPDATE files SET state = 'seen', settled_at = NULL, sha256 = NULL, reason = NULL, arrival_id = NULL"
            " WHERE id = ? AND state = 'staging'",
            [(id_,) for id_ in returned],
        )
        ledger.change_many(
            "UPDATE files SET state = 'withdrawn', arrival_id = NULL, ended_at = ?, blocked_since = NULL"
            " WHERE id = ? AND state = 'staging'",
            [(stamp(now), id_) for id_ in gone],
        )
        record_blocked(ledger, arrival_id, blocked, now)
        ledger.change(
            "UPDATE files SET state = 'skipped', ended_at = :now WHERE arrival_id = :id AND state = 'staged'"
            " AND EXISTS (SELECT 1 FROM arrivals WHERE id = :id AND is_duplicate)",
            {"now": stamp(now), "id": arrival_id},
        )
        ledger.change(
            "UPDATE arrivals SET state = iif(is_duplicate, 'skipped', 'staged'), staged_at = :now,"
            " ended_at = iif(is_duplicate, :now, NULL) WHERE id = :id AND state = 'staging'"
            " AND EXISTS (SELECT 1 FROM files WHERE arrival_id = :id)",
            {"now": stamp(now), "id": arrival_id},
        )
        ledger.change(
            "DELETE FROM arrivals WHERE id = :id AND state = 'staging'"
            " AND NOT EXISTS (SELECT 1 FROM files WHERE arrival_id = :id)",
            {"id": arrival_id},
        )


def record_manifest(ledger: Ledger, arrival_id: str, manifest: str, digests: Mapping[int, str | None]) -> None:
    """Write down the SHA-256 of an arrival's manifest, and those of its files by their ids."""
    with ledger.transaction():
        ledger.change("UPDATE arrivals SET manifest = ? WHERE id = ? AND state = 'staging'", (manifest, arrival_id))
        ledger.change_many(
            "UPDATE files SET sha256 = coalesce(?, sha256) WHERE id = ? AND state = 'staging'",
            [(sha256, id_) for id_, sha256 in digests.items()],
        )


def file_contents(ledger: Ledger, arrival_id: str) -> list[FileContent]:
    """Return what each file of an arrival held when it was staged, in the order of its manifest."""
    rows = ledger.rows("SELECT name, size, sha256, mtime_ns FROM files WHERE arrival_id = ? ORDER BY id", (arrival_id,))
    return [FileContent(row["name"], row["size"], row["sha256"], row["mtime_ns"]) for row in rows]


def in_state(ledger: Ledger, state: ArrivalState) -> list[Arrival]:
    """Return the arrivals in a state, in the order in which they were taken."""
    is_unfinished = "TRUE" if state in ENDED else UNFINISHED
    return _arrivals(
        ledger.rows(
            f"SELECT {_COLUMNS} FROM arrivals WHERE state = ? AND {is_unfinished} ORDER BY created_at, id", (state,)
        )
    )


def get(ledger: Ledger, arrival_id: str) -> Arrival | None:
    """Return one arrival, or None if there is none of that id."""
    return next(iter(_arrivals(ledger.rows(f"SELECT {_COLUMNS} FROM arrivals WHERE id = ?", (arrival_id,)))), None)


def to_announce(ledger: Ledger, now: datetime) -> list[Arrival]:
    """Return the staged arrivals whose time to be announced has come, in the order in which they were taken.

    A time that is further away than any pause was written before the clock was set back, and has come as well.
    """
    return _arrivals(
        ledger.rows(
            f"SELECT {_COLUMNS} FROM arrivals WHERE state = 'staged' AND {UNFINISHED}"
            " AND (announce_after IS NULL OR announce_after <= ? OR announce_after > ?) ORDER BY created_at, id",
            (stamp(now), stamp(now + LONGEST_PAUSE)),
        )
    )


def count_unfinished(ledger: Ledger, inbox: str) -> int:
    """Return how many arrivals of an inbox have no outcome yet."""
    return ledger.rows(f"SELECT count(*) FROM arrivals WHERE inbox = ? AND {UNFINISHED}", (inbox,))[0][0]


def count_with_prefect(ledger: Ledger) -> Counter[str]:
    """Return how many arrivals of each inbox are announced or running."""
    rows = ledger.rows(
        "SELECT inbox, count(*) AS found FROM arrivals"
        f" WHERE state IN ('announced', 'running') AND {UNFINISHED} GROUP BY inbox"
    )
    return Counter({row["inbox"]: row["found"] for row in rows})


def failed_since(ledger: Ledger, since: datetime, limit: int) -> list[Arrival]:
    """Return the arrivals that failed after a time and had a run, the latest first, at most `limit`."""
    return _arrivals(
        ledger.rows(
            f"SELECT {_COLUMNS} FROM arrivals WHERE state = 'failed' AND ended_at >= ? AND run_id IS NOT NULL"
            " ORDER BY ended_at DESC LIMIT ?",
            (stamp(since), limit),
        )
    )


def contents(ledger: Ledger, arrival_id: str) -> tuple[list[str], int]:
    """Return the names of an arrival's files, and their bytes in all."""
    rows = ledger.rows("SELECT name, size FROM files WHERE arrival_id = ? ORDER BY id", (arrival_id,))
    return [row["name"] for row in rows], sum(row["size"] for row in rows)


def _arrivals(rows: list[sqlite3.Row]) -> list[Arrival]:
    return [
        Arrival(
            id=row["id"],
            inbox=row["inbox"],
            folder=Path(row["folder"]),
            state=ArrivalState(row["state"]),
            attempt=row["attempt"],
            announced_at=moment(row["announced_at"]),
            run_id=row["run_id"],
            receipt_at=moment(row["receipt_at"]),
            is_duplicate=bool(row["is_duplicate"]),
            given_up=row["given_up"],
            unanswered=row["unanswered"],
            manifest=row["manifest"],
            reload=tuple(json.loads(row["reload"])) if row["reload"] else (),
        )
        for row in rows
    ]


# What the ledger says when a person has arrivals announced again: which ones there are, and that it is to be.

__all__ = ["ENDED", "Replayable", "by_id", "holding", "record_replayed", "since"]


@dataclass(frozen=True)
class Replayable:
    """An arrival that a person may mean, and the step it has reached."""

    id: str
    inbox: str
    state: ArrivalState
    files: int


def by_id(ledger: Ledger, arrival_id: str) -> Replayable | None:
    """Return one arrival, or None if there is none of that id."""
    return next(iter(_replayable(ledger, "a.id = ?", [arrival_id])), None)


def holding(ledger: Ledger, file_name: str) -> list[Replayable]:
    """Return the arrivals that a file of this name is in, the oldest first."""
    return _replayable(ledger, "EXISTS (SELECT 1 FROM files WHERE arrival_id = a.id AND name = ?)", [file_name])


def since(ledger: Ledger, moment: datetime | None, states: Sequence[ArrivalState]) -> list[Replayable]:
    """Return the arrivals in these states that were taken since a moment (None: ever), the oldest first."""
    marks = ", ".join("?" * len(states))
    return _replayable(
        ledger, f"a.created_at >= ? AND a.state IN ({marks})", ["" if moment is None else stamp(moment), *states]
    )


def _replayable(ledger: Ledger, condition: str, parameters: list[str]) -> list[Replayable]:
    return [
        Replayable(row["id"], row["inbox"], ArrivalState(row["state"]), row["files"])
        for row in ledger.rows(
            "SELECT a.id, a.inbox, a.state, (SELECT count(*) FROM files WHERE arrival_id = a.id) AS files"
            f" FROM arrivals a WHERE {condition} ORDER BY a.created_at, a.id",
            parameters,
        )
    ]


def record_replayed(ledger: Ledger, arrival_id: str, reload: Sequence[str]) -> bool:
    """Write down that an arrival is to be announced again, as if never before; False when it has not ended.

    One that waits for its next announcement does not wait any longer; that is told by True as well.
    """
    with ledger.transaction():
        again = ledger.change(
            "UPDATE arrivals SET state = 'staged', is_duplicate = 0, given_up = attempt, announce_after = NULL,"
            " reload = ?, reason = NULL, announced_at = NULL, receipt_at = NULL, ended_at = NULL, run_id = NULL,"
            " run_name = NULL WHERE id = ? AND state IN ('loaded', 'failed', 'skipped')",
            (json.dumps(list(reload)) if reload else None, arrival_id),
        )
        if again:
            ledger.change(
                "UPDATE files SET state = 'staged', rows = NULL, reason = NULL, ended_at = NULL"
                " WHERE arrival_id = ? AND state IN ('loaded', 'rejected', 'failed', 'skipped')",
                (arrival_id,),
            )
            return True
        return bool(
            ledger.change(
                "UPDATE arrivals SET announce_after = NULL WHERE id = ? AND state = 'staged'"
                " AND announce_after IS NOT NULL",
                (arrival_id,),
            )
        )
