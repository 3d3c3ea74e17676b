"""The Prefect notification block that delivers to any list of Apprise URLs and keeps a local log.

Prefect's own Apprise blocks know one service each and no log, and make one attempt. This module is named as an entry
point of the group `prefect.collections`, which is how the API server, in whose process alerts are sent, finds the
class.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from prefect._internal.compatibility.async_dispatch import async_dispatch
from prefect.blocks.abstract import NotificationBlock, NotificationError
from pydantic import ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

from automations import ringing
from automations.delivery import log as alert_log
from automations.delivery.alert import Alert
from automations.delivery.channels import read_routes
from automations.delivery.direct import direct_sender
from automations.delivery.enqueue import Posting
from automations.delivery.models import NotifyType, split
from automations.delivery.outbox import OutboxError
from automations.delivery.policy import ALERTS, FALLBACK, Policy
from automations.delivery.quiet_hours import QuietHours
from automations.delivery.rate_limit import StormLimit
from automations.delivery.send import Delivery, deliver, misunderstood

_READERS: dict[str, Callable[[str], object]] = {
    "routes": read_routes,
    "storm": StormLimit.parse,
    "silence": QuietHours.parse,
}


class AppriseAlerts(NotificationBlock):
    """Sends alerts to any of the services of Apprise, and writes each to a local log.

    Validation fails with the position of every URL that Apprise does not understand, and if there is
    neither a URL nor a log.
    """

    # A validation error would show the input otherwise, and the server puts that error into an event.
    model_config = ConfigDict(hide_input_in_errors=True)

    _block_type_name = "Apprise Alerts"
    _block_type_slug = "apprise-alerts"
    _description = "Sends alerts to any of the services of Apprise, and writes each to a local log."

    # One secret and not a list of them: Prefect's API hides a list of secrets as one string, which its page
    # then cannot edit.
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
        description="At most so many messages of one deployment or inbox in a window, then a digest.",
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

    @async_dispatch(anotify)
    def notify(self, body: str, subject: str | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Send the alert to every URL and log it; awaitable where an event loop runs.

        With an outbox the alert is written there, once for its cause, and the sensor's bell delivers it; while no
        bell is at work the block delivers itself, and what fails waits for the bell.

        Raises NotificationError, naming each URL that failed by its position and service, even if others
        took the alert: an alert that did not reach everybody has not been delivered. Prefect records it as
        `prefect.automation.action.failed`. Any other exception would make Prefect run the action again, and
        so send the alert twice to those who have it.
        """
        self._ring(body, subject)

    def _ring(self, body: str, subject: str | None) -> None:
        text, cause = split(body)
        alert = Alert.of(subject, text)
        failures: list[str] | None = None
        if self.outbox is not None and self._block_document_name in {ALERTS, FALLBACK}:
            posting = Posting(alert, cause, self._block_document_name)
            try:
                failures = ringing.ring(Path(self.outbox), self._policy(), posting, self._log_path)
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
        urls, is_fallback = self.urls.get_secret_value(), self._block_document_name == FALLBACK
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
