"""References by name: how an automation's file names a deployment or a block, whose ids differ per server.

An action has the name in place of an id (`deployment` for `deployment_id`); the labels that a trigger matches have it
in place of a resource's id (`deployment: Load/daily` for `prefect.resource.id: prefect.deployment.<id>`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias, cast
from uuid import UUID

from automations.errors import nearest

Document: TypeAlias = Mapping[str, Any]

# A field, named as its author would, and what is wrong with it.
Mistake: TypeAlias = tuple[str, str]

RESOURCE_ID = "prefect.resource.id"

# The lists of actions in Prefect's automation schema.
ACTION_LISTS = ("actions", "actions_on_trigger", "actions_on_resolve")


class Kind(StrEnum):
    """What can be referred to by name; the value is the key in an action or in the labels of a trigger."""

    FLOW = "flow"
    DEPLOYMENT = "deployment"
    BLOCK = "block"
    WORK_POOL = "work_pool"
    WORK_QUEUE = "work_queue"
    AUTOMATION = "automation"

    @property
    def words(self) -> str:
        """What a person calls it."""
        return self.replace("_", " ")

    @property
    def form(self) -> str:
        """How such a name is written."""
        return _FORMS.get(self, f"{self.words} name")

    @property
    def id_field(self) -> str | None:
        """The field of Prefect's actions that the reference stands for; no action takes a flow."""
        return _ID_FIELDS.get(self)

    @property
    def resource(self) -> str:
        """What the id of such a resource begins with in events."""
        return f"prefect.{_RESOURCES.get(self, self.replace('_', '-'))}."


_FORMS = {
    Kind.DEPLOYMENT: "flow name/deployment name",
    Kind.BLOCK: "block type slug/block name",
    Kind.WORK_QUEUE: "work pool name/work queue name",
}
_ID_FIELDS = {
    Kind.DEPLOYMENT: "deployment_id",
    Kind.BLOCK: "block_document_id",
    Kind.WORK_POOL: "work_pool_id",
    Kind.WORK_QUEUE: "work_queue_id",
    Kind.AUTOMATION: "automation_id",
}
_RESOURCES = {Kind.BLOCK: "block-document"}
_HINTS = {Kind.DEPLOYMENT: "`just deploy` puts those of prefect.yaml there"}

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
        known = catalogue.get(self.kind, {})
        if self.name in known:
            return None
        if not known and self.kind in _HINTS:
            return f"the server has no {self.kind.words} at all, '{self.name}' neither; {_HINTS[self.kind]}"
        return f"the server has no {self.kind.words} '{self.name}'; {nearest(self.name, known)}"


def find_references(document: Document) -> list[Reference]:
    """Return every reference of a document: those of its trigger, then those of its actions.

    >>> find_references({"actions": [{"type": "run-deployment", "deployment": "Load/daily"}]})
    [Reference(kind=<Kind.DEPLOYMENT: 'deployment'>, name='Load/daily', field='actions[0].deployment')]
    """
    return [
        Reference(kind, str(name), field)
        for place, mapping, kinds in _places(document)
        for kind in kinds
        if kind in mapping
        for field, name in _names(f"{place}.{kind}", mapping[kind])
    ]


def malformed_references(document: Document) -> list[Mistake]:
    """Return what is wrong with how references are written, whatever the server has."""
    mistakes: list[Mistake] = []
    for place, mapping, kinds in _places(document):
        present = [kind for kind in kinds if kind in mapping]
        for kind in present:
            field = f"{place}.{kind}"
            names = _names(field, mapping[kind])
            mistakes += [
                (one, f"expected '{kind.form}', got {name!r}") for one, name in names if not _is_name(kind, name)
            ]
            instead = kind.id_field if kinds is _IN_ACTIONS else RESOURCE_ID
            if instead in mapping:
                mistakes.append((field, f"give either {kind} or {instead}, not both"))
        if kinds is _IN_LABELS and len(present) > 1:
            mistakes.append((f"{place}.{present[1]}", f"give either {present[0]} or {present[1]}, not both"))
        elif kinds is _IN_ACTIONS:
            lists = (kind for kind in present if isinstance(mapping[kind], list))
            mistakes += [(f"{place}.{kind}", f"expected '{kind.form}', got a list") for kind in lists]
    return mistakes


def _is_name(kind: Kind, name: Any) -> bool:
    if not isinstance(name, str) or not name:
        return False
    first, _, rest = name.partition("/")
    return kind not in _FORMS or bool(first and rest)


def _names(field: str, value: Any) -> list[tuple[str, Any]]:
    """Return the names that stand in a field: labels may have a list of them."""
    if isinstance(value, list):
        return [(f"{field}[{index}]", name) for index, name in enumerate(cast("list[Any]", value))]
    return [(field, value)]


_IN_ACTIONS = tuple(_ID_FIELDS)
_IN_LABELS = tuple(Kind)


def _places(document: Document) -> Iterator[tuple[str, Document, tuple[Kind, ...]]]:
    """Yield each mapping that may hold references, with its field and the kinds that it may hold."""
    for field, labels in _labels(document.get("trigger"), "trigger"):
        yield field, labels, _IN_LABELS
    for key in ACTION_LISTS:
        for field, action in _mappings(document.get(key), key):
            yield field, action, _IN_ACTIONS


def _labels(trigger: Any, field: str) -> Iterator[tuple[str, Document]]:
    if not isinstance(trigger, Mapping):
        return
    fields = cast("Document", trigger)
    for key in ("match", "match_related"):
        labels = fields.get(key)
        if isinstance(labels, Mapping):
            yield f"{field}.{key}", cast("Document", labels)
        yield from _mappings(labels, f"{field}.{key}")
    inner = fields.get("triggers")
    for index, one in enumerate(cast("list[Any]", inner) if isinstance(inner, list) else []):
        yield from _labels(one, f"{field}.triggers[{index}]")


def _mappings(nodes: Any, field: str) -> Iterator[tuple[str, Document]]:
    for index, node in enumerate(cast("list[Any]", nodes) if isinstance(nodes, list) else []):
        if isinstance(node, Mapping):
            yield f"{field}[{index}]", cast("Document", node)
