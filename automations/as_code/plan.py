"""Plan: compare a folder of automations with the server, and list the changes that the server needs.

The survey reads everything that a plan needs and raises all problems before the first write. Automations are created
after those that they refer to, and deletions come last. `drift` explains the tags that mark an automation as
ours.
"""

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import Automation

from automations.as_code import drift, files, server
from automations.as_code.diff import AutomationChange, ChangeOutcome, Changes, contents, differences
from automations.as_code.files import Definition, Values, completed, read_definitions, variables_of
from automations.as_code.references import (
    Catalogue,
    Document,
    Kind,
    Reference,
    by_name,
    find_references,
    placeholder_id,
    read_automations,
    read_catalogue,
    read_variables,
)
from automations.as_code.server import AlertChannel, connected
from automations.errors import ConfigurationError, Problem
from automations.settings import AlertSettings, read_settings


def in_order(definitions: Sequence[Definition]) -> tuple[list[Definition], list[Problem]]:
    """Sort the definitions so that each comes after those that it refers to; return them and any problems.

    Definitions that do not depend on each other stay in the order of their files.
    """
    by_name = {definition.name: definition for definition in definitions}
    needs = {one.name: [ref.name for ref in _automations(one) if ref.name in by_name] for one in definitions}
    problems = [
        definition.problem(reference.field, "expected another automation, got the name of this one")
        for definition in definitions
        for reference in _automations(definition)
        if reference.name == definition.name
    ]
    if problems:
        return list(definitions), problems
    try:
        return [by_name[name] for name in TopologicalSorter(needs).static_order()], []
    except CycleError as error:
        circle: list[str] = error.args[1][::-1]
        definition = by_name[circle[0]]
        field = next(reference.field for reference in _automations(definition) if reference.name == circle[1])
        message = f"these refer to each other in a circle, none of them can be the first: {' -> '.join(circle)}"
        return list(definitions), [definition.problem(field, message)]


def _automations(definition: Definition) -> list[Reference]:
    return [one for one in find_references(definition.document) if one.kind is Kind.AUTOMATION]


KIND = "automation"


@dataclass(frozen=True)
class PlannedChange:
    """One change of the plan, and the document to write with it."""

    change: AutomationChange
    document: Document | None = None


@dataclass(frozen=True)
class Claims:
    """The server's automations, matched with the names in the files."""

    kept: Mapping[str, Automation]
    seconds: Mapping[str, Sequence[Automation]]
    """Further automations with the name of a kept one."""
    leftovers: Sequence[Automation]
    """Automations with our mark whose name is in no file."""

    def ids(self, names: Sequence[str], existing: Sequence[Automation]) -> dict[str, UUID]:
        """Return the id of every automation that can be referred to; new automations have a placeholder id."""
        doomed = {one.id for one in self.leftovers}
        there = {one.name: one.id for one in reversed(existing) if one.id not in doomed}  # the oldest of a name wins
        coming = {name: placeholder_id(name) for name in names}
        return {**coming, **there, **{name: one.id for name, one in self.kept.items()}}


def claim(
    definitions: Sequence[Definition], existing: Sequence[Automation], owner: str
) -> tuple[Claims, list[Problem]]:
    """Find the automation of each file by its name, given all automations of the server, the oldest first.

    Prefect allows several automations with the same name. Of those with our mark the oldest is updated, since links and
    history point at it; if none has our mark, the oldest without any mark is adopted. Another owner's is left alone.
    """
    kept: dict[str, Automation] = {}
    seconds: dict[str, list[Automation]] = {}
    problems: list[Problem] = []
    for definition in definitions:
        of_name = [one for one in existing if one.name == definition.name]
        ours = [one for one in of_name if drift.owner_of(one.tags) == owner]
        unmarked = [one for one in of_name if drift.owner_of(one.tags) is None]
        if found := [*ours, *unmarked]:
            kept[definition.name] = found[0]
            seconds[definition.name] = [one for one in of_name if one is not found[0]]
        elif of_name:
            other = drift.owner_of(of_name[0].tags)
            message = f"the server has one that is kept in '{other}'; choose another name, or apply with --owner"
            problems.append(definition.problem("name", message))
    names = {definition.name for definition in definitions}
    leftovers = [one for one in existing if drift.owner_of(one.tags) == owner and one.name not in names]
    return Claims(kept, seconds, leftovers), problems


def planned_changes(
    definitions: Sequence[Definition], claims: Claims, catalogue: Catalogue, owner: str
) -> list[PlannedChange]:
    """Return the steps in the order in which to carry them out; deletions come last.

    The definitions must be in the order that `in_order` returns, and the catalogue must have every name that they use.
    """
    steps: list[PlannedChange] = []
    deleted: list[PlannedChange] = []
    for definition in definitions:
        steps.append(_wanted(definition, claims.kept.get(definition.name), catalogue, owner))
        for second in claims.seconds.get(definition.name, ()):
            step = PlannedChange(_second(second, owner))
            (deleted if step.change.outcome is ChangeOutcome.DELETED else steps).append(step)
    return [*steps, *deleted, *(PlannedChange(_leftover(one)) for one in claims.leftovers)]


def _wanted(definition: Definition, existing: Automation | None, catalogue: Catalogue, owner: str) -> PlannedChange:
    model = files.automation(definition.document, catalogue)
    new = drift.canonical(files.content(model))
    if existing is None:
        usual = {"name": model.name, "enabled": True}
        found = tuple(
            contents({key: value for key, value in by_name(new, catalogue).items() if usual.get(key) != value})
        )
        return PlannedChange(
            AutomationChange(KIND, model.name, ChangeOutcome.CREATED, None, "", found), definition.document
        )
    old = drift.canonical(files.content(existing))
    is_marked = {*drift.marks(owner, new)} <= {*existing.tags}
    if old == new and is_marked:
        return PlannedChange(
            AutomationChange(KIND, model.name, ChangeOutcome.UNCHANGED, existing.id), definition.document
        )
    found = tuple(differences(by_name(old, catalogue), by_name(new, catalogue)))
    note = _why(existing, drift.content_hash(new), is_same=old == new)
    return PlannedChange(
        AutomationChange(KIND, model.name, ChangeOutcome.UPDATED, existing.id, note, found), definition.document
    )


def _why(existing: Automation, wanted: str, *, is_same: bool) -> str:
    """Return why an automation is updated: it was changed on the server, or its file has changed."""
    applied = drift.applied_hash(existing.tags)
    if drift.owner_of(existing.tags) is None:
        return "adopted: the server has it without our mark"
    if is_same or applied is None:
        return "its mark is renewed"
    on_server = drift.drift(files.content(existing))
    reasons = [
        *([f"{on_server} on the server since the last apply"] if on_server else []),
        *(["the file, or what it refers to, has changed"] if applied != wanted else []),
    ]
    return "; ".join(reasons)


def _second(second: Automation, owner: str) -> AutomationChange:
    other = drift.owner_of(second.tags)
    if other == owner:
        return AutomationChange(
            KIND, second.name, ChangeOutcome.DELETED, second.id, "a second one of this name, made by us"
        )
    whose = f", kept in '{other}'" if other else ""
    note = f"a second one of this name, {second.id}{whose}: both act; delete the one you do not want"
    return AutomationChange(KIND, second.name, ChangeOutcome.DUPLICATE, second.id, note)


def _leftover(leftover: Automation) -> AutomationChange:
    on_server = drift.drift(files.content(leftover))
    note = "no file has it" + (f"; {on_server} on the server since the last apply" if on_server else "")
    return AutomationChange(KIND, leftover.name, ChangeOutcome.DELETED, leftover.id, note)


FOLDER = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Survey:
    """The changes to make, and what is needed to make them."""

    client: SyncPrefectClient
    channels: Sequence[tuple[AlertChannel, AutomationChange]]
    steps: Sequence[PlannedChange]
    catalogue: Catalogue


@contextmanager
def surveyed(folder: Path, settings: AlertSettings | None, owner: str) -> Generator[Survey, None, None]:
    """Compare a folder with the server; yield the changes to make while the connection is open.

    The notification blocks are included if the folder is this project's own, or if there are settings.
    Raises ConfigurationError with every problem of the settings, the files and their references.
    """
    definitions, problems = read_definitions(folder)
    channels, mistakes = _wanted_channels(folder, settings)
    problems += mistakes
    with connected(problems) as client:
        if wanted := variables_of(definitions):
            variables = read_variables(client, wanted)
            definitions, mistakes = completed(definitions, Values(os.environ, variables))
            problems += mistakes
        else:
            definitions, _ = completed(definitions, Values(os.environ))
        definitions, mistakes = in_order(definitions)
        yield _survey(client, definitions, channels, owner, [*problems, *mistakes])


def _wanted_channels(folder: Path, settings: AlertSettings | None) -> tuple[list[AlertChannel], list[Problem]]:
    if settings is None and folder.resolve() != FOLDER:
        return [], []
    try:
        return server.wanted(settings or read_settings())
    except ConfigurationError as error:
        return [], list(error.problems)


def _survey(
    client: SyncPrefectClient,
    definitions: Sequence[Definition],
    channels: Sequence[AlertChannel],
    owner: str,
    problems: list[Problem],
) -> Survey:
    references = [(one, reference) for one in definitions for reference in find_references(one.document)]
    existing = read_automations(client)
    claims, mistakes = claim(definitions, existing, owner)
    catalogue = read_catalogue(client, {reference.kind for _, reference in references})
    # Our own blocks and automations may not exist yet: they are written before what refers to them.
    coming = {channel.reference: placeholder_id(channel.reference) for channel in channels}
    catalogue = {
        **catalogue,
        Kind.BLOCK: {**coming, **catalogue.get(Kind.BLOCK, {})},
        Kind.AUTOMATION: claims.ids([one.name for one in definitions], existing),
    }
    unknown = [
        definition.problem(reference.field, message)
        for definition, reference in references
        if (message := reference.problem(catalogue))
    ]
    if found := [*problems, *mistakes, *unknown]:
        raise ConfigurationError(dict.fromkeys(found))
    blocks = [(channel, server.planned(channel, client)) for channel in channels]
    return Survey(client, blocks, planned_changes(definitions, claims, catalogue, owner), catalogue)


# Apply a folder of automations to the server, idempotently.


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
    changes = [server.put(channel, change) for channel, change in survey.channels]
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
    content = files.content(files.automation(step.document, catalogue))
    automation = files.automation(step.document, catalogue, drift.marks(owner, content))
    if change.id is None:
        automation_id = client.create_automation(automation)
        return AutomationChange(
            change.kind, change.name, change.outcome, automation_id, change.note, change.differences
        )
    client.update_automation(change.id, automation)
    return change
