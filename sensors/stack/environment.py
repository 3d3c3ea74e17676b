"""Environment variables for the stack's processes and for commands that use its API: Prefect's settings, credentials.

Prefect's database URL is built here without SQLAlchemy, which takes 0.7 s to import.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from dotenv import dotenv_values

from sensors.config.settings import Auth, Settings, env_file, reached_at
from sensors.stack.processes import MARK
from sensors.stack.services import warm_socket

PLUGIN = "write-lock-first"
"""The name of sensors/stack/sqlite_begin_immediate.py in a database URL; pyproject.toml registers it."""


def database_url(prefect_home: Path) -> str:
    """Return the URL of the SQLite database in Prefect's home, with the plugin."""
    return f"sqlite+aiosqlite:///{prefect_home / 'prefect.db'}?plugin={PLUGIN}"


SERVER_SECRETS = (
    "DATABASE_URL",
    "REDIS_URL",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_REDIS_MESSAGING_URL",
    "PREFECT_SERVER_DOCKET_URL",
)
"""The variables that may contain the password of Prefect's database or of Redis."""

# asyncpg's name for libpq's `sslmode` is `ssl`.
_ASYNCPG = {"sslmode": "ssl"}


def scale_environment(settings: Settings) -> dict[str, str]:
    """Return Prefect's high-availability settings for the scale profile; empty with `embedded`.

    Source: Prefect's guide for self-hosted servers at scale (docs.prefect.io, "How to scale self-hosted Prefect").
    """
    if not settings.is_scale or not settings.database_url.get_secret_value():
        return {}
    redis = settings.redis_url.get_secret_value()
    return {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": asyncpg_url(settings.database_url.get_secret_value()),
        # The main machine migrates the database once, before its servers start.
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
        "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
        "PREFECT_REDIS_MESSAGING_URL": redis,
        "PREFECT_SERVER_DOCKET_URL": redis,
        # 600 retries of 0.5 s: events survive a restart of PostgreSQL. Prefect's default of 5 drops them after 2.5 s.
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_MAX_FLUSH_RETRIES": "600",
        # Publish each event immediately; by default four events wait for a fifth, for up to ten seconds.
        "PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE": "1",
    }


def asyncpg_url(url: str) -> str:
    """Return a database URL in the form that Prefect accepts, with the asyncpg driver.

    >>> asyncpg_url("postgresql://me@db/prefect?sslmode=require")
    'postgresql+asyncpg://me@db/prefect?ssl=require'
    """
    parts = urlsplit(url)
    query = urlencode([(_ASYNCPG.get(name, name), value) for name, value in parse_qsl(parts.query)])
    return parts._replace(scheme="postgresql+asyncpg", query=query).geturl()


HEARTBEAT_SECONDS = 5
"""How often the worker sends a heartbeat to the server; after three missed heartbeats it is offline."""

CORS_ORIGINS = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"

_NOT_INHERITED = frozenset(
    {
        # These would point Prefect at a profile, home or cloud workspace other than this stack's.
        "PREFECT_PROFILE",
        "PREFECT_PROFILES_PATH",
        "PREFECT_API_KEY",
        # AUTH alone decides whether the API requires credentials.
        "PREFECT_API_AUTH_STRING",
        "PREFECT_SERVER_API_AUTH_STRING",
        # A stack started from inside a flow run is not part of that run.
        "PREFECT__FLOW_RUN_ID",
        # Another stack's warm server would execute this stack's runs.
        "WARM_SOCKET",
    }
)

_DATABASE = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")

EMPTY_CA = Path(__file__).with_name("empty_ca.pem")
"""A CA certificate whose private key was discarded: as the only trusted CA, it validates no server."""

_NO_CALLS_HOME = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "DO_NOT_TRACK": "1",
}


def surrounding() -> dict[str, str]:
    """Return the variables of the `.env` file, overridden by this process's environment."""
    written = {name: value for name, value in dotenv_values(env_file()).items() if value is not None}
    return {**written, **os.environ}


def client_environment(settings: Settings, around: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a command that uses this stack's API, based on the surrounding environment.

    The user's own Prefect settings are kept, except those in `_NOT_INHERITED` and those set here.
    """
    return {
        **{name: value for name, value in around.items() if name not in _NOT_INHERITED},
        **_NO_CALLS_HOME,
        **_credentials(settings),
        **_without_proxy(settings, around),
        **_certificates(settings, around),
        "PREFECT_HOME": str(settings.prefect_home),
        "PREFECT_API_URL": settings.api_url,
        "STATE_DIR": str(settings.state_dir),
        "API_PORT": str(settings.api_port),
        "SENSOR_PORT": str(settings.sensor_port),
        "DROP_PAGE_URL": settings.drop_page,
        "INBOXES_FILE": str(settings.inboxes_file),
        "ENV_FILE": str(env_file().absolute()),
        # Flow runs are started as `python -m prefect.engine`, which must find this Python.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), around.get("PATH", os.defpath)]),
    }


def stack_environment(settings: Settings, around: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for every process of the stack, based on the surrounding environment."""
    return {
        **client_environment(settings, around),
        **_database(settings, around),
        **scale_environment(settings),
        MARK: str(settings.state_dir),
        # Prefect's worker uses a folder with a fixed name in the temporary folder; two users cannot share that.
        "TMPDIR": str(settings.temporary_dir),
        # The warm server creates the socket; the runs that the worker starts connect to it.
        **({"WARM_SOCKET": str(warm_socket(settings))} if settings.is_warm else {}),
        **_arrival_page(settings, around),
        **_allowed_origins(settings, around),
        "PREFECT_UI_URL": settings.prefect_page,
        "PREFECT_SERVER_UI_API_URL": f"{settings.prefect_page}/api",
        # How long a run may wait if the worker missed its event: flows/forkserver/worker.py.
        "PREFECT_WORKER_QUERY_SECONDS": "5",
        # A receipt is an event and can be read once it is stored. With Prefect's default of 5 s, the next arrival of a
        # full inbox would wait that long.
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.5",
        # sensors/runs/outcomes.py relies on this heartbeat; 30 s is the minimum that Prefect accepts.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_WORKER_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
        # Output is written to log files, unbuffered.
        "PREFECT_LOGGING_COLORS": "false",
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_CLI_WRAP_LINES": "false",
        "PYTHONUNBUFFERED": "1",
    }


def _credentials(settings: Settings) -> dict[str, str]:
    if settings.auth is Auth.OFF or settings.auth_string is None:
        return {}
    return {
        "PREFECT_API_AUTH_STRING": settings.auth_string,
        "PREFECT_SERVER_API_AUTH_STRING": settings.auth_string,
    }


def _arrival_page(settings: Settings, around: Mapping[str, str]) -> dict[str, str]:
    """Return the base URL of the arrival pages that runs link to.

    The default is this machine's sensor; in the scale profile it is empty, as other machines may have sensors too.
    """
    own = "" if settings.is_scale else f"{settings.drop_page}/arrivals/"
    return {"ARRIVAL_PAGE_URL": around.get("ARRIVAL_PAGE_URL") or own}


def _database(settings: Settings, around: Mapping[str, str]) -> dict[str, str]:
    """Return the setting for the server's SQLite database, unless the user has set one or WARM_START=off."""
    if settings.is_scale or not settings.is_warm or any(around.get(name) for name in _DATABASE):
        return {}
    return {_DATABASE[0]: database_url(settings.prefect_home)}


def _certificates(settings: Settings, around: Mapping[str, str]) -> dict[str, str]:
    """Return the setting that keeps Prefect's clients from loading 140 CA certificates for an API over plain HTTP.

    Each client loads them when it is created, even for plain HTTP. A run creates a dozen clients: 0.3 s (measured).
    """
    own = around.get("PREFECT_API_SSL_CERT_FILE", "")
    if settings.api_url.startswith("https:") or not settings.is_warm:
        return {"PREFECT_API_SSL_CERT_FILE": own} if own else {}
    return {"PREFECT_API_SSL_CERT_FILE": own or str(EMPTY_CA)}


def _without_proxy(settings: Settings, around: Mapping[str, str]) -> dict[str, str]:
    """Return NO_PROXY with this machine's own addresses added, which the user's proxy cannot reach."""
    hosts = ["127.0.0.1", "localhost"]
    own = [settings.api_host, settings.sensor_host] if settings.has_server else [settings.sensor_host]
    hosts += [host for host in map(reached_at, own) if host not in hosts]
    own_hosts = ",".join(dict.fromkeys(hosts))
    return {name: ",".join(filter(None, [own_hosts, around.get(name)])) for name in ("NO_PROXY", "no_proxy")}


def _allowed_origins(settings: Settings, around: Mapping[str, str]) -> dict[str, str]:
    """Return the CORS origins of the API: its own, and with AUTH=on those that the user adds."""
    more = around.get(CORS_ORIGINS, "") if settings.auth is Auth.ON else ""
    return {CORS_ORIGINS: ",".join(filter(None, [*settings.api_origins, more]))}
