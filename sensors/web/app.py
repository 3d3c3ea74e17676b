"""The FastAPI application of the drop page and its uvicorn server."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import APIRouter, FastAPI
from starlette.staticfiles import StaticFiles

from sensors.access.accounts import Role
from sensors.access.log_ins import Audit, LogIns, audit_of
from sensors.access.origins import OwnNames, is_loopback
from sensors.config.inboxes import Inbox
from sensors.config.profile import EVERYWHERE
from sensors.config.settings import Auth, Settings
from sensors.ledger import Ledger
from sensors.runtime.clock import Clock
from sensors.web.auth import AccessMiddleware, NeedsRole, PageAccess, check_roles, needs
from sensors.web.connections import (
    MOST_CONNECTIONS,
    DrainRequestBody,
    IdleTimeoutProtocol,
    SecurityHeaders,
    allow_connections,
)
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
    app.include_router(dismissal_routes(settings, clock))
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
