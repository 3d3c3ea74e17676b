"""References by name: find them in automations, and replace names with a server's ids or ids with names.

The ids of a deployment or a block differ per server, so files use names. An action has the name in place of an id
(`deployment` for `deployment_id`); the labels that a trigger matches have it in place of a resource's id
(`deployment: Load/daily` for `prefect.resource.id: prefect.deployment.<id>`). The catalogue of a server holds the names
and ids that it has.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar, cast
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.sorting import AutomationSort
from prefect.events.schemas.automations import Automation

from automations.errors import nearest

Document: TypeAlias = Mapping[str, Any]

# A field, named as the file's author would, and what is wrong with it.
Mistake: TypeAlias = tuple[str, str]

RESOURCE_ID = "prefect.resource.id"

# The lists of actions in Prefect's automation schema.
ACTION_LISTS = ("actions", "actions_on_trigger", "actions_on_resolve")


class Kind(StrEnum):
    """The kinds of objects that have references; the value is the key in an action or in the labels of a trigger."""

    FLOW = "flow"
    DEPLOYMENT = "deployment"
    BLOCK = "block"
    WORK_POOL = "work_pool"
    WORK_QUEUE = "work_queue"
    AUTOMATION = "automation"

    @property
    def words(self) -> str:
        """The kind as written in messages."""
        return self.replace("_", " ")

    @property
    def form(self) -> str:
        """The format of a name of this kind."""
        return _FORMS.get(self, f"{self.words} name")

    @property
    def id_field(self) -> str | None:
        """The field of Prefect's actions that the reference replaces; None for a flow, which no action takes."""
        return _ID_FIELDS.get(self)

    @property
    def resource(self) -> str:
        """The prefix of such a resource's id in events."""
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

# The names of each kind on a server, and their ids.
Catalogue: TypeAlias = Mapping[Kind, Mapping[str, UUID]]


@dataclass(frozen=True)
class Reference:
    """One name in a document, and its field, such as `actions[0].deployment`."""

    kind: Kind
    name: str
    field: str

    def problem(self, catalogue: Catalogue) -> str | None:
        """Return what is wrong if the catalogue does not have this name."""
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
    """Return mistakes in how references are written, whatever the server has."""
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
    """Return the names in a field: labels may have a list of them."""
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


_Change: TypeAlias = Callable[[Document], dict[str, Any]]


def resolve(document: Document, catalogue: Catalogue) -> dict[str, Any]:
    """Return the document with an id in place of each name; raises KeyError for a name not in the catalogue."""

    def with_ids(action: Document) -> dict[str, Any]:
        fields = dict(action)
        for kind in (kind for kind in Kind if kind.id_field and kind in fields):
            fields[str(kind.id_field)] = str(catalogue[kind][fields.pop(kind)])
        return fields

    def with_resource_ids(labels: Document) -> dict[str, Any]:
        fields = dict(labels)
        for kind in (kind for kind in Kind if kind in fields):
            names = fields.pop(kind)
            fields[RESOURCE_ID] = _each(names, lambda name, kind=kind: f"{kind.resource}{catalogue[kind][name]}")
        return fields

    return _changed(document, with_ids, with_resource_ids)


def by_name(document: Document, catalogue: Catalogue) -> dict[str, Any]:
    """Return the document with a name in place of each id that the catalogue has; the others stay."""
    names = {kind: {str(id_): name for name, id_ in known.items()} for kind, known in catalogue.items()}

    def with_names(action: Document) -> dict[str, Any]:
        kinds = {kind.id_field: kind for kind in names}
        fields: dict[str, Any] = {}
        for key, value in action.items():
            kind = kinds.get(key)
            name = names[kind].get(str(value)) if kind else None
            fields |= {key: value} if kind is None or name is None else {str(kind): name}
        return fields

    def with_named_resources(labels: Document) -> dict[str, Any]:
        ids: Any = labels.get(RESOURCE_ID)
        for kind, known in names.items():
            values = (cast("list[Any]", ids) or [None]) if isinstance(ids, list) else [ids]
            if str(kind) not in labels and all(_known(value, kind, known) for value in values):
                found = _each(ids, lambda value, kind=kind, known=known: known[value.removeprefix(kind.resource)])
                return {str(kind): found, **{key: value for key, value in labels.items() if key != RESOURCE_ID}}
        return dict(labels)

    return _changed(document, with_names, with_named_resources)


def _known(value: Any, kind: Kind, known: Mapping[str, str]) -> bool:
    return isinstance(value, str) and value.startswith(kind.resource) and value.removeprefix(kind.resource) in known


def _changed(document: Document, change_action: _Change, change_labels: _Change) -> dict[str, Any]:
    changed = dict(document)
    if isinstance(document.get("trigger"), Mapping):
        changed["trigger"] = _changed_trigger(document["trigger"], change_labels)
    for key in (key for key in ACTION_LISTS if isinstance(document.get(key), list)):
        changed[key] = _each(document[key], lambda action: _if_mapping(action, change_action))
    return changed


def _changed_trigger(trigger: Document, change_labels: _Change) -> dict[str, Any]:
    changed = dict(trigger)
    for key in (key for key in ("match", "match_related") if key in trigger):
        changed[key] = _each(trigger[key], lambda labels: _if_mapping(labels, change_labels))
    if isinstance(trigger.get("triggers"), list):
        changed["triggers"] = _each(
            trigger["triggers"], lambda inner: _if_mapping(inner, lambda one: _changed_trigger(one, change_labels))
        )
    return changed


def _if_mapping(node: Any, change: _Change) -> Any:
    """Change a mapping; Prefect's model reports anything else."""
    return change(cast("Document", node)) if isinstance(node, Mapping) else node


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """Change one value, or each value of a list."""
    return [change(one) for one in cast("list[Any]", value)] if isinstance(value, list) else change(value)


def placeholder_id(name: str) -> UUID:
    """Return the id that stands in for an object that is not on the server yet."""
    return uuid5(NAMESPACE_URL, name)


T = TypeVar("T")

# The most that Prefect's API returns per request.
_PAGE = 200


def read_catalogue(client: SyncPrefectClient, kinds: Iterable[Kind] = Kind) -> Catalogue:
    """Return the names and ids of all objects of some kinds, except for automations (see `read_automations`)."""
    return {kind: _READ[kind](client) for kind in kinds if kind in _READ}


def read_automations(client: SyncPrefectClient) -> list[Automation]:
    """Return all automations of the server, the oldest first."""
    newest_first = _all(client.read_automations, sort=AutomationSort.CREATED_DESC)
    return newest_first[::-1]


def read_variables(client: SyncPrefectClient, names: Iterable[str]) -> dict[str, Any]:
    """Return the variables of these names that the server has; if one is missing, also others to suggest.

    Those are at most 200: the client reads no further page of variables.
    """
    found = {name: client.read_variable_by_name(name) for name in sorted(names)}
    others = [] if all(found.values()) else client.read_variables(limit=_PAGE)
    return {one.name: one.value for one in [*others, *found.values()] if one}


def _flows(client: SyncPrefectClient) -> dict[str, UUID]:
    return {flow.name: flow.id for flow in _all(client.read_flows)}


def _deployments(client: SyncPrefectClient) -> dict[str, UUID]:
    flows = {id_: name for name, id_ in _flows(client).items()}
    return {f"{flows.get(one.flow_id, '?')}/{one.name}": one.id for one in _all(client.read_deployments)}


def _blocks(client: SyncPrefectClient) -> dict[str, UUID]:
    documents = _all(client.read_block_documents, include_secrets=False)
    return {f"{one.block_type.slug}/{one.name}": one.id for one in documents if one.block_type}


def _work_pools(client: SyncPrefectClient) -> dict[str, UUID]:
    return {pool.name: pool.id for pool in _all(client.read_work_pools)}


def _work_queues(client: SyncPrefectClient) -> dict[str, UUID]:
    return {f"{queue.work_pool_name}/{queue.name}": queue.id for queue in _all(client.read_work_queues)}


_READ: dict[Kind, Callable[[SyncPrefectClient], dict[str, UUID]]] = {
    Kind.FLOW: _flows,
    Kind.DEPLOYMENT: _deployments,
    Kind.BLOCK: _blocks,
    Kind.WORK_POOL: _work_pools,
    Kind.WORK_QUEUE: _work_queues,
}


def _all(read: Callable[..., list[T]], **options: Any) -> list[T]:
    found: list[T] = []
    while page := read(limit=_PAGE, offset=len(found), **options):
        found += page
        if len(page) < _PAGE:
            break
    return found
