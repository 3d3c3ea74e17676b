"""Putting ids in place of names, for one server, and names in place of ids again."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast
from uuid import NAMESPACE_URL, UUID, uuid5

from automations.as_code.references import ACTION_LISTS, RESOURCE_ID, Catalogue, Document, Kind

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
    """Change a mapping; about anything else Prefect's model complains."""
    return change(cast("Document", node)) if isinstance(node, Mapping) else node


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """Change one thing, or each of a list of them."""
    return [change(one) for one in cast("list[Any]", value)] if isinstance(value, list) else change(value)


def placeholder_id(name: str) -> UUID:
    """Return the id that stands for something of a name as long as it is not on the server."""
    return uuid5(NAMESPACE_URL, name)
