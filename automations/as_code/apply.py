"""Apply a folder of automations to the server, idempotently."""

from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient

from automations.as_code import blocks, drift, schema
from automations.as_code.diff import AutomationChange, ChangeOutcome, Changes
from automations.as_code.plan import FOLDER, PlannedChange, Survey, surveyed
from automations.as_code.references import Catalogue, Kind
from automations.settings import AlertSettings


def plan(folder: Path = FOLDER, settings: AlertSettings | None = None, owner: str = drift.OWNER) -> Changes:
    """Return what `apply` would do, without writing anything. Raises ConfigurationError as `apply` does."""
    with surveyed(folder, settings, owner) as survey:
        return Changes(
            (*(change for _, change in survey.channels), *(step.change for step in survey.steps)), done=False
        )


def apply(folder: Path = FOLDER, settings: AlertSettings | None = None, owner: str = drift.OWNER) -> Changes:
    """Write the notification blocks and every automation of the folder to the server; return what was done.

    An automation is found by its name and keeps its id; an automation with the owner's mark and no file is deleted.
    Nothing is written if the server has everything already, or if the settings, the files or their references
    are wrong: ConfigurationError then holds every problem. It is also raised if the server rejects a request, perhaps
    halfway; applying again continues from there. Call it outside an event loop.
    """
    with surveyed(folder, settings, owner) as survey:
        return Changes(tuple(_write(survey, owner)), done=True)


def _write(survey: Survey, owner: str) -> list[AutomationChange]:
    changes = [blocks.put(channel, change) for channel, change in survey.channels]
    # A new automation gets its id now, which automations that refer to it need.
    ids: dict[Kind, dict[str, UUID]] = {kind: dict(known) for kind, known in survey.catalogue.items()}
    ids[Kind.BLOCK] |= {change.name: change.id for change in changes if change.id}
    for step in survey.steps:
        change = _take(step, survey.client, ids, owner)
        if change.outcome is ChangeOutcome.CREATED and change.id:
            ids[Kind.AUTOMATION][change.name] = change.id
        changes.append(change)
    return changes


def _take(step: PlannedChange, client: SyncPrefectClient, catalogue: Catalogue, owner: str) -> AutomationChange:
    """Carry out one step of the plan; return the change, with the id of a new automation."""
    change = step.change
    if change.outcome is ChangeOutcome.DELETED and change.id:
        client.delete_automation(change.id)
    if not change.outcome.is_write or step.document is None:
        return change
    # The marks are part of the same write: if the process is killed, no automation of ours is left without them.
    content = schema.content(schema.automation(step.document, catalogue))
    automation = schema.automation(step.document, catalogue, drift.marks(owner, content))
    if change.id is None:
        automation_id = client.create_automation(automation)
        return AutomationChange(
            change.kind, change.name, change.outcome, automation_id, change.note, change.differences
        )
    client.update_automation(change.id, automation)
    return change
