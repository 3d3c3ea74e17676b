"""Template filters that format times, sizes, counts and durations, and errors as a page or as JSON."""

import sqlite3
from collections.abc import Callable
from datetime import datetime, tzinfo
from functools import partial
from http import HTTPStatus
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sensors.access.origins import Rejection
from sensors.ledger import LedgerError
from sensors.ledger.database import refusal_of
from sensors.runtime import text
from sensors.runtime.clock import Clock


def filters(zone: tzinfo, clock: Clock) -> dict[str, Callable[..., str]]:
    """Return the filters by their names in the templates."""

    def when(moment: datetime | None) -> str:
        return text.day_or_time(moment, clock.utc(), zone)

    return {
        "local": partial(text.local_time, zone=zone),
        "clock_time": partial(text.clock_time, zone=zone),
        "size": text.size,
        "duration": text.duration,
        "number": text.number,
        "counted": text.counted,
        "machine": text.machine_time,
        "when": when,
    }


# Render errors as an HTML page for a browser or as JSON for a script.


def wants_page(accept: str) -> bool:
    """Return whether an Accept header asks for HTML, as browsers do."""
    return "text/html" in accept


def add_error_pages(app: FastAPI, templates: Environment) -> None:
    """Render errors as JSON or HTML, as the Accept header asks."""

    def shown(request: Request, status: int, detail: str) -> Response | None:
        if not wants_page(request.headers.get("accept", "")):
            return None
        page = templates.get_template("error.html").render(
            status=status, phrase=HTTPStatus(status).phrase, detail=detail, path=request.url.path
        )
        return HTMLResponse(page, status)

    async def refused(request: Request, error: Exception) -> Response:
        error = cast(HTTPException, error)
        found = shown(request, error.status_code, str(error.detail))
        if found is None:
            return await http_exception_handler(request, error)
        found.headers.update(error.headers or {})
        return found

    async def misunderstood(request: Request, error: Exception) -> Response:
        error = cast(RequestValidationError, error)
        said = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
        return shown(request, 422, said) or await request_validation_exception_handler(request, error)

    async def in_trouble(request: Request, error: Exception) -> Response:
        said = refusal_of(error) if isinstance(error, sqlite3.Error) else str(error)
        return shown(request, 503, said) or JSONResponse({"detail": said}, 503)

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, misunderstood)
    app.add_exception_handler(LedgerError, in_trouble)
    app.add_exception_handler(sqlite3.Error, in_trouble)


def refusal_page(templates: Environment) -> Callable[[Rejection], str]:
    """Return a function that renders the page for a rejected request.

    The page needs no other file, as a request for that would be rejected too.
    """

    def page(refusal: Rejection) -> str:
        return templates.get_template("refused.html").render(
            status=refusal.status, phrase=HTTPStatus(refusal.status).phrase, reason=refusal.reason
        )

    return page
