"""What the outbox keeps of gatherings, and the digests that tell of them."""

import json
from datetime import datetime

from automations.delivery.outbox import Outbox, stamp
from automations.delivery.rate_limit import Gathered, Gathering, Why


def read(outbox: Outbox, group: str) -> Gathering | None:
    """Return where a group's alerts are gathered at the moment."""
    found = _read(outbox, "group_name = ?", group)
    return found[0] if found else None


def due(outbox: Outbox, now: datetime) -> list[Gathering]:
    """Return the gatherings whose time has come."""
    return _read(outbox, "due_at <= ?", stamp(now))


def _read(outbox: Outbox, condition: str, value: str) -> list[Gathering]:
    return [
        Gathering(
            row["group_name"],
            Why(row["why"]),
            datetime.fromisoformat(row["opened_at"]),
            datetime.fromisoformat(row["due_at"]),
            row["digests"],
            row["summed_up"],
        )
        for row in outbox.rows(f"SELECT * FROM gatherings WHERE {condition}", (value,))
    ]


def write(outbox: Outbox, gathering: Gathering) -> None:
    """Write a gathering down as it is now, inside the caller's transaction."""
    outbox.change(
        "INSERT INTO gatherings (group_name, why, opened_at, due_at, digests, summed_up) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (group_name) DO UPDATE SET due_at = excluded.due_at, digests = excluded.digests,"
        " summed_up = excluded.summed_up",
        (
            gathering.group,
            gathering.why,
            stamp(gathering.opened_at),
            stamp(gathering.due_at),
            gathering.digests,
            gathering.summed_up,
        ),
    )


def waiting(outbox: Outbox, group: str) -> list[Gathered]:
    """Return the alerts that wait in a group's gathering, the oldest first."""
    return _gathered(outbox, "group_name = ? AND state = 'gathered'", group)


def summed_up(outbox: Outbox, digest: str) -> list[Gathered]:
    """Return the alerts that the digests told of whose cause begins like this."""
    return _gathered(outbox, "state = 'summed up' AND instr(told_by, ?) = 1", digest)


def _gathered(outbox: Outbox, condition: str, value: str) -> list[Gathered]:
    return [
        Gathered(row["cause"], row["kind"], row["subject"], tuple(json.loads(row["tags"])))
        for row in outbox.rows(f"SELECT * FROM alerts WHERE {condition} ORDER BY posted_at, rowid", (value,))
    ]


def remove(outbox: Outbox, group: str) -> None:
    """Forget a gathering that is over, inside the caller's transaction."""
    outbox.change("DELETE FROM gatherings WHERE group_name = ?", (group,))
