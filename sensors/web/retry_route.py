"""Another try: an arrival is announced again because somebody asked for it on the page."""

from collections.abc import Callable

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from sensors.access.accounts import Role
from sensors.access.audit import Action
from sensors.config.settings import Settings
from sensors.ledger import Ledger, replays
from sensors.recovery.replay import ReplayError, retry
from sensors.web.api_routes import no_such_arrival
from sensors.web.errors import wants_page
from sensors.web.roles import AskedBy, needs
from sensors.web.upload_routes import Answer


class Told(BaseModel):
    """What happens next, in lines."""

    told: list[str]


def retry_route(settings: Settings, wake: Callable[[], None]) -> APIRouter:
    """Return the route; `wake` has what is to be announced announced at once."""
    router = APIRouter(tags=["arrivals"])

    @router.post(
        "/arrivals/{arrival_id}/retry",
        dependencies=[needs(Role.OPERATE)],
        responses={200: {"model": Told}, 404: {"model": Answer}, 409: {"model": Answer}},
    )
    async def try_again(arrival_id: str, request: Request, asker: AskedBy) -> Response:
        """Have an arrival announced again; what is loaded already is skipped."""
        told = await run_in_threadpool(_retried, settings, arrival_id)
        asker.record(Action.RETRY, arrival=arrival_id)
        wake()
        if wants_page(request.headers.get("accept", "")):
            return RedirectResponse(f"/arrivals/{arrival_id}", 303)
        return JSONResponse({"told": told})

    return router


def _retried(settings: Settings, arrival_id: str) -> list[str]:
    with Ledger(settings.ledger_path, read_only=True) as ledger:
        if replays.by_id(ledger, arrival_id) is None:
            raise no_such_arrival(arrival_id)
    try:
        return retry(settings, arrival_id)
    except ReplayError as error:
        raise HTTPException(409, str(error)) from error
