"""Putting the automations of a folder on the server, again and again, without doing anything twice."""

from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient

from automations.as_code import blocks as alert_channels
from automations.as_code import drift, schema
from automations.as_code.diff import Change, Changes, Outcome
from automations.as_code.plan import FOLDER, Step, Survey, surveyed
from automations.as_code.references import Catalogue, Kind
from automations.settings import Settings


def plan(folder: Path = FOLDER, settings: Settings | None = None, owner: str = drift.OWNER) -> Changes:
    """Return what `apply` would do, and write nothing. Raises ConfigurationError as `apply` does."""
    with surveyed(folder, settings, owner) as survey:
        return Changes(
            (*(change for _, change in survey.channels), *(step.change for step in survey.steps)), done=False
        )


def apply(folder: Path = FOLDER, settings: Settings | None = None, owner: str = drift.OWNER) -> Changes:
    """Make the server have the notification blocks and every automation of the folder; return what was done.

    An automation is found by its name and keeps its id; one that bears the owner's mark and has no file is deleted.
    Nothing is written to the server if it has everything already, or if the settings, the files or their references
    are wrong: ConfigurationError then holds every problem. It is also raised for a server that refuses, perhaps half
    way; applying again continues from there. To be called outside an event loop.
    """
    with surveyed(folder, settings, owner) as survey:
        return Changes(tuple(_write(survey, owner)), done=True)


def _write(survey: Survey, owner: str) -> list[Change]:
    changes = [alert_channels.put(channel, change) for channel, change in survey.channels]
    # What is created gets its id now, which those that refer to it need.
    ids: dict[Kind, dict[str, UUID]] = {kind: dict(known) for kind, known in survey.catalogue.items()}
    ids[Kind.BLOCK] |= {change.name: change.id for change in changes if change.id}
    for step in survey.steps:
        change = _take(step, survey.client, ids, owner)
        if change.outcome is Outcome.CREATED and change.id:
            ids[Kind.AUTOMATION][change.name] = change.id
        changes.append(change)
    return changes


def _take(step: Step, client: SyncPrefectClient, catalogue: Catalogue, owner: str) -> Change:
    """Take one step of the plan; return the change, of something new with its id."""
    change = step.change
    if change.outcome is Outcome.DELETED and change.id:
        client.delete_automation(change.id)
    if not change.outcome.is_write or step.document is None:
        return change
    # The marks are part of the same write: whatever is killed, there is nothing of ours without them.
    content = schema.content(schema.automation(step.document, catalogue))
    automation = schema.automation(step.document, catalogue, drift.marks(owner, content))
    if change.id is None:
        automation_id = client.create_automation(automation)
        return Change(change.kind, change.name, change.outcome, automation_id, change.note, change.differences)
    client.update_automation(change.id, automation)
    return change
