"""Health and readiness probes of the sensor on SENSOR_PORT: `/healthz` and `/readyz`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sensors.alerts.issues import Issue
from sensors.inbox.unfinished import in_words
from sensors.inbox.watcher import WatchMode
from sensors.ledger import Ledger, LedgerError
from sensors.runtime.loop import Loop

STUCK = "stuck"
"""The trouble of a loop that makes no progress."""
ENDED = "its thread has ended"


class WatchStatus(Protocol):
    """The watch mode of an inbox, the reason if it is polled, and the files that are being written."""

    @property
    def mode(self) -> WatchMode: ...
    @property
    def why_polling(self) -> str: ...
    @property
    def being_written(self) -> tuple[str, ...]: ...


def troubles(loops: Sequence[Loop]) -> dict[str, str]:
    """Return the troubles of the loops that make no progress or whose last step failed, by the names of the loops."""
    return {
        loop.name: ENDED if loop.has_ended else loop.trouble or STUCK
        for loop in loops
        if loop.trouble or not loop.alive
    }


def no_issues() -> dict[str, Issue]:
    """Return no issues."""
    return {}


def health_page(
    loops: Sequence[Loop],
    watches: Mapping[str, WatchStatus],
    issues: Callable[[], Mapping[str, Issue]] = no_issues,
) -> Route:
    """Return the route `/healthz`: 200 while every loop makes progress without trouble, else 503 and `detail`.

    `issues` returns problems other than those of the loops. A warning among them leaves the sensor healthy.
    """

    def healthz(_: Request) -> JSONResponse:
        found = issues().values()
        wrong = [f"{name}: {trouble}" for name, trouble in troubles(loops).items()]
        wrong += [f"{issue.title}: {issue.detail}" for issue in found if not issue.is_warning]
        document = {
            "healthy": not wrong,
            "detail": "; ".join(wrong),
            "loops": {loop.name: {"alive": loop.alive, "trouble": loop.trouble} for loop in loops},
            "issues": [
                {"title": one.title, "detail": one.detail, "mend": one.mend, "is_warning": one.is_warning}
                for one in found
            ],
            "inboxes": {name: _watching(watch) for name, watch in watches.items()},
        }
        return JSONResponse(document, status_code=503 if wrong else 200)

    return Route("/healthz", healthz)


def _watching(watch: WatchStatus) -> dict[str, str]:
    return {"mode": watch.mode, "why": watch.why_polling, "being_written": in_words(watch.being_written)}


def ready_page(loops: Sequence[Loop], ledger_path: Path) -> Route:
    """Return the route `/readyz`: 200 if every loop has finished its first step and the ledger opens, else 503.

    A failed first step counts as finished: a remote store that is down delays only its own inbox, and `/healthz`
    reports it.
    """

    def readyz(_: Request) -> JSONResponse:
        reasons = [f"{loop.name}: its first step is not over" for loop in loops if not loop.has_stepped]
        try:
            Ledger(ledger_path, read_only=True).close()
        except LedgerError as error:
            reasons.append(str(error))
        document = {"ready": not reasons, "detail": "; ".join(reasons)}
        return JSONResponse(document, status_code=503 if reasons else 200)

    return Route("/readyz", readyz)
