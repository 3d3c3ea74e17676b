"""Alert settings from the environment and the `.env` file."""

import os
from collections.abc import Callable
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from automations.delivery.channels import Policy, QuietHours, read_routes
from automations.delivery.rate_limit import StormLimit
from automations.delivery.send import misunderstood
from automations.errors import ConfigurationError, Problem

_READERS: dict[str, Callable[[str], object]] = {
    "notify_routes": read_routes,
    "notify_storm": StormLimit.parse,
    "notify_silence": QuietHours.parse,
}

PROJECT_ROOT = Path(__file__).resolve().parent.parent


class Addresses(BaseSettings):
    """The URLs alone, not validated, so that an error in another setting does not hide problems with the URLs."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, frozen=True, hide_input_in_errors=True)

    notify_urls: SecretStr = Field(default=SecretStr(""))
    """Where alerts go: Apprise URLs, separated by spaces; without any, only `logs/alerts.log` has them."""
    notify_fallback_urls: SecretStr = Field(default=SecretStr(""))
    """Additional URLs for alerts that were not delivered for half a minute."""

    def problems(self) -> list[Problem]:
        """Return why Apprise does not understand some of the URLs."""
        lists = {"NOTIFY_URLS": self.notify_urls, "NOTIFY_FALLBACK_URLS": self.notify_fallback_urls}
        return [
            Problem(name, what)
            for name, urls in lists.items()
            for what in misunderstood(urls.get_secret_value().split())
        ]


class AlertSettings(Addresses):
    """Each field is an environment variable of the same name in capitals; the environment takes precedence over `.env`.

    A relative STATE_DIR is resolved from the project's root. NOTIFY_URLS and NOTIFY_FALLBACK_URLS are Apprise URLs,
    separated by spaces; the latter are used while the former do not take an alert.
    """

    state_dir: Path = Path("data")
    """The folder for all state."""
    notify_routes: SecretStr = Field(default=SecretStr(""))
    """Where alerts with a tag go instead: `tag=URL`, separated by spaces."""
    notify_storm: str = "5/10m"
    """How many alerts are sent individually per window, for each deployment and cause of its runs (an inbox, the
    schedule, by hand); the rest is summed up in digests."""
    notify_silence: str = ""
    """Quiet hours, in which alerts are held back, such as `22:00-07:00, Sat-Sun 00:00-24:00 Europe/Berlin`."""
    notify_silence_except: str = ""
    """The tags of alerts that are sent at any hour, separated by spaces."""
    server_silent_seconds: float = Field(default=90.0, ge=5, le=86400)
    """After how many seconds without an answer from the server an alert is sent."""
    run_stuck_seconds: float = Field(default=120.0, ge=35, le=86400)
    """After how many seconds without a heartbeat of a running flow an alert is sent; heartbeats come every 30 s."""
    sensor_trouble_seconds: float = Field(default=60.0, ge=1, le=86400)
    """How long a part of the sensor may fail, such as an inbox or the ledger, before an alert is sent."""

    @field_validator("state_dir")
    @classmethod
    def _from_project_root(cls, path: Path) -> Path:
        return (PROJECT_ROOT / path.expanduser()).resolve()

    @field_validator("notify_routes", "notify_storm", "notify_silence")
    @classmethod
    def _can_be_read(cls, value: str | SecretStr, info: ValidationInfo) -> str | SecretStr:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        _READERS[info.field_name or ""](text)
        return value

    @property
    def policy(self) -> Policy:
        """Alert routing, rate limits and quiet hours."""
        return Policy.read(
            urls=self.notify_urls.get_secret_value(),
            fallback_urls=self.notify_fallback_urls.get_secret_value(),
            routes=self.notify_routes.get_secret_value(),
            storm=self.notify_storm,
            silence=self.notify_silence,
            silence_except=self.notify_silence_except,
        )

    @property
    def alert_log(self) -> Path:
        return self.state_dir / "logs" / "alerts.log"

    @property
    def outbox(self) -> Path:
        """The SQLite database of alerts."""
        return self.state_dir / "alerts.db"


def read_settings() -> AlertSettings:
    """Read the settings from the environment and from ENV_FILE, or `.env` at the root. Raises ConfigurationError."""
    try:
        return AlertSettings(_env_file=_env_file())  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        raise ConfigurationError(
            Problem(str(mistake["loc"][0]).upper(), mistake["msg"].removeprefix("Value error, "))
            for mistake in error.errors()
        ) from None


def wrong_settings() -> list[Problem]:
    """Return everything that is wrong with the settings, without connecting to a server."""
    problems = Addresses(_env_file=_env_file()).problems()  # pyright: ignore[reportCallIssue]
    try:
        read_settings()
    except ConfigurationError as error:
        problems += error.problems
    return problems


def _env_file() -> Path:
    return Path(os.environ.get("ENV_FILE") or PROJECT_ROOT / ".env")
