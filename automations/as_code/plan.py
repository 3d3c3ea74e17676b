"""The plan: which automations have to be created, updated or deleted so that the server has what the files say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from prefect.events.schemas.automations import Automation

from automations.as_code import drift, schema
from automations.as_code.change import Change, Outcome
from automations.as_code.diff import contents, differences
from automations.as_code.files import Definition
from automations.as_code.references import Catalogue, Document
from automations.as_code.resolving import by_name, placeholder_id
from automations.errors import Problem

KIND = "automation"


@dataclass(frozen=True)
class Step:
    """One change of the plan, and the document that is to be written with it."""

    change: Change
    document: Document | None = None


@dataclass(frozen=True)
class Claims:
    """Which of the server's automations belongs to which name of a file, and which to none."""

    kept: Mapping[str, Automation]
    seconds: Mapping[str, Sequence[Automation]]
    """Those of the same name as one that is kept."""
    orphans: Sequence[Automation]
    """Those with our mark of whose name there is no file."""

    def ids(self, names: Sequence[str], existing: Sequence[Automation]) -> dict[str, UUID]:
        """Return the id of every automation that can be referred to; those that come have a stand-in for it."""
        doomed = {one.id for one in self.orphans}
        there = {one.name: one.id for one in reversed(existing) if one.id not in doomed}  # the oldest of a name wins
        coming = {name: placeholder_id(name) for name in names}
        return {**coming, **there, **{name: one.id for name, one in self.kept.items()}}


def claim(
    definitions: Sequence[Definition], existing: Sequence[Automation], owner: str
) -> tuple[Claims, list[Problem]]:
    """Find the automation of each file by its name, given all of the server, the oldest first.

    Prefect allows several of one name. Of those with our mark the oldest is ours to update, since links and history
    point at it; where none has it, the oldest without any mark is adopted. Another owner's is left alone.
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
    orphans = [one for one in existing if drift.owner_of(one.tags) == owner and one.name not in names]
    return Claims(kept, seconds, orphans), problems


def plan(definitions: Sequence[Definition], claims: Claims, catalogue: Catalogue, owner: str) -> list[Step]:
    """Return the steps in the order in which they are to be taken: what is deleted comes last.

    Each definition comes after those that it refers to, and the catalogue has every name that they use.
    """
    steps: list[Step] = []
    deleted: list[Step] = []
    for definition in definitions:
        steps.append(_wanted(definition, claims.kept.get(definition.name), catalogue, owner))
        for second in claims.seconds.get(definition.name, ()):
            step = Step(_second(second, owner))
            (deleted if step.change.outcome is Outcome.DELETED else steps).append(step)
    return [*steps, *deleted, *(Step(_orphan(one)) for one in claims.orphans)]


def _wanted(definition: Definition, existing: Automation | None, catalogue: Catalogue, owner: str) -> Step:
    model = schema.automation(definition.document, catalogue)
    new = drift.canonical(schema.content(model))
    if existing is None:
        usual = {"name": model.name, "enabled": True}
        found = tuple(
            contents({key: value for key, value in by_name(new, catalogue).items() if usual.get(key) != value})
        )
        return Step(Change(KIND, model.name, Outcome.CREATED, None, "", found), definition.document)
    old = drift.canonical(schema.content(existing))
    is_marked = {*drift.marks(owner, new)} <= {*existing.tags}
    if old == new and is_marked:
        return Step(Change(KIND, model.name, Outcome.UNCHANGED, existing.id), definition.document)
    found = tuple(differences(by_name(old, catalogue), by_name(new, catalogue)))
    note = _why(existing, drift.content_hash(new), is_same=old == new)
    return Step(Change(KIND, model.name, Outcome.UPDATED, existing.id, note, found), definition.document)


def _why(existing: Automation, wanted: str, *, is_same: bool) -> str:
    """Say who made the difference: somebody on the server, or the file."""
    applied = drift.applied_hash(existing.tags)
    if drift.owner_of(existing.tags) is None:
        return "adopted: the server has it without our mark"
    if is_same or applied is None:
        return "its mark is renewed"
    on_server = drift.drift(schema.content(existing))
    reasons = [
        *([f"{on_server} on the server since the last apply"] if on_server else []),
        *(["the file, or what it refers to, has changed"] if applied != wanted else []),
    ]
    return "; ".join(reasons)


def _second(second: Automation, owner: str) -> Change:
    other = drift.owner_of(second.tags)
    if other == owner:
        return Change(KIND, second.name, Outcome.DELETED, second.id, "a second one of this name, made by us")
    whose = f", kept in '{other}'" if other else ""
    note = f"a second one of this name, {second.id}{whose}: both act; delete the one you do not want"
    return Change(KIND, second.name, Outcome.DUPLICATE, second.id, note)


def _orphan(orphan: Automation) -> Change:
    on_server = drift.drift(schema.content(orphan))
    note = "no file has it" + (f"; {on_server} on the server since the last apply" if on_server else "")
    return Change(KIND, orphan.name, Outcome.DELETED, orphan.id, note)
