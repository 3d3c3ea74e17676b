"""The address of Prefect's SQLite, made without SQLAlchemy, which takes 0.7 s to import."""

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
"""What sensors/stack/sqlite_begin_immediate.py is called in a URL; pyproject.toml has it as well."""


def database_url(prefect_home: Path) -> str:
    """Return the URL of the database that Prefect keeps in its home, with the plugin."""
    return f"sqlite+aiosqlite:///{prefect_home / 'prefect.db'}?plugin={PLUGIN}"


# What Prefect is told for the scale profile: its own high-availability settings.
#
# Source: Prefect's guide for self-hosted servers at scale (docs.prefect.io, "How to scale self-hosted Prefect").

SERVER_SECRETS = (
    "DATABASE_URL",
    "REDIS_URL",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_REDIS_MESSAGING_URL",
    "PREFECT_SERVER_DOCKET_URL",
)
"""The variables that hold a password of Prefect's database or of Redis."""

# asyncpg knows libpq's `sslmode` as `ssl`.
_ASYNCPG = {"sslmode": "ssl"}


def scale_environment(settings: Settings) -> dict[str, str]:
    """Return Prefect's settings for servers and service processes; empty with `embedded`."""
    if not settings.is_scale or not settings.database_url.get_secret_value():
        return {}
    redis = settings.redis_url.get_secret_value()
    return {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": asyncpg_url(settings.database_url.get_secret_value()),
        # It is done once for all, before the servers are started.
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
        "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
        "PREFECT_REDIS_MESSAGING_URL": redis,
        "PREFECT_SERVER_DOCKET_URL": redis,
        # Half a second each: events outlast a restart of PostgreSQL. With Prefect's 5 they are dropped after 2.5 s.
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_MAX_FLUSH_RETRIES": "600",
        # An event goes on at once; by default four wait for a fifth, for up to ten seconds.
        "PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE": "1",
    }


def asyncpg_url(url: str) -> str:
    """Return a database's address as Prefect takes it, with the driver that it uses.

    >>> asyncpg_url("postgresql://me@db/prefect?sslmode=require")
    'postgresql+asyncpg://me@db/prefect?ssl=require'
    """
    parts = urlsplit(url)
    query = urlencode([(_ASYNCPG.get(name, name), value) for name, value in parse_qsl(parts.query)])
    return parts._replace(scheme="postgresql+asyncpg", query=query).geturl()


# The environment of the stack's processes.

HEARTBEAT_SECONDS = 5
"""How often the worker reports to the server; three missed ones make it offline."""

CORS_ORIGINS = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"

_NOT_INHERITED = frozenset(
    {
        # They would point Prefect at another profile, home or cloud workspace than this stack's.
        "PREFECT_PROFILE",
        "PREFECT_PROFILES_PATH",
        "PREFECT_API_KEY",
        # Whether credentials are asked for is decided by AUTH alone.
        "PREFECT_API_AUTH_STRING",
        "PREFECT_SERVER_API_AUTH_STRING",
        # A process of ours that was started by a flow run is not that run.
        "PREFECT__FLOW_RUN_ID",
        # Another stack's warm server would run our runs.
        "WARM_SOCKET",
    }
)

_DATABASE = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")

NOBODY = Path(__file__).with_name("nobody.pem")
"""A certificate whose key was never kept: as the only authority it vouches for nobody."""

_NO_CALLS_HOME = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "DO_NOT_TRACK": "1",
}


def surrounding() -> dict[str, str]:
    """Return this process's environment over what the `.env` file says."""
    written = {name: value for name, value in dotenv_values(env_file()).items() if value is not None}
    return {**written, **os.environ}


def client_environment(settings: Settings, around: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a command that talks to this stack, made from the one around it.

    Settings of Prefect's that the user has made stay, except those that would take the stack apart.
    """
    return {
        **{name: value for name, value in around.items() if name not in _NOT_INHERITED},
        **_NO_CALLS_HOME,
        **_credentials(settings),
        **_without_proxy(settings, around),
        **_certificates(around),
        "PREFECT_HOME": str(settings.prefect_home),
        "PREFECT_API_URL": settings.api_url,
        "STATE_DIR": str(settings.state_dir),
        "API_PORT": str(settings.api_port),
        "SENSOR_PORT": str(settings.sensor_port),
        "DROP_PAGE_URL": settings.drop_page,
        "INBOXES_FILE": str(settings.inboxes_file),
        "ENV_FILE": str(env_file().absolute()),
        # Flow runs are started as `python -m prefect.engine`: it has to be this Python.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), around.get("PATH", os.defpath)]),
    }


def stack_environment(settings: Settings, around: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for every process of the stack, made from the one around it."""
    return {
        **client_environment(settings, around),
        **_database(settings, around),
        **scale_environment(settings),
        MARK: str(settings.state_dir),
        # Prefect's worker has a folder of a fixed name among the temporary files, which two users of a machine cannot
        # share.
        "TMPDIR": str(settings.temporary_dir),
        # The warm server makes it, and the runs that the worker starts look for it.
        "WARM_SOCKET": str(warm_socket(settings)),
        **_arrival_page(settings, around),
        **_allowed_origins(settings, around),
        "PREFECT_UI_URL": settings.prefect_page,
        "PREFECT_SERVER_UI_API_URL": f"{settings.prefect_page}/api",
        # How long a run waits of which the worker got no event: flows/forkserver/worker.py.
        "PREFECT_WORKER_QUERY_SECONDS": "5",
        # A receipt is an event, and can be looked up as soon as it is stored; with Prefect's 5 s the next arrival of a
        # full inbox would have to wait for that.
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.5",
        # What sensors/runs/outcomes.py goes by; the least that Prefect takes.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_WORKER_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
        # Their output goes to files, and at once.
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
    """Return where runs find their arrival's page: at this machine's sensor, unless there may be others."""
    own = "" if settings.is_scale else f"{settings.drop_page}/arrivals/"
    return {"ARRIVAL_PAGE_URL": around.get("ARRIVAL_PAGE_URL") or own}


def _database(settings: Settings, around: Mapping[str, str]) -> dict[str, str]:
    """Return where the server has its database, unless the user has set that."""
    if settings.is_scale or any(around.get(name) for name in _DATABASE):
        return {}
    return {_DATABASE[0]: database_url(settings.prefect_home)}


def _certificates(around: Mapping[str, str]) -> dict[str, str]:
    """Return what spares Prefect's clients to read 140 certificate authorities for an API that encrypts nothing.

    Each client reads them when it is made, also for plain HTTP, and a run makes a dozen: 0.3 s (measured).
    """
    return {"PREFECT_API_SSL_CERT_FILE": around.get("PREFECT_API_SSL_CERT_FILE") or str(NOBODY)}


def _without_proxy(settings: Settings, around: Mapping[str, str]) -> dict[str, str]:
    """Return what keeps a proxy of the user's away from this machine's own addresses, which it cannot reach."""
    hosts = ["127.0.0.1", "localhost"]
    own = [settings.api_host, settings.sensor_host] if settings.has_server else [settings.sensor_host]
    hosts += [host for host in map(reached_at, own) if host not in hosts]
    own_hosts = ",".join(dict.fromkeys(hosts))
    return {name: ",".join(filter(None, [own_hosts, around.get(name)])) for name in ("NO_PROXY", "no_proxy")}


def _allowed_origins(settings: Settings, around: Mapping[str, str]) -> dict[str, str]:
    """Return the origins whose pages may read the API's answers: its own, and with AUTH=on those that the user adds."""
    more = around.get(CORS_ORIGINS, "") if settings.auth is Auth.ON else ""
    return {CORS_ORIGINS: ",".join(filter(None, [*settings.api_origins, more]))}
