"""The table artifact in which a run tells, file by file, what it did; the sensor learns the outcomes from it."""

import logging
from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_table_artifact
from tenacity import Retrying, stop_after_attempt, wait_fixed

from flows.load_chart import chart
from flows.verdict import Outcome, Verdict, counts

ARTIFACT_KEY = "arrival-{}"
"""The artifact's key: of the arrival, or of the run when it loads for itself."""


FEW = 100
"""So many files are found by their place among the others."""
_URGENCY = (Outcome.REJECTED, Outcome.SKIPPED, Outcome.LOADED)


def report_rows(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return the table's rows; their keys are a contract with the sensor."""
    return [
        {
            "file": verdict.file,
            "outcome": verdict.outcome.value,
            "rows": verdict.rows,
            "bytes": verdict.bytes,
            "seconds": verdict.seconds,
            "reason": verdict.reason,
        }
        for verdict in verdicts
    ]


def report_order(verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
    """Return the verdicts as the report shows them: of many files first those that somebody may have to see to."""
    if len(verdicts) <= FEW:
        return verdicts
    return sorted(verdicts, key=lambda verdict: _URGENCY.index(verdict.outcome))


def description_of(verdicts: Sequence[Verdict], page: str | None = None) -> str:
    """Return what stands above the table, as Markdown: the counts, a link to the arrival's page, and a chart.

    It is part of the table's artifact and not one of its own, which would cost each run another request.
    """
    link = f"[The arrival's page ↗]({page})" if page else ""
    return "\n\n".join(filter(None, [f"{counts(verdicts)}.", link, chart(verdicts)]))


def publish(
    load_id: str,
    verdicts: Sequence[Verdict],
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
            table=report_rows(report_order(verdicts)),
            key=ARTIFACT_KEY.format(load_id),
            description=description_of(verdicts, page),
        )
    except Exception as error:  # noqa: BLE001 - nothing that can go wrong here may undo a load
        logger.warning("the report of the files could not be written to Prefect: %s", error)
