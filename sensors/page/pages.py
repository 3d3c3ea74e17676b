"""The pages that people read: all there is to see, an arrival, a day, what went wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from fastapi.sse import ServerSentEvent
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sensors.page import parameters
from sensors.page.api_routes import no_such_arrival
from sensors.page.live import Change
from sensors.page.reading import Reading
from sensors.page.views import ArrivalView
from sensors.page.wording import filters

TEMPLATES = Path(__file__).with_name("templates")
SHOWN_ARRIVALS = 50
SHOWN_BAD_FILES = 200


def templates_of(reading: Reading) -> Environment:
    """Return the templates; whatever a file's name holds is escaped in them."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters(reading.zone()))
    return environment


def event_maker(templates: Environment) -> Callable[[Change], ServerSentEvent]:
    """Return what makes a change into the event that a page puts in the place of what it shows."""
    parts = cast(Any, templates.get_template("parts.html").module)

    def event_of(change: Change) -> ServerSentEvent:
        if isinstance(change, ArrivalView):
            return ServerSentEvent(event="arrival", data={"id": change.id, "html": str(parts.arrival(change))})
        return ServerSentEvent(event="inbox", data={"id": change.name, "html": str(parts.inbox(change))})

    return event_of


def page_routes(reading: Reading, templates: Environment) -> APIRouter:
    """Return the routes of the pages."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    def shown(name: str, request: Request, **what: object) -> HTMLResponse:
        return HTMLResponse(
            templates.get_template(name).render(path=request.url.path, prefect_page=reading.settings.page_url, **what)
        )

    @router.get("/")
    def overview(request: Request) -> HTMLResponse:
        return shown(
            "overview.html",
            request,
            inboxes=reading.inbox_views(),
            arrivals=reading.arrivals(SHOWN_ARRIVALS),
            bad_files=reading.bad_files(5),
        )

    @router.get("/arrivals/{arrival_id}")
    def arrival(request: Request, arrival_id: str) -> HTMLResponse:
        journey = reading.journey(arrival_id)
        if journey is None:
            raise no_such_arrival(arrival_id)
        return shown("arrival.html", request, journey=journey)

    @router.get("/day")
    def day(request: Request, day: parameters.Day | None = None, inbox: str | None = None) -> HTMLResponse:
        asked = day or reading.midnight().date()
        return shown("day.html", request, day=reading.day(asked, inbox), date=asked, inbox=inbox)

    @router.get("/failed")
    def failed(request: Request, inbox: str | None = None) -> HTMLResponse:
        return shown("failed.html", request, files=reading.bad_files(SHOWN_BAD_FILES, inbox), inbox=inbox)

    return router
