"""Translate the `parameters/` files of the Pollock benchmark into rules of an inbox."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SUFFIX = "_parameters.json"


def rules_of_corpus(corpus: Path) -> dict[str, dict[str, Any]]:
    """Return the rules of each file of the unpacked benchmark, by the file's name."""
    return {
        path.name.removesuffix(SUFFIX): rules_of_parameters(json.loads(path.read_text("utf-8")))
        for path in sorted((corpus / "parameters").iterdir())
    }


def rules_of_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the parameters of a file say as rules, with at most one bad row put aside."""
    first, lines = given["preamble_lines"] + 1, given["header_lines"]
    form = {
        "encoding": given["encoding"],
        "delimiter": given["delimiter"] or None,
        "quote": given["quotechar"],
        "escape": given["escapechar"] if given["escapechar"] not in {"", given["quotechar"]} else None,
        "header": "none" if not lines else first if lines == 1 else list(range(first, first + lines)),
        "footer": given["footnote_lines"],
    }
    return {
        "format": {name: value for name, value in form.items() if value is not None},
        "bad_rows": {"quarantine": 1},
    }
