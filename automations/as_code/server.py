"""Connection to the Prefect server, and the problem to report if it cannot be used."""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL
from pydantic import BaseModel, SecretStr, ValidationError

from automations.as_code.diff import Absent, AutomationChange, ChangeOutcome, Difference
from automations.as_code.references import Kind
from automations.block import AppriseAlerts
from automations.delivery.channels import ALERTS, FALLBACK
from automations.errors import ConfigurationError, Problem
from automations.settings import AlertSettings


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


# Notification blocks `apprise-alerts/...` on the server, written from the settings of this installation.

# The setting that holds each block's URLs, by the block's name.
_SETTING_OF_BLOCK = {ALERTS: "notify_urls", FALLBACK: "notify_fallback_urls"}


@dataclass(frozen=True)
class AlertChannel:
    """One named block, as the settings define it."""

    name: str
    block: AppriseAlerts

    @property
    def reference(self) -> str:
        """The name by which automations refer to the block."""
        return f"{AppriseAlerts.get_block_type_slug()}/{self.name}"

    @property
    def note(self) -> str:
        """Where the block sends, without any URL."""
        count = len(self.block.urls.get_secret_value().split())
        if not count:
            return f"goes only to the alert log; set {_SETTING_OF_BLOCK[self.name].upper()} to send it"
        return f"goes to {count} URL{'s' if count > 1 else ''} and the alert log"


def _block(name: str, settings: AlertSettings) -> AppriseAlerts:
    """Return the block of a name; raises ValidationError for URLs that cannot be used."""
    urls: SecretStr = getattr(settings, _SETTING_OF_BLOCK[name])
    log_file, outbox = str(settings.alert_log), str(settings.outbox)
    if name == FALLBACK:
        return AppriseAlerts(urls=urls, log_file=log_file, outbox=outbox)
    return AppriseAlerts(
        urls=urls,
        routes=settings.notify_routes,
        log_file=log_file,
        outbox=outbox,
        storm=settings.notify_storm,
        silence=settings.notify_silence,
        silence_except=settings.notify_silence_except,
    )


def wanted(settings: AlertSettings) -> tuple[list[AlertChannel], list[Problem]]:
    """Return the blocks that the settings describe, and what is wrong with the others."""
    channels: list[AlertChannel] = []
    problems: list[Problem] = []
    for name, setting in _SETTING_OF_BLOCK.items():
        try:
            channels.append(AlertChannel(name, _block(name, settings)))
        except ValidationError as error:
            setting_of_field = {"urls": setting.upper()}
            problems += [
                Problem(
                    setting_of_field.get(str(mistake["loc"][0]), "STATE_DIR"),
                    mistake["msg"].removeprefix("Value error, "),
                )
                for mistake in error.errors(include_input=False)
            ]
    return channels, problems


def planned(channel: AlertChannel, client: SyncPrefectClient) -> AutomationChange:
    """Return the change that gives the server a block as the settings define it."""
    try:
        existing = client.read_block_document_by_name(channel.name, AppriseAlerts.get_block_type_slug())
    except ObjectNotFound:
        found = tuple(_differences({}, _data(channel.block)))
        return AutomationChange(Kind.BLOCK, channel.reference, ChangeOutcome.CREATED, None, channel.note, found)
    found = (*_schema_difference(existing), *_differences(existing.data, _data(channel.block)))
    outcome = ChangeOutcome.UPDATED if found else ChangeOutcome.UNCHANGED
    return AutomationChange(Kind.BLOCK, channel.reference, outcome, existing.id, channel.note, found)


def put(channel: AlertChannel, change: AutomationChange) -> AutomationChange:
    """Carry out a planned change: register the block's type and create or update its document, keeping its id."""
    if not change.outcome.is_write:
        return change
    AppriseAlerts.register_type_and_schema()
    # Prefect's type covers the sync and the async call; outside an event loop `save` returns the id, not a coroutine.
    block_id = cast("Any", channel.block.save(channel.name, overwrite=True))
    return AutomationChange(change.kind, change.name, change.outcome, block_id, change.note, change.differences)


def _schema_difference(existing: BlockDocument) -> list[Difference]:
    # A Prefect without this method has the block's type registered at each `apply`.
    checksum: Callable[[], str] | None = getattr(AppriseAlerts, "_calculate_schema_checksum", None)
    if checksum and existing.block_schema and existing.block_schema.checksum == checksum():
        return []
    return [Difference("the block's fields", "those of another version", "those of this version")]


def _data(block: AppriseAlerts) -> dict[str, Any]:
    return {name: getattr(block, name) for name in AppriseAlerts.model_fields}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Return the fields in which a block's data differ; the values of secrets are left out."""
    found: list[Difference] = []
    for field, value in new.items():
        before = old.get(field, Absent.ABSENT)
        is_secret = isinstance(value, SecretStr)
        after = value.get_secret_value() if isinstance(value, SecretStr) else value
        if before == after or (before is Absent.ABSENT and not after):
            continue
        found.append(Difference(field, is_secret=True) if is_secret else Difference(field, before, after))
    return found
