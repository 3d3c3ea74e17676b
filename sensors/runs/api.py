"""Client for the calls of Prefect's REST API that the sensor needs, and the pace at which the sensor polls it.

Plain HTTP instead of Prefect's client: importing that takes 2.5 s and three times the sensor's memory.
"""

import json
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Self

import httpx

from sensors.access.origins import is_loopback
from sensors.runtime.loop import beat

TIMEOUT = httpx.Timeout(10.0, connect=3.0)
PAGE = 50
"""Events per request; Prefect's own page size for events."""
RUNS_PAGE = 200
"""Runs per request; the most that Prefect's API returns."""
REPORTS_PAGE = 20
"""Table artifacts per request; a table has a row for each of up to 10,000 files."""


KNOCK_SECONDS = 3.0
RUN_RESOURCE = "prefect.flow-run."
"""Prefix of a run's id in events."""

LONG_AGO = datetime.min.replace(tzinfo=UTC)


class ApiError(Exception):
    """A request to the API failed; the message says what was requested and what came back."""


class NotReachedError(ApiError):
    """No server listens at the API's address, or it is too busy: the request was not accepted."""


@dataclass(frozen=True)
class Event:
    """A Prefect event as it is sent or read."""

    id: str
    event: str
    occurred: datetime
    resource: dict[str, str]
    related: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    payload: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Run:
    """A flow run and the state it is in."""

    id: str
    name: str
    state: str
    state_type: str
    message: str
    ended: bool
    since: datetime = LONG_AGO
    arrival_id: str | None = None
    """The arrival that the run was started for."""
    tags: tuple[str, ...] = ()
    run_count: int = 0
    """How often the run has started."""


@dataclass(frozen=True)
class Report:
    """The table artifact of a run: the run's id and the table's rows."""

    run_id: str
    table: list[dict[str, Any]]
    created_at: datetime


ENDED = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


class PrefectApi:
    """A client of one Prefect API."""

    def __init__(self, url: str, auth_string: str | None, timeout: httpx.Timeout = TIMEOUT) -> None:
        self.unreached_at: datetime | None = None
        """Time of the last request without an answer."""
        self._is_unreached = False
        user, _, password = (auth_string or "").partition(":")
        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            timeout=timeout,
            auth=(user, password) if auth_string else None,
            # The user's proxy cannot reach this machine's loopback address.
            mounts={f"all://{_bracketed(host)}": None} if is_loopback(host := httpx.URL(url).host) else None,
        )

    def knock(self) -> None:
        """Raise NotReachedError if a server on this machine was unreachable at the last request and still is.

        This costs a hundredth of a request, and callers do it before they write anything that they would have to undo.
        Servers on other machines are not checked: a proxy may be the only way to reach them.
        """
        url = self._client.base_url
        if not self._is_unreached or not is_loopback(url.host):
            return
        try:
            socket.create_connection((url.host, url.port or 80), timeout=KNOCK_SECONDS).close()
        except OSError as error:
            self.unreached_at = datetime.now(UTC)
            raise NotReachedError(f"nothing listens at {url}: {error}") from error
        self._is_unreached = False

    def emit(self, events: Sequence[Event]) -> None:
        """Send events; when this returns, the server has them. Raises ApiError."""
        body = [
            {
                "id": event.id,
                "event": event.event,
                "occurred": event.occurred.isoformat(),
                "resource": event.resource,
                "related": event.related,
                "payload": event.payload,
            }
            for event in events
        ]
        self.post("/events", body)

    def events_related_to(self, names: Sequence[str], related_ids: Sequence[str], since: datetime) -> list[Event]:
        """Return the events with these names that are related to any of these resources. Raises ApiError."""
        answer = self.post(
            "/events/filter",
            {
                "filter": {
                    "event": {"name": list(names)},
                    "related": {"id": list(related_ids)},
                    "occurred": {"since": since.isoformat()},
                },
                "limit": PAGE,
            },
        )
        return [_event(found) for found in answer["events"]]

    def has_event(self, name: str | Sequence[str] | None, resource_id: str, since: datetime) -> bool:
        """Return whether a resource has had an event since a time; `name` None: any event. Raises ApiError."""
        wanted: dict[str, Any] = {"resource": {"id": [resource_id]}, "occurred": {"since": since.isoformat()}}
        if name:
            wanted["event"] = {"name": [name] if isinstance(name, str) else list(name)}
        return bool(self.post("/events/filter", {"filter": wanted, "limit": 1})["events"])

    def crash(self, run_id: str, message: str) -> None:
        """Set a run's state to Crashed, unless the run has ended meanwhile. Raises ApiError."""
        self.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "CRASHED", "message": message}, "force": False})

    def runs(self, ids: Sequence[str], *, unless: Collection[str] = ()) -> dict[str, Run]:
        """Return the existing flow runs with these ids, except those with a state type in `unless`. Raises ApiError."""
        found: dict[str, Run] = {}
        for start in range(0, len(ids), RUNS_PAGE):
            wanted: dict[str, Any] = {"id": {"any_": list(ids[start : start + RUNS_PAGE])}}
            if unless:
                wanted["state"] = {"type": {"not_any_": list(unless)}}
            for run in self.post("/flow_runs/filter", {"flow_runs": wanted, "limit": RUNS_PAGE}):
                found[run["id"]] = _run(run)
        return found

    def name_run(self, run_id: str, name: str, tags: Sequence[str]) -> None:
        """Set a run's name, and replace its tags. Raises ApiError."""
        self._send("PATCH", f"/flow_runs/{run_id}", {"name": name, "tags": list(tags)})

    def runs_of_arrivals(self, *, unless: Collection[str]) -> list[Run]:
        """Return every run started for an arrival, except those with a state type in `unless`. Raises ApiError."""
        found: list[Run] = []
        offset = 0
        while True:
            body = {
                "flow_runs": {"state": {"type": {"not_any_": list(unless)}}},
                "sort": "ID_DESC",
                "limit": RUNS_PAGE,
                "offset": offset,
            }
            page = [_run(run) for run in self.post("/flow_runs/filter", body)]
            found += [run for run in page if run.arrival_id]
            offset += len(page)
            if len(page) < RUNS_PAGE:
                return found

    def latest_reports(self, keys: Sequence[str]) -> dict[str, Report]:
        """Return the latest table artifact under each of these keys, where there is one. Raises ApiError."""
        found: dict[str, Report] = {}
        for start in range(0, len(keys), REPORTS_PAGE):
            wanted = {"key": {"any_": list(keys[start : start + REPORTS_PAGE])}, "type": {"any_": ["table"]}}
            for one in self.post("/artifacts/latest/filter", {"artifacts": wanted, "limit": REPORTS_PAGE}):
                created = datetime.fromisoformat(one["created"])
                found[one["key"]] = Report(one["flow_run_id"] or "", _table(one["data"]), created)
        return found

    def table_artifact(self, key: str, run_id: str) -> list[dict[str, Any]] | None:
        """Return the rows of a run's table artifact under a key, or None. Raises ApiError."""
        answer = self.post(
            "/artifacts/filter",
            {
                "artifacts": {"key": {"any_": [key]}, "flow_run_id": {"any_": [run_id]}},
                "sort": "CREATED_DESC",
                "limit": 1,
            },
        )
        return _table(answer[0]["data"]) if answer else None

    def post(self, path: str, body: object) -> Any:
        """Return the API's answer to a POST. Raises ApiError."""
        return self._send("POST", path, body)

    def get(self, path: str) -> Any:
        """Return the API's answer to a GET. Raises ApiError."""
        return self._send("GET", path, None)

    def pages(self, path: str, body: Mapping[str, object], most: int | None = None) -> list[dict[str, Any]]:
        """Return all results of a filter, page by page, or the first `most`. Raises ApiError."""
        found: list[dict[str, Any]] = []
        while most is None or len(found) < most:
            limit = RUNS_PAGE if most is None else min(RUNS_PAGE, most - len(found))
            page = self.post(path, {**body, "limit": limit, "offset": len(found)})
            found += page
            if len(page) < limit:
                break
        return found

    def _send(self, method: str, path: str, body: object) -> Any:
        self.knock()
        try:
            response = self._client.request(method, path, json=body)
        except httpx.ConnectError as error:
            self.unreached_at = datetime.now(UTC)
            self._is_unreached = True
            raise NotReachedError(f"nothing listens at {self._client.base_url}: {error}") from error
        except httpx.TransportError as error:
            self.unreached_at = datetime.now(UTC)
            raise ApiError(f"no answer from {self._client.base_url}: {error}") from error
        beat()
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            raise ApiError("the API refused the credentials; check PREFECT_API_AUTH_STRING in .env")
        if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:  # its database is locked at times
            raise NotReachedError(f"{method} {path}: the server is too busy (503)")
        if response.is_error:
            raise ApiError(f"{method} {path}: {response.status_code} {response.text:.200}")
        return response.json() if response.content else None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _event(found: dict[str, Any]) -> Event:
    return Event(
        id=found["id"],
        event=found["event"],
        occurred=datetime.fromisoformat(found["occurred"]),
        resource=found["resource"],
        related=found["related"],
        payload=found["payload"],
    )


def _run(found: dict[str, Any]) -> Run:
    state: dict[str, Any] = found.get("state") or {}
    parameters: dict[str, Any] = found.get("parameters") or {}
    return Run(
        id=found["id"],
        name=found["name"],
        state=found.get("state_name") or "",
        state_type=found.get("state_type") or "",
        message=state.get("message") or "",
        ended=found.get("state_type") in ENDED,
        since=datetime.fromisoformat(state["timestamp"]) if state else LONG_AGO,
        arrival_id=parameters.get("arrival_id"),
        tags=tuple(found.get("tags") or ()),
        run_count=found.get("run_count") or 0,
    )


def _table(data: Any) -> list[dict[str, Any]]:
    return json.loads(data) if isinstance(data, str) else data


FASTEST = 0.4
"""Each poll takes 10 ms of the server's time (measured), for which the run that is about to start has to wait."""
SLOWEST = 2.0
IDLE = 1.0
"""While nothing is pending, only the ledger is read: a user may have had an arrival announced again."""
SHARE = 0.1
"""The pause grows with this share of the age, up to SLOWEST: an event after 5 s is noticed at most 0.5 s late."""


def pause(since: Iterable[datetime], now: datetime) -> float:
    """Return the seconds until the next poll, given the start times of the waits; IDLE if there are none."""
    ages = [max(now - began, timedelta(0)).total_seconds() for began in since]
    if not ages:
        return IDLE
    return min(max(FASTEST, SHARE * min(ages)), SLOWEST)
