"""The ringer: posts alerts into a bell's outbox, and looks after those that wait."""

import logging
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta

from automations.alerting import alert_log, escalation, waiting
from automations.alerting.bell import Bell
from automations.alerting.cause import Unless
from automations.alerting.delivery import deliver
from automations.alerting.escalation import FailingChannel
from automations.alerting.outbox import Outbox, stamp
from automations.alerting.posting import Posted, Posting, post

logger = logging.getLogger(__name__)

KEEP = timedelta(days=30)
UNVERIFIED = timedelta(minutes=1)
"""How long after its time an alert is held of which no server can say whether it is needless."""


class Ringer:
    """Rings a bell, from one thread that is not the bell's own: posts alerts and looks after those that wait."""

    def __init__(self, bell: Bell) -> None:
        """Open a connection of its own; raises OutboxError."""
        self.bell = bell
        self._outbox = Outbox(bell.outbox.path)
        self._sent_without: set[str] = set()
        """The causes that were told while the outbox could not be written."""

    def post(self, posting: Posting, now: datetime) -> Posted:
        """Have an alert delivered, once for its cause; on a full disk in one attempt, here and now."""
        if posting.cause.id in self._sent_without:
            return Posted.KNOWN
        try:
            posted = post(self._outbox, posting, self.bell.policy, now)
        except sqlite3.Error as error:
            logger.warning("the alert is delivered without the outbox, in one attempt: %s", error)
            return self._send_without(posting)
        alert_log.record(self.bell.log, posting, posted, self.bell.policy, now)
        return posted

    def _send_without(self, posting: Posting) -> Posted:
        channels = self.bell.policy.channels(posting.block, posting.cause.all_tags)
        sent = deliver(posting.alert, [one.url for one in channels], posting.cause.type)
        if any(one.delivered for one in sent):
            self._sent_without.add(posting.cause.id)
        return Posted.PENDING

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
        return datetime.fromisoformat(rows[0]["opened_at"]) if rows else None

    def progress(self, what: str) -> datetime | None:
        """Return how far the past was looked through for something."""
        rows = self._outbox.rows("SELECT until FROM progress WHERE what = ?", (what,))
        return datetime.fromisoformat(rows[0]["until"]) if rows else None

    def record_progress(self, what: str, until: datetime) -> None:
        """Write down how far the past was looked through for something."""
        with self._outbox.transaction():
            self._outbox.change(
                "INSERT INTO progress (what, until) VALUES (?, ?)"
                " ON CONFLICT (what) DO UPDATE SET until = excluded.until",
                (what, stamp(until)),
            )

    def failing_channels(self, now: datetime) -> list[FailingChannel]:
        """Return the channels that do not take their alerts and of which Prefect was not told yet."""
        return escalation.failing_channels(self._outbox, now, untold=True)

    def record_told(self, channel: FailingChannel, now: datetime) -> None:
        """Write down that Prefect knows of a failing channel."""
        escalation.record_told(self._outbox, channel.channel, now)

    def forget_old(self, now: datetime) -> None:
        """Forget what was delivered or was over long ago."""
        waiting.forget_old(self._outbox, now - KEEP)

    def close(self) -> None:
        """Close the connection."""
        self._outbox.close()
