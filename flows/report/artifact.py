"""Publish a run's table artifact, with the outcome of each file, and the chart in its description.

The sensor reads the outcomes of an arrival's files from this artifact.
"""

import logging
import re
from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_table_artifact
from tenacity import Retrying, stop_after_attempt, wait_fixed

from flows.loading.file_result import FileResult, Outcome, counts, widened

SHOWN = 12
"""How many files get a bar; the table below lists all files."""
WIDTH = 20
"""Length of the longest bar in characters."""
_NAME_LIMIT = 60
_ESCAPED = r"\\\g<0>"
_MARKUP = re.compile(r"[\\`*_{}\[\]()<>#+\-.!|~&:@$]")


def chart(results: Sequence[FileResult]) -> str:
    """Return a bar chart of the rows per file, rejected files first, then the largest; "" for a single file.

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
    r"""Escape a text for Markdown, on one line and cut to at most 60 characters.

    >>> plain("[x](http://bad) <b>|")
    '\\[x\\]\\(http\\://bad\\) \\<b\\>\\|'
    """
    one_line = " ".join(text.split())
    cut = one_line if len(one_line) <= _NAME_LIMIT else f"{one_line[: _NAME_LIMIT - 1]}…"
    return _MARKUP.sub(_ESCAPED, cut)


def bar(value: int, longest: int) -> str:
    """Return a bar of block characters; any value above 0 gets at least a thin one.

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
"""Formatted with the arrival's id, or with the run's id if the run has no arrival."""


FEW = 100
"""Up to this many files, the table keeps the order of the run's files."""
_URGENCY = (Outcome.REJECTED, Outcome.SKIPPED, Outcome.LOADED)


def report_rows(results: Sequence[FileResult]) -> list[dict[str, Any]]:
    """Return the table's rows; the sensor depends on their keys."""
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
    """Return the results in the order of the table: of more than FEW files, those that may need attention first."""
    if len(results) <= FEW:
        return results
    return sorted(results, key=lambda result: _URGENCY.index(result.outcome))


def description_of(results: Sequence[FileResult], page: str | None = None) -> str:
    """Return the Markdown above the table: counts, a link to the arrival's page, widened columns, and the chart.

    It is the description of the table artifact, because an artifact of its own would cost each run another request.
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
    """Write the artifact in up to three attempts. Failure is only logged, as the rows are in the warehouse already.

    `page` is the URL of the arrival's page.
    """
    retrying = Retrying(stop=stop_after_attempt(3), wait=wait_fixed(1), reraise=True)
    try:
        retrying(
            create_table_artifact,
            table=report_rows(report_order(results)),
            key=ARTIFACT_KEY.format(load_id),
            description=description_of(results, page),
        )
    except Exception as error:  # noqa: BLE001 - a failed report must not fail the load
        logger.warning("the report of the files could not be written to Prefect: %s", error)
