"""Connection to the Prefect server, and the problem to report if it cannot be used."""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL
from pydantic import BaseModel, ValidationError

from automations.errors import ConfigurationError, Problem


class _Mistake(BaseModel):
    loc: list[str | int]
    msg: str


class _Refusal(BaseModel):
    """The parts of Prefect's error responses that can be shown."""

    detail: str | None = None
    exception_message: str | None = None
    exception_detail: list[_Mistake] | str | None = None


@contextmanager
def connected(known: Sequence[Problem] = ()) -> Generator[SyncPrefectClient, None, None]:
    """Yield a client of the server at PREFECT_API_URL; `just apply` sets it from API_PORT.

    Raises ConfigurationError if no server answers, if it rejects our credentials or a request, or if
    something else answers there; the problems already `known` are reported with it.
    """
    url = re.sub(r"(?<=://)[^/]+@", "***@", PREFECT_API_URL.value() or "")
    if not url:
        # Prefect would start a temporary server and discard it with everything written to it.
        raise _failure(known, "PREFECT_API_URL", "expected the address of a Prefect API, got nothing; see `just up`")
    try:
        with get_client(sync_client=True) as client:
            yield client
    except PrefectHTTPStatusError as error:
        raise _failure(known, url, _refusal(error)) from None
    except httpx.TransportError as error:
        message = f"no Prefect server answers ({error}); start it with `just up`, or set API_PORT"
        raise _failure(known, url, message) from None
    except ValueError as error:
        # A page that is not JSON, or JSON that is not from Prefect.
        message = f"what answers is not this version's Prefect API ({type(error).__name__}); set API_PORT"
        raise _failure(known, url, message) from None


def _refusal(error: PrefectHTTPStatusError) -> str:
    status = error.response.status_code
    if status in {401, 403}:
        what = "refuses our credentials" if PREFECT_API_AUTH_STRING.value() else "asks for credentials"
        return f"the server {what}; set PREFECT_API_AUTH_STRING to what the server was started with"
    if status == 404 and not _is_prefects(error.response):
        return "what answers is not a Prefect API; set API_PORT to that of the stack"
    path = error.request.url.path
    return f"the server answered {status} to {error.request.method} {path}: {_reason(error.response)}"


def _is_prefects(response: httpx.Response) -> bool:
    """Return whether an error response has Prefect's format: an object may have been deleted just now, for instance."""
    try:
        return _Refusal.model_validate_json(response.content).exception_message is not None
    except ValidationError:
        return False


def _reason(response: httpx.Response) -> str:
    """Return the server's reason for an error, without the request that it repeats, credentials included."""
    try:
        answer = _Refusal.model_validate_json(response.content)
    except ValidationError:
        return response.reason_phrase
    if isinstance(answer.exception_detail, list):
        mistakes = (f"{'.'.join(map(str, one.loc))}: {one.msg}" for one in answer.exception_detail)
        return "; ".join(mistakes)
    return answer.detail or answer.exception_detail or answer.exception_message or response.reason_phrase


def _failure(known: Sequence[Problem], where: str, message: str) -> ConfigurationError:
    return ConfigurationError([*known, Problem(where, message)])
