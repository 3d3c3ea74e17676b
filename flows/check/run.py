"""`python -m flows.check.run`: check the files of a request, which is JSON on the standard input.

The request: `files`, each with `path`, what it is called (`shown`) and the file to write its rows to (`out`, or null);
`table` (`catalog.schema.table`, or null for a new table). The answer is a line of JSON for each file, in their order.
What keeps files from being checked is a line with `mistakes`, and exit status 2; without files it is looked for all the
same. What is waited for is said on the standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
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


def main() -> None:
    """Answer the request."""
    request: dict[str, Any] = json.load(sys.stdin)
    try:
        for answer in answers(request):
            print(json.dumps(answer), flush=True)
    except (PipelineError, duckdb.Error, OSError) as error:
        print(json.dumps({"mistakes": [one_line(str(error))]}), flush=True)
        sys.exit(2)


def answers(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what becomes of each file. Raises PipelineError, duckdb.Error, OSError."""
    settings = read_settings()
    table = _table(settings, request["table"])
    if not request["files"]:
        return
    with TemporaryDirectory(prefix="check-") as made:
        folder = Path(made)
        target = read_target(settings, table, _say, folder, is_new=request["table"] is None)
        with Checker(settings, target, folder, _say) as checker:
            for file in request["files"]:
                out = Path(file["out"]) if file["out"] else None
                yield asdict(checker.check(Path(file["path"]), file["shown"], out))


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
