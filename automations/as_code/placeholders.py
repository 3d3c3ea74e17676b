"""Values that are filled in when applying: `{{ $NAME }}` of the environment, `{{ prefect.variables.name }}`.

Prefect's own spelling, as in prefect.yaml; a text that is nothing but `$NAME` or one variable becomes its value, a
variable's with its type. Every other `{{ ... }}` is a template for the moment when the automation fires.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from prefect.utilities.templating import VARIABLE_PLACEHOLDER_PREFIX, PlaceholderType, find_placeholders

from automations.as_code.references import Document, Mistake
from automations.errors import nearest

_BARE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Values:
    """What can be filled in; without `variables` none of them is known yet."""

    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    variables: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Placeholder:
    """One placeholder, the text it is written with, and the field it stands in."""

    field: str
    text: str
    name: str
    is_variable: bool

    def problem(self, values: Values) -> str | None:
        """Say what is wrong if there is no such value; of variables that are not known yet nothing is."""
        known = values.variables if self.is_variable else values.environment
        if known is None or self.name in known:
            return None
        if self.is_variable:
            return f"the server has no variable '{self.name}'; {nearest(self.name, known)}"
        # All there are would be a page full.
        hint = nearest(self.name, known)
        return f"the environment has no '{self.name}'" + (f"; {hint}" if hint.startswith("did") else "; set it")


def find(node: Any, path: str = "") -> Iterator[Placeholder]:
    """Yield every placeholder in the values of a document.

    >>> [one.name for one in find({"body": "{{ event.id }} {{ $HOST }}", "within": "{{ prefect.variables.pause }}"})]
    ['HOST', 'pause']
    """
    if isinstance(node, Mapping):
        for key, value in cast("Document", node).items():
            yield from find(value, f"{path}.{key}".removeprefix("."))
    elif isinstance(node, list):
        for index, value in enumerate(cast("list[Any]", node)):
            yield from find(value, f"{path}[{index}]")
    elif isinstance(node, str):
        yield from _in_text(node, path)


def _in_text(text: str, path: str) -> Iterator[Placeholder]:
    if _BARE.fullmatch(text):
        yield Placeholder(path, text, text.removeprefix("$"), is_variable=False)
    for found in sorted(find_placeholders(text)):
        if found.type is PlaceholderType.ENV_VAR:
            yield Placeholder(path, found.full_match, found.name.lstrip("$"), is_variable=False)
        elif found.type is PlaceholderType.VARIABLE:
            name = found.name.removeprefix(VARIABLE_PLACEHOLDER_PREFIX)
            yield Placeholder(path, found.full_match, name, is_variable=True)


def missing(document: Document, values: Values) -> list[Mistake]:
    """Return what is wrong with the placeholders of a document: those without a value."""
    return [(one.field, problem) for one in find(document) if (problem := one.problem(values))]


def fill(node: Any, values: Values) -> Any:
    """Return the same with the values in place of their placeholders; what has none is `0`, which most fields take."""
    if isinstance(node, Mapping):
        return {key: fill(value, values) for key, value in cast("Document", node).items()}
    if isinstance(node, list):
        return [fill(value, values) for value in cast("list[Any]", node)]
    if not isinstance(node, str):
        return node
    found = {one.text: _value(one, values) for one in _in_text(node, "")}
    if node in found:
        return found[node]
    # All at once: a value that looks like a placeholder is not one.
    pattern = "|".join(map(re.escape, found))
    return re.sub(pattern, lambda match: str(found[match[0]]), node) if found else node


def _value(placeholder: Placeholder, values: Values) -> Any:
    known = (values.variables or {}) if placeholder.is_variable else values.environment
    return known.get(placeholder.name, "0")
