"""One file, one automation: reading the folder of definitions."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from automations.applying import schema
from automations.applying.references import Document, malformed_references
from automations.problem import Problem

# What `prefect automation inspect` prints has these as well; they belong to one server.
_SERVER_FIELDS = frozenset({"id", "created", "updated"})


@dataclass(frozen=True)
class Definition:
    """The content of one YAML file: an automation in Prefect's schema, with references by name."""

    file: str
    document: Document

    @property
    def name(self) -> str:
        """The automation's name, by which it is found again on the server."""
        return str(self.document["name"])


def read_definitions(folder: Path) -> tuple[list[Definition], list[Problem]]:
    """Read every `*.yaml` and `*.yml` file of the folder, by file name.

    Returns the definitions that are well formed, and all problems of all the others.
    """
    definitions: list[Definition] = []
    problems: list[Problem] = []
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        document, mistakes = _read(path)
        problems += mistakes
        if not mistakes:
            definitions.append(Definition(path.name, document))
    if not definitions and not problems:
        problems.append(Problem(str(folder), "expected at least one automation in a .yaml file, got none"))
    return definitions, problems + _repeated_names(definitions)


def _read(path: Path) -> tuple[Document, list[Problem]]:
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        return {}, [Problem(path.name, f"cannot be read: {error}")]
    except yaml.YAMLError as error:
        return {}, [Problem(path.name, f"not valid YAML: {' '.join(str(error).split())}")]
    if isinstance(content, list) and len(cast("list[Any]", content)) == 1:
        content = cast("list[Any]", content)[0]  # as `prefect automation inspect --output yaml` prints it
    if not isinstance(content, dict) or "automations" in content:
        return {}, [Problem(path.name, "expected the fields of one automation (name, trigger, actions)")]
    fields = cast("dict[str, Any]", content)
    document = {key: value for key, value in fields.items() if key not in _SERVER_FIELDS}
    # With references that are not even names the schema check would only repeat the complaint.
    return document, malformed_references(document, path.name) or schema.check(document, path.name)


def _repeated_names(definitions: list[Definition]) -> list[Problem]:
    counts = Counter(definition.name for definition in definitions)
    return [
        Problem(f"{definition.file}: name", f"'{definition.name}' is the name of more than one file's automation")
        for definition in definitions
        if counts[definition.name] > 1
    ]
