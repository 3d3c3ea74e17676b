"""Settings of the profile: everything on this machine, or several machines that share PostgreSQL and Redis."""

import platform
import re
from enum import StrEnum
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from sensors.access.origins import is_loopback

POSTGRESQL = ("postgresql", "postgres", "postgresql+asyncpg")
REDIS = ("redis", "rediss")


EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 # not bound here


class Auth(StrEnum):
    """Whether the API asks for credentials."""

    ON = "on"
    OFF = "off"


class Profile(StrEnum):
    """Where Prefect keeps its state, and how many processes it has."""

    EMBEDDED = "embedded"
    """SQLite, and a message broker in the memory of the only server; nothing else has to be installed."""
    SCALE = "scale"
    """PostgreSQL and Redis; any number of servers, service processes and workers, on any machines."""


def host_name(host: str) -> str:
    """Return an IP address or host name unchanged; raises PydanticCustomError for anything else."""
    if not re.fullmatch(r"[A-Za-z0-9.:-]+", host):
        raise PydanticCustomError("host", "expected an address or a host's name such as 10.0.0.5")
    return host


class ProfileSettings(BaseSettings):
    """The profile, and which of its processes run on this machine; with `embedded` only `profile` has an effect."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, frozen=True, hide_input_in_errors=True)

    profile: Profile = Profile.EMBEDDED
    """`embedded`: everything on this machine; `scale`: PostgreSQL, Redis and any number of machines (scale.md)."""
    api_servers: int = Field(default=2, ge=0, le=32)
    """How many API servers run on this machine, behind API_PORT; 0: the API is elsewhere, at PREFECT_API_URL."""
    api_server_port: int | None = Field(default=None, ge=1, le=65503)
    """The port of the first API server, the next ones follow; not set: 100 above API_PORT."""
    service_processes: int = Field(default=2, ge=0, le=32)
    """How many processes with Prefect's background services run on this machine."""
    workers: int = Field(default=2, ge=0, le=64)
    """How many workers run on this machine."""
    sensors: int = Field(default=1, ge=0, le=1)
    """Whether a sensor runs on this machine. Sensors on other machines have state folders of their own."""
    node_name: str = Field(default="", pattern=r"^[A-Za-z0-9.-]{0,60}$")
    """The name that distinguishes this machine's workers from others'; empty: the machine's host name."""

    database_url: SecretStr = Field(default=SecretStr(""), validate_default=True)
    """Prefect's database: postgresql://user:password@host:5432/prefect; servers and service processes need it."""
    redis_url: SecretStr = Field(default=SecretStr(""), validate_default=True)
    """Prefect's broker, cache, ordering and leases: redis://:password@host:6379/0; servers and service processes need
    it."""

    @field_validator("database_url", "redis_url")
    @classmethod
    def _is_an_address(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        is_needed = info.data.get("api_servers") or info.data.get("service_processes")
        if info.data.get("profile") is not Profile.SCALE or not (is_needed or url.get_secret_value()):
            return url
        schemes = POSTGRESQL if info.field_name == "database_url" else REDIS
        if problem := wrong_address(url.get_secret_value(), schemes):
            raise PydanticCustomError("address", "{problem}", {"problem": problem})
        return url

    @property
    def is_scale(self) -> bool:
        """Whether this machine has the scale profile."""
        return self.profile is Profile.SCALE

    @property
    def has_server(self) -> bool:
        """Whether the API is served on this machine."""
        return not self.is_scale or self.api_servers > 0

    @property
    def is_main(self) -> bool:
        """Whether this machine runs Prefect's services; it also deploys, applies automations and has the outbox."""
        return not self.is_scale or self.service_processes > 0

    @property
    def has_balancer(self) -> bool:
        """Whether several API servers of this machine share one address."""
        return self.is_scale and self.api_servers > 1

    @property
    def node(self) -> str:
        """The name of this machine within the installation; it stays the same after a restart."""
        return self.node_name or re.sub(r"[^A-Za-z0-9.-]", "-", platform.node()) or "localhost"


def beyond_loopback_needs_auth(host: str, info: ValidationInfo, what: str) -> str:
    """Return a listening address unchanged; raises PydanticCustomError if AUTH=off and it is not the loopback."""
    if not is_loopback(host) and info.data.get("auth") is Auth.OFF:
        raise PydanticCustomError(
            "open", "expected the loopback, 127.0.0.1, with AUTH=off: anyone could {what} there", {"what": what}
        )
    return host


def wrong_address(url: str, schemes: tuple[str, ...]) -> str | None:
    """Return what is wrong with a URL, without its password; None if it can be used.

    >>> wrong_address("mysql://me:secret@db/prefect", ("postgresql",))
    'expected postgresql://user:password@host/..., got mysql://me:***@db/prefect'
    """
    wanted = f"expected {schemes[0]}://user:password@host/..."
    if not url:
        return f"{wanted}, got nothing; PROFILE=scale needs it"
    parts = _parts(url)
    if parts is None or parts.scheme not in schemes or not parts.hostname:
        return f"{wanted}, got {masked(url)}"
    return None


def masked(url: str) -> str:
    """Return a URL with its password and the values of its query masked, without fragment.

    >>> masked("redis://:secret@cache:6379/0")
    'redis://:***@cache:6379/0'
    """
    parts = _parts(url)
    if parts is None or not parts.scheme or not parts.hostname:
        return "something else"
    account, _, place = parts.netloc.rpartition("@")
    user, colon, _ = account.partition(":")
    shown = f"{user}{':***' if colon else ''}@{place}" if account else place
    query = urlencode([(name, "***") for name, _ in parse_qsl(parts.query)], safe="*")
    return parts._replace(netloc=shown, query=query, fragment="").geturl()


def _parts(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # such as an unclosed bracket
        return None
