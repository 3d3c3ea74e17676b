"""References by name: how an automation's file names a deployment or a block, whose ids differ per server."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias, cast
from uuid import UUID

from automations.problem import Problem, nearest

Document: TypeAlias = Mapping[str, Any]


class Kind(StrEnum):
    """What can be referred to by name; the value is the key in an action."""

    DEPLOYMENT = "deployment"
    BLOCK = "block"

    @property
    def id_field(self) -> str:
        """The field of Prefect's schema that the reference stands for."""
        return _ID_FIELDS[self]

    @property
    def form(self) -> str:
        """How such a name is written."""
        return _FORMS[self]


_ID_FIELDS = {Kind.DEPLOYMENT: "deployment_id", Kind.BLOCK: "block_document_id"}
_FORMS = {Kind.DEPLOYMENT: "flow name/deployment name", Kind.BLOCK: "block type slug/block name"}

# The lists of actions in Prefect's automation schema.
ACTION_LISTS = ("actions", "actions_on_trigger", "actions_on_resolve")

# What there is on a server: names of each kind and their ids.
Catalogue: TypeAlias = Mapping[Kind, Mapping[str, UUID]]


@dataclass(frozen=True)
class Reference:
    """One name in a document and the field it stands in, such as `actions[0].deployment`."""

    kind: Kind
    name: str
    field: str

    def problem(self, catalogue: Catalogue) -> str | None:
        """Say what is wrong if nothing in the catalogue has this name."""
        known = catalogue[self.kind]
        if self.name in known:
            return None
        return f"the server has no {self.kind} '{self.name}'; {nearest(self.name, known)}"


def find_references(document: Document) -> list[Reference]:
    """Return every reference of a document in the order of its actions.

    >>> find_references({"actions": [{"type": "run-deployment", "deployment": "Load/daily"}]})
    [Reference(kind=<Kind.DEPLOYMENT: 'deployment'>, name='Load/daily', field='actions[0].deployment')]
    """
    return [
        Reference(kind, str(action[kind]), f"{field}.{kind}")
        for field, action in _actions(document)
        for kind in Kind
        if kind in action
    ]


def malformed_references(document: Document, where: str) -> list[Problem]:
    """Return what is wrong with how references are written, whatever the server has."""
    problems: list[Problem] = []
    for field, action in _actions(document):
        for kind in (kind for kind in Kind if kind in action):
            name = action[kind]
            flow_or_type, _, rest = name.partition("/") if isinstance(name, str) else ("", "", "")
            if not (flow_or_type and rest):
                message = f"expected '{kind.form}', got {name!r}"
                problems.append(Problem(f"{where}: {field}.{kind}", message))
            if kind.id_field in action:
                message = f"give either {kind} or {kind.id_field}, not both"
                problems.append(Problem(f"{where}: {field}.{kind}", message))
    return problems


def resolve(document: Document, catalogue: Catalogue) -> dict[str, Any]:
    """Return the document with an id in place of each name; raises KeyError for a name not in the catalogue."""
    resolved = dict(document)
    for key in (key for key in ACTION_LISTS if isinstance(document.get(key), list)):
        resolved[key] = [_with_ids(action, catalogue) for action in document[key]]
    return resolved


def _with_ids(action: Any, catalogue: Catalogue) -> Any:
    if not isinstance(action, Mapping):
        return action  # Prefect's model says what is wrong with it
    fields = dict(cast("Document", action))
    for kind in (kind for kind in Kind if kind in fields):
        fields[kind.id_field] = str(catalogue[kind][fields.pop(kind)])
    return fields


def _actions(document: Document) -> Iterator[tuple[str, Document]]:
    for key in ACTION_LISTS:
        actions = document.get(key)
        for index, action in enumerate(cast("list[Any]", actions) if isinstance(actions, list) else []):
            if isinstance(action, Mapping):
                yield f"{key}[{index}]", cast("Document", action)
