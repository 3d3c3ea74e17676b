"""The FastAPI application of the drop page and its uvicorn server."""

import asyncio
import resource
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import uvicorn
from fastapi import APIRouter, FastAPI
from starlette.datastructures import MutableHeaders
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from sensors.access.accounts import Role
from sensors.access.log_ins import Audit, LogIns, audit_of
from sensors.access.origins import OwnNames, is_loopback
from sensors.config.inboxes import Inbox
from sensors.config.settings import EVERYWHERE, Auth, Settings
from sensors.ledger import Ledger
from sensors.runtime.clock import Clock
from sensors.web.auth import AccessMiddleware, NeedsRole, PageAccess, check_roles, needs
from sensors.web.formats import add_error_pages, refusal_page
from sensors.web.live import Live, Snapshot
from sensors.web.queries import Queries, SensorState
from sensors.web.routes import (
    SHOWN_ARRIVALS,
    api_routes,
    dismissal_routes,
    event_maker,
    page_routes,
    retry_route,
    stream_route,
    templates_of,
)
from sensors.web.upload_routes import upload_routes
from sensors.web.uploads import uploads_of

# Connection handling of the drop page: idle timeouts, responses to rejected uploads, security headers.
#
# Idle connections are closed so that they do not use up MOST_CONNECTIONS. The two ASGI middlewares wrap the whole
# application, the Guard included.

IDLE_SECONDS = 15.0
"""Seconds between idle checks. A connection that is idle at two checks in a row is closed, so a client has up to twice
this time to send a request's head; `uploads.Patience` limits the time for the body."""
MOST_CONNECTIONS = 1000
"""Requests on further connections get 503."""


class IdleTimeoutProtocol(H11Protocol):
    """Uvicorn's HTTP protocol with an idle timeout: on its own it waits indefinitely for a request's head."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start the idle timer."""
        super().connection_made(transport)
        self._seen: Any = object()
        self._look_again()

    def _look_again(self) -> None:
        self._looking = self.loop.call_later(IDLE_SECONDS, self._look)

    def _look(self) -> None:
        cycle: RequestResponseCycle | None = cast(Any, self).cycle  # None until the first request
        is_idle = cycle is None or cycle.response_complete
        if is_idle and self._seen is cycle:
            self.transport.close()
            return
        self._seen = cycle if is_idle else object()
        self._look_again()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the idle timer."""
        self._looking.cancel()
        super().connection_lost(exc)


def allow_connections() -> None:
    """Raise this process's limit of open files; many systems set it to about MOST_CONNECTIONS."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * MOST_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


LINGER_SECONDS = 2.0
"""How long to read and discard the rest of a request's body after the response was sent."""


class DrainRequestBody:
    """ASGI middleware that lets a client read the error response to a rejected upload before the connection closes.

    If a socket is closed with unread bytes, the kernel sends RST and the client never sees the response: nginx
    turns it into a 502. RFC 9112, section 9.6, asks servers to go on reading for a while.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; end its response when the whole body was read or after LINGER_SECONDS."""
        if scope["type"] != "http" or not _is_sending(scope):
            await self._app(scope, receive, send)
            return
        has_come = False

        async def noting() -> Message:
            nonlocal has_come
            message = await receive()
            has_come = not message.get("more_body", False)
            return message

        async def lingering(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not is_last or has_come:
                await send(message)
                return
            await send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    while not has_come:
                        await noting()
            await send({"type": "http.response.body"})

        await self._app(scope, noting, lingering)


def _is_sending(scope: Scope) -> bool:
    """Return whether the client is sending a body; with an Expect header it sends none before it is asked to."""
    headers = dict(scope["headers"])
    has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
    return has_body and b"expect" not in headers


CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
"""No content from other sites and no inline scripts or styles, so a file's name cannot become a script."""

_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class SecurityHeaders:
    """Adds security headers; never overrides one that the response already set."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request and add the headers to its response."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


STATIC = Path(__file__).with_name("static")
ALONE = SensorState()
"""The state for a page without a running sensor."""


def make_page(
    settings: Settings,
    inboxes: Sequence[Inbox],
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
    *,
    clock: Clock,
    sensor: SensorState = ALONE,
    wake: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Return the application; `wake` starts pending announcements immediately."""
    audit = audit_of(settings.logs_dir)
    reading = Queries(settings, inboxes, clock, sensor)
    templates = templates_of(reading)
    app = FastAPI(
        title="Drop page",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # FastAPI's own route would need no role
        # Redirects would name http and the internal port, and both are wrong behind a proxy.
        redirect_slashes=False,
    )
    app.state.audit = audit
    app.include_router(upload_routes(uploads_of(settings), {inbox.name: inbox for inbox in inboxes}))
    app.include_router(api_routes(reading))
    app.include_router(retry_route(settings, wake))
    app.include_router(dismissal_routes(reading))
    app.include_router(stream_route(_live(reading), event_maker(templates)))
    app.include_router(page_routes(reading, templates))
    app.include_router(openapi_route(app))
    app.mount("/static", NeedsRole(StaticFiles(directory=STATIC), Role.LOOK))
    check_roles(app)
    add_error_pages(app, templates)
    app.add_middleware(AccessMiddleware, access=_access(settings, audit, clock), page=refusal_page(templates))
    app.add_middleware(SecurityHeaders)
    app.add_middleware(DrainRequestBody)
    return app


def openapi_route(app: FastAPI) -> APIRouter:
    """Return the route of the OpenAPI document."""
    router = APIRouter(include_in_schema=False)

    @router.get("/openapi.json", dependencies=[needs(Role.LOOK)])
    def openapi() -> dict[str, Any]:
        return app.openapi()

    return router


def serve(app: FastAPI, settings: Settings) -> None:
    """Serve the page on SENSOR_HOST and SENSOR_PORT until SIGTERM or SIGINT."""
    allow_connections()
    uvicorn.Server(server_config(app, settings)).run()


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return uvicorn's configuration for the page."""
    return uvicorn.Config(
        app,
        host=settings.sensor_host,
        port=settings.sensor_port,
        http=IdleTimeoutProtocol,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=1,  # an open page keeps its stream indefinitely
        log_config=None,
        access_log=False,
        server_header=False,
        # The client's address is used for log-ins and the audit log; only trusted proxies may set it.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies.split(),
    )


def _live(reading: Queries) -> Live:
    def look() -> Snapshot:
        inboxes, arrivals = reading.inboxes_and_arrivals(SHOWN_ARRIVALS)
        return Snapshot(
            {view.name: view for view in inboxes}, {view.id: view for view in arrivals}, reading.sensor.services()
        )

    return Live(look, lambda: Ledger(reading.settings.ledger_path, read_only=True), reading.sensor.services)


def _access(settings: Settings, audit: Audit, clock: Clock) -> PageAccess:
    names = {urlsplit(settings.drop_page_url).hostname or "", settings.sensor_host} - EVERYWHERE
    return PageAccess(
        LogIns(settings.page_accounts, audit, clock.monotonic, "page"),
        is_open=settings.auth is Auth.OFF,
        upload_token=settings.upload_token.get_secret_value() or None,
        names=OwnNames(frozenset(names) - {""}, frozenset({settings.drop_page_url.rstrip("/").lower()}) - {""}),
        is_reachable=not is_loopback(settings.sensor_host),
    )
