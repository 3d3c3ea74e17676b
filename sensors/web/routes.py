"""The pages that people read: all there is to see, an arrival, a day, what went wrong."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse
from fastapi.sse import ServerSentEvent
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sensors.access.accounts import Role
from sensors.web import parameters
from sensors.web.api_routes import no_such_arrival
from sensors.web.day_plots import day_plots
from sensors.web.formats import filters
from sensors.web.live import Change
from sensors.web.models import ArrivalView, file_view
from sensors.web.queries import Reading
from sensors.web.roles import needs, visitor_of
from sensors.web.services import Services
from sensors.web.why import why

TEMPLATES = Path(__file__).with_name("templates")
SHOWN_ARRIVALS = 50
SHOWN_ON_OVERVIEW = 20
SHOWN_BAD_FILES = 200
ONE_DAY = timedelta(days=1)


def templates_of(reading: Reading) -> Environment:
    """Return the templates; whatever a file's name holds is escaped in them."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters(reading.zone(), reading.clock))
    cast(dict[str, object], environment.globals)["prefect_page"] = reading.settings.prefect_page
    return environment


def event_maker(templates: Environment) -> Callable[[Change], ServerSentEvent]:
    """Return what makes a change into the event that a page puts in the place of what it shows."""
    parts = cast(Any, templates.get_template("parts.html").module)

    def event_of(change: Change) -> ServerSentEvent:
        if isinstance(change, Services):
            return ServerSentEvent(event="services", data={"well": change.are_well})
        if isinstance(change, ArrivalView):
            return ServerSentEvent(event="arrival", data={"id": change.id, "html": str(parts.arrival(change))})
        return ServerSentEvent(event="inbox", data={"id": change.name, "html": str(parts.inbox(change))})

    return event_of


def page_routes(reading: Reading, templates: Environment) -> APIRouter:
    """Return the routes of the pages."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    names = [inbox.name for inbox in reading.inboxes]

    def shown(name: str, request: Request, **what: object) -> HTMLResponse:
        may = visitor_of(request).roles
        return HTMLResponse(
            templates.get_template(name).render(path=request.url.path, inbox_names=names, may=may, **what)
        )

    @router.get("/", dependencies=[needs(Role.LOOK)])
    def overview(request: Request) -> HTMLResponse:
        inboxes, arrivals = reading.inboxes_and_arrivals(SHOWN_ON_OVERVIEW)
        services = reading.sensor.services()
        return shown(
            "overview.html",
            request,
            inboxes=inboxes,
            arrivals=arrivals,
            attention=reading.attention(services),
            services=services,
            most=SHOWN_ON_OVERVIEW,
        )

    @router.get("/arrivals", dependencies=[needs(Role.LOOK)])
    def arrivals(request: Request, inbox: str = "", before: parameters.Moment | None = None) -> HTMLResponse:
        found = reading.arrivals(SHOWN_ARRIVALS + 1, inbox or None, before)
        shown_here, is_last = found[:SHOWN_ARRIVALS], len(found) <= SHOWN_ARRIVALS
        return shown(
            "arrivals.html",
            request,
            arrivals=shown_here,
            inbox=inbox,
            before=before,
            older=None if is_last else shown_here[-1].created_at,
            most=SHOWN_ARRIVALS,
        )

    @router.get("/arrivals/{arrival_id}", dependencies=[needs(Role.LOOK)])
    def arrival(request: Request, arrival_id: str) -> HTMLResponse:
        journey = reading.journey(arrival_id)
        if journey is None:
            raise no_such_arrival(arrival_id)
        return shown("arrival.html", request, journey=journey)

    @router.get("/day", dependencies=[needs(Role.LOOK)])
    def day(request: Request, day: parameters.DayParameter | None = None, inbox: str = "") -> HTMLResponse:
        today = reading.midnight().date()
        asked = day or today
        found = reading.day(asked, inbox or None)
        return shown(
            "day.html",
            request,
            day=found,
            plots=day_plots(found),
            date=asked,
            inbox=inbox,
            today=today,
            day_before=asked - ONE_DAY,
            day_after=asked + ONE_DAY if asked < today else None,
        )

    @router.get("/failed", dependencies=[needs(Role.LOOK)])
    def failed(request: Request, inbox: str = "") -> HTMLResponse:
        files = reading.bad_files(SHOWN_BAD_FILES, inbox or None)
        return shown("failed.html", request, files=files, inbox=inbox, most=SHOWN_BAD_FILES)

    @router.get("/files/{file_id}/why", dependencies=[needs(Role.LOOK)])
    def why_rejected(request: Request, file_id: parameters.FileId) -> HTMLResponse:
        file = reading.file(file_id)
        if file is None:
            raise HTTPException(404, f"there is no file {file_id}")
        return shown("why.html", request, file=file_view(file), why=why(file, reading.inboxes))

    return router
