"""Access: who may ask for what on the drop page, decided by a request's method, path and headers alone."""

import base64
import binascii
import ipaddress
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = frozenset({"/healthz", "/readyz", "/metrics"})
"""What is told without credentials: how the sensor is, in numbers; a trouble that it has may name a path."""
READING = frozenset({"GET", "HEAD", "OPTIONS"})
CHALLENGE = 'Basic realm="drop page", charset="UTF-8"'


@dataclass(frozen=True)
class Refusal:
    """Why a request is not served: the status of the answer, and what a person or a script should know."""

    status: int
    reason: str


@dataclass(frozen=True)
class Access:
    """The rules: whose credentials count, and under which names the page is known.

    `auth_string` is `user:password` as for Prefect's API. `upload_token` lets a script upload and do nothing else.
    """

    auth_string: str | None
    is_open: bool = False
    """AUTH=off: nobody is asked for credentials."""
    upload_token: str | None = None
    host_names: frozenset[str] = frozenset()
    """Names of this page besides those of the loopback."""
    origin: str | None = None
    """What browsers call it behind a proxy, which may leave the port out of the `Host` that it passes on."""
    is_reachable: bool = False
    """Whether it is listened for beyond the loopback: then what is open is told under any name, as Prometheus asks."""

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> Refusal | None:
        """Return why a request is refused, or None if it may pass; `headers` have names in small letters."""
        is_open = path in OPEN and method in READING
        if refusal := self._wrong_host(headers.get("host", "")):
            return None if is_open and self.is_reachable else refusal
        if is_open:
            return None
        if method not in READING and (refusal := self._from_elsewhere(headers)):
            return refusal
        if self.is_open or self._has_credentials(headers.get("authorization", "")):
            return None
        if method == "PUT" and path.startswith("/inbox/") and self._has_token(headers.get("authorization", "")):
            return None
        return Refusal(401, "credentials are needed: those of Prefect's page, PREFECT_API_AUTH_STRING in .env")

    def _wrong_host(self, host: str) -> Refusal | None:
        """Refuse a name that is none of ours.

        A foreign page whose name has been pointed at the loopback could else use this one (DNS rebinding).
        """
        name = (urlsplit(f"//{host}").hostname or "") if _is_netloc(host) else ""
        if name == "localhost" or name in self.host_names or _is_loopback(name):
            return None
        return Refusal(421, "this page is not known by that name; set DROP_PAGE_URL to the address that it has")

    def _from_elsewhere(self, headers: Mapping[str, str]) -> Refusal | None:
        """Refuse a change that another site's page asks for with the browser's credentials.

        Every browser says where such a request comes from, by Sec-Fetch-Site or by Origin, and a script says neither:
        https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
        Another port of this machine is the same site, and another page all the same.
        """
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site is not None and site not in {"same-origin", "none"}:
            return Refusal(403, f"a page of another origin asked for this ({site}); use this page itself")
        if origin is None or origin == self.origin:
            return None
        if origin.partition("://")[2] != headers.get("host", ""):
            return Refusal(403, "a page of another origin asked for this; use this page itself")
        return None

    def _has_credentials(self, authorization: str) -> bool:
        scheme, _, encoded = authorization.partition(" ")
        if self.auth_string is None or scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return secrets.compare_digest(given, self.auth_string.encode())

    def _has_token(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        if not self.upload_token or scheme.lower() != "bearer":
            return False
        return secrets.compare_digest(given.strip().encode(), self.upload_token.encode())


def _is_netloc(host: str) -> bool:
    return bool(host) and not set(host) & set("/?#@\\ ")


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware that answers what may not pass, before a byte of its body is read."""

    def __init__(self, app: ASGIApp, access: Access, page: Callable[[Refusal], str] | None = None) -> None:
        """`page` makes what a browser shows instead of the bare reason."""
        self._app = app
        self._access = access
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = _headers_of(scope)
        refusal = self._access.refusal(scope["method"], scope["path"], asked)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        headers = {"WWW-Authenticate": CHALLENGE} if refusal.status == 401 else {}
        # What the client is still sending is not waited for.
        headers["Connection"] = "close"
        if self._page is not None and "text/html" in asked.get("accept", ""):
            answer = HTMLResponse(self._page(refusal), refusal.status, headers)
        else:
            answer = PlainTextResponse(f"{refusal.reason}\n", refusal.status, headers)
        await answer(scope, receive, send)


def _headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers by their names; one that is there twice is none that a browser or a proxy sends."""
    found: dict[str, Any] = {}
    for name, value in scope["headers"]:
        found[name.decode("latin-1")] = value.decode("latin-1")
    return found
