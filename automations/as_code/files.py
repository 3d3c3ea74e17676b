"""One file, one automation: reading the folder of definitions."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from automations.as_code import placeholders, schema
from automations.as_code.drift import without_marks
from automations.as_code.placeholders import Values
from automations.as_code.references import Document, malformed_references
from automations.as_code.yaml_text import YamlText, YamlTextError, parse
from automations.errors import Problem

# What `prefect automation inspect` prints has these as well; they belong to one server.
_SERVER_FIELDS = frozenset({"id", "created", "updated"})


@dataclass(frozen=True)
class Definition:
    """The content of one YAML file: an automation in Prefect's schema, with references by name."""

    file: str
    document: Document
    text: YamlText = field(repr=False)

    @property
    def name(self) -> str:
        """The automation's name, by which it is found again on the server."""
        return str(self.document["name"])

    @property
    def is_plain(self) -> bool:
        """Whether no value has to be filled in."""
        return not any(placeholders.find(self.document))

    def problem(self, field: str, message: str) -> Problem:
        """Return a problem with a field, which tells its line as well."""
        return Problem(f"{self.file}:{self.text.line_of(field)}: {field}", message)


def read_definitions(folder: Path) -> tuple[list[Definition], list[Problem]]:
    """Read every `*.yaml` and `*.yml` file of the folder, by file name.

    Returns the definitions that are well formed, their placeholders not filled in, and all problems of all the others.
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
    """Return the names of the Prefect variables that definitions want filled in."""
    return {one.name for definition in definitions for one in placeholders.find(definition.document) if one.is_variable}


def completed(definitions: list[Definition], values: Values) -> tuple[list[Definition], list[Problem]]:
    """Return the definitions with their placeholders filled in, and what is wrong with them then."""
    whole: list[Definition] = []
    problems: list[Problem] = []
    for definition in definitions:
        # Those without a variable were checked as they were read.
        if mistakes := _mistakes(definition, values) if variables_of([definition]) else []:
            problems += mistakes
        else:
            whole.append(replace(definition, document=placeholders.fill(definition.document, values)))
    return whole, problems + _repeated_names(whole)


def _read(path: Path) -> tuple[Definition | None, list[Problem]]:
    try:
        return read_text(path.name, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        return None, [Problem(path.name, f"cannot be read: {error}")]


def read_text(file: str, text: str) -> tuple[Definition | None, list[Problem]]:
    """Read the text of a file; return its definition, or everything that is wrong with it."""
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
        document["tags"] = without_marks(cast("list[str]", tags))  # they come along in what Prefect prints
    return document


def _mistakes(definition: Definition, values: Values) -> list[Problem]:
    document = definition.document
    unfilled = placeholders.missing(document, values)
    document = placeholders.fill(document, values)
    # With references that are not even names the schema check would only repeat the complaint.
    mistakes = malformed_references(document) or schema.check(document)
    # What stands in for a value that is missing, or not known yet, may not fit where it stands.
    open_fields = {one.field for one in placeholders.find(definition.document) if not _has_value(one, values)}
    mistakes = [*unfilled, *(mistake for mistake in mistakes if mistake[0] not in open_fields)]
    return [definition.problem(field, message) for field, message in mistakes]


def _has_value(placeholder: placeholders.Placeholder, values: Values) -> bool:
    return placeholder.name in ((values.variables or {}) if placeholder.is_variable else values.environment)


def _repeated_names(definitions: list[Definition]) -> list[Problem]:
    counts = Counter(definition.name for definition in definitions)
    return [
        definition.problem("name", f"'{definition.name}' is the name of more than one file's automation")
        for definition in definitions
        if counts[definition.name] > 1
    ]
