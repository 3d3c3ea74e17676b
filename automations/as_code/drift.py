"""Canonical content of an automation, and the tags that mark its owner and the content that was applied.

The marks show whether an automation was changed on the server since. This is the one module of `as_code` that `sensors`
imports as well, so it needs the standard library only. It takes automations as the API returns them and as Prefect's
client dumps them.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

OWNER = "prefect-blueprint"
"""The owner of this project's own automations."""

_KEPT_IN = "kept-in:"
_APPLIED = "applied:"

FIELDS = ("name", "description", "enabled", "tags", "trigger", "actions", "actions_on_trigger", "actions_on_resolve")
"""The fields that define an automation, in a readable order."""

_ACTION_LISTS = ("actions", "actions_on_trigger", "actions_on_resolve")
# Prefect keeps these as sets and returns them in any order.
_SETS = ("after", "expect", "for_each")


def canonical(automation: Mapping[str, Any]) -> dict[str, Any]:
    """Return an automation's content in the one form that equal automations share.

    Without ids, nulls, our marks and what the server adds; numbers, sets and labels are normalized. Nulls in the
    parameters of an action stay, since they mean something to the deployment.

    >>> canonical({"name": "one", "tags": ["b", "applied:0", "a"], "trigger": {"id": 1, "within": 5.0, "after": None}})
    {'name': 'one', 'tags': ['a', 'b'], 'trigger': {'within': 5}}
    """
    content = {field: automation[field] for field in FIELDS if automation.get(field) is not None}
    if "tags" in content:
        content["tags"] = sorted(without_marks(content["tags"]))
    if "trigger" in content:
        content["trigger"] = _trigger(content["trigger"])
    for key in (key for key in _ACTION_LISTS if key in content):
        content[key] = [_without_nulls(action) for action in content[key]]
    return _numbers(content)


def content_hash(automation: Mapping[str, Any]) -> str:
    """Return a hash of an automation's content, 12 hexadecimal digits."""
    text = json.dumps(canonical(automation), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def marks(owner: str, content: Mapping[str, Any]) -> list[str]:
    """Return the tags that mark an automation's owner and the content that is applied."""
    return [owner_mark(owner), f"{_APPLIED}{content_hash(content)}"]


def owner_mark(owner: str) -> str:
    """Return the tag that marks an owner's automations."""
    return f"{_KEPT_IN}{owner}"


def without_marks(tags: Iterable[str]) -> list[str]:
    """Return the tags without our marks."""
    return [tag for tag in tags if not tag.startswith((_KEPT_IN, _APPLIED))]


def owner_of(tags: Iterable[str]) -> str | None:
    """Return the owner marked in these tags, or None."""
    return next((tag.removeprefix(_KEPT_IN) for tag in tags if tag.startswith(_KEPT_IN)), None)


def applied_hash(tags: Iterable[str]) -> str | None:
    """Return the hash of the content that was applied last, or None if no tag has it."""
    return next((tag.removeprefix(_APPLIED) for tag in tags if tag.startswith(_APPLIED)), None)


def drift(automation: Mapping[str, Any]) -> str | None:
    """Return how an automation was changed on the server since it was applied (disabled, enabled, edited), or None."""
    applied = applied_hash(automation.get("tags") or ())
    if applied is None or applied == content_hash(automation):
        return None
    enabled = bool(automation.get("enabled"))
    if applied == content_hash({**automation, "enabled": not enabled}):
        return "enabled" if enabled else "disabled"
    return "edited"


def _trigger(trigger: Mapping[str, Any]) -> dict[str, Any]:
    content = {key: value for key, value in _without_nulls(trigger).items() if key != "id"}
    for key in (key for key in _SETS if key in content):
        content[key] = sorted(content[key])
    if "match" in content:
        content["match"] = _labels(content["match"])
    if "match_related" in content:
        content["match_related"] = [_labels(one) for one in _several(content["match_related"]) if one]
    if "triggers" in content:
        content["triggers"] = [_trigger(inner) for inner in content["triggers"]]
    return content


def _labels(match: Mapping[str, Any]) -> dict[str, Any]:
    """Return a match with a list of values for each label: Prefect accepts a single value as well."""
    return {label: sorted(_several(value)) for label, value in match.items()}


def _several(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _numbers(node: Any) -> Any:
    """Return the node with 5 for 5.0: which of them the server returns depends on the writer."""
    if isinstance(node, Mapping):
        return {key: _numbers(value) for key, value in cast("Mapping[str, Any]", node).items()}
    if isinstance(node, list):
        return [_numbers(value) for value in cast("list[Any]", node)]
    return int(node) if isinstance(node, float) and node.is_integer() else node
