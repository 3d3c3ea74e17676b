"""What the environment and the `.env` file say about where alerts go."""

import os
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from automations.problem import ConfigurationError, Problem

PROJECT_ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """Each field is an environment variable of the same name in capitals; the environment wins over `.env`.

    A relative STATE_DIR is taken from the project's root. NOTIFY_URLS and NOTIFY_FALLBACK_URLS are Apprise URLs,
    separated by spaces; the latter are used while the former do not take an alert.
    """

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, frozen=True, hide_input_in_errors=True)

    state_dir: Path = Path("data")
    notify_urls: SecretStr = Field(default=SecretStr(""))
    notify_fallback_urls: SecretStr = Field(default=SecretStr(""))

    @field_validator("state_dir")
    @classmethod
    def _from_project_root(cls, path: Path) -> Path:
        return (PROJECT_ROOT / path.expanduser()).resolve()

    @property
    def alert_log(self) -> Path:
        """The local log of alerts."""
        return self.state_dir / "logs" / "alerts.log"

    @property
    def outbox(self) -> Path:
        """The alerts that are to be delivered, and those that were: an SQLite database."""
        return self.state_dir / "alerts.db"


def read_settings() -> Settings:
    """Read the settings; the file is ENV_FILE, or `.env` at the root. Raises ConfigurationError."""
    env_file = Path(os.environ.get("ENV_FILE") or PROJECT_ROOT / ".env")
    try:
        return Settings(_env_file=env_file)  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        raise ConfigurationError(
            Problem(str(mistake["loc"][0]).upper(), mistake["msg"]) for mistake in error.errors()
        ) from None
