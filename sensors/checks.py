"""Run `python -m flows.check.run`, which reads and converts files as a run does, and find the table of an inbox."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Timer
from typing import Any

import yaml

from sensors.config.inboxes import Inbox
from sensors.config.settings import PROJECT_ROOT
from sensors.files.permissions import umask_of_caller
from sensors.runtime.text import readable
from sensors.stack.errors import StackError

COMMAND = (sys.executable, "-P", "-m", "flows.check.run")
"""`-P`: the current folder may have a `json.py` that came with the files."""


@dataclass(frozen=True)
class CheckedFile:
    """A file to check."""

    path: str
    name: str
    """The file's own name, whose suffix gives the format; the path may be that of a descriptor."""
    shown: str
    """The name to show in the answer."""
    out: str | None = None
    """The Parquet file to write its rows to."""
    rules: Mapping[str, Any] | None = None
    """How it is read and loaded, as an inbox's rules."""


@dataclass(frozen=True)
class ProcessLimits:
    """Limits of the process, for files from other users."""

    seconds: float
    descriptors: tuple[int, ...] = ()
    """Open files that the process inherits."""


def check_files(
    files: Sequence[CheckedFile], table: str | None, limits: ProcessLimits | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the result for each file, as it is found; `table` None: the table that its rules name, or a new one.

    Without files, check whether files could be checked at all. Raises StackError with the reasons if they cannot be.
    """
    cpu = None if limits is None else math.ceil(limits.seconds)
    request = json.dumps({"table": table, "files": [asdict(file) for file in files], "cpu_seconds": cpu})
    process = subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        umask=umask_of_caller(),
        encoding="utf-8",
        pass_fds=limits.descriptors if limits else (),
    )
    if process.stdin is None or process.stdout is None:
        raise TypeError("expected two pipes")
    late = Event()

    def end() -> None:
        late.set()
        process.kill()

    clock = Timer(limits.seconds, end) if limits else None
    answered = 0
    try:
        if clock:
            clock.start()
        process.stdin.write(request)
        process.stdin.close()
        for line in process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if "mistakes" in answer:
                raise StackError(*answer["mistakes"])
            answered += 1
            yield answer
        status = process.wait()
        if answered < len(files):
            raise StackError(_ended(status, files[answered], limits if late.is_set() else None))
    except BrokenPipeError:
        raise StackError(_ended(process.wait(), None, None)) from None
    finally:
        if clock:
            clock.cancel()
        process.kill()
        process.stdout.close()
        process.wait()


def _ended(status: int, file: CheckedFile | None, exceeded: ProcessLimits | None) -> str:
    where = f" at {readable(file.shown)}" if file else ""
    if exceeded:
        return f"the check took more than {exceeded.seconds:g} s{where} and was ended; `just check` takes its time"
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"the process that checks files {how}{where}; expected an answer for each file"


_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_QUOTES = {'"': "double", "'": "single"}


def described(found: Mapping[str, Any]) -> str:
    """Return a file's format in words.

    >>> described({"kind": "csv", "compression": "gz", "delimiter": ";", "quote": "'", "encoding": "UTF-8",
    ...     "header_line": 2})
    'csv, gz; delimiter ; (semicolon), single quotes, UTF-8, names in line 2'
    """
    parts = [f"{found['kind']}{', ' + found['compression'] if found['compression'] else ''}"]
    if found["delimiter"]:
        name = _DELIMITERS.get(found["delimiter"], "")
        shown = name if name == "tab" else f"{found['delimiter']} ({name})"
        quotes = f"{_QUOTES.get(found['quote'], found['quote'])} quotes" if found["quote"] else "no quotes"
        parts.append(f"delimiter {shown}, {quotes}, {found['encoding']}, names in line {found['header_line']}")
    return "; ".join(parts)


PIPELINE = "flows/data_pipeline.py:data_pipeline"
"""The flow that loads rows, as prefect.yaml names it."""
_TABLE = "target_table"


def rules_of_inbox(inbox: Inbox | None) -> Mapping[str, Any] | None:
    """Return the rules of an inbox for reading and loading its files; None if it has none."""
    return json.loads(inbox.load_rules) if inbox and inbox.load_rules else None


def table_of(inbox: Inbox, root: Path = PROJECT_ROOT) -> str | None:
    """Return the table that an inbox's files are loaded into, as `catalog.schema.table`; None if its rules name it.

    An automation runs a deployment on the inbox's event, and the automation or the deployment names the table. Raises
    StackError if the project's files name none.
    """
    if inbox.table or inbox.tables:
        return None
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
    """Yield the deployments that automations run on an event, with their parameters."""
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
