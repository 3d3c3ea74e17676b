"""Access to the drop page: names, origins and credentials are checked before a byte of a request's body is read."""

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sensors.access.accounts import ANYONE, UPLOADER, Account, Visitor, basic_credentials, bearer_token
from sensors.access.heads import client_of, headers_of, retry_after, server_of
from sensors.access.log_ins import Client, LogIns
from sensors.access.origins import READING, OwnNames, Rejection

OPEN = frozenset({"/healthz", "/readyz", "/metrics"})
"""What is answered without credentials: how the sensor is, in numbers; a trouble that it has may name a path."""
CHALLENGE = 'Basic realm="drop page", charset="UTF-8"'
NEEDED = "credentials are needed: those of Prefect's page, PREFECT_API_AUTH_STRING in .env"
VISITOR = "visitor"
"""The key of the request's state that holds the Visitor."""


@dataclass(frozen=True)
class RequestHead:
    """The head of a request; `headers` have names in small letters."""

    method: str
    path: str
    headers: dict[str, str]
    client: Client = ("unknown", 0)
    server: Client = ("unknown", 0)


@dataclass(frozen=True)
class Access:
    """The rules: under which names the page is known, and whose credentials count."""

    log_ins: LogIns
    is_open: bool = False
    """AUTH=off: no one is asked for credentials."""
    upload_token: str | None = None
    """Lets a script upload and do nothing else."""
    names: OwnNames = field(default_factory=OwnNames)
    is_reachable: bool = False
    """Whether the page listens beyond the loopback: what is open is then answered under any name, for Prometheus."""

    def visitor(self, asked: RequestHead) -> Visitor | Rejection:
        """Return the visitor of a request, or why it is rejected. A visitor without roles reaches what is open."""
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


class Guard:
    """ASGI middleware that answers what may not pass, and gives the request its visitor."""

    def __init__(self, app: ASGIApp, access: Access, page: Callable[[Rejection], str] | None = None) -> None:
        """`page` makes what a browser shows instead of the bare reason."""
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
        # What the client is still sending is not waited for.
        headers["Connection"] = "close"
        if self._page is not None and "text/html" in asked.headers.get("accept", ""):
            answer = HTMLResponse(self._page(found), found.status, headers)
        else:
            answer = PlainTextResponse(f"{found.reason}\n", found.status, headers)
        await answer(scope, receive, send)
