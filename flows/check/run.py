"""`python -m flows.check.run`: check the files of a request, which is read as JSON from standard input.

The request has these keys:

- `files`: a list of objects with `path`, `name`, `shown` (the file's name in the response) and `out` (the file to write
  its rows to, or null);
- `table`: `catalog.schema.table`, or null for a new table;
- `cpu_seconds`: a limit on CPU time, or null; with it the kernel also limits memory and file sizes.

The response is one line of JSON per file, in the same order. An error that prevents checking is a line with `mistakes`
and exit status 2. Settings and table name are checked even without files. Waits are reported on standard error.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from flows.check.checker import Checker
from flows.check.scratch import read_target
from flows.errors import PermanentError, PipelineError, one_line
from flows.extract_config import extract_config
from flows.settings import PipelineSettings, read_settings
from flows.sql_names import TargetTable
from flows.warehouse.address import table_in

_RESERVED = 2 << 30
_LARGEST_FILE = 1 << 30


def main() -> None:
    """Check the files of the request and print the results."""
    request: dict[str, Any] = json.load(sys.stdin)
    try:
        for answer in answers(request):
            print(json.dumps(answer), flush=True)
    except (PipelineError, duckdb.Error, OSError, MemoryError) as error:
        print(json.dumps({"mistakes": [one_line(str(error)) or "out of memory"]}), flush=True)
        sys.exit(2)


def answers(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the result of each file. Raises PipelineError, duckdb.Error, OSError."""
    settings = read_settings()
    if request["cpu_seconds"] is not None:
        _limit(request["cpu_seconds"], settings.file_limits.run_memory_bytes)
    table = _table(settings, request["table"])
    if not request["files"]:
        return
    with TemporaryDirectory(prefix="check-") as made:
        folder = Path(made)
        target = read_target(settings, table, _say, folder, is_new=request["table"] is None)
        with Checker(settings, target, folder, _say) as checker:
            for file in request["files"]:
                out = Path(file["out"]) if file["out"] else None
                yield asdict(checker.check(Path(file["path"]), file["shown"], out, file["name"]))


def _limit(cpu_seconds: int, memory: int) -> None:
    """Set kernel limits on this process, and make it the first to be killed when memory is short."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    # RLIMIT_AS counts reserved memory, used or not: DuckDB's threads and Python reserve up to 1.3 GiB more (measured).
    resource.setrlimit(resource.RLIMIT_AS, (memory + _RESERVED, memory + _RESERVED))
    os.nice(10)
    with suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text("1000")


def _table(settings: PipelineSettings, given: str | None) -> TargetTable:
    if given is None:
        address = settings.warehouse()
        return TargetTable(address.catalog, "public", "checked")
    try:
        table = extract_config("file:///", given, 1, None).table
    except PermanentError as error:
        raise PermanentError(str(error).replace("target_table: ", "--table: ", 1)) from None
    return table_in(settings.warehouse(table.catalog), table)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
