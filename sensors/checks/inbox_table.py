"""The table that the files of an inbox go into: by its event to the automation, and from there to the deployment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sensors.config.inboxes import Inbox
from sensors.config.settings import PROJECT_ROOT
from sensors.stack.errors import StackError

PIPELINE = "flows/data_pipeline.py:data_pipeline"
"""The flow that loads rows, as prefect.yaml names it."""
_TABLE = "target_table"


def table_of(inbox: Inbox, root: Path = PROJECT_ROOT) -> str:
    """Return the table, as `catalog.schema.table`. Raises StackError if the files of this project name none."""
    found = next(_deployments_of(inbox.event, root), None)
    where = f"inbox {inbox.name!r}"
    if found is None:
        raise StackError(f"{where}: no automation in automations/ runs a deployment on {inbox.event}; give --table")
    name, parameters = found
    deployment = _deployment(name, root)
    if deployment is None:
        raise StackError(f"{where}: prefect.yaml has no deployment {name!r}, which its arrivals run; give --table")
    if deployment.get("entrypoint") != PIPELINE:
        raise StackError(
            f"{where}: its arrivals run {deployment.get('entrypoint')}; expected {PIPELINE}, whose files are checked"
        )
    table = parameters.get(_TABLE) or _mapping(deployment.get("parameters")).get(_TABLE)
    if not isinstance(table, str) or "{" in table or "$" in table:
        raise StackError(f"{where}: expected a table's name in prefect.yaml as {_TABLE}, got {table!r}; give --table")
    return table


def _deployments_of(event: str, root: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the deployments that automations run on an event, and with which parameters."""
    for file in sorted((root / "automations").glob("*.yaml")):
        written = _mapping(_read(file))
        if event in _items(_mapping(written.get("trigger")).get("expect")):
            for action in map(_mapping, _items(written.get("actions"))):
                if action.get("type") == "run-deployment":
                    yield str(action.get("deployment")).rpartition("/")[2], _mapping(action.get("parameters"))


def _deployment(name: str, root: Path) -> Mapping[str, Any] | None:
    written = _mapping(_read(root / "prefect.yaml"))
    return next((one for one in map(_mapping, _items(written.get("deployments"))) if one.get("name") == name), None)


def _read(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise StackError(f"{file.name}: cannot be read: {' '.join(str(error).split()):.200}") from None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}  # pyright: ignore[reportUnknownVariableType]


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]
