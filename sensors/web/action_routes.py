"""Routes that retry an arrival and that dismiss files and runs; they need Role.OPERATE and are audited.

A browser that sends a form is redirected to a page; a script gets JSON.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from sensors.access.accounts import Role
from sensors.access.audit import Action
from sensors.config.settings import Settings
from sensors.ledger import Ledger, arrivals
from sensors.ledger import files as dismissals
from sensors.recovery.dismissal import dismissed
from sensors.recovery.replay import ReplayError, retry
from sensors.runtime.clock import Clock
from sensors.web import routes
from sensors.web.auth import AskedBy, needs
from sensors.web.errors import wants_page
from sensors.web.routes import no_such_arrival
from sensors.web.upload_routes import Answer


class ActionResult(BaseModel):
    """The response to an action: what happens next, in lines."""

    told: list[str]


def retry_route(settings: Settings, wake: Callable[[], None]) -> APIRouter:
    """Return the route that retries an arrival; `wake` starts pending announcements immediately."""
    router = APIRouter(tags=["arrivals"])

    @router.post(
        "/arrivals/{arrival_id}/retry",
        dependencies=[needs(Role.OPERATE)],
        responses={200: {"model": ActionResult}, 404: {"model": Answer}, 409: {"model": Answer}},
    )
    async def try_again(arrival_id: str, request: Request, asker: AskedBy) -> Response:
        """Announce an arrival again; files that are already loaded are skipped."""
        told = await run_in_threadpool(_retried, settings, arrival_id)
        asker.record(Action.RETRY, arrival=arrival_id)
        wake()
        if wants_page(request.headers.get("accept", "")):
            return RedirectResponse(f"/arrivals/{arrival_id}", 303)
        return JSONResponse({"told": told})

    return router


def _retried(settings: Settings, arrival_id: str) -> list[str]:
    with Ledger(settings.ledger_path, read_only=True) as ledger:
        if arrivals.by_id(ledger, arrival_id) is None:
            raise no_such_arrival(arrival_id)
    try:
        return retry(settings, arrival_id)
    except ReplayError as error:
        raise HTTPException(409, str(error)) from error


_ANSWERS: dict[int | str, dict[str, Any]] = {200: {"model": ActionResult}, 409: {"model": Answer}}


def dismissal_routes(settings: Settings, clock: Clock) -> APIRouter:
    """Return the routes that dismiss files and runs."""
    router = APIRouter(tags=["arrivals"])

    @router.post("/files/{file_id}/dismiss", dependencies=[needs(Role.OPERATE)], responses=_ANSWERS)
    async def dismiss(file_id: routes.FileId, request: Request, asker: AskedBy) -> Response:
        """Dismiss a file that was not loaded, so that it no longer needs attention."""
        count = await run_in_threadpool(one_file, file_id)
        asker.record(Action.DISMISS, file_id=file_id, files=count)
        return _told(count, request)

    @router.post("/files/dismiss", dependencies=[needs(Role.OPERATE)], responses=_ANSWERS)
    async def dismiss_all(until: routes.Moment, request: Request, asker: AskedBy) -> Response:
        """Dismiss all files that ended no later than `until`: those that the user has seen, and none since."""
        count = await run_in_threadpool(all_files, until)
        asker.record(Action.DISMISS, until=until.isoformat(), files=count)
        return _told(count, request)

    @router.post("/runs/{run}/dismiss", dependencies=[needs(Role.OPERATE)], responses={200: {"model": ActionResult}})
    async def dismiss_run(run: routes.RunKey, request: Request, asker: AskedBy) -> Response:
        """Dismiss a run that failed, is missing or takes long."""
        await run_in_threadpool(one_run, run)
        asker.record(Action.DISMISS, run=run)
        if wants_page(request.headers.get("accept", "")):
            return RedirectResponse("/", 303)
        return JSONResponse({"told": ["the run needs attention no more, unless it fails once more"]})

    def one_run(run: str) -> None:
        with Ledger(settings.ledger_path) as ledger:
            dismissals.record_runs(ledger, [run], clock.utc())

    def one_file(file_id: int) -> int:
        with Ledger(settings.ledger_path, make=False) as ledger:
            return dismissals.record_file(ledger, file_id, clock.utc())

    def all_files(until: datetime) -> int:
        with Ledger(settings.ledger_path, make=False) as ledger:
            return dismissals.record_until(ledger, until, clock.utc())

    return router


def _told(count: int, request: Request) -> Response:
    if wants_page(request.headers.get("accept", "")):  # a form without JavaScript; sending it twice is no error
        return RedirectResponse("/", 303)
    if not count:
        raise HTTPException(409, "no such file needs attention any more")
    return JSONResponse({"told": [dismissed(count)]})
