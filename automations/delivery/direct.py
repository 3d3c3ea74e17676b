"""Send alerts without the outbox while it cannot be written: a full disk, a lock, a damaged or missing file.

Each channel gets an alert once, whichever process sends it (see `SentRecord`). Failed deliveries are retried, and
everything is recorded in the outbox as soon as that works. The rate limit applies as in the outbox. Quiet hours do not:
nothing would keep the alert until they end.

An incident (`AlertMetadata.opens`, `AlertMetadata.ends`; "trouble" in the code) is a problem that one alert reports
and another ends.
"""

import logging
import sqlite3
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from automations.delivery import log as alert_log
from automations.delivery.channels import ALERTS, FALLBACK, Channel, Policy
from automations.delivery.deliver import pause
from automations.delivery.enqueue import EnqueueResult, NewAlert, address, insert, post
from automations.delivery.models import AlertMetadata, AlertState
from automations.delivery.outbox import Outbox, OutboxError, SentRecord, sent_record
from automations.delivery.rate_limit import Gathered, Gathering, GatherReason, digest
from automations.delivery.send import deliver, takes_whole
from automations.sqlite_file import stamp

logger = logging.getLogger(__name__)

UNRECORDED_LIMIT = 500
"""How many unrecorded alerts are kept in memory; the oldest are dropped first, and the log of alerts has them."""


@dataclass
class _Unrecorded:
    """An alert that the outbox does not have yet."""

    posting: NewAlert
    at: datetime
    is_held: bool = False
    """Whether it exceeded the rate limit."""
    summed_up_by: str | None = None
    attempts: int = 0
    next_at: datetime | None = None
    """When it is tried again; None if nothing is left to try."""


@dataclass
class DirectSender:
    """Sends alerts of one outbox directly; one instance per process, used from any thread."""

    outbox: Path
    log: Path | None
    record: SentRecord
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _unrecorded: OrderedDict[str, _Unrecorded] = field(default_factory=OrderedDict[str, _Unrecorded])
    _troubles: dict[str, datetime | None] = field(default_factory=dict[str, datetime | None])
    """When each incident began (None if it is over), for those that began or ended without the outbox."""
    _sent_at: dict[str, deque[datetime]] = field(default_factory=dict[str, deque[datetime]])
    """When messages of each group were sent, within the window of the rate limit."""

    def post(self, posting: NewAlert, policy: Policy, now: datetime) -> EnqueueResult:
        """Write an alert to the outbox, or send it directly if that fails; never raises for a broken outbox."""
        try:
            with Outbox(self.outbox) as outbox:
                self.record_sent(outbox, policy, now)
                posted = post(outbox, posting, policy, now)
        except (OutboxError, sqlite3.Error, OSError) as error:
            logger.warning("the alert is sent without the outbox: %s", error)
            return self.send(posting, policy, now)[0]
        alert_log.record(self.log, posting, posted, policy, now)
        return posted

    def send(self, posting: NewAlert, policy: Policy, now: datetime) -> tuple[EnqueueResult, list[str]]:
        """Send an alert directly, once per cause; takes up to TIME_LIMIT_SECONDS, and as long again for the fallback.

        Returns the state of the alert and, for each channel that did not take it, the reason. `retry` repeats failed
        deliveries, or the dispatcher does so once the outbox has the alert.
        """
        cause = posting.cause
        with self._lock:
            if cause.void or self._is_over(cause):
                return EnqueueResult.CANCELLED, []
            one = self._unrecorded.get(cause.id)
            is_known = one is not None or (cause.opens is not None and self._troubles.get(cause.opens) is not None)
            if is_known and (one is None or one.next_at is None):
                return EnqueueResult.KNOWN, []
            if one is None:
                one = _Unrecorded(posting, now, is_held=not self._may_send(posting, policy, now))
                self._keep(one)
        if one.is_held:
            self._write_log(one, ["is held back: too many of its kind; a digest reports it"], now)
            return EnqueueResult.GATHERED, []
        return self._send(one, policy, now)

    def retry(self, policy: Policy, now: datetime) -> None:
        """Retry failed deliveries, and send digests of held-back alerts once the rate limit allows it."""
        with self._lock:
            due = [one for one in self._unrecorded.values() if one.next_at is not None and one.next_at <= now]
            digests = self._digests(policy, now)
        for one in due:
            self._send(one, policy, now)
        for message, held in digests:
            self.send(message, policy, now)
            for one in held:
                one.summed_up_by = message.cause.id

    def record_sent(self, outbox: Outbox, policy: Policy, now: datetime) -> None:
        """Record in the outbox, which works again, what was sent without it. Raises sqlite3.Error."""
        while True:
            with self._lock:
                one = next(iter(self._unrecorded.values()), None)
            if one is None:
                return
            self._record(outbox, one, policy, now)
            with self._lock:
                self._unrecorded.pop(one.posting.cause.id, None)
                for key in (one.posting.cause.opens, one.posting.cause.ends):
                    if key is not None:
                        self._troubles.pop(key, None)

    def trouble_since(self, key: str, recorded: datetime | None) -> datetime | None:
        """Return when an open incident began, or None; `recorded` is the answer of the outbox."""
        with self._lock:
            return self._troubles.get(key, recorded)

    def _record(self, outbox: Outbox, one: _Unrecorded, policy: Policy, now: datetime) -> None:
        posting, cause = one.posting, one.posting.cause
        if one.summed_up_by is not None:
            with outbox.transaction():
                if not outbox.rows("SELECT 1 FROM alerts WHERE cause = ?", (cause.id,)):
                    insert(outbox, posting, AlertState.SUMMED_UP, one.at)
                    outbox.change("UPDATE alerts SET told_by = ? WHERE cause = ?", (one.summed_up_by, cause.id))
        elif one.is_held:
            post(outbox, posting, policy, now)
        else:
            with outbox.transaction():
                if not outbox.rows("SELECT 1 FROM alerts WHERE cause = ?", (cause.id,)):
                    insert(outbox, posting, AlertState.PENDING, one.at)
                # Also for an alert that is being sent right now: the outbox has it as pending.
                if cause.opens is not None and self.trouble_since(cause.opens, one.at) is not None:
                    outbox.change(
                        "INSERT INTO troubles (key, cause, opened_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                        (cause.opens, cause.id, stamp(one.at)),
                    )
                if cause.ends is not None:
                    outbox.change("DELETE FROM troubles WHERE key = ?", (cause.ends,))
                address(outbox, cause.id, policy.channels(posting.block, cause.all_tags), now)

    def _send(self, one: _Unrecorded, policy: Policy, now: datetime) -> tuple[EnqueueResult, list[str]]:
        posting = one.posting
        channels = policy.channels(posting.block, posting.cause.all_tags)
        failures, sent, taken = self._deliver(posting, channels, now)
        if failures and not sent and not taken and posting.block != FALLBACK:
            more, sent, taken = self._deliver(posting, policy.fallback_channels, now)
            failures += more
        with self._lock:
            one.attempts += 1
            one.next_at = now + pause(one.attempts) if failures else None
            # Not for an alert that the outbox has by now: nothing would remove its incident from memory again.
            if (sent or not channels) and posting.cause.id in self._unrecorded:
                for key, since in ((posting.cause.opens, now), (posting.cause.ends, None)):
                    if key is not None:
                        self._troubles[key] = since
        if sent or one.attempts == 1:
            notes = [f"delivered to {name}, without the outbox" for name in sent]
            notes += [f"NOT delivered to {why}" for why in failures]
            self._write_log(one, notes or (alert_log.outcomes([]) if not channels else []), now)
        return (EnqueueResult.PENDING if sent or failures or not channels else EnqueueResult.KNOWN), failures

    def _deliver(
        self, posting: NewAlert, channels: Sequence[Channel], now: datetime
    ) -> tuple[list[str], list[str], list[str]]:
        """Return the failed channels with their reasons, those that took the alert, and those that had it already."""
        mine = [one for one in channels if self.record.claim(posting.cause.id, one.id, now)]
        failures: list[str] = []
        sent: list[str] = []
        for channel, one in zip(
            mine, deliver(posting.alert, [one.url for one in mine], posting.cause.type), strict=True
        ):
            if one.delivered:
                self.record.record_sent(posting.cause.id, channel.id, now)
                sent.append(channel.name)
            elif one.is_open:
                self.record.record_perhaps_sent(posting.cause.id, channel.id, now)
                failures.append(f"{channel.name}, perhaps delivered: {one.failure}")
            else:
                self.record.release(posting.cause.id, channel.id)
                failures.append(f"{channel.name}: {one.failure}")
        return failures, sent, [one.name for one in channels if one not in mine]

    def _is_over(self, cause: AlertMetadata) -> bool:
        """Return whether the end of an incident needs no alert: its beginning was not sent, or its end was already."""
        if cause.ends is None:
            return False
        if cause.ends in self._troubles:
            return self._troubles[cause.ends] is None
        try:
            with Outbox(self.outbox) as outbox:
                return not outbox.rows("SELECT 1 FROM troubles WHERE key = ?", (cause.ends,))
        except (OutboxError, sqlite3.Error):
            return False  # an extra alert is better than an incident that seems to go on

    def _may_send(self, posting: NewAlert, policy: Policy, now: datetime) -> bool:
        moments = self._sent_at.setdefault(posting.cause.group or posting.alert.subject, deque())
        while moments and not now - policy.storm.window < moments[0] <= now:
            moments.popleft()
        if len(moments) >= policy.storm.messages:
            return False
        moments.append(now)
        return True

    def _digests(self, policy: Policy, now: datetime) -> list[tuple[NewAlert, list[_Unrecorded]]]:
        held: dict[str, list[_Unrecorded]] = {}
        for one in self._unrecorded.values():
            if one.is_held and one.summed_up_by is None:
                held.setdefault(one.posting.cause.group or one.posting.alert.subject, []).append(one)
        made: list[tuple[NewAlert, list[_Unrecorded]]] = []
        for group, some in held.items():
            first = some[0].posting
            moments = self._sent_at.get(group, deque())
            if [moment for moment in moments if now - policy.storm.window < moment <= now]:
                continue
            gathered = [
                Gathered(one.cause.id, one.cause.kind, one.alert.subject, one.cause.tags, one.alert.body)
                for one in (held.posting for held in some)
            ]
            urls = [channel.url for channel in policy.channels(first.block, first.cause.all_tags)]
            text = digest(
                Gathering(group, GatherReason.STORM, some[0].at, now),
                gathered,
                lambda alert, urls=urls: takes_whole(alert, urls),
            )
            identity = f"digest/direct/{group}/{stamp(some[0].at)}"[:500]
            cause = AlertMetadata(id=identity, kind="digest", tags=first.cause.tags)
            made.append((NewAlert(text, cause, first.block or ALERTS), some))
        return made

    def _keep(self, one: _Unrecorded) -> None:
        self._unrecorded[one.posting.cause.id] = one
        while len(self._unrecorded) > UNRECORDED_LIMIT:
            self._unrecorded.popitem(last=False)

    def _write_log(self, one: _Unrecorded, notes: Sequence[str], now: datetime) -> None:
        if self.log is not None and notes:
            alert_log.append_or_warn(self.log, alert_log.entry(one.posting.alert, notes, now))


@lru_cache(maxsize=16)
def direct_sender(outbox: Path, log: Path | None) -> DirectSender:
    """Return this process's sender for an outbox."""
    return DirectSender(outbox, log, sent_record(outbox))
