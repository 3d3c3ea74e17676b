"""Check a document against Prefect's own automation schema, with error messages that name the field."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast, get_args
from uuid import UUID

from jinja2 import TemplateSyntaxError
from prefect.events.actions import ActionTypes
from prefect.events.schemas.automations import AutomationCore
from prefect.server.utilities.user_templates import TemplateSecurityError, validate_user_template
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from automations.as_code.references import ACTION_LISTS, Catalogue, Document, Kind, Mistake, find_references, resolve
from automations.errors import nearest

_ANY_ID = UUID(int=0)

_ACTIONS: dict[str, type[BaseModel]] = {model.model_fields["type"].default: model for model in get_args(ActionTypes)}


def automation(document: Document, catalogue: Catalogue, tags: Sequence[str] = ()) -> AutomationCore:
    """Return Prefect's model of a document that passed `check`, with references resolved and tags added.

    Every field is set: Prefect's client sends only fields that were set, and its server leaves the others as they are,
    so that a description removed from a file would stay. The owner is left out, since the server rejects it in an
    update.
    """
    model = AutomationCore.model_validate(resolve(document, catalogue))
    fields = model.model_dump(mode="json", exclude={"owner_resource"})
    return AutomationCore.model_validate({**fields, "tags": [*fields["tags"], *tags]})


def content(model: AutomationCore) -> dict[str, Any]:
    """Return an automation's content as the API has it, which is what `drift` compares."""
    return model.model_dump(mode="json")


def check(document: Document) -> list[Mistake]:
    """Return everything that is wrong with a document, whatever the server has.

    Prefect ignores unknown fields, so that a misspelt `threshold` would silently mean 1; here they are problems.
    """
    placeholders: dict[Kind, dict[str, UUID]] = {kind: {} for kind in Kind}
    for reference in find_references(document):
        placeholders[reference.kind][reference.name] = _ANY_ID
    resolved = resolve(document, placeholders)
    if mistakes := list(_schema_mistakes(resolved)):
        return mistakes
    understood = AutomationCore.model_validate(resolved).model_dump(mode="json")
    return [*_unknown_fields(resolved, understood), *_bad_templates(resolved)]


def _schema_mistakes(document: Document) -> Iterator[Mistake]:
    # Prefect's actions are a plain union: pydantic would report each action against all 18 kinds of them.
    without_actions = dict(document)
    actions_mistakes: list[Mistake] = []
    for key in (key for key in ACTION_LISTS if isinstance(document.get(key), list)):
        actions = cast("list[Any]", document[key])
        without_actions[key] = []
        for index, action in enumerate(actions):
            actions_mistakes += _action_mistakes(action, f"{key}[{index}]")
    yield from _model_mistakes(AutomationCore, without_actions)
    yield from actions_mistakes


def _action_mistakes(action: Any, field: str) -> Iterator[Mistake]:
    kind = cast("Document", action).get("type") if isinstance(action, Mapping) else None
    if model := _ACTIONS.get(str(kind)):
        yield from _model_mistakes(model, cast("Document", action), field)
    else:
        yield f"{field}.type", f"expected a kind of action, got {kind!r}; {nearest(str(kind), _ACTIONS)}"


def _model_mistakes(model: type[BaseModel], document: Document, path: str = "") -> Iterator[Mistake]:
    try:
        model.model_validate(document)
    except ValidationError as error:
        for details in error.errors(include_url=False, include_context=False):
            field = (path + _field(details, document)).removeprefix(".") or "the file"
            yield field, details["msg"].removeprefix("Value error, ")


def _field(details: ErrorDetails, document: Document) -> str:
    """Return the field as its author would name it: pydantic's location also holds names of its models."""
    node: Any = document
    path = ""
    for index, part in enumerate(location := details["loc"]):
        missing = details["type"] == "missing" and index == len(location) - 1
        if isinstance(node, Mapping) and part in node:
            node = cast("Document", node)[str(part)]
            path += f".{part}"
        elif isinstance(node, list) and isinstance(part, int):
            node = cast("list[Any]", node)[part]
            path += f"[{part}]"
        elif missing:
            path += f".{part}"
    return path


def _unknown_fields(given: Any, understood: Any, path: str = "") -> Iterator[Mistake]:
    """Yield the fields that Prefect's model does not have."""
    if isinstance(given, Mapping) and isinstance(understood, Mapping):
        known = cast("Document", understood)
        for key, value in cast("Document", given).items():
            field = f"{path}.{key}".removeprefix(".")
            if key in known:
                yield from _unknown_fields(value, known[key], field)
            else:
                yield field, f"Prefect knows no such field here; {nearest(str(key), map(str, known))}"
    elif isinstance(given, list) and isinstance(understood, list):
        pairs = zip(cast("list[Any]", given), cast("list[Any]", understood), strict=False)
        for index, (one, other) in enumerate(pairs):
            yield from _unknown_fields(one, other, f"{path}[{index}]")


def _bad_templates(node: Any, path: str = "") -> Iterator[Mistake]:
    """Yield templates that the server would reject, or that would fail when the automation fires."""
    if isinstance(node, Mapping):
        for key, value in cast("Document", node).items():
            yield from _bad_templates(value, f"{path}.{key}".removeprefix("."))
    elif isinstance(node, list):
        for index, value in enumerate(cast("list[Any]", node)):
            yield from _bad_templates(value, f"{path}[{index}]")
    elif isinstance(node, str):
        try:
            validate_user_template(node)
        except (TemplateSyntaxError, TemplateSecurityError) as error:
            yield path, f"not a valid template: {error.message} (line {error.lineno})"
