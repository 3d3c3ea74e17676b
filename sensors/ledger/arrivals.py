"""Arrivals in the ledger: their state changes, queries and replays.

Each state change is one function whose UPDATE is conditional on the previous state, so that it has no effect on an
arrival that has moved on.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sensors.ledger.database import Ledger, moment, stamp
from sensors.ledger.files import WaitingFile, record_blocked, waiting_file
from sensors.ledger.states import ENDED, ArrivalState

UNFINISHED = "state NOT IN ('loaded', 'failed', 'skipped')"
"""Must repeat the condition of the index `arrivals_unfinished` literally, so that SQLite uses it. Otherwise each
query reads every arrival, which takes a second for a million of them."""
LONGEST_PAUSE = timedelta(minutes=10)
"""Longer than any pause before an arrival is announced again."""
_COLUMNS = (
    "*, attempt - max(given_up, coalesce((SELECT max(attempt) FROM announcements n"
    " WHERE n.arrival_id = arrivals.id AND n.run_id IS NOT NULL), 0)) AS unanswered"
)


@dataclass(frozen=True)
class Arrival:
    """One arrival in the ledger."""

    id: str
    inbox: str
    folder: Path
    state: ArrivalState
    attempt: int
    announced_at: datetime | None
    run_id: str | None
    receipt_at: datetime | None
    is_duplicate: bool = False
    """Whether its files repeat content that came before. Such an arrival is kept, but not announced."""
    given_up: int = 0
    """How many of its attempts were made before its last replay."""
    reload: tuple[str, ...] = ()
    """Names of the files whose rows are to be replaced; `*` means all files."""
    manifest: str | None = None
    """SHA-256 of the manifest beside its files; None if it was staged before manifests were introduced."""
    rules: str | None = None
    """The rules by which its files are loaded, as JSON; None without rules."""
    unanswered: int = 0
    """How many announcements since its last run or replay have started no run."""


@dataclass(frozen=True)
class FileContent:
    """Size in bytes, SHA-256 (None if it could not be read) and modification time of a staged file."""

    name: str
    size: int
    sha256: str | None
    mtime_ns: int


def begin(
    ledger: Ledger, arrival: Arrival, files: Sequence[WaitingFile], now: datetime, reasons: Mapping[int, str] = {}
) -> int:
    """Record the intent to take settled files as an arrival; return how many files it got.

    Files that are no longer settled are left out; if none is left, nothing is recorded. `reasons` maps the ids of
    duplicates to a text that names the file they repeat.
    """
    with ledger.transaction():
        ledger.change(
            "INSERT INTO arrivals (id, inbox, folder, state, is_duplicate, created_at, rules)"
            " VALUES (?, ?, ?, 'staging', ?, ?, ?)",
            (arrival.id, arrival.inbox, str(arrival.folder), int(arrival.is_duplicate), stamp(now), arrival.rules),
        )
        taken = ledger.change_many(
            "UPDATE files SET state = 'staging', arrival_id = ?, reason = ? WHERE id = ? AND state = 'settled'",
            [(arrival.id, reasons.get(file.id), file.id) for file in files],
        )
        if taken == 0:
            ledger.change("DELETE FROM arrivals WHERE id = ?", (arrival.id,))
        return taken


def files_to_stage(ledger: Ledger, arrival_id: str) -> list[WaitingFile]:
    """Return the files of an arrival that are not recorded as being in its folder."""
    query = "SELECT * FROM files WHERE arrival_id = ? AND state = 'staging' ORDER BY id"
    return [waiting_file(row) for row in ledger.rows(query, (arrival_id,))]


def finish_staging(
    ledger: Ledger,
    arrival_id: str,
    staged: Sequence[int],
    returned: Sequence[int],
    gone: Sequence[int],
    now: datetime,
    blocked: Mapping[int, str] = {},
) -> None:
    """Record which files reached the arrival's folder, and release the others.

    `returned` changed before they were moved, and must settle again; `gone` were removed from the inbox; `blocked`
    could not be moved, each with its reason. An arrival that is left without files is deleted.
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
    """Record the SHA-256 of an arrival's manifest, and those of its files by file id."""
    with ledger.transaction():
        ledger.change("UPDATE arrivals SET manifest = ? WHERE id = ? AND state = 'staging'", (manifest, arrival_id))
        ledger.change_many(
            "UPDATE files SET sha256 = coalesce(?, sha256) WHERE id = ? AND state = 'staging'",
            [(sha256, id_) for id_, sha256 in digests.items()],
        )


def file_contents(ledger: Ledger, arrival_id: str) -> list[FileContent]:
    """Return the size, digest and time of each file as it was staged, in the order of the manifest."""
    rows = ledger.rows("SELECT name, size, sha256, mtime_ns FROM files WHERE arrival_id = ? ORDER BY id", (arrival_id,))
    return [FileContent(row["name"], row["size"], row["sha256"], row["mtime_ns"]) for row in rows]


def in_state(ledger: Ledger, state: ArrivalState) -> list[Arrival]:
    """Return the arrivals in a state, oldest first."""
    is_unfinished = "TRUE" if state in ENDED else UNFINISHED
    return _arrivals(
        ledger.rows(
            f"SELECT {_COLUMNS} FROM arrivals WHERE state = ? AND {is_unfinished} ORDER BY created_at, id", (state,)
        )
    )


def get(ledger: Ledger, arrival_id: str) -> Arrival | None:
    """Return the arrival with this id, or None."""
    return next(iter(_arrivals(ledger.rows(f"SELECT {_COLUMNS} FROM arrivals WHERE id = ?", (arrival_id,)))), None)


def to_announce(ledger: Ledger, now: datetime) -> list[Arrival]:
    """Return the staged arrivals that are due to be announced, oldest first.

    An `announce_after` further ahead than any pause was written before the clock was set back; it counts as due.
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
    """Return at most `limit` arrivals that had a run and failed since a time, latest first."""
    return _arrivals(
        ledger.rows(
            f"SELECT {_COLUMNS} FROM arrivals WHERE state = 'failed' AND ended_at >= ? AND run_id IS NOT NULL"
            " ORDER BY ended_at DESC LIMIT ?",
            (stamp(since), limit),
        )
    )


def contents(ledger: Ledger, arrival_id: str) -> tuple[list[str], int]:
    """Return the names of an arrival's files, and their total size in bytes."""
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
            rules=row["rules"],
            reload=tuple(json.loads(row["reload"])) if row["reload"] else (),
        )
        for row in rows
    ]


# Replays: finding the arrivals that a user wants announced again, and recording that they are.

__all__ = ["ENDED", "NewRules", "Replayable", "by_id", "holding", "record_replayed", "since"]


@dataclass(frozen=True)
class Replayable:
    """An arrival that a user may replay."""

    id: str
    inbox: str
    state: ArrivalState
    files: int


def by_id(ledger: Ledger, arrival_id: str) -> Replayable | None:
    """Return the arrival with this id, or None."""
    return next(iter(_replayable(ledger, "a.id = ?", [arrival_id])), None)


def holding(ledger: Ledger, file_name: str) -> list[Replayable]:
    """Return the arrivals that contain a file of this name, oldest first."""
    return _replayable(ledger, "EXISTS (SELECT 1 FROM files WHERE arrival_id = a.id AND name = ?)", [file_name])


def since(ledger: Ledger, moment: datetime | None, states: Sequence[ArrivalState]) -> list[Replayable]:
    """Return the arrivals in these states that were created since a moment (None: ever), oldest first."""
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


@dataclass(frozen=True)
class NewRules:
    """Rules that replace those stored with an arrival."""

    rules: str | None
    """As JSON; None without rules."""


def record_replayed(ledger: Ledger, arrival_id: str, reload: Sequence[str], new_rules: NewRules | None = None) -> bool:
    """Reset an ended arrival to `staged`, to be announced as if for the first time.

    A staged arrival that is waiting for its next announcement becomes due immediately. With `new_rules`, its files are
    loaded by them from now on. Returns False, and changes nothing, if neither applies.
    """
    with ledger.transaction():
        if new_rules:
            ledger.change(
                "UPDATE arrivals SET rules = ? WHERE id = ? AND (state IN ('loaded', 'failed', 'skipped')"
                " OR state = 'staged' AND announce_after IS NOT NULL)",
                (new_rules.rules, arrival_id),
            )
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


def failed_ids(ledger: Ledger) -> set[str]:
    """Return the ids of all failed arrivals."""
    return {row["id"] for row in ledger.rows("SELECT id FROM arrivals WHERE state = 'failed'")}


def ids_beginning(ledger: Ledger, prefix: str, limit: int) -> list[str]:
    """Return at most `limit` ids that begin with a text, latest first."""
    # A range uses the index of ids; LIKE would read all rows.
    query = "SELECT id FROM arrivals WHERE id >= ? AND id < ? || char(1114111) ORDER BY id DESC LIMIT ?"
    return [row["id"] for row in ledger.rows(query, (prefix, prefix, limit))]
