"""The log of one run, as Prefect's API has it."""

from dataclasses import dataclass
from datetime import datetime
from logging import getLevelNamesMapping

import httpx

from sensors.config.settings import Settings
from sensors.stack.api import open_api

MOST_LINES = 200
"""What Prefect's API returns at a time."""

_LEVELS = {number: name for name, number in getLevelNamesMapping().items()}


class RunLogError(Exception):
    """The log cannot be had now; the message says why."""


@dataclass(frozen=True)
class LogLine:
    """One record of a run's log; the moment is UTC."""

    at: datetime
    level: str
    message: str


def read_run_log(settings: Settings, run_id: str, lines: int) -> tuple[LogLine, ...]:
    """Return the last records of a run's log and of its tasks', the oldest first. Raises RunLogError."""
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
        raise RunLogError(f"nobody answers at {settings.api_url}; `just up` starts the server") from error
    except httpx.HTTPStatusError as error:
        raise RunLogError(f"{settings.api_url} answers {error.response.status_code}; see `just status`") from error
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise RunLogError(f"no usable answer from {settings.api_url} ({type(error).__name__})") from error
