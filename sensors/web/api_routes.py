"""The addresses of what is known, for scripts: inboxes, arrivals, days, bad files."""

from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import StreamingResponse

from sensors.access.accounts import Role
from sensors.config.admission_part import readable
from sensors.reports.days import Day
from sensors.web import parameters
from sensors.web.download import download
from sensors.web.models import ArrivalView, FileView, InboxView, JourneyView
from sensors.web.queries import Reading
from sensors.web.roles import needs
from sensors.web.upload_routes import Answer

_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Answer}}


def api_routes(reading: Reading) -> APIRouter:
    """Return the routes; each answer is of one moment."""
    router = APIRouter(tags=["arrivals"])

    @router.get("/api/inboxes", dependencies=[needs(Role.LOOK)])
    def inboxes() -> list[InboxView]:
        """Tell how every inbox is."""
        return reading.inbox_views()

    @router.get("/api/arrivals", dependencies=[needs(Role.LOOK)])
    def arrivals(
        limit: parameters.Limit = 50, inbox: str | None = None, before: parameters.Moment | None = None
    ) -> list[ArrivalView]:
        """Tell of the latest arrivals, the newest first."""
        return reading.arrivals(limit, inbox, before)

    @router.get("/api/arrivals/{arrival_id}", dependencies=[needs(Role.LOOK)], responses=_NOT_FOUND)
    def journey(arrival_id: str, files: parameters.MostFiles = 200) -> JourneyView:
        """Tell the whole journey of an arrival, with at most `files` of its files, those that need a person first."""
        found = reading.journey(arrival_id, files)
        if found is None:
            raise no_such_arrival(arrival_id)
        return found

    @router.get("/api/day", dependencies=[needs(Role.LOOK)])
    def day(day: parameters.DayParameter | None = None, inbox: str | None = None) -> Day:
        """Tell what each hour of a local day had; today's unless another is asked for."""
        return reading.day(day, inbox)

    @router.get("/api/bad-files", dependencies=[needs(Role.LOOK)])
    def bad_files(limit: parameters.Limit = 50, inbox: str | None = None) -> list[FileView]:
        """Tell which files were not loaded, and why, the latest first."""
        return reading.bad_files(limit, inbox)

    @router.get("/files/{file_id}", dependencies=[needs(Role.LOOK)], responses=_NOT_FOUND)
    def file(file_id: parameters.FileId) -> StreamingResponse:
        """Give the bytes of a file."""
        found = reading.file(file_id)
        if found is None:
            raise HTTPException(404, f"there is no file {file_id}")
        return download(found)

    return router


def no_such_arrival(arrival_id: str) -> HTTPException:
    """Return the answer for an id that no arrival has."""
    return HTTPException(404, f"there is no arrival {readable(arrival_id)[:100]}")
