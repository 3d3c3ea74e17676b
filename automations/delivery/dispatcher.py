"""Deliver alerts from the outbox, with a thread for each channel.

The sensor runs the `Dispatcher`. `AlertService` is for another thread of the sensor: it posts alerts, resolves those
that wait for an event, and remembers which incidents ("troubles") and failing channels were reported.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from automations.delivery import deliver, digests
from automations.delivery import log as alert_log
from automations.delivery.channels import FALLBACK, Policy
from automations.delivery.deliver import drain
from automations.delivery.direct import direct_sender
from automations.delivery.enqueue import EnqueueResult, NewAlert, address, post
from automations.delivery.models import Unless
from automations.delivery.outbox import Outbox, OutboxError
from automations.sqlite_file import stamp

# Escalation: send alerts that the primary channels do not take to the fallback, and report what is undelivered.

FALLBACK_AFTER = timedelta(seconds=30)
"""How long only the primary channels are tried."""
PRIMARY_FOR = timedelta(days=1)
"""How long the primary channels are still tried once the fallback has the alert."""


@dataclass(frozen=True)
class FailingChannel:
    """A channel that does not take its alerts."""

    channel: str
    name: str
    failure: str
    failing_since: datetime
    waiting: int
    """How many alerts wait for it."""
    perhaps: int = 0
    """How many of them it may have received, since they were sent without an answer."""


def step(outbox: Outbox, policy: Policy, now: datetime) -> int:
    """Send alerts that failed and are still undelivered after a while to the fallback; return how many."""
    _give_up_primaries(outbox, now)
    channels = policy.fallback_channels
    if not (channels and outbox.rows("SELECT 1 FROM channels LIMIT 1")):
        return 0
    with outbox.transaction():
        stuck = outbox.rows(
            "SELECT cause FROM alerts a WHERE state = 'pending' AND delivered_at IS NULL AND block <> ?"
            " AND EXISTS (SELECT 1 FROM deliveries WHERE cause = a.cause AND state <> 'delivered'"
            "   AND failure IS NOT NULL)"
            " AND NOT EXISTS (SELECT 1 FROM deliveries WHERE cause = a.cause AND is_fallback)"
            " AND told_at <= ?",
            (FALLBACK, stamp(now - FALLBACK_AFTER)),
        )
        for row in stuck:
            address(outbox, row["cause"], channels, now, is_fallback=True)
    return len(stuck)


def _give_up_primaries(outbox: Outbox, now: datetime) -> None:
    long_ago = (stamp(now - PRIMARY_FOR),)
    if outbox.rows("SELECT 1 FROM alerts WHERE state = 'pending' AND delivered_at < ? LIMIT 1", long_ago):
        with outbox.transaction():
            outbox.change(
                "UPDATE alerts SET state = 'delivered' WHERE state = 'pending' AND delivered_at < ?", long_ago
            )


def failing_channels(outbox: Outbox, now: datetime, *, unreported: bool = False) -> list[FailingChannel]:
    """Return the channels that have failed for a while and for which alerts wait.

    With `unreported`, only those that were not reported to Prefect yet.
    """
    rows = outbox.rows(
        "SELECT c.*, count(a.cause) AS waiting, count(CASE WHEN a.cause IS NOT NULL THEN d.perhaps_at END) AS perhaps"
        " FROM channels c LEFT JOIN deliveries d ON d.channel = c.channel AND d.state <> 'delivered'"
        " LEFT JOIN alerts a ON a.cause = d.cause AND a.state = 'pending'"
        f" WHERE failing_since <= ?{' AND c.told_at IS NULL' if unreported else ''}"
        " GROUP BY c.channel ORDER BY failing_since",
        (stamp(now - FALLBACK_AFTER),),
    )
    return [
        FailingChannel(
            row["channel"],
            row["name"],
            row["failure"],
            datetime.fromisoformat(row["failing_since"]),
            row["waiting"],
            row["perhaps"],
        )
        for row in rows
        if row["waiting"]
    ]


def record_reported(outbox: Outbox, channel: str, now: datetime) -> None:
    """Record that a failing channel was reported to Prefect."""
    with outbox.transaction():
        outbox.change("UPDATE channels SET told_at = ? WHERE channel = ?", (stamp(now), channel))


# What is undelivered, for status displays; readable whether or not the dispatcher is running.


@dataclass(frozen=True)
class Undelivered:
    """The alerts that no channel has taken, and the channels that fail."""

    alerts: int = 0
    oldest_subject: str = ""
    oldest_at: datetime | None = None
    channels: tuple[FailingChannel, ...] = ()
    perhaps: int = 0
    """How many alerts were sent without an answer that says whether they were taken."""
    perhaps_subject: str = ""
    perhaps_at: datetime | None = None


def read_open_troubles(path: Path, prefix: str) -> dict[str, str]:
    """Return the reported incidents that are not over: the alerts' subjects by the incidents' keys.

    Only keys that begin with `prefix`. Raises OutboxError, sqlite3.Error.
    """
    if not path.exists():
        return {}
    with Outbox(path) as outbox:
        rows = outbox.rows("SELECT key, subject FROM troubles JOIN alerts USING (cause)")
    return {row["key"]: row["subject"] for row in rows if row["key"].startswith(prefix)}


def read_undelivered(path: Path) -> Undelivered:
    """Read an outbox; if it does not exist, nothing is undelivered. Raises OutboxError, sqlite3.Error."""
    if not path.exists():
        return Undelivered()
    with Outbox(path) as outbox:
        rows = outbox.rows(
            "SELECT subject, posted_at, min(d.perhaps_at) AS perhaps FROM alerts a LEFT JOIN deliveries d USING (cause)"
            " WHERE a.state = 'pending' AND a.delivered_at IS NULL GROUP BY cause ORDER BY posted_at"
        )
        channels = tuple(failing_channels(outbox, datetime.now(UTC)))
    waiting = [row for row in rows if row["perhaps"] is None]
    perhaps = [row for row in rows if row["perhaps"] is not None]
    return Undelivered(
        len(waiting),
        waiting[0]["subject"] if waiting else "",
        datetime.fromisoformat(waiting[0]["posted_at"]) if waiting else None,
        channels,
        len(perhaps),
        perhaps[0]["subject"] if perhaps else "",
        datetime.fromisoformat(perhaps[0]["perhaps"]) if perhaps else None,
    )


logger = logging.getLogger(__name__)

TICK_SECONDS = 0.2
"""How often to check whether another process has posted something."""
LOOK_SECONDS = 1.0
"""How often to run every check, whether or not anything was posted."""


class Dispatcher:
    """Delivers the outbox's alerts; each channel has a thread of its own, so that a slow one delays no other."""

    def __init__(self, path: Path, log: Path, policy: Policy) -> None:
        """Open the outbox at `path`; raises OutboxError."""
        self.outbox = Outbox(path)
        self.log = log
        self.direct = direct_sender(path, log)
        self.direct.record.prepare()
        self._policy = policy
        self._from_server: Policy | None = None
        self._in_force: Policy | None = None
        self._seen: int | None = None
        self._looked_at = datetime.min.replace(tzinfo=UTC)
        self._sending: dict[str, Future[None]] = {}
        self._said: str | None = None
        self._is_over = threading.Event()
        self._threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="bell")

    @property
    def policy(self) -> Policy:
        """The alert settings: those last read from the server's blocks, and until then those of the environment."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._policy = self._from_server = policy

    def step(self, now: datetime) -> float:
        """Start to deliver what is due; return the seconds until the next call.

        Raises sqlite3.Error, and OutboxError if the file at the path is no longer the one that was opened.
        """
        policy, from_server = self._policy, self._from_server  # another thread may set another one meanwhile
        changes = self.outbox.changes_of_others()
        looked = abs((now - self._looked_at).total_seconds()) < LOOK_SECONDS  # the clock may have been set back
        if looked and changes == self._seen and from_server == self._in_force:
            return TICK_SECONDS
        if not self.outbox.is_in_place:
            raise OutboxError(f"{self.outbox.path} was moved away or put back; it is opened anew")
        self._seen, self._looked_at = changes, now
        self.outbox.record_heartbeat()
        self.direct.record_sent(self.outbox, policy, now)
        if from_server is not None and from_server != self._in_force:
            # Not before the server's blocks were read: the settings may be older than the block in Prefect's UI, and
            # alerts for a channel that the settings do not have would be lost.
            deliver.retarget(self.outbox, from_server, now)
            self._in_force = from_server
        for message in digests.sum_up_due(self.outbox, policy, now):
            alert_log.record(self.log, message, EnqueueResult.PENDING, policy, now)
        step(self.outbox, policy, now)
        self._deliver(policy, now)
        return TICK_SECONDS

    def _deliver(self, policy: Policy, now: datetime) -> None:
        for channel in policy.all_channels.values():
            if not deliver.has_something_due(self.outbox, channel.id, now):
                continue
            if self._is_sending(channel.id):
                # Its thread may be about to end, without knowing of newer alerts: check again at the next tick.
                self._looked_at = datetime.min.replace(tzinfo=UTC)
            else:
                self._sending[channel.id] = self._threads.submit(
                    drain, self.outbox.path, channel, self.log, is_over=self._is_over.is_set
                )

    def _is_sending(self, channel: str) -> bool:
        sending = self._sending.get(channel)
        if sending is not None and sending.done():
            del self._sending[channel]
            error = sending.exception()
            said = None if error is None else f"{type(error).__name__}: {error}"
            if said is not None and said != self._said:
                logger.error("what became of an alert could not be recorded: %s", said)
            self._said = said
            return False
        return sending is not None

    def close(self) -> None:
        """Start nothing more; deliveries under way end by themselves or are retried after the next start."""
        self._is_over.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.outbox.close()


KEEP = timedelta(days=30)
UNVERIFIED = timedelta(minutes=1)
"""How long past its wait an alert is held while no server can say whether its event has come."""


class AlertService:
    """Posts alerts and resolves waiting ones, from a thread other than the dispatcher's."""

    def __init__(self, bell: Dispatcher) -> None:
        """Open a separate connection to the outbox; raises OutboxError."""
        self.bell = bell
        self._outbox = Outbox(bell.outbox.path)
        self._direct = direct_sender(bell.outbox.path, bell.log)
        self._unrecorded: dict[str, datetime] = {}
        """Progress that could not be written; without it the same alerts would be found, and sent, each time."""
        self._from_server: set[tuple[str, datetime]] = set()
        """The failing channels reported to Prefect, whether or not that could be written."""

    def post(self, posting: NewAlert, now: datetime) -> EnqueueResult:
        """Post an alert for delivery, once per cause; send it directly while the outbox cannot be written."""
        try:
            self._direct.record_sent(self._outbox, self.bell.policy, now)
            posted = post(self._outbox, posting, self.bell.policy, now)
        except sqlite3.Error as error:
            logger.warning("the alert is sent without the outbox: %s", error)
            return self._direct.send(posting, self.bell.policy, now)[0]
        alert_log.record(self.bell.log, posting, posted, self.bell.policy, now)
        return posted

    def verify(self, has_come: Callable[[Unless], bool], now: datetime) -> None:
        """Cancel or release alerts that wait for an event; `has_come` returns whether it has come."""
        digests.release_waiting(self._outbox, self.bell.policy, has_come, now)

    def release_overdue(self, now: datetime) -> None:
        """Release overdue alerts that wait for an event, while no server can say whether it has come."""
        digests.release_overdue(self._outbox, self.bell.policy, now, UNVERIFIED)

    def knows(self, cause: str) -> bool:
        """Return whether a cause has an alert."""
        return bool(self._outbox.rows("SELECT 1 FROM alerts WHERE cause = ?", (cause,)))

    def trouble_since(self, key: str) -> datetime | None:
        """Return when a reported incident that is not over began, or None."""
        rows = self._outbox.rows("SELECT opened_at FROM troubles WHERE key = ?", (key,))
        return self._direct.trouble_since(key, datetime.fromisoformat(rows[0]["opened_at"]) if rows else None)

    def open_troubles(self, prefix: str) -> list[str]:
        """Return the keys of reported incidents that are not over and whose key begins with `prefix`."""
        rows = self._outbox.rows("SELECT key FROM troubles WHERE substr(key, 1, ?) = ?", (len(prefix), prefix))
        return [row["key"] for row in rows]

    def progress(self, what: str) -> datetime | None:
        """Return the time up to which the past was checked for something, or None."""
        if what in self._unrecorded:
            return self._unrecorded[what]
        rows = self._outbox.rows("SELECT until FROM progress WHERE what = ?", (what,))
        return datetime.fromisoformat(rows[0]["until"]) if rows else None

    def record_progress(self, what: str, until: datetime) -> None:
        """Record the time up to which the past was checked; in memory while the outbox cannot be written."""
        try:
            with self._outbox.transaction():
                self._outbox.change(
                    "INSERT INTO progress (what, until) VALUES (?, ?)"
                    " ON CONFLICT (what) DO UPDATE SET until = excluded.until",
                    (what, stamp(until)),
                )
        except sqlite3.Error as error:
            if not self._unrecorded:
                logger.warning("the outbox cannot be written, progress is kept in memory: %s", error)
            self._unrecorded[what] = until
        else:
            self._unrecorded.pop(what, None)

    def failing_channels(self, now: datetime) -> list[FailingChannel]:
        """Return the channels that do not take their alerts and were not reported to Prefect yet."""
        found = failing_channels(self._outbox, now, unreported=True)
        return [one for one in found if (one.channel, one.failing_since) not in self._from_server]

    def record_reported(self, channel: FailingChannel, now: datetime) -> None:
        """Record that a failing channel was reported to Prefect."""
        self._from_server.add((channel.channel, channel.failing_since))
        try:
            record_reported(self._outbox, channel.channel, now)
        except sqlite3.Error as error:
            logger.warning("the outbox cannot be written; that a channel fails is not reported again: %s", error)

    def forget_old(self, now: datetime) -> None:
        """Delete alerts older than `KEEP` that are over or could not be delivered."""
        digests.forget_old(self._outbox, now - KEEP)

    def close(self) -> None:
        self._outbox.close()
