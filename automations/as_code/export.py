"""Export the automations of a server as files for which `plan` finds nothing to do on that server."""

import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.events.schemas.automations import Automation

from automations.as_code import drift
from automations.as_code import files as definition_files
from automations.as_code.files import read_text
from automations.as_code.references import (
    ACTION_LISTS,
    Catalogue,
    Document,
    Kind,
    by_name,
    read_automations,
    read_catalogue,
)
from automations.as_code.server import connected
from automations.errors import ConfigurationError, Problem

# Fields that a file may leave out, since Prefect assumes these values.
_DEFAULTS: Mapping[str, Any] = {
    "description": "",
    "enabled": True,
    "tags": [],
    "actions_on_trigger": [],
    "actions_on_resolve": [],
}
_TRIGGER_DEFAULTS: Mapping[str, Any] = {"after": [], "expect": [], "for_each": [], "match": {}, "match_related": {}}
_ACTION_DEFAULTS: Mapping[str, Any] = {"schedule_after": 0}


@dataclass(frozen=True)
class Export:
    """The files written, and the automations left out."""

    written: tuple[Path, ...]
    left_out: tuple[Problem, ...]


def export(folder: Path, *, force: bool = False) -> Export:
    """Write each automation of the server at PREFECT_API_URL into a file of the folder.

    Raises ConfigurationError for a server that cannot be used, and for files that exist already unless `force`
    overwrites them; nothing is written then. It is also raised if a file cannot be written, perhaps halfway.
    """
    with connected() as client:
        automations = read_automations(client)
        catalogue = {**read_catalogue(client), Kind.AUTOMATION: {one.name: one.id for one in reversed(automations)}}
    files, left_out = _files(automations, catalogue)
    paths = {folder / name: text for name, text in files.items()}
    if there := [] if force else [path for path in paths if path.exists()]:
        raise ConfigurationError(Problem(str(path), "is there already; --force overwrites it") for path in there)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(folder.stat().st_mode) & 0o666
        for path, text in paths.items():
            with open(path, "w" if force else "x", encoding="utf-8", opener=_follow_no_link) as file:
                # The files get the folder's permissions: our umask is for files in STATE_DIR.
                os.fchmod(file.fileno(), mode | 0o600)
                file.write(text)
    except OSError as error:
        raise ConfigurationError([Problem(str(error.filename or folder), f"cannot be written: {error}")]) from error
    return Export(tuple(paths), tuple(left_out))


def _files(automations: Iterable[Automation], catalogue: Catalogue) -> tuple[dict[str, str], list[Problem]]:
    """Return the text of each file by its name, and the automations that a file cannot express."""
    texts: dict[str, str] = {}
    left_out: list[Problem] = []
    for automation in automations:
        if automation.name in texts:
            left_out.append(Problem(automation.name, f"a second one of this name, {automation.id}, is left out"))
            continue
        text = definition_files.render(document_of(definition_files.content(automation), catalogue))
        if reason := _misread(text, automation, catalogue):
            left_out.append(Problem(automation.name, f"cannot be said in a file: {reason}"))
        else:
            texts[automation.name] = text
    names = file_names(texts)
    return {names[name]: text for name, text in texts.items()}, left_out


def document_of(content: Document, catalogue: Catalogue) -> dict[str, Any]:
    """Return an automation as a file would have it: names in place of ids, and no default values."""
    fields = {key: content[key] for key in drift.FIELDS}
    fields["tags"] = drift.without_marks(fields["tags"])
    named = by_name(fields, catalogue)
    named["trigger"] = _trigger(named["trigger"])
    for key in ACTION_LISTS:
        named[key] = [_without(action, _ACTION_DEFAULTS) for action in named[key]]
    return _without(named, _DEFAULTS)


def _trigger(trigger: Document) -> dict[str, Any]:
    fields = _without({key: value for key, value in trigger.items() if key != "id"}, _TRIGGER_DEFAULTS)
    if "triggers" in fields:
        fields["triggers"] = [_trigger(one) for one in fields["triggers"]]
    # Prefect keeps these as sets; sorting them makes repeated exports identical.
    return {key: sorted(value) if key in {"after", "expect", "for_each"} else value for key, value in fields.items()}


def _follow_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _without(fields: Document, defaults: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in fields.items() if value is not None and (key, value) not in defaults.items()}
    return {
        key: int(value) if isinstance(value, float) and value.is_integer() else value for key, value in kept.items()
    }


def _misread(text: str, automation: Automation, catalogue: Catalogue) -> str | None:
    """Read a file as `plan` would, and return why it would not be that automation, or None."""
    definition, problems = read_text("file", text)
    if definition is None:
        return "; ".join(problem.message for problem in problems)
    if not definition.is_plain:
        return "one of its texts is spelt like a placeholder, which would be filled in"
    try:
        read = definition_files.content(definition_files.automation(definition.document, catalogue))
    except KeyError as error:
        return f"its trigger has a label that is spelt like a reference, to {error}"
    same = drift.canonical(read) == drift.canonical(definition_files.content(automation))
    return None if same else "it would be read as another one"


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Return a file name for each automation's name; names that would share one get a digest as well.

    >>> file_names(["Alert on failure", "a/b", "a b"])
    {'Alert on failure': 'alert-on-failure.yaml', 'a/b': 'a-b-c14cdd.yaml', 'a b': 'a-b-c8687a.yaml'}
    """
    slugs = {name: re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80] for name in names}
    counts = Counter(slugs.values())
    return {
        name: f"{slug}.yaml" if slug and counts[slug] == 1 else f"{slug}-{_digest(name)}.yaml".removeprefix("-")
        for name, slug in slugs.items()
    }


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:6]
