"""Notification block that sends alerts to any number of Apprise URLs and writes each alert to a local log.

Prefect's own Apprise blocks support one service each, keep no log and make a single attempt. The entry point group
`prefect.collections` names this module, so that the API server, in whose process automations send alerts, can load the
class.

The block writes an alert to the outbox, and the sensor (`delivery.dispatcher.Dispatcher`) delivers it. While no
dispatcher is running, the block delivers the alert itself.
"""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import psutil
from prefect.blocks.abstract import NotificationBlock, NotificationError
from pydantic import ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

from automations.delivery import deliver as deliveries
from automations.delivery import digests
from automations.delivery import log as alert_log
from automations.delivery.channels import ALERTS, FALLBACK, Channel, Policy, QuietHours, read_routes
from automations.delivery.deliver import drain, send
from automations.delivery.digests import release_overdue
from automations.delivery.direct import direct_sender
from automations.delivery.enqueue import EnqueueResult, NewAlert, is_pending, post, release_from_silence
from automations.delivery.models import Alert, NotifyType, split
from automations.delivery.outbox import Outbox, OutboxError
from automations.delivery.rate_limit import StormLimit
from automations.delivery.send import Delivery, deliver, misunderstood

_READERS: dict[str, Callable[[str], object]] = {
    "routes": read_routes,
    "storm": StormLimit.parse,
    "silence": QuietHours.parse,
}


class AppriseAlerts(NotificationBlock):
    """Sends alerts to any service that Apprise supports, and writes each alert to a local log.

    Validation fails with the position of every URL that Apprise does not understand, and if there is
    neither a URL nor a log file.
    """

    # Otherwise a validation error would contain the input, and the server puts that error into an event.
    model_config = ConfigDict(hide_input_in_errors=True)

    _block_type_name = "Apprise Alerts"
    _block_type_slug = "apprise-alerts"
    _description = "Sends alerts to any of the services of Apprise, and writes each to a local log."

    # One secret string, not a list: Prefect's API masks a list of secrets as a single string, which its UI
    # cannot edit.
    urls: SecretStr = Field(
        default=SecretStr(""),
        title="Apprise URLs",
        description="Where alerts go: Apprise URLs, separated by spaces or line breaks. "
        "See https://github.com/caronc/apprise/wiki",
    )
    routes: SecretStr = Field(
        default=SecretStr(""),
        title="Routes by tag",
        description="Where alerts with a tag go instead: TAG=URL, separated by spaces or line breaks, "
        "such as env:prod=slack://tokenA/tokenB/tokenC",
    )
    log_file: str | None = Field(
        default=None,
        title="Log file",
        description="Absolute path of a .log file on the server's machine, to which every alert is appended.",
    )
    outbox: str | None = Field(
        default=None,
        title="Outbox",
        description="Absolute path of a .db file on the server's machine, from which the sensor's bell delivers, "
        "again and again until the alert got through. For the blocks `alerts` and `fallback`, whose URLs the bell "
        "knows; all others try each alert once.",
    )
    storm: str = Field(
        default="5/10m",
        title="Storm limit",
        description="At most so many messages of one deployment and cause of its runs in a window, then a digest.",
    )
    silence: str = Field(
        default="",
        title="Hours of silence",
        description="When alerts are held back: 22:00-07:00, Sat-Sun 00:00-24:00 Europe/Berlin",
    )
    silence_except: str = Field(
        default="", title="Not silenced", description="Tags of alerts that are never held back, separated by spaces."
    )
    notify_type: NotifyType = Field(
        default="failure", description="How services that colour messages show those that say nothing of it themselves."
    )

    @field_validator("urls")
    @classmethod
    def _urls_are_understood(cls, urls: SecretStr) -> SecretStr:
        if problems := misunderstood(urls.get_secret_value().split()):
            raise ValueError("; ".join(problems))
        return urls

    @field_validator("routes", "storm", "silence")
    @classmethod
    def _can_be_read(cls, value: str | SecretStr, info: ValidationInfo) -> str | SecretStr:
        _READERS[info.field_name or ""](value.get_secret_value() if isinstance(value, SecretStr) else value)
        return value

    @field_validator("log_file", "outbox")
    @classmethod
    def _is_a_path_of_its_kind(cls, path: str | None, info: ValidationInfo) -> str | None:
        suffix = ".log" if info.field_name == "log_file" else ".db"
        if path is not None and not (Path(path).is_absolute() and path.endswith(suffix)):
            raise ValueError(f"expected an absolute path that ends in {suffix}")
        return path

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if not self.urls.get_secret_value().split() and self.log_file is None:
            raise ValueError("expected at least one URL or a log file, otherwise alerts would go nowhere")
        return self

    async def anotify(self, body: str, subject: str | None = None) -> None:
        """Send the alert without blocking the event loop; raises NotificationError as `notify` does."""
        await asyncio.to_thread(self._ring, body, subject)

    def notify(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, body: str, subject: str | None = None
    ) -> Coroutine[Any, Any, None] | None:
        """Send the alert to every URL and log it; where an event loop runs, return a coroutine that does.

        With an outbox the alert is written there once per cause, and the sensor's dispatcher delivers it. While no
        dispatcher is running, the block delivers the alert itself, and the dispatcher retries failed deliveries later.

        Raises NotificationError, naming each URL that failed by its position and service, even if other URLs
        took the alert: an alert that did not reach every URL has not been delivered. Prefect records the error as
        `prefect.automation.action.failed`. Any other exception would make Prefect run the action again, which
        would send the alert twice to the URLs that took it.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._ring(body, subject)
            return None
        return self.anotify(body, subject)

    @property
    def _name(self) -> str | None:
        """The name of the block's document; a block without one delivers each alert once, without the outbox."""
        return getattr(self, "_block_document_name", None)

    def _ring(self, body: str, subject: str | None) -> None:
        text, cause = split(body)
        alert = Alert.of(subject, text)
        failures: list[str] | None = None
        if self.outbox is not None and (name := self._name) in {ALERTS, FALLBACK}:
            posting = NewAlert(alert, cause, name)
            try:
                failures = post_and_deliver(Path(self.outbox), self._policy(), posting, self._log_path)
            except (OutboxError, sqlite3.Error) as error:
                self.logger.warning("the alert is sent without the outbox: %s", error)
                sender = direct_sender(Path(self.outbox), self._log_path)
                failures = sender.send(posting, self._policy(), datetime.now(UTC))[1]
        if failures is None:
            failures = self._ring_once(alert, cause.type if cause.kind != "alert" else self.notify_type)
        if failures:
            raise NotificationError("Alert not delivered to " + "; ".join(failures))

    def _ring_once(self, alert: Alert, notify_type: NotifyType) -> list[str]:
        deliveries = deliver(alert, self.urls.get_secret_value().split(), notify_type)
        failures = [f"URL {d.channel}: {d.failure}" for d in deliveries if not d.delivered]
        unwritten = self._write_log(alert, deliveries)
        if unwritten and not deliveries:
            failures.append(unwritten)
        elif unwritten:
            self.logger.warning(unwritten)
        return failures

    @property
    def _log_path(self) -> Path | None:
        return None if self.log_file is None else Path(self.log_file)

    def _policy(self) -> Policy:
        urls, is_fallback = self.urls.get_secret_value(), self._name == FALLBACK
        return Policy.read(
            urls="" if is_fallback else urls,
            fallback_urls=urls if is_fallback else "",
            routes=self.routes.get_secret_value(),
            storm=self.storm,
            silence=self.silence,
            silence_except=self.silence_except,
        )

    def _write_log(self, alert: Alert, deliveries: list[Delivery]) -> str | None:
        if self._log_path is None:
            return None
        try:
            alert_log.append(self._log_path, alert_log.entry(alert, alert_log.outcomes(deliveries), datetime.now(UTC)))
        except OSError as error:
            return f"the alert log {self.log_file}: {error.strerror or error}"
        return None


logger = logging.getLogger(__name__)

START_GRACE = timedelta(minutes=3)
"""Sensors and workers report to a newly started server within this time, even on a slow machine."""
MOST_WAIT_SECONDS = 3600.0
DRAIN_SECONDS = 15.0
"""How long one action delivers alerts that a dead dispatcher left; the server's other actions wait meanwhile."""


def post_and_deliver(path: Path, policy: Policy, posting: NewAlert, log: Path | None) -> list[str]:
    """Write an alert to the outbox at `path`, and deliver it here if no dispatcher is running.

    Alerts that a dead dispatcher left are then delivered as well. Returns one line for each channel that did not take
    the alert. Raises OutboxError or sqlite3.Error if the alert could not be written to the outbox; once it is written,
    nothing is raised, so that the caller does not send it a second time.
    """
    now = datetime.now(UTC)
    posting = with_grace(posting, now, server_started_at())
    sender = direct_sender(path, log)
    with Outbox(path) as outbox:
        sender.record.prepare()
        sender.record_sent(outbox, policy, now)
        posted = post(outbox, posting, policy, now)
        alert_log.record(log, posting, posted, policy, now)
        if outbox.has_dispatcher(now):
            return []
    if posted is EnqueueResult.WAITING:
        _ring_later(path, policy, posting, log)
        return []
    return _ring_without_bell(path, policy, posting, log)


def _ring_without_bell(path: Path, policy: Policy, posting: NewAlert, log: Path | None) -> list[str]:
    now = datetime.now(UTC)
    failures: list[str] = []
    try:
        if _process_outbox(path, posting, policy, log, now):
            channels = policy.channels(posting.block, posting.cause.all_tags)
            failures = _deliver(path, posting.cause.id, channels, log)
        _drain(path, list(policy.all_channels.values()), log)
    except (OutboxError, sqlite3.Error) as error:
        failures.append(f"the outbox: {error}; the sensor delivers it")
    return failures


def with_grace(posting: NewAlert, now: datetime, started_at: datetime) -> NewAlert:
    """Return the alert with a longer wait if an event may make it unnecessary and the server has just started.

    A server that was down has received no events, and services that start together with it need time to report.
    """
    unless = posting.cause.unless
    if unless is None:
        return posting
    wait = max(unless.wait_seconds, min((started_at + START_GRACE - now).total_seconds(), MOST_WAIT_SECONDS))
    waiting = unless.model_copy(update={"wait_seconds": wait})
    return replace(posting, cause=posting.cause.model_copy(update={"unless": waiting}))


def server_started_at() -> datetime:
    """Return when this process, the server, was started."""
    return datetime.fromtimestamp(psutil.Process().create_time(), UTC)


def _ring_later(path: Path, policy: Policy, posting: NewAlert, log: Path | None) -> None:
    """Send a waiting alert when its wait is over, unless a dispatcher that can check for the event is running by then.

    This happens in a thread, since the server's other actions wait for this one. If the server dies meanwhile, the
    dispatcher or the next action that sends an alert delivers it.
    """
    unless = posting.cause.unless
    timer = threading.Timer(unless.wait_seconds + 1 if unless else 0, _ring_if_no_bell, (path, policy, posting, log))
    timer.daemon = True
    timer.start()


def _ring_if_no_bell(path: Path, policy: Policy, posting: NewAlert, log: Path | None) -> None:
    try:
        with Outbox(path) as outbox:
            has_dispatcher = outbox.has_dispatcher(datetime.now(UTC))
        failures = [] if has_dispatcher else _ring_without_bell(path, policy, posting, log)
    except (OutboxError, sqlite3.Error) as error:
        failures = [f"the outbox: {error}"]
    if failures:
        logger.warning("an alert that has waited is not delivered: %s", "; ".join(failures))


def _process_outbox(path: Path, posting: NewAlert, policy: Policy, log: Path | None, now: datetime) -> bool:
    """Do the dispatcher's periodic work: release waiting alerts, send digests. Return whether this alert is pending."""
    with Outbox(path) as outbox:
        channels = policy.channels(posting.block, posting.cause.all_tags)
        release_from_silence(outbox, posting.cause.id, channels, now)
        if posting.block == ALERTS:  # the fallback block does not know the channels of other alerts
            release_overdue(outbox, policy, now, timedelta(0))
            for message in digests.sum_up_due(outbox, policy, now):
                alert_log.record(log, message, EnqueueResult.PENDING, policy, now)
        return is_pending(outbox, posting.cause.id)


def _drain(path: Path, channels: Sequence[Channel], log: Path | None) -> None:
    until = time.monotonic() + DRAIN_SECONDS
    with ThreadPoolExecutor(max_workers=max(1, len(channels)), thread_name_prefix="alert") as threads:
        sending = [threads.submit(drain, path, channel, log, lambda: time.monotonic() > until) for channel in channels]
    for channel, one in zip(channels, sending, strict=True):
        if error := one.exception():
            logger.warning("an earlier alert is not delivered to %s: %s: %s", channel.name, type(error).__name__, error)


def _deliver(path: Path, cause: str, channels: Sequence[Channel], log: Path | None) -> list[str]:
    if not channels:
        return []
    with ThreadPoolExecutor(max_workers=len(channels), thread_name_prefix="alert") as threads:
        sending = [threads.submit(_send, path, cause, channel, log) for channel in channels]
    failures = [one.result() for one in sending]
    return [f"URL {one.name}: {why}" for one, why in zip(channels, failures, strict=True) if why is not None]


def _send(path: Path, cause: str, channel: Channel, log: Path | None) -> str | None:
    with Outbox(path) as outbox:
        claimed = deliveries.claim(outbox, channel.id, datetime.now(UTC), cause)
        return send(outbox, claimed, channel, log) if claimed else None
