"""Health checks of the stack's services, and what the sensor's `/healthz` reports beyond that.

A server is healthy if its API answers, a worker if its heartbeats arrive, a `services` process if it runs.
"""

import os
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from logging import getLevelNamesMapping
from typing import Any

import httpx
import psutil

from sensors.config.settings import Settings
from sensors.runs.api import ApiError, NoServerError, open_api, trusted
from sensors.stack import processes
from sensors.stack.environment import HEARTBEAT_SECONDS
from sensors.stack.services import OPTIONAL, WORK_POOL, Service, services_of, warm_socket, worker_names

MOST_LINES = 200
"""The most log records that Prefect's API returns per request."""

_LEVELS = {number: name for name, number in getLevelNamesMapping().items()}


class RunLogError(Exception):
    """The log cannot be read now; the message says why."""


@dataclass(frozen=True)
class LogLine:
    """One record of a run's log; `at` is UTC."""

    at: datetime
    level: str
    message: str


def read_run_log(settings: Settings, run_id: str, lines: int) -> tuple[LogLine, ...]:
    """Return the last records of a run and its tasks, at most MOST_LINES, the oldest first. Raises RunLogError."""
    wanted = {
        "logs": {"flow_run_id": {"any_": [run_id]}},
        "sort": "TIMESTAMP_DESC",
        "limit": max(1, min(lines, MOST_LINES)),
    }
    try:
        with open_api(settings) as api:
            found = api.post("/logs/filter", wanted)
        return tuple(
            LogLine(datetime.fromisoformat(one["timestamp"]), _LEVELS.get(one["level"], "INFO"), one["message"])
            for one in reversed(found)
        )
    except NoServerError as error:
        raise RunLogError(f"nothing answers at {settings.api_url}; `just up` starts the server") from error
    except (ApiError, ValueError, LookupError, TypeError) as error:
        if isinstance(error, ApiError) and error.status:
            raise RunLogError(f"{settings.api_url} answers {error.status}; see `just status`") from error
        raise RunLogError(f"no usable answer from {settings.api_url} ({_kind(error)})") from error


def _kind(error: Exception) -> str:
    """Return what is wrong with an answer: its status, or the name of the error, such as `ReadTimeout`."""
    if isinstance(error, ApiError):
        return str(error.status) if error.status else type(error.__cause__ or error).__name__
    return type(error).__name__


NOT_RUNNING = "not running"
MISSED_HEARTBEATS = 3
"""After this many missed heartbeats a worker counts as offline, as in Prefect's foreman service."""


@dataclass(frozen=True)
class Health:
    """Whether a service is healthy, and if not, a text that says what is wrong."""

    healthy: bool
    detail: str = ""


def check(settings: Settings, service: Service, since: datetime | None = None) -> Health:
    """Check one service now. Worker heartbeats from before `since` (UTC) do not count.

    On a machine without a server or without workers, those of the installation are checked instead.
    """
    try:
        return _check_workers(settings, since) if service is Service.WORKER else _CHECKS[service](settings)
    except (NoServerError, httpx.ConnectError):
        return Health(healthy=False, detail=NOT_RUNNING)
    except (ApiError, httpx.HTTPError, ValueError, LookupError) as error:
        return Health(healthy=False, detail=f"no usable answer ({_kind(error)})")


def unhealthy_services(settings: Settings) -> str:
    """Return which services of this machine are unhealthy and why, those in OPTIONAL aside; empty if none is."""
    found = {service: check(settings, service) for service in services_of(settings) if service not in OPTIONAL}
    return "; ".join(f"{service}: {health.detail}" for service, health in found.items() if not health.healthy)


def _check_servers(settings: Settings) -> Health:
    if not settings.has_server:
        return _check_api_at(settings.api_url)
    if not settings.has_balancer:
        return _check_api_at(settings.api_url)
    return _all_of({f"server-{n}": check_api(port) for n, port in enumerate(settings.api_server_ports, start=1)})


def check_api(port: int) -> Health:
    """Check one of several API servers, which listen on the loopback behind the balancer."""
    return _check_api_at(f"http://127.0.0.1:{port}/api")


def _check_api_at(url: str) -> Health:
    try:
        answer = httpx.get(f"{url}/health", timeout=5.0, trust_env=False, verify=trusted())
    except httpx.ConnectError:
        return Health(healthy=False, detail=NOT_RUNNING)
    except httpx.HTTPError as error:
        return Health(healthy=False, detail=f"no usable answer ({type(error).__name__})")
    return Health(answer.is_success, "" if answer.is_success else f"/api/health says {answer.status_code}")


def check_front(settings: Settings) -> Health:
    """Check that sensors/stack/api_front.py is in front of this machine's API servers. Raises httpx.HTTPError.

    The check sends a POST with a foreign Origin, which the front rejects and Prefect would accept.
    """
    ports = settings.api_server_ports if settings.has_balancer else ()
    urls = [f"http://127.0.0.1:{port}/api" for port in ports] or [settings.api_url]
    for url in urls:
        asked = {"Origin": "http://front.invalid"}
        answer = httpx.post(f"{url}/health", headers=asked, timeout=5.0, trust_env=False, verify=trusted())
        if answer.status_code != 403:
            return Health(healthy=False, detail=f"{url} answers pages of other origins ({answer.status_code})")
    return Health(healthy=True)


def _all_of(found: dict[str, Health]) -> Health:
    """Combine the health of a service's processes: the service is healthy if all of them are."""
    sick = {name: health.detail for name, health in found.items() if not health.healthy}
    if len(sick) == len(found) and len({*sick.values()}) == 1:
        return Health(healthy=False, detail=next(iter(sick.values())))
    return Health(healthy=not sick, detail=", ".join(f"{name} {detail}" for name, detail in sick.items()))


def _check_services(settings: Settings) -> Health:
    """Check the number of `services` processes; they listen on no port that could be checked."""
    running = sum(map(_runs_services, processes.marked_processes(settings.state_dir)))
    if not running:
        return Health(healthy=False, detail=NOT_RUNNING)
    wanted = settings.service_processes
    return Health(running >= wanted, "" if running >= wanted else f"{running} of {wanted} processes are running")


def _runs_services(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[-2:] == ["services", "start"]
    except psutil.Error:
        return False


def _check_warm(settings: Settings) -> Health:
    path = warm_socket(settings)
    try:
        folder = os.open(path.parent, os.O_PATH)
    except OSError:
        return Health(healthy=False, detail=NOT_RUNNING)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            # The path of a Unix socket is limited to 107 bytes; the path of a state folder may be longer.
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
            greeted = connection.recv(64).startswith(b"warm ")
        except (FileNotFoundError, ConnectionRefusedError):
            return Health(healthy=False, detail=NOT_RUNNING)
        except OSError as error:
            return Health(healthy=False, detail=f"no usable answer ({type(error).__name__})")
        finally:
            os.close(folder)
    return Health(greeted, "" if greeted else "it hangs up; it may be starting again")


def _check_workers(settings: Settings, since: datetime | None) -> Health:
    try:
        with open_api(settings) as api:
            workers = list(api.results(f"/work_pools/{WORK_POOL}/workers/filter", {}))
    except ApiError as error:
        if error.status == 401:
            return Health(healthy=False, detail="refused; check PREFECT_API_AUTH_STRING in .env")
        if error.status == 404:
            return Health(healthy=False, detail=f"there is no work pool {WORK_POOL}")
        raise
    heard = {worker["name"]: worker["last_heartbeat_time"] for worker in workers}
    if not (names := worker_names(settings)):
        return _any_worker([one for one in heard.values() if one])
    return _all_of({name: _worker_health(heard.get(name), since) for name in names})


def _any_worker(heard: list[str]) -> Health:
    """Return the health of the workers on other machines; one healthy worker is enough."""
    if not heard:
        return Health(healthy=False, detail="none has reported to the server yet")
    return _worker_health(max(heard, key=datetime.fromisoformat), None)


def _worker_health(heard: str | None, since: datetime | None) -> Health:
    if heard is None:
        return Health(healthy=False, detail="it has not reported to the server yet")
    return _heartbeat_health(datetime.fromisoformat(heard), datetime.now(UTC), since)


def _heartbeat_health(heard: datetime, now: datetime, since: datetime | None) -> Health:
    if now - heard > timedelta(seconds=MISSED_HEARTBEATS * HEARTBEAT_SECONDS):
        return Health(healthy=False, detail=f"last heard of {(now - heard).total_seconds():.0f} s ago")
    if since is not None and heard < since:
        return Health(healthy=False, detail="it has not reported to the server since it was started")
    return Health(healthy=True)


def _ask_sensor(settings: Settings) -> httpx.Response:
    return httpx.get(f"{settings.sensor_url}/healthz", timeout=5.0, trust_env=False, verify=trusted())


def _check_sensor(settings: Settings) -> Health:
    answer = _ask_sensor(settings)
    if answer.is_success:
        return Health(healthy=True)
    document: dict[str, Any] = answer.json()
    return Health(healthy=False, detail=str(document.get("detail") or f"/healthz says {answer.status_code}"))


def troubles_of_stores(settings: Settings, remote: Collection[str]) -> list[str]:
    """Return why remote inboxes cannot reach their stores; empty if anything else is wrong with the sensor.

    The sensor keeps retrying the stores, and the other inboxes work meanwhile.
    """
    try:
        answer = _ask_sensor(settings)
        loops: dict[str, dict[str, Any]] = answer.json()["loops"]
        wrong = {name: loop["trouble"] for name, loop in loops.items() if loop["trouble"] or not loop["alive"]}
    except (httpx.HTTPError, ValueError, LookupError):
        return []
    inboxes = {f"inbox {name}" for name in remote}
    return [f"{name}: {trouble}" for name, trouble in wrong.items()] if wrong.keys() <= inboxes else []


_CHECKS: dict[Service, Callable[[Settings], Health]] = {
    Service.SERVER: _check_servers,
    Service.BALANCER: lambda settings: _check_api_at(settings.api_url),
    Service.SERVICES: _check_services,
    Service.SENSOR: _check_sensor,
    Service.WARM: _check_warm,
}


def read_issues(settings: Settings) -> tuple[str, ...]:
    """Return the sensor's problems with files, disks or the page, a line each; empty if the sensor does not answer."""
    try:
        issues: list[dict[str, Any]] = _ask_sensor(settings).json()["issues"]
        return tuple(f"{one['title']}: {one['detail']}; {one['mend']}" for one in issues)
    except (httpx.HTTPError, ValueError, LookupError):
        return ()


def read_watching(settings: Settings) -> dict[str, str]:
    """Return how each inbox is watched, `events` or `polling` and why; empty if the sensor does not answer."""
    try:
        answer = _ask_sensor(settings)
        inboxes: dict[str, dict[str, str]] = answer.json()["inboxes"]
    except (httpx.HTTPError, ValueError, LookupError):
        return {}
    return {name: _watching(one) for name, one in inboxes.items()}


def _watching(one: dict[str, str]) -> str:
    mode = f"{one['mode']} ({one['why']})" if one["why"] else one["mode"]
    return "; ".join(filter(None, [mode, one.get("being_written", "")]))
