"""Putting the automations of a folder on the server, again and again, without doing anything twice."""

from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.sorting import AutomationSort
from prefect.events.filters import AutomationFilter, AutomationFilterName
from prefect.events.schemas.automations import Automation, AutomationCore

from automations.alert_block import AppriseAlerts
from automations.applying import alert_channel, schema
from automations.applying.change import ApplyResult, Change, Outcome
from automations.applying.definition import Definition, read_definitions
from automations.applying.references import Catalogue, Kind, find_references
from automations.applying.server import connected, read_catalogue
from automations.problem import ConfigurationError, Problem
from automations.settings import Settings, read_settings

FOLDER = Path(__file__).resolve().parent.parent


def apply(folder: Path = FOLDER, settings: Settings | None = None) -> ApplyResult:
    """Make the server have the alert block and every automation of the folder; return what was done.

    An automation is found by its name and keeps its id. Nothing is written to the server if it has
    everything already, or if the settings, the files or their references are wrong: ConfigurationError
    then holds every problem. It is also raised for a server that refuses, perhaps half way; applying
    again continues from there. To be called outside an event loop.
    """
    definitions, problems = read_definitions(folder)
    block, mistakes = alert_channel.wanted(settings or read_settings())
    problems += mistakes
    with connected(problems) as client:
        catalogue = read_catalogue(client)
        problems += _unknown_names(definitions, catalogue)
        if problems or block is None:
            raise ConfigurationError(problems)
        return _write(client, block, definitions, catalogue)


def _unknown_names(definitions: list[Definition], catalogue: Catalogue) -> list[Problem]:
    # Our own block need not be there yet: it is written before any automation.
    expected = {**catalogue, Kind.BLOCK: {**catalogue[Kind.BLOCK], alert_channel.REFERENCE: UUID(int=0)}}
    return [
        Problem(f"{definition.file}: {reference.field}", message)
        for definition in definitions
        for reference in find_references(definition.document)
        if (message := reference.problem(expected))
    ]


def _write(
    client: SyncPrefectClient, block: AppriseAlerts, definitions: list[Definition], catalogue: Catalogue
) -> ApplyResult:
    changes = [alert_channel.put(block, client)]
    blocks = {**catalogue[Kind.BLOCK], alert_channel.REFERENCE: changes[0].id}
    for definition in definitions:
        automation = schema.automation(definition.document, {**catalogue, Kind.BLOCK: blocks})
        changes += _put(client, automation)
    return ApplyResult(tuple(changes))


def _put(client: SyncPrefectClient, automation: AutomationCore) -> list[Change]:
    """Create or update one automation by name.

    Prefect allows several of one name. The oldest is ours to update, since links and history point at it;
    the others are only reported, because we cannot know who made them and what for.
    """
    existing = client.read_automations(
        automations=AutomationFilter(name=AutomationFilterName(any_=[automation.name])),
        sort=AutomationSort.CREATED_DESC,
    )
    if not existing:
        return [_change(automation, Outcome.CREATED, client.create_automation(automation))]
    oldest = existing[-1]
    if _comparable(oldest) == _comparable(automation):
        outcome = Outcome.UNCHANGED
    else:
        client.update_automation(oldest.id, _comparable(automation))
        outcome = Outcome.UPDATED
    return [_change(automation, outcome, oldest.id), *map(_duplicate, existing[:-1])]


def _comparable(automation: AutomationCore) -> AutomationCore:
    """Return the automation with every field set, and without what the server adds.

    Prefect's client sends only the fields that were set, and its server leaves the others as they are: a
    description taken out of a file would stay. The owner is one that its server refuses in an update.
    """
    fields = automation.model_dump(mode="json", include={*AutomationCore.model_fields} - {"owner_resource"})
    return AutomationCore.model_validate(fields)


def _change(automation: AutomationCore, outcome: Outcome, automation_id: UUID) -> Change:
    return Change("automation", automation.name, outcome, automation_id)


def _duplicate(automation: Automation) -> Change:
    note = f"a second one of this name, {automation.id}: both act; delete the one you do not want"
    return Change("automation", automation.name, Outcome.DUPLICATE, automation.id, note)
