"""Roles of routes: each route declares the one role that it needs; an application with one that does not is not made.

`dependencies=[needs(Role.DROP)]` on a route, `NeedsRole(app, Role.LOOK)` around a mounted application.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from sensors.access.accounts import UPLOADER, Role, Visitor
from sensors.access.audit import Action, Audit
from sensors.access.heads import client_of
from sensors.web.auth import CHALLENGE, NEEDED, OPEN, VISITOR

NO_ONE = Visitor("unknown", frozenset())


def visitor_of(request: Request) -> Visitor:
    """Return the visitor that the Guard has found; one without any role if it has not run."""
    return getattr(request.state, VISITOR, NO_ONE)


@dataclass(frozen=True)
class Asker:
    """The visitor behind a request and its audit log."""

    visitor: Visitor
    address: str
    audit: Audit

    def record(self, action: Action, **details: str | int) -> None:
        """Record what the visitor has done."""
        self.audit.record(action, self.visitor.name, self.address, **details)


def _asker(request: Request) -> Asker:
    return Asker(visitor_of(request), client_of(request.scope)[0], request.app.state.audit)


AskedBy = Annotated[Asker, Depends(_asker)]
"""The asker, as a parameter of a route."""


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
    """Return the dependency by which a route declares its role."""
    return Depends(_RequiredRole(role))


def rejection_of(visitor: Visitor, role: Role) -> str:
    """Return why a visitor may not do something."""
    has = max(visitor.roles, key=list(Role).index, default="none")
    return f"this needs the role {role}, and {visitor.name} has {has}; ask the operator to change PAGE_USERS in .env"


class NeedsRole:
    """ASGI application around one that is mounted, which has no dependencies."""

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
    """Yield method, path and declared roles of every route but those that are open (access.OPEN)."""
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
    """Raise TypeError if a route does not declare exactly one role: a mistake of the code, found at every start."""
    wrong = [f"{method} {path}" for method, path, roles in declared_roles(app) if len(roles) != 1]
    if wrong:
        raise TypeError(f"expected exactly one role for each route, dependencies=[needs(Role...)]: {', '.join(wrong)}")
