"""Routes that read: the JSON API, the HTML pages and the stream of server-sent events.

Request parameters have limits: a number or date outside of them gets 422 instead of an error in SQLite or `datetime`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, cast

from annotated_types import Interval
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import AwareDatetime, BaseModel, Field
from starlette.concurrency import run_in_threadpool

from sensors.access.accounts import Role
from sensors.access.log_ins import Action
from sensors.config.settings import Settings
from sensors.ledger import Ledger, arrivals
from sensors.ledger import files as ledger_files
from sensors.recovery.replay import ReplayError, dismissed, retry
from sensors.reports.days import Day
from sensors.runtime.text import readable
from sensors.web.attention import Services
from sensors.web.auth import AskedBy, needs, visitor_of
from sensors.web.charts import day_plots
from sensors.web.formats import filters, wants_page
from sensors.web.live import Change, Live, TooManyPagesError
from sensors.web.models import ArrivalView, FileView, InboxView, JourneyView
from sensors.web.queries import Queries
from sensors.web.upload_routes import Answer, download, why

FileId = Annotated[int, Field(ge=0, le=2**63 - 1)]
RunKey = Annotated[str, PathParameter(pattern=r"^[0-9A-Za-z-]{1,64}$")]
"""The id of a run, or for a missing run the id of its deployment."""
Limit = Annotated[int, Query(ge=1, le=500)]
MostFiles = Annotated[int, Query(ge=0, le=10_000)]
# Python has no dates after 9999-12-31, and a conversion to a time zone may need one.
DayParameter = Annotated[date, Interval(ge=date(2000, 1, 1), le=date(2999, 12, 31))]
Moment = Annotated[AwareDatetime, Interval(ge=datetime(2000, 1, 1, tzinfo=UTC), le=datetime(2999, 12, 31, tzinfo=UTC))]


_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Answer}}


def api_routes(reading: Queries) -> APIRouter:
    """Return the routes of the JSON API; each response is read from one snapshot of the ledger."""
    router = APIRouter(tags=["arrivals"])

    @router.get("/api/inboxes", dependencies=[needs(Role.LOOK)])
    def inboxes() -> list[InboxView]:
        """Return the state of every inbox."""
        return reading.inbox_views()

    @router.get("/api/arrivals", dependencies=[needs(Role.LOOK)])
    def arrivals(limit: Limit = 50, inbox: str | None = None, before: Moment | None = None) -> list[ArrivalView]:
        """Return the latest arrivals, newest first."""
        return reading.arrivals(limit, inbox, before)

    @router.get("/api/arrivals/{arrival_id}", dependencies=[needs(Role.LOOK)], responses=_NOT_FOUND)
    def journey(arrival_id: str, files: MostFiles = 200) -> JourneyView:
        """Return the whole journey of an arrival with at most `files` of its files, rejected and failed ones first."""
        found = reading.journey(arrival_id, files)
        if found is None:
            raise no_such_arrival(arrival_id)
        return found

    @router.get("/api/day", dependencies=[needs(Role.LOOK)])
    def day(day: DayParameter | None = None, inbox: str | None = None) -> Day:
        """Return the figures of each hour of a local day, by default today."""
        return reading.day(day, inbox)

    @router.get("/api/bad-files", dependencies=[needs(Role.LOOK)])
    def bad_files(limit: Limit = 50, inbox: str | None = None) -> list[FileView]:
        """Return the files that were not loaded and the reasons, latest first."""
        return reading.bad_files(limit, inbox)

    @router.get("/files/{file_id}", dependencies=[needs(Role.LOOK)], responses=_NOT_FOUND)
    def file(file_id: FileId) -> StreamingResponse:
        """Return the content of a file."""
        found = reading.file(file_id)
        if found is None:
            raise HTTPException(404, f"there is no file {file_id}")
        return download(found)

    return router


def no_such_arrival(arrival_id: str) -> HTTPException:
    """Return the error (404) for an id that no arrival has."""
    return HTTPException(404, f"there is no arrival {readable(arrival_id)[:100]}")


TEMPLATES = Path(__file__).with_name("templates")
SHOWN_ARRIVALS = 50
SHOWN_ON_OVERVIEW = 20
SHOWN_BAD_FILES = 200
ONE_DAY = timedelta(days=1)


def templates_of(reading: Queries) -> Environment:
    """Return the Jinja environment; it escapes all values, such as file names."""
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
    """Return a function that renders a change as the server-sent event from which an open page updates itself."""
    parts = cast(Any, templates.get_template("parts.html").module)

    def event_of(change: Change) -> ServerSentEvent:
        if isinstance(change, Services):
            return ServerSentEvent(event="services", data={"well": change.are_well})
        if isinstance(change, ArrivalView):
            return ServerSentEvent(event="arrival", data={"id": change.id, "html": str(parts.arrival(change))})
        return ServerSentEvent(event="inbox", data={"id": change.name, "html": str(parts.inbox(change))})

    return event_of


def page_routes(reading: Queries, templates: Environment) -> APIRouter:
    """Return the routes of the HTML pages."""
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
    def arrivals(request: Request, inbox: str = "", before: Moment | None = None) -> HTMLResponse:
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
    def day(request: Request, day: DayParameter | None = None, inbox: str = "") -> HTMLResponse:
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
    def why_rejected(request: Request, file_id: FileId) -> HTMLResponse:
        file = reading.file(file_id)
        if file is None:
            raise HTTPException(404, f"there is no file {file_id}")
        return shown("why.html", request, file=FileView.model_validate(file), why=why(file, reading.inboxes))

    return router


FULL_MILLISECONDS = 60_000
"""When a page that got no stream tries again."""


def stream_route(live: Live, event_of: Callable[[Change], ServerSentEvent]) -> APIRouter:
    """Return the route `/stream`; `event_of` renders a change as an event."""
    router = APIRouter(tags=["arrivals"])

    # A dependency of the request, not a `with` in the generator: a generator that is left suspended would keep its page
    # registered, and the ledger polled, until it is garbage-collected.
    async def page() -> AsyncIterator[asyncio.Queue[Change | None] | None]:
        try:
            async with live.page() as queue:
                yield queue
        except TooManyPagesError:
            yield None

    @router.get("/stream", dependencies=[needs(Role.LOOK)], response_class=EventSourceResponse)
    async def stream(
        queue: Annotated[asyncio.Queue[Change | None] | None, Depends(page)],
    ) -> AsyncIterator[ServerSentEvent]:
        """Send the present state and then every change, as server-sent events `inbox`, `arrival` and `services`."""
        if queue is None:
            yield ServerSentEvent(event="full", data="too many pages are open", retry=FULL_MILLISECONDS)
            return
        while (change := await queue.get()) is not None:
            yield event_of(change)

    return router


# Routes that retry an arrival and that dismiss files and runs; they need Role.OPERATE and are audited.
#
# A browser that sends a form is redirected to a page; a script gets JSON.


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
        lines = await run_in_threadpool(_retried, settings, arrival_id)
        asker.record(Action.RETRY, arrival=arrival_id)
        wake()
        if wants_page(request.headers.get("accept", "")):
            return RedirectResponse(f"/arrivals/{arrival_id}", 303)
        return JSONResponse({"told": lines})

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


def dismissal_routes(reading: Queries) -> APIRouter:
    """Return the routes that dismiss files and runs."""
    settings, clock = reading.settings, reading.clock
    router = APIRouter(tags=["arrivals"])

    @router.post("/files/{file_id}/dismiss", dependencies=[needs(Role.OPERATE)], responses=_ANSWERS)
    async def dismiss(file_id: FileId, request: Request, asker: AskedBy) -> Response:
        """Dismiss a file that was not loaded, so that it no longer needs attention."""
        count = await run_in_threadpool(one_file, file_id)
        asker.record(Action.DISMISS, file_id=file_id, files=count)
        return _told(count, request)

    @router.post("/files/dismiss", dependencies=[needs(Role.OPERATE)], responses=_ANSWERS)
    async def dismiss_all(until: Moment, request: Request, asker: AskedBy) -> Response:
        """Dismiss all files that ended no later than `until`: those that the user has seen, and none since."""
        count = await run_in_threadpool(all_files, until)
        asker.record(Action.DISMISS, until=until.isoformat(), files=count)
        return _told(count, request)

    @router.post(
        "/runs/{run}/dismiss",
        dependencies=[needs(Role.OPERATE)],
        responses={200: {"model": ActionResult}, **_NOT_FOUND},
    )
    async def dismiss_run(run: RunKey, request: Request, asker: AskedBy) -> Response:
        """Dismiss a run that failed, is missing or takes long."""
        is_known = any(one.key == run and one.is_dismissable for one in reading.sensor.run_issues())
        if is_known:
            await run_in_threadpool(one_run, run)
            asker.record(Action.DISMISS, run=run)
        if wants_page(request.headers.get("accept", "")):  # a form without JavaScript; sending it twice is no error
            return RedirectResponse("/", 303)
        if not is_known:
            raise HTTPException(404, f"there is no such run that needs attention: {run}")
        return JSONResponse({"told": ["the run needs attention no more, unless it fails once more"]})

    def one_run(run: str) -> None:
        with Ledger(settings.ledger_path, make=False) as ledger:
            ledger_files.record_runs(ledger, [run], clock.utc())

    def one_file(file_id: int) -> int:
        with Ledger(settings.ledger_path, make=False) as ledger:
            return ledger_files.record_file(ledger, file_id, clock.utc())

    def all_files(until: datetime) -> int:
        with Ledger(settings.ledger_path, make=False) as ledger:
            return ledger_files.record_until(ledger, until, clock.utc())

    return router


def _told(count: int, request: Request) -> Response:
    if wants_page(request.headers.get("accept", "")):  # a form without JavaScript; sending it twice is no error
        return RedirectResponse("/", 303)
    if not count:
        raise HTTPException(409, "no such file needs attention any more")
    return JSONResponse({"told": [dismissed(count)]})
