"""Template filters that format times, sizes, counts and durations."""

import sqlite3
from collections.abc import Callable
from datetime import datetime, tzinfo
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
from sensors.runtime.clock import Clock


def in_zone(zone: tzinfo) -> Callable[[datetime | None], str]:
    """Return a filter that formats a time as `2026-11-24 09:00:00 CET`."""

    def local(moment: datetime | None) -> str:
        return "" if moment is None else f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"

    return local


def clock_time(zone: tzinfo) -> Callable[[datetime | None], str]:
    """Return a filter that formats a time as `09:00:00`."""

    def at(moment: datetime | None) -> str:
        return "" if moment is None else f"{moment.astimezone(zone):%H:%M:%S}"

    return at


def size(count: int) -> str:
    """Format a number of bytes, with decimal units.

    >>> [size(n) for n in (1, 999, 1_500, 2 * 10**9)]
    ['1 B', '999 B', '1.5 kB', '2.0 GB']
    """
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def duration(seconds: float | None) -> str:
    """Format a duration in seconds.

    >>> [duration(s) for s in (0.0421, 0.75, 12.34, 75.0, 7260.0, None)]
    ['0.04 s', '0.75 s', '12.3 s', '1 min 15 s', '2 h 1 min', '']
    """
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def number(count: int | None) -> str:
    """Format a count with thousands separators; None gives an empty string."""
    return "" if count is None else f"{count:,}"


def counted(count: int, one: str) -> str:
    """Format a count with its noun in singular or plural.

    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def short(count: float) -> str:
    """Format a number in at most five characters, for the axis of a plot.

    >>> [short(n) for n in (0, 7, 950, 1500, 20_000, 999_600, 3_400_000)]
    ['0', '7', '950', '1.5k', '20k', '1M', '3.4M']
    """
    for unit in ("", "k", "M"):
        if count < 999.5:  # three digits of more are 1e+03
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g}G"


def machine(moment: datetime | None) -> str:
    """Format a time in ISO 8601, for the `datetime` attribute of <time>."""
    return "" if moment is None else moment.isoformat()


def today_by_time(zone: tzinfo, clock: Clock) -> Callable[[datetime | None], str]:
    """Return a filter that formats a time of today as `09:00:00`, and any other as `2026-11-24 09:00`."""

    def when(moment: datetime | None) -> str:
        if moment is None:
            return ""
        local = moment.astimezone(zone)
        is_today = local.date() == clock.utc().astimezone(zone).date()
        return f"{local:%H:%M:%S}" if is_today else f"{local:%Y-%m-%d %H:%M}"

    return when


def filters(zone: tzinfo, clock: Clock) -> dict[str, Callable[..., str]]:
    """Return the filters by their names in the templates."""
    return {
        "local": in_zone(zone),
        "clock_time": clock_time(zone),
        "size": size,
        "duration": duration,
        "number": number,
        "counted": counted,
        "machine": machine,
        "when": today_by_time(zone, clock),
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
