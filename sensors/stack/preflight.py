"""Check everything that starting the stack relies on, and report all problems together before anything is started.

The checks cover packages, inboxes (whose folders are created), project files, ports, credentials, the PostgreSQL and
Redis servers of the scale profile, and the settings of flows and automations.
"""

import errno
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from sensors.config.inboxes import InboxesError, read_inboxes
from sensors.config.settings import PROJECT_ROOT, Settings, masked, surrounding
from sensors.files.permissions import writable_by_everyone
from sensors.inbox.intake import make_folders
from sensors.stack import balancer
from sensors.stack.credentials import wrong_credentials
from sensors.stack.errors import StackError

LOCAL = "127.0.0.1"
"""The address of servers that only this machine uses."""


class NoAddressError(Exception):
    """The machine does not have the address, or the name has no address; the message says which."""


def taken_by(port: int, host: str = LOCAL) -> str | None:
    """Return a description of the process that listens on a port, None if the port is free. Raises NoAddressError."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise NoAddressError(f"{host} is no address and no name that has one ({error.strerror})") from error
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Servers set this as well: a port whose last connections are closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except PermissionError:
            return "the system (ports below 1024 are root's)"
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise NoAddressError(f"{host} is not an address of this machine") from error
            return _listener(port)
    return None


def _listener(port: int) -> str:
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:  # macOS shows them to root only
        connections = []
    for connection in connections:
        local = connection.laddr
        if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
            return _described(connection.pid)
    return "a process of another user"


def _described(pid: int) -> str:
    try:
        command = " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        command = "?"
    return f"pid {pid} ({command if len(command) <= 60 else command[:57] + '...'})"


# Flows and automations check their own settings, in their own processes: this module imports neither. The commands
# print a line for each mistake.

FLOWS = ("flows.settings",)
AUTOMATIONS = ("automations", "check")


def wrong_settings(commands: Sequence[Sequence[str]]) -> list[str]:
    """Run the checking modules in parallel and return the error lines of those that fail."""
    checks = [
        subprocess.Popen(
            [sys.executable, "-m", *command],
            env=surrounding(),
            cwd=PROJECT_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    said = [(check.communicate()[1], check.returncode) for check in checks]
    return [line for text, status in said if status != 0 for line in text.splitlines()]


def wrong_servers(settings: Settings) -> list[str]:
    """Return the problems with what the scale profile needs, a line each; empty with `embedded`."""
    if not settings.is_scale:
        return []
    return [*_wrong_database(settings), *_wrong_redis(settings), *_no_balancer(settings), *_no_credentials(settings)]


def _wrong_database(settings: Settings) -> list[str]:
    if not settings.database_url.get_secret_value():
        return []
    import psycopg  # only one profile needs it, and the import takes half a second

    from sensors.stack.prefect_setup import TIMEOUT_SECONDS, libpq_url, message_of

    url = libpq_url(settings)
    try:
        with psycopg.connect(url, connect_timeout=TIMEOUT_SECONDS) as connection:
            encoding = connection.info.parameter_status("server_encoding")
    except psycopg.Error as error:
        return [f"DATABASE_URL: {masked(url)} cannot be used: {message_of(error)}; start PostgreSQL, or correct it"]
    if encoding != "UTF8":
        return [
            f"DATABASE_URL: expected a database whose encoding is UTF8, got {encoding} at {masked(url)}; make it anew "
            "with `createdb --encoding=UTF8 --template=template0`"
        ]
    return []


def _wrong_redis(settings: Settings) -> list[str]:
    if not (url := settings.redis_url.get_secret_value()):
        return []
    from redis import Redis
    from redis.exceptions import RedisError

    from sensors.stack.prefect_setup import TIMEOUT_SECONDS, message_of

    try:
        # redis-py's type annotations are incomplete.
        redis: Any = Redis.from_url(url, socket_connect_timeout=TIMEOUT_SECONDS, socket_timeout=TIMEOUT_SECONDS)  # pyright: ignore[reportUnknownMemberType]
        with redis:
            redis.ping()
    except (RedisError, ValueError) as error:
        return [f"REDIS_URL: {masked(url)} cannot be used: {message_of(error)}; start Redis, or correct it"]
    return []


def _no_balancer(settings: Settings) -> list[str]:
    if not settings.has_balancer or balancer.program():
        return []
    return [
        f"API_SERVERS is {settings.api_servers}, and {balancer.PROGRAM}, which gives them one address, is not "
        f"installed; on Debian `apt install {balancer.PROGRAM}`, or set API_SERVERS=1"
    ]


def _no_credentials(settings: Settings) -> list[str]:
    if settings.has_server or settings.auth_string or settings.auth == "off":
        return []
    return [
        "PREFECT_API_AUTH_STRING: expected that of the installation at PREFECT_API_URL, got nothing; copy it from "
        ".env there"
    ]


_LISTED = 3
_NEEDED = ("prefect", "supervisor", "duckdb", "apprise", "watchdog", "uvicorn")


def preflight(settings: Settings) -> None:
    """Check everything that starting the stack relies on; raises StackError with a line for each problem."""
    wrong = [*_missing_packages(_NEEDED), *_wrong_inboxes(settings), *_wrong_project(), *_ports(settings)]
    wrong += wrong_servers(settings)
    wrong += wrong_credentials(settings)
    # Automations are checked only if there are addresses, as importing Apprise takes a second.
    wrong += wrong_settings([FLOWS, AUTOMATIONS] if settings.notify_urls else [FLOWS])
    if wrong:
        raise StackError(*wrong)


def open_code(settings: Settings, root: Path = PROJECT_ROOT) -> list[str]:
    """Return a line for each of the first files and folders of code or configuration that every user can write to."""
    run = [root / name for name in ("prefect.yaml", "flows", "automations", "sensors")]
    found = writable_by_everyone([*run, settings.inboxes_file])
    found += [folder for folder in (root, root / ".venv") if folder.is_dir() and folder.stat().st_mode & 0o002]
    return [
        f"{path} is writable for every user of this machine, so each can change what the stack runs; `chmod o-w {path}`"
        for path in found[:_LISTED]
    ]


def _missing_packages(needed: Sequence[str]) -> list[str]:
    return [
        f"the Python package {package} is not installed; run `just setup`"
        for package in needed
        if find_spec(package) is None
    ]


def _wrong_inboxes(settings: Settings) -> list[str]:
    try:
        make_folders(settings.inboxes_file, read_inboxes(settings.inboxes_file, settings.inbox_dir))
    except InboxesError as error:
        return str(error).splitlines()
    return []


def _wrong_project(root: Path = PROJECT_ROOT) -> list[str]:
    return [
        f"{root / name} is missing; take it from the repository again"
        for name in ("prefect.yaml", "flows", "automations")
        if not (root / name).exists()
    ]


def _ports(settings: Settings) -> list[str]:
    needed = {"API_PORT": settings.api_port} if settings.has_server else {}
    needed |= {"SENSOR_PORT": settings.sensor_port}
    hosts = {"API_PORT": ("API_HOST", settings.api_host), "SENSOR_PORT": ("SENSOR_HOST", settings.sensor_host)}
    if settings.has_balancer:
        needed |= {f"API_SERVER_PORT for server-{n}": port for n, port in enumerate(settings.api_server_ports, start=1)}
    names: dict[int, str] = {}
    for name, port in needed.items():
        if port in names:
            return [f"{names[port]} and {name} are both {port}; set one of them to another port"]
        names[port] = name
    wrong: list[str] = []
    for name, port in needed.items():
        variable, host = hosts.get(name, ("", LOCAL))
        try:
            if listener := taken_by(port, host):
                wrong.append(f"{name} {port} is taken by {listener}; stop it or set {name} to another port")
        except NoAddressError as error:
            wrong.append(f"{variable}: {error}; set it to one that this machine has, such as {LOCAL}")
    return wrong
