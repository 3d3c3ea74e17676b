"""The bell: delivers what is in the outbox, from a thread for each channel."""

import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from automations.delivery import deliver as deliveries
from automations.delivery import digests, escalation, waiting
from automations.delivery import log as alert_log
from automations.delivery.channels import Policy
from automations.delivery.deliver import drain
from automations.delivery.direct import direct_sender
from automations.delivery.enqueue import Posted, Posting, post
from automations.delivery.escalation import FailingChannel
from automations.delivery.models import Unless
from automations.delivery.outbox import Outbox, OutboxError, stamp

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.2
"""How often it is looked whether another process has posted something."""
LOOK_SECONDS = 1.0
"""How often everything is looked at, whether or not anything was posted."""


class Bell:
    """Delivers what is in the outbox; each channel has a thread of its own, so that a slow one holds up no other."""

    def __init__(self, path: Path, log: Path, policy: Policy) -> None:
        """Open the outbox at `path`; raises OutboxError."""
        self.outbox = Outbox(path)
        self.log = log
        self.direct = direct_sender(path, log)
        self.direct.record.prepare()
        self._policy = policy
        self._told: Policy | None = None
        self._in_force: Policy | None = None
        self._seen: int | None = None
        self._looked_at = datetime.min.replace(tzinfo=UTC)
        self._sending: dict[str, Future[None]] = {}
        self._said: str | None = None
        self._is_over = threading.Event()
        self._threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="bell")

    @property
    def policy(self) -> Policy:
        """What is configured about alerts: what the server has told last, and until then the settings."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._policy = self._told = policy

    def step(self, now: datetime) -> float:
        """Begin to deliver what is due; return the seconds until the next look.

        Raises sqlite3.Error, and OutboxError when the file is no longer the one that was opened.
        """
        policy, told = self._policy, self._told  # the watchman may tell another meanwhile
        changes = self.outbox.changes_of_others()
        looked = abs((now - self._looked_at).total_seconds()) < LOOK_SECONDS  # the clock may have been set back
        if looked and changes == self._seen and told == self._in_force:
            return TICK_SECONDS
        if not self.outbox.is_in_place:
            raise OutboxError(f"{self.outbox.path} was moved away or put back; it is opened anew")
        self._seen, self._looked_at = changes, now
        self.outbox.say_alive()
        self.direct.record_sent(self.outbox, policy, now)
        if told is not None and told != self._in_force:
            # Not before the server has told who is to be told: the settings may be older than the block on its page,
            # and what waits for a channel that they do not know would be lost.
            deliveries.retarget(self.outbox, told, now)
            self._in_force = told
        for message in digests.step(self.outbox, policy, now):
            alert_log.record(self.log, message, Posted.PENDING, policy, now)
        escalation.step(self.outbox, policy, now)
        self._deliver(policy, now)
        return TICK_SECONDS

    def _deliver(self, policy: Policy, now: datetime) -> None:
        for channel in policy.all_channels.values():
            if not deliveries.has_something_due(self.outbox, channel.id, now):
                continue
            if self._is_sending(channel.id):
                # It may just be through with what it had, and not know of what came since.
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
        """Begin nothing more; what is under way ends by itself or is tried again after the next start."""
        self._is_over.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.outbox.close()


# The ringer: posts alerts into a bell's outbox, and looks after those that wait.

KEEP = timedelta(days=30)
UNVERIFIED = timedelta(minutes=1)
"""How long after its time an alert is held of which no server can say whether it is needless."""


class Ringer:
    """Rings a bell, from one thread that is not the bell's own: posts alerts and looks after those that wait."""

    def __init__(self, bell: Bell) -> None:
        """Open a connection of its own; raises OutboxError."""
        self.bell = bell
        self._outbox = Outbox(bell.outbox.path)
        self._direct = direct_sender(bell.outbox.path, bell.log)
        self._unrecorded: dict[str, datetime] = {}
        """The progress that could not be written; without it the same would be looked through, and sent, each time."""
        self._told: set[tuple[str, datetime]] = set()
        """The failing channels that Prefect knows of, whether or not that could be written."""

    def post(self, posting: Posting, now: datetime) -> Posted:
        """Have an alert delivered, once for its cause; directly while the outbox cannot be written."""
        try:
            self._direct.record_sent(self._outbox, self.bell.policy, now)
            posted = post(self._outbox, posting, self.bell.policy, now)
        except sqlite3.Error as error:
            logger.warning("the alert is sent without the outbox: %s", error)
            return self._direct.send(posting, self.bell.policy, now)[0]
        alert_log.record(self.bell.log, posting, posted, self.bell.policy, now)
        return posted

    def verify(self, has_come: Callable[[Unless], bool], now: datetime) -> None:
        """Cancel or release the alerts that an event may make needless; `has_come` tells whether it has."""
        waiting.step(self._outbox, self.bell.policy, has_come, now)

    def release_overdue(self, now: datetime) -> None:
        """Have told what waits for an event, while no server can say whether it has come."""
        waiting.release_overdue(self._outbox, self.bell.policy, now, UNVERIFIED)

    def knows(self, cause: str) -> bool:
        """Tell whether a cause has its alert."""
        return bool(self._outbox.rows("SELECT 1 FROM alerts WHERE cause = ?", (cause,)))

    def trouble_since(self, key: str) -> datetime | None:
        """Return since when somebody knows of a trouble that is not over, or None."""
        rows = self._outbox.rows("SELECT opened_at FROM troubles WHERE key = ?", (key,))
        return self._direct.trouble_since(key, datetime.fromisoformat(rows[0]["opened_at"]) if rows else None)

    def open_troubles(self, prefix: str) -> list[str]:
        """Return the troubles whose names begin with a text, that someone knows of and that are not over."""
        rows = self._outbox.rows("SELECT key FROM troubles WHERE substr(key, 1, ?) = ?", (len(prefix), prefix))
        return [row["key"] for row in rows]

    def progress(self, what: str) -> datetime | None:
        """Return how far the past was looked through for something."""
        if what in self._unrecorded:
            return self._unrecorded[what]
        rows = self._outbox.rows("SELECT until FROM progress WHERE what = ?", (what,))
        return datetime.fromisoformat(rows[0]["until"]) if rows else None

    def record_progress(self, what: str, until: datetime) -> None:
        """Write down how far the past was looked through for something; in memory while the outbox takes nothing."""
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
        """Return the channels that do not take their alerts and of which Prefect was not told yet."""
        found = escalation.failing_channels(self._outbox, now, untold=True)
        return [one for one in found if (one.channel, one.failing_since) not in self._told]

    def record_told(self, channel: FailingChannel, now: datetime) -> None:
        """Write down that Prefect knows of a failing channel."""
        self._told.add((channel.channel, channel.failing_since))
        try:
            escalation.record_told(self._outbox, channel.channel, now)
        except sqlite3.Error as error:
            logger.warning("the outbox cannot be written; that a channel fails is not reported again: %s", error)

    def forget_old(self, now: datetime) -> None:
        """Forget what was delivered or was over long ago."""
        waiting.forget_old(self._outbox, now - KEEP)

    def close(self) -> None:
        """Close the connection."""
        self._outbox.close()
