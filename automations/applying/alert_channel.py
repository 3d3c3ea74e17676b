"""The block document `apprise-alerts/alerts` on the server: where this installation's alerts go."""

from typing import cast
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from automations.alert_block import AppriseAlerts
from automations.applying.change import Change, Outcome
from automations.applying.references import Kind
from automations.problem import Problem
from automations.settings import Settings

BLOCK_NAME = "alerts"
REFERENCE = f"{AppriseAlerts.get_block_type_slug()}/{BLOCK_NAME}"

_SETTING_OF_FIELD = {"urls": "NOTIFY_URLS", "log_file": "STATE_DIR"}


def wanted(settings: Settings) -> tuple[AppriseAlerts | None, list[Problem]]:
    """Return the block that the settings describe, or what is wrong with its URLs."""
    try:
        return AppriseAlerts(urls=settings.notify_urls, log_file=str(settings.alert_log)), []
    except ValidationError as error:
        return None, [
            Problem(_SETTING_OF_FIELD[str(mistake["loc"][0])], mistake["msg"].removeprefix("Value error, "))
            for mistake in error.errors(include_input=False)
        ]


def put(block: AppriseAlerts, client: SyncPrefectClient) -> Change:
    """Register the block's type and create or update its document, unless the server has just that already."""
    AppriseAlerts.register_type_and_schema()
    note = _note(block)
    try:
        existing = client.read_block_document_by_name(BLOCK_NAME, AppriseAlerts.get_block_type_slug())
    except ObjectNotFound:
        return Change(Kind.BLOCK, REFERENCE, Outcome.CREATED, _save(block), note)
    if existing.block_schema_id == AppriseAlerts._block_schema_id and existing.data == _data(block):  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        return Change(Kind.BLOCK, REFERENCE, Outcome.UNCHANGED, existing.id, note)
    return Change(Kind.BLOCK, REFERENCE, Outcome.UPDATED, _save(block), note)


def _data(block: AppriseAlerts) -> dict[str, object]:
    fields = {name: getattr(block, name) for name in AppriseAlerts.model_fields}
    return {**fields, "urls": block.urls.get_secret_value()}


def _save(block: AppriseAlerts) -> UUID:
    # Prefect types this for both its ways; outside an event loop it is the id and not a coroutine.
    return cast("UUID", block.save(BLOCK_NAME, overwrite=True))


def _note(block: AppriseAlerts) -> str:
    count = len(block.urls.get_secret_value().split())
    if not count:
        return f"alerts go only to {block.log_file}; set NOTIFY_URLS to send them"
    return f"alerts go to {count} URL{'s' if count > 1 else ''} and {block.log_file}"
