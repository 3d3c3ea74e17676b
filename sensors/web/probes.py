"""What the sensor says of its own health, on SENSOR_PORT."""

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
"""What is wrong with a loop that does not step."""
ENDED = "its thread has ended"


class Watched(Protocol):
    """How an inbox is watched, and why not better."""

    @property
    def mode(self) -> WatchMode: ...
    @property
    def why_polling(self) -> str: ...
    @property
    def being_written(self) -> tuple[str, ...]: ...


def troubles(loops: Sequence[Loop]) -> dict[str, str]:
    """Return what is wrong with those loops that do not step or whose last step failed, by their names."""
    return {
        loop.name: ENDED if loop.has_ended else loop.trouble or STUCK
        for loop in loops
        if loop.trouble or not loop.alive
    }


def no_issues() -> dict[str, Issue]:
    """Return that nothing else is wrong."""
    return {}


def health_page(
    loops: Sequence[Loop],
    watches: Mapping[str, Watched],
    issues: Callable[[], Mapping[str, Issue]] = no_issues,
) -> Route:
    """Return the route `/healthz`: 200 while every loop steps and has no trouble, else 503 and `detail`.

    `issues` returns what is wrong apart from the loops. A warning among them leaves the sensor healthy.
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


def _watching(watch: Watched) -> dict[str, str]:
    return {"mode": watch.mode, "why": watch.why_polling, "being_written": in_words(watch.being_written)}


# Whether the sensor is ready: it has begun with everything, and the ledger opens.


def ready_page(loops: Sequence[Loop], ledger_path: Path) -> Route:
    """Return the route `/readyz`: 200 once each loop's first step is over and while the ledger opens, else 503.

    A first step may have failed: a store that is down keeps its inbox waiting and no other. `/healthz` tells of that.
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
