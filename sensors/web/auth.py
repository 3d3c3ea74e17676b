"""Authentication and authorization of requests to the drop page.

The Guard checks host name, origin and credentials before a request's body is read. Then each route checks the one role
that it declares: `dependencies=[needs(Role.DROP)]` on a route, `NeedsRole(app, Role.LOOK)` around a mounted
application. `check_roles` makes sure at every start that each route declares one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from sensors.access.accounts import ANYONE, UPLOADER, Account, Role, Visitor, basic_credentials, bearer_token
from sensors.access.log_ins import Action, Audit, Client, LogIns, client_of, headers_of, retry_after, server_of
from sensors.access.origins import READING, OwnNames, Rejection

OPEN = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths served without credentials: health and metrics. The reason why the sensor is unhealthy may name a file path."""
CHALLENGE = 'Basic realm="drop page", charset="UTF-8"'
NEEDED = "credentials are needed: those of Prefect's page, PREFECT_API_AUTH_STRING in .env"
VISITOR = "visitor"
"""The key of the request's state that holds the Visitor."""


@dataclass(frozen=True)
class RequestHead:
    """The head of a request; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    client: Client = ("unknown", 0)
    server: Client = ("unknown", 0)


@dataclass(frozen=True)
class PageAccess:
    """The access rules: host names and origins of the page, and accepted credentials."""

    log_ins: LogIns
    is_open: bool = False
    """Whether AUTH=off: no credentials are needed."""
    upload_token: str | None = None
    """A bearer token that allows uploads and nothing else."""
    names: OwnNames = field(default_factory=OwnNames)
    is_reachable: bool = False
    """Whether the page listens beyond the loopback; the OPEN paths are then served under any host name, for
    Prometheus."""

    def visitor(self, asked: RequestHead) -> Visitor | Rejection:
        """Return the visitor of a request, or why it is rejected. Requests for OPEN paths get one without roles."""
        is_open = asked.path in OPEN and asked.method in READING
        if rejection := self.names.wrong_host(asked.headers.get("host", "")):
            return Visitor("unknown", frozenset()) if is_open and self.is_reachable else rejection
        if is_open:
            return Visitor("unknown", frozenset())
        if asked.method not in READING and (rejection := self.names.wrong_origin(asked.headers)):
            return rejection
        return ANYONE if self.is_open else self._known(asked)

    def _known(self, asked: RequestHead) -> Visitor | Rejection:
        authorization = asked.headers.get("authorization", "")
        found: Account | Visitor | Rejection | None = None
        if (given := basic_credentials(authorization)) is not None:
            found = self.log_ins.check(given, asked.client, asked.server)
        elif self.upload_token and _is_upload(asked) and (token := bearer_token(authorization)) is not None:
            found = self.log_ins.check_token(token, self.upload_token, UPLOADER, asked.client, asked.server)
        if isinstance(found, Account):
            return found.visitor
        return found or Rejection(401, NEEDED)


def _is_upload(asked: RequestHead) -> bool:
    return asked.method == "PUT" and asked.path.startswith("/inbox/")


class AccessMiddleware:
    """ASGI middleware that rejects requests by the access rules and stores the Visitor in the state of all others."""

    def __init__(self, app: ASGIApp, access: PageAccess, page: Callable[[Rejection], str] | None = None) -> None:
        """`page` renders the HTML that a browser gets instead of the plain reason."""
        self._app = app
        self._access = access
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or reject it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = RequestHead(scope["method"], scope["path"], headers_of(scope), client_of(scope), server_of(scope))
        found = self._access.visitor(asked)
        if isinstance(found, Visitor):
            scope.setdefault("state", {})[VISITOR] = found
            await self._app(scope, receive, send)
            return
        headers = {"WWW-Authenticate": CHALLENGE} if found.status == 401 else retry_after(found)
        # Do not wait for the rest of the request's body.
        headers["Connection"] = "close"
        if self._page is not None and "text/html" in asked.headers.get("accept", ""):
            answer = HTMLResponse(self._page(found), found.status, headers)
        else:
            answer = PlainTextResponse(f"{found.reason}\n", found.status, headers)
        await answer(scope, receive, send)


NO_ONE = Visitor("unknown", frozenset())


def visitor_of(request: Request) -> Visitor:
    """Return the visitor that the Guard stored, or one without roles if the Guard did not run."""
    return getattr(request.state, VISITOR, NO_ONE)


@dataclass(frozen=True)
class Requester:
    """The visitor and address of a request, with the audit log that records its actions."""

    visitor: Visitor
    address: str
    audit: Audit

    def record(self, action: Action, **details: str | int) -> None:
        """Record an action of the visitor in the audit log."""
        self.audit.record(action, self.visitor.name, self.address, **details)


def _asker(request: Request) -> Requester:
    return Requester(visitor_of(request), client_of(request.scope)[0], request.app.state.audit)


AskedBy = Annotated[Requester, Depends(_asker)]
"""The type of a route's parameter that receives the Asker."""


class _RequiredRole:
    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, request: Request) -> None:
        visitor = visitor_of(request)
        if not visitor.may(self.role):
            _record(request.scope, visitor, self.role)
            if visitor in {UPLOADER, NO_ONE}:
                raise HTTPException(401, NEEDED, {"WWW-Authenticate": CHALLENGE})
            raise HTTPException(403, rejection_of(visitor, self.role))


def needs(role: Role) -> Any:
    """Return the FastAPI dependency by which a route declares its role."""
    return Depends(_RequiredRole(role))


def rejection_of(visitor: Visitor, role: Role) -> str:
    """Return why a visitor may not do something."""
    has = max(visitor.roles, key=list(Role).index, default="none")
    return f"this needs the role {role}, and {visitor.name} has {has}; ask the operator to change PAGE_USERS in .env"


class NeedsRole:
    """ASGI wrapper that checks a role for a mounted application, which cannot have dependencies."""

    def __init__(self, app: ASGIApp, role: Role) -> None:
        self._app = app
        self.role = role

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or reject it."""
        visitor: Visitor = scope.get("state", {}).get(VISITOR, NO_ONE)
        if visitor.may(self.role):
            await self._app(scope, receive, send)
            return
        _record(scope, visitor, self.role)
        await PlainTextResponse(f"{rejection_of(visitor, self.role)}\n", 403)(scope, receive, send)


def _record(scope: Scope, visitor: Visitor, role: Role) -> None:
    audit: Audit = scope["app"].state.audit
    path, method = scope["path"], scope["method"]
    audit.record(Action.ROLE_REJECTED, visitor.name, client_of(scope)[0], needs=role.value, path=path, method=method)


def declared_roles(app: FastAPI) -> Iterator[tuple[str, str, tuple[Role, ...]]]:
    """Yield method, path and declared roles of every route whose path is not in OPEN."""
    for route in iter_route_contexts(app.routes):
        path = route.path or ""
        if path in OPEN:
            continue
        original = route.original_route
        roles: tuple[Role, ...] = ()
        if isinstance(original, APIRoute):
            calls = [one.call for one in route.dependant.dependencies]
            roles = tuple(call.role for call in calls if isinstance(call, _RequiredRole))
        elif isinstance(original, Mount) and isinstance(original.app, NeedsRole):
            roles = (original.app.role,)
        for method in sorted(route.methods or {"GET"}):
            yield method, path, roles


def check_roles(app: FastAPI) -> None:
    """Raise TypeError if a route does not declare exactly one role, which is a bug."""
    wrong = [f"{method} {path}" for method, path, roles in declared_roles(app) if len(roles) != 1]
    if wrong:
        raise TypeError(f"expected exactly one role for each route, dependencies=[needs(Role...)]: {', '.join(wrong)}")
