"""The table artifact of a run with the outcome of each file, from which the sensor reads outcomes, and its chart."""

import logging
import re
from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_table_artifact
from tenacity import Retrying, stop_after_attempt, wait_fixed

from flows.loading.file_result import FileResult, Outcome, counts, widened

SHOWN = 12
"""How many files get a bar; the table below names all of them."""
WIDTH = 20
"""How many characters the longest bar has."""
_NAME_LIMIT = 60
_ESCAPED = r"\\\g<0>"
_MARKUP = re.compile(r"[\\`*_{}\[\]()<>#+\-.!|~&:@$]")


def chart(results: Sequence[FileResult]) -> str:
    """Return the rows of each file as bars, the largest first and rejected files before them; "" for a single file.

    >>> loaded = FileResult("a.csv", Outcome.LOADED, 40, 9, 0.1)
    >>> rejected = FileResult("b.csv", Outcome.REJECTED, 0, 9, 0.0)
    >>> print(chart([loaded, rejected]))
    | file | rows | |
    |:--|--:|:--|
    | b\\.csv | | &ensp;✗ rejected |
    | a\\.csv | 40 | &ensp;▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇ |
    """
    if len(results) < 2:
        return ""
    ordered = sorted(results, key=lambda one: (one.outcome is not Outcome.REJECTED, -one.rows))
    longest = max(one.rows for one in results)
    lines = ["| file | rows | |", "|:--|--:|:--|", *(_line(one, longest) for one in ordered[:SHOWN])]
    if rest := ordered[SHOWN:]:
        lines.append(f"| and {len(rest):,} more | {sum(one.rows for one in rest):,} | |")
    return "\n".join(lines)


def plain(text: str) -> str:
    r"""Return a text from a file as Markdown that shows it as it is, in one line and not too long.

    >>> plain("[x](http://bad) <b>|")
    '\\[x\\]\\(http\\://bad\\) \\<b\\>\\|'
    """
    one_line = " ".join(text.split())
    cut = one_line if len(one_line) <= _NAME_LIMIT else f"{one_line[: _NAME_LIMIT - 1]}…"
    return _MARKUP.sub(_ESCAPED, cut)


def bar(value: int, longest: int) -> str:
    """Return a bar of block characters, a thin one at least for what is not nothing.

    >>> bar(1, 1000), bar(500, 1000)
    ('▏', '▇▇▇▇▇▇▇▇▇▇')
    """
    if not value or not longest:
        return ""
    return "▇" * round(value / longest * WIDTH) or "▏"


def _line(result: FileResult, longest: int) -> str:
    if result.outcome is Outcome.REJECTED:
        return f"| {plain(result.file)} | | &ensp;✗ rejected |"
    skipped = " ↷ skipped, it was loaded before" if result.outcome is Outcome.SKIPPED else ""
    return f"| {plain(result.file)} | {result.rows:,} | &ensp;{bar(result.rows, longest)}{skipped} |"


ARTIFACT_KEY = "arrival-{}"
"""The artifact's key: of the arrival, or of the run when it loads for itself."""


FEW = 100
"""So many files are found by their place among the others."""
_URGENCY = (Outcome.REJECTED, Outcome.SKIPPED, Outcome.LOADED)


def report_rows(results: Sequence[FileResult]) -> list[dict[str, Any]]:
    """Return the table's rows; their keys are a contract with the sensor."""
    return [
        {
            "file": result.file,
            "outcome": result.outcome.value,
            "rows": result.rows,
            "bytes": result.bytes,
            "seconds": result.seconds,
            "reason": result.reason,
            **({"widened": list(result.widened)} if result.widened else {}),
        }
        for result in results
    ]


def report_order(results: Sequence[FileResult]) -> Sequence[FileResult]:
    """Return the results as the report shows them: of many files first those that may need attention."""
    if len(results) <= FEW:
        return results
    return sorted(results, key=lambda result: _URGENCY.index(result.outcome))


def description_of(results: Sequence[FileResult], page: str | None = None) -> str:
    """Return what stands above the table, as Markdown: the counts, a link to the arrival's page, and a chart.

    It is part of the table's artifact and not one of its own, which would cost each run another request.
    """
    link = f"[The arrival's page ↗]({page})" if page else ""
    lines = "\n".join(f"- {_MARKUP.sub(_ESCAPED, line)}" for line in widened(results))
    return "\n\n".join(filter(None, [f"{counts(results)}.", link, lines, chart(results)]))


def publish(
    load_id: str,
    results: Sequence[FileResult],
    logger: "logging.Logger | logging.LoggerAdapter[Any]",
    page: str | None = None,
) -> None:
    """Write the artifact; when that fails it is logged and no more: the rows are in the warehouse all the same.

    `page` is the address of a page about what was loaded.
    """
    retrying = Retrying(stop=stop_after_attempt(3), wait=wait_fixed(1), reraise=True)
    try:
        retrying(
            create_table_artifact,
            table=report_rows(report_order(results)),
            key=ARTIFACT_KEY.format(load_id),
            description=description_of(results, page),
        )
    except Exception as error:  # noqa: BLE001 - nothing that can go wrong here may undo a load
        logger.warning("the report of the files could not be written to Prefect: %s", error)
