"""docs/settings.md, made from the models that read the settings: `just docs` writes it anew."""

import inspect
import types
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import griffe
from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from automations.settings import AlertSettings
from flows.rules import LoadRules
from flows.settings import PipelineSettings
from sensors.config.inboxes import Expectation, Inbox
from sensors.config.settings import ProfileSettings, Settings

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "settings.md"

INTRODUCTION = """\
# Every setting

Made from the code by `just docs`; a test fails when it is not up to date.

Settings stand in the `.env` file at the project's root, or in the file that `ENV_FILE` names, or in the environment,
which wins. `just up` reads them at its start and reports every mistake before anything runs. A relative path is taken
from the project's root. The value of a secret is shown nowhere.
"""

SECTIONS: tuple[tuple[str, str, type[BaseModel], frozenset[str]], ...] = (
    # The settings that the sensor only shows are described where they are used.
    (
        "The stack",
        "",
        Settings,
        frozenset({*ProfileSettings.model_fields, "notify_urls", "warehouse_readers", "warehouse_url"}),
    ),
    ("Runs", "[warehouse.md](warehouse.md) has more on the warehouse.", PipelineSettings, frozenset({"state_dir"})),
    ("Alerts", "[alerts.md](alerts.md) says how they work together.", AlertSettings, frozenset({"state_dir"})),
    ("The scale profile", "[scale.md](scale.md) says when to move, and to what.", ProfileSettings, frozenset()),
)
"""Of each section: its title, a sentence, the model, and which of its fields stand elsewhere."""
RULES = """\
## Rules of an inbox

Of each entry of `inboxes:` in the file that INBOXES_FILE names; [inboxes.md](inboxes.md) has examples. Times are in
seconds, sizes in bytes. [rules.md](rules.md) has the rules for reading and loading files.
"""
_ELSEWHERE = {"name", *LoadRules.model_fields}
_WORDS: Mapping[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "secret",
    Expectation: "the rules below",
    tuple: "list of texts",
    dict: "mapping",
}


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION]
    for title, words, model, elsewhere in SECTIONS:
        fields = {name: field for name, field in model.model_fields.items() if name not in elsewhere}
        rows = [_row(name.upper(), field, _meaning(model, name)) for name, field in fields.items()]
        parts.append("\n".join([f"## {title}\n", *([f"{words}\n"] if words else []), *_table("setting", rows), ""]))
    rules = [
        _row(name, one, _meaning(Inbox, name)) for name, one in Inbox.model_fields.items() if name not in _ELSEWHERE
    ]
    rules += [
        _row(f"expect.{name}", one, _meaning(Expectation, name)) for name, one in Expectation.model_fields.items()
    ]
    parts.append("\n".join([RULES, *_table("rule", rules), ""]))
    return "\n".join(parts)


def settings_names() -> set[str]:
    """Return the names of all settings, in capitals as in the environment."""
    return {name.upper() for _, _, model, _ in SECTIONS for name in model.model_fields} | {"ENV_FILE"}


def _table(what: str, rows: list[str]) -> list[str]:
    return [f"| {what} | type | default | meaning |", "|---|---|---|---|", *rows]


def _row(name: str, field: FieldInfo, meaning: str) -> str:
    return f"| `{name}` | {_type(field.annotation, field.metadata)} | {_default(name, field)} | {meaning} |"


def _meaning(model: type[BaseModel], name: str) -> str:
    """Return the docstring of a field, where it is defined first. Raises LookupError if it has none."""
    for owner in model.__mro__:
        if name in inspect.get_annotations(owner):
            docstring = _source_of(owner.__module__)[owner.__name__][name].docstring
            if docstring:
                return " ".join(docstring.value.split()).replace("|", "\\|")
    raise LookupError(f"{model.__module__}.{model.__name__}.{name} has no docstring; write one below the field")


@cache
def _source_of(module: str) -> griffe.Module:
    """Return a module as it is written, docstrings of its classes' fields included."""
    path = ROOT / f"{module.replace('.', '/')}.py"
    return griffe.visit(module, filepath=path, code=path.read_text("utf-8"))


def _type(annotation: Any, metadata: list[Any]) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type(get_args(annotation)[0], [*get_args(annotation)[1:]])
    if origin in {Union, types.UnionType}:
        return _type(next(one for one in get_args(annotation) if one is not type(None)), metadata)
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return " or ".join(f"`{one.value}`" for one in annotation)
    return ", ".join([_WORDS[origin or annotation], *_bounds(metadata)])


def _bounds(metadata: list[Any]) -> Iterator[str]:
    for one in metadata:
        if isinstance(one, Ge):
            yield f"from {one.ge:,}"
        elif isinstance(one, Gt):
            yield f"more than {one.gt:,}"
        elif isinstance(one, Le):
            yield f"up to {one.le:,}" if float(one.le) < 100_000 else f"up to {one.le}"


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "the inbox's name" if name == "path" else "has to be set"
    value = field.get_default(call_default_factory=True)
    shown = value.get_secret_value() if isinstance(value, SecretStr) else value
    if shown is None or shown in ("", (), {}):
        return ""
    if isinstance(shown, bool):
        return f"`{str(shown).lower()}`"
    if isinstance(shown, int) and shown > 2**30:
        return f"`{shown}` ({shown / 2**30:g} GiB)"
    texts = shown if isinstance(shown, tuple) else (f"{shown:g}" if isinstance(shown, float) else f"{shown}",)
    return " ".join(f"`{one}`" for one in texts)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"wrote {PAGE}")
