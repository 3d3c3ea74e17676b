"""What the ledger says of announcements, their receipts, and the outcome of the runs they led to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sensors.ledger.database import Ledger, stamp
from sensors.ledger.notices import Notice, write
from sensors.ledger.states import ArrivalState, FileState


@dataclass(frozen=True)
class Announcement:
    """One event that told Prefect of an arrival."""

    event_id: str
    arrival_id: str
    attempt: int
    intended_at: datetime


@dataclass(frozen=True)
class Receipt:
    """Evidence that an announcement led to a flow run."""

    event_id: str
    run_id: str
    run_name: str


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file of an arrival."""

    name: str
    state: FileState
    rows: int
    reason: str | None


def record_intent(ledger: Ledger, announcement: Announcement) -> bool:
    """Write down that an event is about to be sent; False when the arrival is not waiting for one."""
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
    """Take back the intent to send an event that was never sent."""
    with ledger.transaction():
        ledger.change("DELETE FROM announcements WHERE event_id = ?", (announcement.event_id,))
        ledger.change(
            "UPDATE arrivals SET state = 'staged', attempt = attempt - 1, announced_at = NULL"
            " WHERE id = ? AND state = 'announced' AND attempt = ?",
            (announcement.arrival_id, announcement.attempt),
        )


def record_confirmed(ledger: Ledger, event_id: str, now: datetime) -> None:
    """Write down that the server has the event."""
    with ledger.transaction():
        ledger.change("UPDATE announcements SET confirmed_at = ? WHERE event_id = ?", (stamp(now), event_id))


def record_failure(ledger: Ledger, event_id: str, failure: str) -> None:
    """Write down why an announcement's action failed."""
    with ledger.transaction():
        ledger.change("UPDATE announcements SET failure = ? WHERE event_id = ?", (failure, event_id))


def count_failures(ledger: Ledger, arrival_id: str) -> int:
    """Return how often the action that starts an arrival's run has failed, since a person had it tried again."""
    return ledger.rows(
        "SELECT count(*) FROM announcements n JOIN arrivals a ON a.id = n.arrival_id"
        " WHERE a.id = ? AND n.failure IS NOT NULL AND n.attempt > a.given_up",
        (arrival_id,),
    )[0][0]


def record_unannounced(
    ledger: Ledger, arrival_id: str, again_after: datetime, reason: str, notice: Notice | None = None
) -> bool:
    """Write down that an arrival has to be announced (again), not before a time; False if it has moved on.

    An arrival whose run crashed comes back in the same way. With a `notice` a person is told.
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
    """Return every announcement, also an earlier attempt, that may still lead to an arrival's first run."""
    return [
        Announcement(row["event_id"], row["arrival_id"], row["attempt"], datetime.fromisoformat(row["intended_at"]))
        for row in ledger.rows(
            # First the arrivals, by their index of unfinished ones: there are as many announcements as ever were.
            "SELECT n.* FROM arrivals a CROSS JOIN announcements n ON n.arrival_id = a.id"
            " WHERE a.state IN ('announced', 'staged') AND a.state NOT IN ('loaded', 'failed', 'skipped')"
            " AND n.run_id IS NULL AND n.failure IS NULL"
            " ORDER BY n.intended_at"
        )
    ]


def count_runs(ledger: Ledger, arrival_id: str) -> int:
    """Return how many runs an arrival's announcements have led to, since a person had it tried again."""
    return ledger.rows(
        "SELECT count(DISTINCT n.run_id) FROM announcements n JOIN arrivals a ON a.id = n.arrival_id"
        " WHERE a.id = ? AND n.attempt > a.given_up",
        (arrival_id,),
    )[0][0]


def record_receipt(ledger: Ledger, receipt: Receipt, now: datetime) -> bool:
    """Write down the run that an announcement led to; False when the arrival has one already."""
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
    """Write down that a run bears another name now."""
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
    """Write down what became of an arrival and its files; False when it had its outcome already.

    A file that `files` does not name shares the arrival's outcome and reason. The notices are sent to people.
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
    """Write down that a failed arrival's run has been started again; False when it is not that run's any more."""
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
