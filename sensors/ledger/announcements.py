"""Announcements in the ledger, their receipts, and the outcomes of the runs that they started."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sensors.ledger.database import Ledger, stamp
from sensors.ledger.notices import Notice, write
from sensors.ledger.states import ArrivalState, FileState


@dataclass(frozen=True)
class Announcement:
    """One event that announces an arrival to Prefect."""

    event_id: str
    arrival_id: str
    attempt: int
    intended_at: datetime


@dataclass(frozen=True)
class Receipt:
    """Evidence that an announcement started a flow run."""

    event_id: str
    run_id: str
    run_name: str


@dataclass(frozen=True)
class FileOutcome:
    """The outcome of one file of an arrival."""

    name: str
    state: FileState
    rows: int
    reason: str | None


def record_intent(ledger: Ledger, announcement: Announcement) -> bool:
    """Record that an event is about to be sent; False if the arrival is not staged."""
    with ledger.transaction():
        changed = ledger.change(
            "UPDATE arrivals SET state = 'announced', attempt = ?, announced_at = ?, announce_after = NULL"
            " WHERE id = ? AND state = 'staged'",
            (announcement.attempt, stamp(announcement.intended_at), announcement.arrival_id),
        )
        if changed:
            ledger.change(
                "INSERT INTO announcements (event_id, arrival_id, attempt, intended_at) VALUES (?, ?, ?, ?)",
                (
                    announcement.event_id,
                    announcement.arrival_id,
                    announcement.attempt,
                    stamp(announcement.intended_at),
                ),
            )
        return bool(changed)


def forget_intent(ledger: Ledger, announcement: Announcement) -> None:
    """Undo `record_intent` for an event that was never sent."""
    with ledger.transaction():
        ledger.change("DELETE FROM announcements WHERE event_id = ?", (announcement.event_id,))
        ledger.change(
            "UPDATE arrivals SET state = 'staged', attempt = attempt - 1, announced_at = NULL"
            " WHERE id = ? AND state = 'announced' AND attempt = ?",
            (announcement.arrival_id, announcement.attempt),
        )


def record_confirmed(ledger: Ledger, event_id: str, now: datetime) -> None:
    """Record that the server has the event."""
    with ledger.transaction():
        ledger.change("UPDATE announcements SET confirmed_at = ? WHERE event_id = ?", (stamp(now), event_id))


def record_failure(ledger: Ledger, event_id: str, failure: str) -> None:
    """Record why the automation action for an announcement failed."""
    with ledger.transaction():
        ledger.change("UPDATE announcements SET failure = ? WHERE event_id = ?", (failure, event_id))


def count_failures(ledger: Ledger, arrival_id: str) -> int:
    """Return how often the action that starts an arrival's run has failed since the arrival's last replay."""
    return ledger.rows(
        "SELECT count(*) FROM announcements n JOIN arrivals a ON a.id = n.arrival_id"
        " WHERE a.id = ? AND n.failure IS NOT NULL AND n.attempt > a.given_up",
        (arrival_id,),
    )[0][0]


def record_unannounced(
    ledger: Ledger, arrival_id: str, again_after: datetime, reason: str, notice: Notice | None = None
) -> bool:
    """Reset an announced or running arrival to `staged`, to be announced after a time; False if it has moved on.

    Used when an announcement started no run, and when a run crashed. A `notice` is written in the same transaction.
    """
    with ledger.transaction():
        again = ledger.change(
            "UPDATE arrivals SET state = 'staged', announce_after = ?, reason = ?, run_id = NULL"
            " WHERE id = ? AND state IN ('announced', 'running')",
            (stamp(again_after), reason, arrival_id),
        )
        if again and notice is not None:
            write(ledger, notice, again_after)
        return bool(again)


def awaiting_receipt(ledger: Ledger) -> list[Announcement]:
    """Return every announcement, earlier attempts included, that may still start an arrival's first run."""
    return [
        Announcement(row["event_id"], row["arrival_id"], row["attempt"], datetime.fromisoformat(row["intended_at"]))
        for row in ledger.rows(
            # Start from the index of unfinished arrivals: `announcements` has rows for all arrivals in the ledger.
            "SELECT n.* FROM arrivals a CROSS JOIN announcements n ON n.arrival_id = a.id"
            " WHERE a.state IN ('announced', 'staged') AND a.state NOT IN ('loaded', 'failed', 'skipped')"
            " AND n.run_id IS NULL AND n.failure IS NULL"
            " ORDER BY n.intended_at"
        )
    ]


def count_runs(ledger: Ledger, arrival_id: str) -> int:
    """Return how many runs an arrival's announcements have started since the arrival's last replay."""
    return ledger.rows(
        "SELECT count(DISTINCT n.run_id) FROM announcements n JOIN arrivals a ON a.id = n.arrival_id"
        " WHERE a.id = ? AND n.attempt > a.given_up",
        (arrival_id,),
    )[0][0]


def record_receipt(ledger: Ledger, receipt: Receipt, now: datetime) -> bool:
    """Record the run that an announcement started; False if the arrival already has a run or an outcome."""
    with ledger.transaction():
        ledger.change(
            "UPDATE announcements SET run_id = ? WHERE event_id = ? AND run_id IS NULL",
            (receipt.run_id, receipt.event_id),
        )
        return bool(
            ledger.change(
                "UPDATE arrivals SET state = 'running', receipt_at = ?, run_id = ?, run_name = ?, reason = NULL"
                " WHERE id = (SELECT arrival_id FROM announcements WHERE event_id = ?)"
                " AND state IN ('announced', 'staged')",
                (stamp(now), receipt.run_id, receipt.run_name, receipt.event_id),
            )
        )


def record_run_name(ledger: Ledger, run_id: str, name: str) -> None:
    """Record the new name of a run."""
    with ledger.transaction():
        ledger.change("UPDATE arrivals SET run_name = ? WHERE run_id = ?", (name, run_id))


def record_outcome(
    ledger: Ledger,
    arrival_id: str,
    state: ArrivalState,
    files: Sequence[FileOutcome],
    reason: str | None,
    now: datetime,
    notices: Sequence[Notice] = (),
) -> bool:
    """Record the outcome of an arrival and its files; False if the arrival already has one.

    A file that is missing from `files` gets the arrival's outcome and reason. The notices are written in the same
    transaction.
    """
    with ledger.transaction():
        ended = ledger.change(
            "UPDATE arrivals SET state = ?, reason = ?, ended_at = ?, reload = NULL WHERE id = ?"
            " AND state NOT IN ('loaded', 'failed', 'skipped')",
            (state, reason, stamp(now), arrival_id),
        )
        if not ended:
            return False
        ledger.change_many(
            "UPDATE files SET state = ?, rows = ?, reason = ?, ended_at = ?"
            " WHERE arrival_id = ? AND name = ? AND state = 'staged'",
            [(file.state, file.rows, file.reason, stamp(now), arrival_id, file.name) for file in files],
        )
        ledger.change(
            "UPDATE files SET state = ?, reason = ?, ended_at = ? WHERE arrival_id = ? AND state = 'staged'",
            (FileState(state), reason, stamp(now), arrival_id),
        )
        for notice in notices:
            write(ledger, notice, now)
        return True


def record_resumed(ledger: Ledger, arrival_id: str, run_id: str) -> bool:
    """Record that a failed arrival's run was started again; False if the arrival has another run or is not failed."""
    with ledger.transaction():
        resumed = ledger.change(
            "UPDATE arrivals SET state = 'running', reason = NULL, ended_at = NULL"
            " WHERE id = ? AND run_id = ? AND state = 'failed'",
            (arrival_id, run_id),
        )
        if resumed:
            ledger.change(
                "UPDATE files SET state = 'staged', reason = NULL, ended_at = NULL"
                " WHERE arrival_id = ? AND state IN ('failed', 'rejected')",
                (arrival_id,),
            )
        return bool(resumed)
