"""The process that checks files: `python -m flows.check.run`, which reads and converts them as a run does."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from threading import Event, Timer
from typing import Any

from sensors.config.admission_part import readable
from sensors.files.permissions import umask_of_caller
from sensors.stack.errors import StackError

COMMAND = (sys.executable, "-P", "-m", "flows.check.run")
"""`-P`: the folder that it is called in may hold a `json.py` that came with the files."""


@dataclass(frozen=True)
class CheckedFile:
    """A file to be checked."""

    path: str
    name: str
    """Its own name, whose suffix says the format: the path may be that of a descriptor."""
    shown: str
    """What it is called in the answer."""
    out: str | None = None
    """The Parquet file to write its rows to."""


@dataclass(frozen=True)
class ProcessLimits:
    """What the process may take, for files of others."""

    seconds: float
    descriptors: tuple[int, ...] = ()
    """Open files that it is given."""


def check_files(
    files: Sequence[CheckedFile], table: str | None, limits: ProcessLimits | None = None
) -> Iterator[dict[str, Any]]:
    """Yield what would become of each file, as it is found; `table` None: a new table.

    Without files it is looked whether files could be checked. Raises StackError with what keeps them from it.
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

    >>> described({"kind": "csv", "is_gzipped": True, "delimiter": ";", "quote": "'", "encoding": "UTF-8",
    ...     "header_line": 2})
    'csv, gzipped; delimiter ; (semicolon), single quotes, UTF-8, names in line 2'
    """
    parts = [f"{found['kind']}{', gzipped' if found['is_gzipped'] else ''}"]
    if found["delimiter"]:
        name = _DELIMITERS.get(found["delimiter"], "")
        shown = name if name == "tab" else f"{found['delimiter']} ({name})"
        quotes = f"{_QUOTES.get(found['quote'], found['quote'])} quotes" if found["quote"] else "no quotes"
        parts.append(f"delimiter {shown}, {quotes}, {found['encoding']}, names in line {found['header_line']}")
    return "; ".join(parts)
