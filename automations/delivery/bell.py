"""The bell: delivers what is in the outbox, from a thread for each channel."""

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from automations.delivery import deliver as deliveries
from automations.delivery import digests, escalation
from automations.delivery import log as alert_log
from automations.delivery.direct import direct_sender
from automations.delivery.enqueue import Posted
from automations.delivery.outbox import Outbox, OutboxError
from automations.delivery.policy import Policy
from automations.delivery.sending import drain

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
