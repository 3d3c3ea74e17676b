"""ASGI middleware around Prefect's API: checks Host and Origin, limits failed log-ins, records runs started by hand.

`python -m sensors.stack.api_front server start ...` is `prefect server start ...` with this middleware. Prefect 3.8.8
accepts every Host and every Origin, also on its websockets: any web page that a user has open could start runs with
AUTH=off, or with AUTH=on by using the credentials that the browser keeps. Prefect's own settings restrict CORS only,
which hides responses from a page and stops no request.

Prefect's own command starts the server; the `uvicorn.run` that it calls is replaced by one that wraps the application.
`just up` checks that the middleware is in place (`check_front` in health.py), and fails without it.
"""

import json
import os
import re
import runpy
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sensors.access.accounts import Account, Role, account_of, basic_credentials
from sensors.access.log_ins import (
    Action,
    Audit,
    Client,
    LogIns,
    audit_of,
    client_of,
    headers_of,
    retry_after,
    server_of,
)
from sensors.access.origins import READING, OwnNames, Rejection, name_of
from sensors.config.settings import Auth, Settings, read_settings
from sensors.stack.environment import CORS_ORIGINS
from sensors.stack.services import prefect_command

_OPEN = frozenset({"/api/health", "/api/ready"})
_RUN_BY_HAND = re.compile(r"/api/deployments/([0-9a-f-]{36})/create_flow_run/?")
_ADD = "set PAGE_URL to the address that it has"


class ApiFront:
    """ASGI middleware around Prefect's server."""

    def __init__(self, app: ASGIApp, names: OwnNames, log_ins: LogIns, audit: Audit, *, is_open: bool) -> None:
        """`is_open` (AUTH=off): no credentials protect the API, so only requests to its own host names are served."""
        self._app = app
        self._names = names
        self._log_ins = log_ins
        self._audit = audit
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request or a websocket on to Prefect, or reject it."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _foreign(self, headers: Mapping[str, str], *, changes: bool) -> Rejection | None:
        if self._is_open and (rejection := self._names.wrong_host(headers.get("host", ""))):
            return rejection
        return self._names.wrong_origin(headers) if changes else None

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        method, path = scope["method"], scope["path"]
        rejection = self._foreign(headers, changes=method not in READING)
        user = "anyone"
        if rejection is None and not self._is_open and path not in _OPEN:
            given = basic_credentials(headers.get("authorization", ""))
            found = None if given is None else self._log_ins.check(given, client_of(scope), server_of(scope))
            if isinstance(found, Rejection):
                rejection = found
            elif given is not None and found is None:
                rejection = Rejection(401, "Unauthorized")
            user = found.user if isinstance(found, Account) else "unknown"
        if rejection is not None:
            await _answer(rejection)(scope, receive, send)
            return
        if (run := _RUN_BY_HAND.fullmatch(path)) and method == "POST":
            send = self._recording(send, user, client_of(scope), run[1])
        await self._app(scope, receive, send)

    def _recording(self, send: Send, user: str, client: Client, deployment: str) -> Send:
        async def recording(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 300:
                self._audit.record(Action.RUN, user, client[0], deployment=deployment)
            await send(message)

        return recording

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        rejection = self._foreign(headers_of(scope), changes=True)
        if rejection is not None:
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": rejection.reason})
            return
        await self._app(scope, receive if self._is_open else self._checking(scope, receive), send)

    def _checking(self, scope: Scope, receive: Receive) -> Receive:
        """Count wrong credentials in the first message of a websocket; Prefect itself closes the websocket then.

        Over the limit of failed log-ins the message is replaced, so that correct credentials are rejected as well.
        """
        is_first = True

        async def checking() -> Message:
            nonlocal is_first
            message = await receive()
            if message["type"] != "websocket.receive" or not is_first:
                return message
            is_first = False
            given = _credentials_in(message)
            found = None if given is None else self._log_ins.check(given, client_of(scope), server_of(scope))
            if not isinstance(found, Rejection):
                return message
            return {"type": "websocket.receive", "text": json.dumps({"type": "auth", "token": ""})}

        return checking


def _credentials_in(message: Message) -> bytes | None:
    try:
        said: Any = json.loads(message.get("text") or message.get("bytes") or "")
        return said["token"].encode("utf-8", "replace")
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _answer(rejection: Rejection) -> JSONResponse:
    """Return an error response in the format of Prefect's own."""
    return JSONResponse({"exception_message": rejection.reason}, rejection.status, retry_after(rejection))


def own_names(settings: Settings, more: str) -> OwnNames:
    """Return the API's host names and origins; `more` are origins that the user allows, separated by commas."""
    names = {name_of(origin.partition("://")[2]) for origin in settings.api_origins}
    allowed = set[str]() if settings.auth is Auth.OFF else {one.strip().rstrip("/").lower() for one in more.split(",")}
    return OwnNames(frozenset(names), frozenset({*settings.api_origins, *allowed}) - {""}, _ADD)


def front_of(app: ASGIApp, settings: Settings, clock: Callable[[], float] = time.monotonic) -> ApiFront:
    """Return the application with the middleware around it."""
    audit = audit_of(settings.logs_dir)
    accounts = [account_of(settings.auth_string, Role.OPERATE)] if settings.auth_string else []
    return ApiFront(
        app,
        own_names(settings, os.environ.get(CORS_ORIGINS, "")),
        LogIns(accounts, audit, clock, "api"),
        audit,
        is_open=settings.auth is Auth.OFF,
    )


def main() -> None:
    """Run Prefect's command with the middleware around its server."""
    settings = read_settings()
    run = uvicorn.run

    def run_behind_front(app: ASGIApp, **options: Any) -> None:
        run(front_of(app, settings), **{**options, **forwarding(settings)})

    uvicorn.run = cast(Any, run_behind_front)
    sys.argv[0] = command = prefect_command(settings)
    runpy.run_module(command, run_name="__main__")


def forwarding(settings: Settings) -> dict[str, Any]:
    """Return Uvicorn's options for the client address; by default Uvicorn trusts any local process's proxy headers."""
    trusted = [*settings.trusted_proxies.split(), *(["127.0.0.1"] if settings.has_balancer else [])]
    return {"proxy_headers": bool(trusted), "forwarded_allow_ips": trusted}


if __name__ == "__main__":
    main()
