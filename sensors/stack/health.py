"""Health: what healthy means for each service."""

import os
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psutil

from sensors.config.settings import Settings
from sensors.stack import processes as marking
from sensors.stack.api import open_api, trusted
from sensors.stack.environment import HEARTBEAT_SECONDS
from sensors.stack.services import OPTIONAL, WORK_POOL, Service, services_of, warm_socket, worker_names

NOT_RUNNING = "not running"
MISSED_HEARTBEATS = 3
"""After this many a worker counts as gone; the same number as in Prefect's foreman service."""


@dataclass(frozen=True)
class Health:
    """Whether a service does its work, and if not, what is wrong in words."""

    healthy: bool
    detail: str = ""


def check(settings: Settings, service: Service, since: datetime | None = None) -> Health:
    """Look at one service now; `since` (UTC) disregards what a worker reported before.

    Where this machine has no server, or no worker, that of the installation is looked at.
    """
    try:
        return _check_workers(settings, since) if service is Service.WORKER else _CHECKS[service](settings)
    except httpx.ConnectError:
        return Health(healthy=False, detail=NOT_RUNNING)
    except (httpx.HTTPError, ValueError, LookupError) as error:
        return Health(healthy=False, detail=f"no usable answer ({type(error).__name__})")


def what_is_wrong(settings: Settings) -> str:
    """Return which services of this machine are not healthy and why, those left out that a stack can do without."""
    found = {service: check(settings, service) for service in services_of(settings) if service not in OPTIONAL}
    return "; ".join(f"{service}: {health.detail}" for service, health in found.items() if not health.healthy)


def _check_servers(settings: Settings) -> Health:
    if not settings.has_server:
        return _check_api_at(settings.api_url)
    if not settings.has_balancer:
        return _check_api_at(settings.api_url)
    return _all_of({f"server-{n}": check_api(port) for n, port in enumerate(settings.api_server_ports, start=1)})


def check_api(port: int) -> Health:
    """Look whether one of several API servers answers, which listen on the loopback behind the balancer."""
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
    """Look whether what protects the API stands in front of this machine's servers: sensors/stack/api_front.py.

    A change that another page asks for is rejected there, and by Prefect itself it never is.
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
    """Return the health of a service that has several processes: that of all of them."""
    sick = {name: health.detail for name, health in found.items() if not health.healthy}
    if len(sick) == len(found) and len({*sick.values()}) == 1:
        return Health(healthy=False, detail=next(iter(sick.values())))
    return Health(healthy=not sick, detail=", ".join(f"{name} {detail}" for name, detail in sick.items()))


def _check_services(settings: Settings) -> Health:
    """Count the processes: they listen nowhere, and what they do is known by its effects only."""
    running = sum(map(_runs_services, marking.marked_processes(settings.state_dir)))
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
            # The address of a Unix socket has at most 107 bytes; a state folder's path may have more.
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
    with open_api(settings) as api:
        answer = api.post(f"/work_pools/{WORK_POOL}/workers/filter", json={})
    if answer.status_code == 401:
        return Health(healthy=False, detail="refused; check PREFECT_API_AUTH_STRING in .env")
    if answer.status_code == 404:
        return Health(healthy=False, detail=f"there is no work pool {WORK_POOL}")
    heard = {worker["name"]: worker["last_heartbeat_time"] for worker in answer.raise_for_status().json()}
    if not (names := worker_names(settings)):
        return _any_worker([one for one in heard.values() if one])
    return _all_of({name: _worker_health(heard.get(name), since) for name in names})


def _any_worker(heard: list[str]) -> Health:
    """Return the health of the workers of other machines, of which one is enough."""
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
    """Return what keeps remote inboxes from their stores, if that is all that is wrong with the sensor.

    It asks the stores again and again, and the other inboxes are at work.
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
    """Return what is wrong with the sensor's files, disks or page, a line for each; nothing when it does not answer."""
    try:
        issues: list[dict[str, Any]] = _ask_sensor(settings).json()["issues"]
        return tuple(f"{one['title']}: {one['detail']}; {one['mend']}" for one in issues)
    except (httpx.HTTPError, ValueError, LookupError):
        return ()


def read_watching(settings: Settings) -> dict[str, str]:
    """Return how each inbox is watched, `events` or `polling` and why; nothing when the sensor does not answer."""
    try:
        answer = _ask_sensor(settings)
        inboxes: dict[str, dict[str, str]] = answer.json()["inboxes"]
    except (httpx.HTTPError, ValueError, LookupError):
        return {}
    return {name: _watching(one) for name, one in inboxes.items()}


def _watching(one: dict[str, str]) -> str:
    mode = f"{one['mode']} ({one['why']})" if one["why"] else one["mode"]
    return "; ".join(filter(None, [mode, one.get("being_written", "")]))
