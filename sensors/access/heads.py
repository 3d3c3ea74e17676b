"""The head of a request as ASGI has it, and of an answer that rejects one."""

from starlette.types import Scope

from sensors.access.log_ins import Client
from sensors.access.origins import Rejection

UNKNOWN: Client = ("unknown", 0)


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers by their names; of one that is there twice, which no browser or proxy sends, the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def client_of(scope: Scope) -> Client:
    """Return the client's address and port."""
    return _end(scope.get("client"))


def server_of(scope: Scope) -> Client:
    """Return the address and port that the client has connected to."""
    return _end(scope.get("server"))


def _end(end: tuple[str, int | None] | None) -> Client:
    return UNKNOWN if end is None else (end[0], end[1] or 0)


def retry_after(rejection: Rejection) -> dict[str, str]:
    """Return the header that says when a client over its limit may try again."""
    return {"Retry-After": str(rejection.seconds)} if rejection.seconds else {}
