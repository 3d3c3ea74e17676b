"""What the ledger says when a person has arrivals announced again: which ones there are, and that it is to be."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sensors.ledger.database import Ledger, stamp
from sensors.ledger.states import ENDED, ArrivalState

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
