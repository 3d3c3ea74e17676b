"""A client for the Prefect API of this stack's server, and the log of a run.

It is an httpx client, as importing Prefect's own client takes seconds.
"""

import ssl
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from logging import getLevelNamesMapping

import httpx

from sensors.config.settings import Settings


@cache
def trusted() -> ssl.SSLContext:
    """Return the shared TLS context: every client that creates its own spends 20 ms on it, even for plain HTTP."""
    return httpx.create_ssl_context(trust_env=False)


def open_api(settings: Settings, timeout_seconds: float = 5.0) -> httpx.Client:
    """Return a client of the API with this stack's credentials."""
    user, _, password = (settings.auth_string or "").partition(":")
    return httpx.Client(
        base_url=settings.api_url,
        auth=(user, password) if user else None,
        timeout=timeout_seconds,
        # The user's proxy cannot reach this machine's loopback.
        trust_env=False,
        verify=trusted(),
    )


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
            found = api.post("/logs/filter", json=wanted).raise_for_status().json()
        return tuple(
            LogLine(datetime.fromisoformat(one["timestamp"]), _LEVELS.get(one["level"], "INFO"), one["message"])
            for one in reversed(found)
        )
    except httpx.ConnectError as error:
        raise RunLogError(f"nothing answers at {settings.api_url}; `just up` starts the server") from error
    except httpx.HTTPStatusError as error:
        raise RunLogError(f"{settings.api_url} answers {error.response.status_code}; see `just status`") from error
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise RunLogError(f"no usable answer from {settings.api_url} ({type(error).__name__})") from error
