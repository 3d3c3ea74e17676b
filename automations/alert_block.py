"""The Prefect notification block that delivers to any list of Apprise URLs and keeps a local log.

Prefect's own Apprise blocks know one service each and no log. This module is named as an entry point of the
group `prefect.collections`, which is how the API server, in whose process alerts are sent, finds the class.
"""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from prefect._internal.compatibility.async_dispatch import async_dispatch
from prefect.blocks.abstract import NotificationBlock, NotificationError
from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from automations.alerting import alert_log
from automations.alerting.alert import Alert
from automations.alerting.delivery import Delivery, NotifyType, deliver, misunderstood


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
    log_file: str | None = Field(
        default=None,
        title="Log file",
        description="Absolute path of a .log file on the server's machine, to which every alert is appended.",
    )
    notify_type: NotifyType = Field(default="failure", description="How services that colour messages show this one.")

    @field_validator("urls")
    @classmethod
    def _urls_are_understood(cls, urls: SecretStr) -> SecretStr:
        if problems := misunderstood(urls.get_secret_value().split()):
            raise ValueError("; ".join(problems))
        return urls

    @field_validator("log_file")
    @classmethod
    def _log_file_is_one(cls, path: str | None) -> str | None:
        if path is not None and not (Path(path).is_absolute() and path.endswith(".log")):
            raise ValueError("expected an absolute path that ends in .log")
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

        Raises NotificationError, naming each URL that failed by its position and service, even if others
        took the alert: an alert that did not reach everybody has not been delivered. Prefect records it as
        `prefect.automation.action.failed`. Any other exception would make Prefect run the action again, and
        so send the alert twice to those who have it.
        """
        self._ring(body, subject)

    def _ring(self, body: str, subject: str | None) -> None:
        alert = Alert.of(subject, body)
        deliveries = deliver(alert, self.urls.get_secret_value().split(), self.notify_type)
        failures = [f"URL {d.channel}: {d.failure}" for d in deliveries if not d.delivered]
        unwritten = self._write_log(alert, deliveries)
        if unwritten and not deliveries:
            failures.append(unwritten)
        elif unwritten:
            self.logger.warning(unwritten)
        if failures:
            raise NotificationError("Alert not delivered to " + "; ".join(failures))

    def _write_log(self, alert: Alert, deliveries: list[Delivery]) -> str | None:
        if self.log_file is None:
            return None
        try:
            alert_log.append(Path(self.log_file), alert_log.entry(alert, deliveries, datetime.now(UTC)))
        except OSError as error:
            return f"the alert log {self.log_file}: {error.strerror or error}"
        return None
