"""The process that checks files: `python -m flows.check.run`, which reads and converts them as a run does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sensors.permissions import umask_of_caller
from sensors.settling.admission import readable
from sensors.stack.errors import StackError

COMMAND = (sys.executable, "-P", "-m", "flows.check.run")
"""`-P`: the folder that it is called in may hold a `json.py` that came with the files."""


@dataclass(frozen=True)
class CheckedFile:
    """A file to be checked."""

    path: str
    shown: str
    """What it is called in the answer."""
    out: str | None = None
    """The Parquet file to write its rows to."""


def check_files(files: Sequence[CheckedFile], table: str | None) -> Iterator[dict[str, Any]]:
    """Yield what would become of each file, as it is found; `table` None: a new table.

    Without files it is looked whether files could be checked. Raises StackError with what keeps them from it.
    """
    request = json.dumps({"table": table, "files": [asdict(file) for file in files]})
    process = subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, umask=umask_of_caller(), encoding="utf-8"
    )
    if process.stdin is None or process.stdout is None:
        raise TypeError("expected two pipes")
    answered = 0
    try:
        process.stdin.write(request)
        process.stdin.close()
        for line in process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if "mistakes" in answer:
                raise StackError(*answer["mistakes"])
            answered += 1
            yield answer
        if process.wait() or answered < len(files):
            raise StackError(_ended(process.returncode, files[answered] if answered < len(files) else None))
    except BrokenPipeError:
        raise StackError(_ended(process.wait(), None)) from None
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def _ended(status: int, file: CheckedFile | None) -> str:
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    where = f", at {readable(file.shown)}" if file else ""
    return f"the process that checks files {how}{where}; expected an answer for each file"
