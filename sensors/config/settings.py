"""Settings of this installation, read from the environment and the `.env` file, and the paths and URLs they imply."""

import ipaddress
import os
import platform
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from sensors.access.accounts import Account, Role, account_of, parse_accounts
from sensors.access.origins import is_loopback
from sensors.files.file_systems import Minimum
from sensors.files.permissions import ARRIVALS, WAREHOUSE, group_id
from sensors.runtime.dead_mans_switch import masked_address, wrong_heartbeat_url
from sensors.runtime.json_logging import LogFormat

# Settings of the profile: everything on this machine, or several machines that share PostgreSQL and Redis.

POSTGRESQL = ("postgresql", "postgres", "postgresql+asyncpg")
REDIS = ("redis", "rediss")


EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 # not bound here


class Auth(StrEnum):
    """Whether the API asks for credentials."""

    ON = "on"
    OFF = "off"


class WarmStart(StrEnum):
    """Whether runs are forked, and Prefect's insides are changed for speed; see docs/prefect-internals.md."""

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


PROJECT_ROOT = Path(__file__).resolve().parents[2]
_SITE = r"^(https?://[^/\s@?#]+/?)?$"


def _group(name: str) -> str:
    """Return a group's name unchanged; raises PydanticCustomError if this user cannot give files to the group."""
    try:
        if name:
            group_id(name)
    except ValueError as error:
        raise PydanticCustomError("group", "{problem}", {"problem": str(error)}) from None
    return name


class Settings(ProfileSettings):
    """The settings of one stack.

    Every field is an environment variable of the same name in capitals; the environment wins over the `.env` file. A
    relative STATE_DIR or INBOXES_FILE starts at the project's root, so that a command's working directory has no
    effect.
    """

    state_dir: Path = Path("data")
    """The folder of all state: files, ledger, warehouse, Prefect's database, logs."""
    api_port: int = Field(default=4200, ge=1, le=65535)
    """The port of Prefect's UI and API."""
    sensor_port: int = Field(default=4201, ge=1, le=65535)
    """The port of the drop page, and of the sensor's health checks."""
    auth: Auth = Auth.ON
    """`off`: the API and the drop page ask for no credentials; every program on this machine can run deployments."""
    api_host: Annotated[str, AfterValidator(host_name)] = "127.0.0.1"
    """The address that the API listens on. Only this machine reaches the loopback; any other address needs AUTH=on."""
    sensor_host: Annotated[str, AfterValidator(host_name)] = "127.0.0.1"
    """The address that the drop page listens on. Only this machine reaches the loopback; any other address needs
    AUTH=on."""
    trusted_proxies: str = ""
    """Addresses of reverse proxies, separated by spaces, whose X-Forwarded-For header is trusted for log-ins."""
    page_users: SecretStr = SecretStr("")
    """More users of the drop page, `role=user:password` separated by spaces; roles: look, drop, operate (page.md)."""
    inboxes_file: Path = Path("sensors/inboxes.yaml")
    """The file that defines which folders are watched, and how; its rules are listed below."""
    notify_urls: str = Field(default="", repr=False)
    """Apprise URLs of the alert channels, separated by spaces; without any, alerts are only in `logs/alerts.log`."""
    prefect_api_url: str = Field(default="", validate_default=True)
    """The API of another machine, with API_SERVERS=0; empty: this stack's own."""
    prefect_api_auth_string: SecretStr = SecretStr("")
    """The credentials of the drop page and the API, `user:password`; the first `just up` generates them into `.env`."""
    warehouse_url: SecretStr = SecretStr("")
    """The URL of the warehouse; the flows validate it, here it is only displayed."""
    warehouse_readers: Annotated[str, AfterValidator(_group)] = ""
    """The group whose members may read the DuckDB file; the flows set the file's permissions as well."""
    arrivals_readers: Annotated[str, AfterValidator(_group)] = ""
    """The group whose members may read the arrivals, such as workers that run as another user; empty: no one."""
    log_format: LogFormat = LogFormat.TEXT
    """The format of the sensor's log: `text`, or `json` for log collectors."""
    page_url: str = Field(default="", pattern=_SITE)
    """The public URL of Prefect's UI and API, such as that of a TLS proxy; empty: made from API_HOST and API_PORT."""
    drop_page_url: str = Field(default="", pattern=_SITE)
    """The public URL of the drop page, such as that of a TLS proxy; empty: made from SENSOR_HOST and SENSOR_PORT."""
    upload_token: SecretStr = SecretStr("")
    """A token that allows scripts to upload files, and nothing else: `Authorization: Bearer TOKEN`; empty: no token."""
    max_upload_bytes: int = Field(default=2 * 2**30, ge=1)
    """A larger file cannot be uploaded; it can be copied into the inbox."""
    disk_free_min: str = ""
    """The space that has to be free on each disk, such as `5%` or `2GB`: below it an alert is sent, and below a quarter
    of it files wait in their inboxes; empty: 5 % of the disk, at most 2 GiB."""

    @field_validator("state_dir", "inboxes_file")
    @classmethod
    def _from_project_root(cls, path: Path) -> Path:
        return (PROJECT_ROOT / path.expanduser()).resolve()

    warm_start: WarmStart = WarmStart.ON
    """`off`: everything runs Prefect's ordinary way, with its own worker and commands; a run starts seconds later
    (speed.md)."""
    heartbeat_url: SecretStr = SecretStr("")
    """A URL outside this machine that is called each minute while everything is healthy, such as one of
    healthchecks.io, Uptime Kuma, Cronitor or Better Stack: when the calls stop, that service sends an alert."""
    heartbeat_fail_url: SecretStr = SecretStr("")
    """A URL that is called each minute while something is unhealthy, if the service has one; empty: no such calls."""

    @field_validator("heartbeat_url", "heartbeat_fail_url")
    @classmethod
    def _can_be_called(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value() and (wrong := wrong_heartbeat_url(url.get_secret_value())):
            raise PydanticCustomError("address", "{wrong}", {"wrong": wrong})
        return url

    @field_validator("disk_free_min")
    @classmethod
    def _is_a_size(cls, text: str) -> str:
        try:
            Minimum.parse(text)
        except ValueError as error:
            raise PydanticCustomError("size", "{problem}", {"problem": str(error)}) from None
        return text

    @field_validator("prefect_api_url")
    @classmethod
    def _is_known_where_no_server_is(cls, url: str, info: ValidationInfo) -> str:
        if info.data.get("profile") is Profile.SCALE and info.data.get("api_servers") == 0 and not url:
            raise PydanticCustomError(
                "elsewhere", "expected the API's address such as http://10.0.0.5:4200/api, as API_SERVERS is 0"
            )
        return url.rstrip("/")

    @field_validator("api_host")
    @classmethod
    def _asks_for_credentials_to_run_deployments(cls, host: str, info: ValidationInfo) -> str:
        return beyond_loopback_needs_auth(host, info, "run deployments")

    @field_validator("sensor_host")
    @classmethod
    def _asks_for_credentials_beyond_the_loopback(cls, host: str, info: ValidationInfo) -> str:
        return beyond_loopback_needs_auth(host, info, "upload files")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, text: str) -> str:
        for one in text.split():
            try:
                ipaddress.ip_network(one, strict=False)
            except ValueError:
                raise PydanticCustomError("proxies", "expected addresses or networks such as 10.0.0.5") from None
        return text

    @field_validator("page_users")
    @classmethod
    def _are_accounts(cls, text: SecretStr) -> SecretStr:
        try:
            parse_accounts(text.get_secret_value())
        except ValueError as error:
            raise PydanticCustomError("accounts", "{problem}", {"problem": str(error)}) from None
        return text

    @property
    def page_accounts(self) -> tuple[Account, ...]:
        """The accounts of the drop page; the account of Prefect's API has every role."""
        own = (account_of(self.auth_string, Role.OPERATE),) if self.auth_string else ()
        return (*own, *parse_accounts(self.page_users.get_secret_value()))

    @property
    def api_url(self) -> str:
        """The URL of this stack's Prefect API; with API_SERVERS=0 PREFECT_API_URL."""
        return f"{_address(reached_at(self.api_host), self.api_port)}/api" if self.has_server else self.prefect_api_url

    @property
    def api_origins(self) -> tuple[str, ...]:
        """The origins under which a browser may open Prefect's UI, in lower case."""
        local = [_address(host, self.api_port) for host in ("127.0.0.1", "localhost", "::1")]
        found = [self.prefect_page, self.api_url.removesuffix("/api"), *local]
        return tuple(dict.fromkeys(one.rstrip("/").lower() for one in found))

    @property
    def is_warm(self) -> bool:
        """Whether runs are forked, and Prefect's insides are changed for speed."""
        return self.warm_start is WarmStart.ON

    @property
    def prefect_page(self) -> str:
        """The URL of Prefect's UI without trailing slash, as other machines know it if they can reach it."""
        if self.page_url:
            return self.page_url.rstrip("/")
        if not self.has_server or is_loopback(self.api_host):
            return self.api_url.removesuffix("/api")
        return _address(self.node if self.api_host in EVERYWHERE else self.api_host, self.api_port)

    @property
    def drop_page(self) -> str:
        """The URL of the drop page, without trailing slash."""
        return self.drop_page_url.rstrip("/") or self.sensor_url

    @property
    def sensor_url(self) -> str:
        """The URL at which this machine reaches its sensor."""
        return _address(reached_at(self.sensor_host), self.sensor_port)

    @property
    def warehouse(self) -> str:
        """The masked URL or the path of the warehouse, for display."""
        url = self.warehouse_url.get_secret_value()
        return (masked(url) if "://" in url else url) or str(self.state_dir / "warehouse.duckdb")

    @property
    def api_server_ports(self) -> tuple[int, ...]:
        """The ports of this machine's API servers: API_PORT, or one port each behind a balancer on API_PORT."""
        if not self.has_balancer:
            return (self.api_port,) if self.has_server else ()
        first = self.api_server_port or self.api_port + 100
        return tuple(range(first, first + self.api_servers))

    @property
    def auth_string(self) -> str | None:
        """The API's credentials as `user:password`; None with AUTH=off, or if none were generated yet."""
        return (self.prefect_api_auth_string.get_secret_value() or None) if self.auth is Auth.ON else None

    @property
    def readers(self) -> dict[str, int]:
        """The ids of the groups that may read parts of the state folder, by part."""
        names = {WAREHOUSE: self.warehouse_readers, ARRIVALS: self.arrivals_readers}
        return {part: group_id(name) for part, name in names.items() if name}

    @property
    def heartbeat_urls(self) -> dict[str, str]:
        """The masked URLs of the dead man's switch, by the names of their settings."""
        urls = {"HEARTBEAT_URL": self.heartbeat_url, "HEARTBEAT_FAIL_URL": self.heartbeat_fail_url}
        return {name: masked_address(url.get_secret_value()) for name, url in urls.items() if url.get_secret_value()}

    @property
    def disk_folders(self) -> dict[str, Path]:
        """The folders of this installation whose size grows, by their content."""
        url = self.warehouse_url.get_secret_value()
        warehouse = Path(url) if url and "://" not in url else self.state_dir / "warehouse.duckdb"
        folders = {
            "the ledger": self.state_dir,
            "arrivals": self.arrivals_dir,
            "logs": self.logs_dir,
            "temporary files": self.temporary_dir,
        }
        if not url or "://" not in url:
            folders["the warehouse"] = warehouse.parent
        if not self.is_scale:
            folders["Prefect's database"] = self.prefect_home
        return folders

    @property
    def inbox_dir(self) -> Path:
        """The folder that holds one folder for each inbox."""
        return self.state_dir / "inbox"

    @property
    def arrivals_dir(self) -> Path:
        """The folder in which arrivals keep their permanent paths: `<date>/<arrival id>/<name>`."""
        return self.state_dir / "arrivals"

    @property
    def failed_dir(self) -> Path:
        """The folder of links to files that need attention."""
        return self.state_dir / "failed"

    @property
    def ledger_path(self) -> Path:
        """The sensor's SQLite database."""
        return self.state_dir / "ledger.db"

    @property
    def prefect_home(self) -> Path:
        """Prefect's own folder, its database included."""
        return self.state_dir / "prefect"

    @property
    def temporary_dir(self) -> Path:
        """The folder for temporary files of the stack's processes and flow runs; emptied at each start."""
        return self.state_dir / "tmp"

    @property
    def logs_dir(self) -> Path:
        """The folder of the services' logs, `alerts.log` and `audit.log`."""
        return self.state_dir / "logs"


def reached_at(host: str) -> str:
    """Return the address at which this machine reaches a server that listens on `host`.

    >>> [reached_at(host) for host in ("0.0.0.0", "::", "127.0.0.2", "etl-1")]
    ['127.0.0.1', '::1', '127.0.0.2', 'etl-1']
    """
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 # not bound here


def _address(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def env_file() -> Path:
    """Return the path of the `.env` file: ENV_FILE, or `.env` at the project's root."""
    return Path(os.environ.get("ENV_FILE") or PROJECT_ROOT / ".env")


def read_settings() -> Settings:
    """Read the settings. Raises pydantic.ValidationError that lists every invalid value."""
    return Settings(_env_file=env_file())  # pyright: ignore[reportCallIssue]
