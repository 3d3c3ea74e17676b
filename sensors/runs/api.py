"""Client for the calls of Prefect's REST API that the sensor and the commands need, and the pace of the sensor's polls.

Plain HTTP instead of Prefect's client: importing that takes 2.5 s and three times the sensor's memory.
"""

import json
import socket
import ssl
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from sensors.access.origins import is_loopback
from sensors.config.settings import Settings
from sensors.runtime.loop import beat

TIMEOUT = httpx.Timeout(10.0, connect=3.0)
PAGE = 200
"""Results per request; the most that Prefect's API returns."""
EVENTS_PAGE = 50
"""Events per request; the most that Prefect's API returns of them."""
REPORTS_PAGE = 20
"""Table artifacts per request; a table has a row for each of up to 10,000 files."""


KNOCK_SECONDS = 3.0
RUN_RESOURCE = "prefect.flow-run."
"""Prefix of a run's id in events."""

LONG_AGO = datetime.min.replace(tzinfo=UTC)


class ApiError(Exception):
    """A request to the API failed; the message says what was requested and what came back."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status of the response; None if there was no response."""


class NotReachedError(ApiError):
    """No server listens at the API's address, or it is too busy: the request was not accepted."""


class NoServerError(NotReachedError):
    """No server listens at the API's address."""


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
    """A client of one Prefect API. It reaches other machines through the user's proxy, unless it `is_direct`."""

    def __init__(
        self, url: str, auth_string: str | None, timeout: httpx.Timeout | float = TIMEOUT, *, is_direct: bool = False
    ) -> None:
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
            trust_env=not is_direct,
            verify=trusted() if is_direct else True,
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
            raise NoServerError(f"nothing listens at {url}: {error}") from error
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
        wanted = {
            "event": {"name": list(names)},
            "related": {"id": list(related_ids)},
            "occurred": {"since": since.isoformat()},
        }
        return list(self.events(wanted))

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
        wanted = {"state": {"type": {"not_any_": list(unless)}}} if unless else {}
        return {id_: _run(run) for id_, run in self.by_ids("flow_runs", ids, wanted).items()}

    def name_run(self, run_id: str, name: str, tags: Sequence[str]) -> None:
        """Set a run's name, and replace its tags. Raises ApiError."""
        self._send("PATCH", f"/flow_runs/{run_id}", {"name": name, "tags": list(tags)})

    def runs_of_arrivals(self, *, unless: Collection[str]) -> list[Run]:
        """Return every run started for an arrival, except those with a state type in `unless`. Raises ApiError."""
        wanted = {"state": {"type": {"not_any_": list(unless)}}}
        runs = map(_run, self.results("/flow_runs/filter", {"flow_runs": wanted, "sort": "ID_DESC"}))
        return [run for run in runs if run.arrival_id]

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

    def results(self, path: str, body: Mapping[str, object]) -> Iterator[dict[str, Any]]:
        """Yield all results of a filter, requesting a page when the one before is used up. Raises ApiError."""
        offset = 0
        while True:
            page: list[dict[str, Any]] = self.post(path, {**body, "limit": PAGE, "offset": offset})
            yield from page
            offset += len(page)
            if len(page) < PAGE:
                return

    def events(self, wanted: Mapping[str, object]) -> Iterator[Event]:
        """Yield all events that match a filter, the latest first, as `results` does. Raises ApiError.

        Events have no offset: each page has the link of the next one.
        """
        page = self.post("/events/filter", {"filter": wanted, "limit": EVENTS_PAGE})
        while True:
            yield from map(_event, page["events"])
            link: str | None = page["next_page"]
            if not link:
                return
            page = self.get(f"/events/filter/next?{urlsplit(link).query}")

    def by_ids(
        self, what: str, ids: Iterable[str], more: Mapping[str, object] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return those of Prefect's objects, such as `deployments`, that have one of these ids. Raises ApiError.

        `more` are conditions besides the ids.
        """
        wanted = sorted(set(ids))
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(wanted), PAGE):
            some = {"id": {"any_": wanted[start : start + PAGE]}, **(more or {})}
            found |= {one["id"]: one for one in self.post(f"/{what}/filter", {what: some, "limit": PAGE})}
        return found

    def _send(self, method: str, path: str, body: object) -> Any:
        self.knock()
        try:
            response = self._client.request(method, path, json=body)
        except httpx.ConnectError as error:
            self.unreached_at = datetime.now(UTC)
            self._is_unreached = True
            raise NoServerError(f"nothing listens at {self._client.base_url}: {error}") from error
        except httpx.RequestError as error:
            self.unreached_at = datetime.now(UTC)
            raise ApiError(f"no answer from {self._client.base_url}: {error}") from error
        beat()
        status = response.status_code
        if status == HTTPStatus.UNAUTHORIZED:
            raise ApiError("the API refused the credentials; check PREFECT_API_AUTH_STRING in .env", status)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:  # its database is locked at times
            raise NotReachedError(f"{method} {path}: the server is too busy (503)", status)
        if not response.is_success:
            raise ApiError(f"{method} {path}: {status} {response.text:.200}", status)
        return response.json() if response.content else None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_api(settings: Settings, timeout_seconds: float = 5.0) -> PrefectApi:
    """Return a client for the commands of this stack; it ignores the user's proxy."""
    return PrefectApi(settings.api_url, settings.auth_string, timeout_seconds, is_direct=True)


@cache
def trusted() -> ssl.SSLContext:
    """Return the shared TLS context: every client that creates its own spends 20 ms on it, even for plain HTTP."""
    return httpx.create_ssl_context(trust_env=False)


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
