"""Preflight: what can be known to be wrong before anything is started, reported all at once."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from sensors.config.inboxes import InboxesError, read_inboxes
from sensors.config.settings import PROJECT_ROOT, Settings
from sensors.inbox.folders import make_folders
from sensors.stack.credentials import wrong_credentials
from sensors.stack.errors import StackError
from sensors.stack.ports import LOCAL, NoAddressError, taken_by
from sensors.stack.settings_checks import AUTOMATIONS, FLOWS, wrong_settings
from sensors.stack.shared_servers import wrong_servers

_NEEDED = ("prefect", "supervisor", "duckdb", "apprise", "watchdog", "uvicorn")


def preflight(settings: Settings) -> None:
    """Check what bringing the stack up relies on; raises StackError with a line for each thing that is wrong."""
    wrong = [*_missing_packages(_NEEDED), *_wrong_inboxes(settings), *_wrong_project(), *_ports(settings)]
    wrong += wrong_servers(settings)
    wrong += wrong_credentials(settings)
    # Only where there is something to check: Apprise takes a second.
    wrong += wrong_settings([FLOWS, AUTOMATIONS] if settings.notify_urls else [FLOWS])
    if wrong:
        raise StackError(*wrong)


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
