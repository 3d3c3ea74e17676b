"""Automation definitions: read and check a folder of YAML files, fill in placeholders, and write YAML.

Each file holds one automation in Prefect's schema, with references by name. Problems are reported with the line of the
field.

Placeholders have Prefect's own syntax, as in prefect.yaml: `{{ $NAME }}` for the environment and
`{{ prefect.variables.name }}` for a variable of the server, filled in when the file is applied. A text that is nothing
but `$NAME` or one variable becomes its value, a variable's with its type. Every other `{{ ... }}` is a template that
Prefect renders when the automation fires.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args
from uuid import UUID

import yaml
from jinja2 import TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from prefect.events.actions import ActionTypes
from prefect.events.schemas.automations import AutomationCore
from prefect.utilities.templating import VARIABLE_PLACEHOLDER_PREFIX, PlaceholderType, find_placeholders
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from automations.as_code.drift import without_marks
from automations.as_code.references import (
    ACTION_LISTS,
    Catalogue,
    Document,
    Kind,
    Mistake,
    find_references,
    malformed_references,
    resolve,
)
from automations.errors import Problem, nearest


class YamlTextError(Exception):
    """The text is not usable YAML; `line` is where, if that is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        self.line = line
        super().__init__(message)


@dataclass(frozen=True)
class YamlText:
    """The content of a text, and the line of each field by its path, such as `actions[0].body`."""

    content: Any
    lines: Mapping[str, int]
    repeated: tuple[tuple[str, int], ...]
    """Fields that occur twice in the same mapping, with their lines; YAML would keep only the last."""

    def line_of(self, field: str) -> int:
        """Return the line of a field; for a missing field, the line of its nearest parent."""
        while field not in self.lines and field:
            field = field[: max(field.rfind("."), field.rfind("["), 0)]
        return self.lines.get(field, 1)


def parse(text: str) -> YamlText:
    """Parse one document; a list with one entry, as Prefect prints it, stands for that entry. Raises YamlTextError.

    >>> parse("name: one\\nactions:\\n  - type: do-nothing").lines
    {'': 1, 'name': 1, 'actions': 2, 'actions[0]': 3, 'actions[0].type': 3}
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()  # pyright: ignore[reportUnknownMemberType]
        if isinstance(node, yaml.SequenceNode) and len(node.value) == 1:
            node = node.value[0]
        # Before the content is constructed, which merges `<<` into the nodes.
        fields = list(_fields(node, "", node.start_mark.line + 1, set(), set())) if node else []
        content = cast("Any", loader.construct_document(node) if node else None)  # pyright: ignore[reportUnknownMemberType]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise YamlTextError(f"not valid YAML: {error.problem}", line) from error
    except (yaml.YAMLError, ValueError) as error:
        raise YamlTextError(f"not valid YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()  # pyright: ignore[reportUnknownMemberType]
    lines: dict[str, int] = {}
    repeated: list[tuple[str, int]] = []
    for name, line in fields:
        if name in lines:
            repeated.append((name, line))
        lines.setdefault(name, line)
    return YamlText(content, lines, tuple(repeated))


def _fields(node: yaml.Node, path: str, line: int, above: set[int], done: set[int]) -> Iterator[tuple[str, int]]:
    """Yield each field of a node with its line; fields repeated by an alias are only yielded where they first occur."""
    yield path, line
    if id(node) in above:
        raise YamlTextError("an alias stands inside of what it repeats", line)
    if id(node) in done:
        return
    done.add(id(node))
    inside = above | {id(node)}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            field = f"{path}.{key.value}".removeprefix(".")
            yield from _fields(value, field, key.start_mark.line + 1, inside, done)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _fields(value, f"{path}[{index}]", value.start_mark.line + 1, inside, done)


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key, and writes multi-line texts as block scalars."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)  # pyright: ignore[reportUnknownMemberType]


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    if not all(letter.isprintable() or letter in "\n\t" for letter in text):
        style = '"'  # PyYAML writes some of these unescaped and reads them back as something else
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)  # pyright: ignore[reportUnknownMemberType]


_Dumper.add_representer(str, _represent_text)  # pyright: ignore[reportUnknownMemberType]


def render(content: Mapping[str, Any]) -> str:
    """Return a document as YAML, with its fields in the given order."""
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


_BARE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Values:
    """Values for placeholders; `variables` is None while the server's variables are not known."""

    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    variables: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Placeholder:
    """One placeholder: the field that contains it, its text and the name in it."""

    field: str
    text: str
    name: str
    is_variable: bool

    def problem(self, values: Values) -> str | None:
        """Return what is wrong if the value is missing; None for a variable while the variables are not known."""
        known = values.variables if self.is_variable else values.environment
        if known is None or self.name in known:
            return None
        if self.is_variable:
            return f"the server has no variable '{self.name}'; {nearest(self.name, known)}"
        # Listing the whole environment would fill a page.
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
    """Return a mistake for each placeholder of a document that has no value."""
    return [(one.field, problem) for one in find(document) if (problem := one.problem(values))]


def fill(node: Any, values: Values) -> Any:
    """Return the node with its placeholders replaced; a missing value becomes `0`, which most fields accept."""
    if isinstance(node, Mapping):
        return {key: fill(value, values) for key, value in cast("Document", node).items()}
    if isinstance(node, list):
        return [fill(value, values) for value in cast("list[Any]", node)]
    if not isinstance(node, str):
        return node
    found = {one.text: _value(one, values) for one in _in_text(node, "")}
    if node in found:
        return found[node]
    # In one pass, so that a value that looks like a placeholder is not replaced.
    pattern = "|".join(map(re.escape, found))
    return re.sub(pattern, lambda match: str(found[match[0]]), node) if found else node


def _value(placeholder: Placeholder, values: Values) -> Any:
    known = (values.variables or {}) if placeholder.is_variable else values.environment
    return known.get(placeholder.name, "0")


# Fields that belong to one server; `prefect automation inspect` prints them as well.
_SERVER_FIELDS = frozenset({"id", "created", "updated"})


@dataclass(frozen=True)
class Definition:
    """The content of one YAML file: an automation in Prefect's schema, with references by name."""

    file: str
    document: Document
    text: YamlText = field(repr=False)

    @property
    def name(self) -> str:
        """The automation's name, which identifies it on the server."""
        return str(self.document["name"])

    @property
    def is_plain(self) -> bool:
        """Whether the definition has no placeholders."""
        return not any(find(self.document))

    def problem(self, field: str, message: str) -> Problem:
        """Return a problem with a field, including its file and line."""
        return Problem(f"{self.file}:{self.text.line_of(field)}: {field}", message)


def read_definitions(folder: Path) -> tuple[list[Definition], list[Problem]]:
    """Read every `*.yaml` and `*.yml` file of the folder, by file name.

    Returns the well-formed definitions, with their placeholders not filled in, and all problems of the other files.
    """
    definitions: list[Definition] = []
    problems: list[Problem] = []
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        definition, mistakes = _read(path)
        problems += mistakes
        if definition:
            definitions.append(definition)
    if not definitions and not problems:
        problems.append(Problem(str(folder), "expected at least one automation in a .yaml file, got none"))
    return definitions, problems + _repeated_names(definitions)


def variables_of(definitions: Iterable[Definition]) -> set[str]:
    """Return the names of the Prefect variables that definitions use."""
    return {one.name for definition in definitions for one in find(definition.document) if one.is_variable}


def completed(definitions: list[Definition], values: Values) -> tuple[list[Definition], list[Problem]]:
    """Return the definitions with their placeholders filled in, and the problems found in the result."""
    whole: list[Definition] = []
    problems: list[Problem] = []
    for definition in definitions:
        # Definitions without a variable were checked when they were read.
        if mistakes := _mistakes(definition, values) if variables_of([definition]) else []:
            problems += mistakes
        else:
            whole.append(replace(definition, document=fill(definition.document, values)))
    return whole, problems + _repeated_names(whole)


def _read(path: Path) -> tuple[Definition | None, list[Problem]]:
    try:
        return read_text(path.name, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        return None, [Problem(path.name, f"cannot be read: {error}")]


def read_text(file: str, text: str) -> tuple[Definition | None, list[Problem]]:
    """Parse the text of a file; return its definition, or everything that is wrong with it."""
    try:
        parsed = parse(text)
    except YamlTextError as error:
        return None, [Problem(f"{file}:{error.line}" if error.line else file, str(error))]
    content = parsed.content
    fields = cast("dict[Any, Any]", content) if isinstance(content, dict) else {}
    if not fields or "automations" in fields:
        return None, [Problem(file, "expected the fields of one automation (name, trigger, actions)")]
    definition = Definition(file, _document(fields), parsed)
    problems = [
        Problem(f"{file}:{line}: {field}", "stands here a second time; YAML would take only the last one")
        for field, line in parsed.repeated
    ]
    problems += _mistakes(definition, Values(os.environ))
    return None if problems else definition, problems


def _document(fields: dict[Any, Any]) -> Document:
    document = {str(key): value for key, value in fields.items() if key not in _SERVER_FIELDS}
    tags = document.get("tags")
    if isinstance(tags, list) and all(isinstance(tag, str) for tag in cast("list[Any]", tags)):
        document["tags"] = without_marks(cast("list[str]", tags))  # Prefect's output includes the marks
    return document


def _mistakes(definition: Definition, values: Values) -> list[Problem]:
    document = definition.document
    unfilled = missing(document, values)
    document = fill(document, values)
    # If a reference is not even a name, the schema check would only repeat the complaint.
    mistakes = malformed_references(document) or check(document)
    # The stand-in for a value that is missing or not known yet may not fit its field.
    open_fields = {one.field for one in find(definition.document) if not _has_value(one, values)}
    mistakes = [*unfilled, *(mistake for mistake in mistakes if mistake[0] not in open_fields)]
    return [definition.problem(field, message) for field, message in mistakes]


def _has_value(placeholder: Placeholder, values: Values) -> bool:
    return placeholder.name in ((values.variables or {}) if placeholder.is_variable else values.environment)


def _repeated_names(definitions: list[Definition]) -> list[Problem]:
    counts = Counter(definition.name for definition in definitions)
    return [
        definition.problem("name", f"'{definition.name}' is the name of more than one file's automation")
        for definition in definitions
        if counts[definition.name] > 1
    ]


# Check a document against Prefect's own automation schema, with error messages that name the field.

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
            _validate_template(node)
        except TemplateSyntaxError as error:
            yield path, f"not a valid template: {error.message} (line {error.lineno})"


def _validate_template(text: str) -> None:
    """Check a template as Prefect's server does; without its module, by Jinja alone. Raises TemplateSyntaxError."""
    try:
        from prefect.server.utilities.user_templates import TemplateSecurityError, validate_user_template
    except ImportError:
        ImmutableSandboxedEnvironment().parse(text)
        return
    try:
        validate_user_template(text)
    except TemplateSecurityError as error:
        raise TemplateSyntaxError(error.message or "", error.lineno) from error
