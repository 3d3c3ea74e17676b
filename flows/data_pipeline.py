"""The data pipeline flow: extract from a source, transform into typed columns, load into the warehouse."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.utilities.annotations import quote

from flows.errors import PipelineError, infrastructure_errors_translated, may_help_to_retry
from flows.extract_config import ExtractConfig, extract_config
from flows.loading.bulk import BulkLoader
from flows.loading.file_result import FileResult, Outcome, has_rejected, summary
from flows.loading.header_scan import Plan, plans_of, size_of
from flows.loading.loader import Loader
from flows.readers.guard import Guard
from flows.report.artifacts import LoadLog, LoadProgress, publish, watched
from flows.settings import read_settings
from flows.source_file import Rejected, SourceFile
from flows.sources.files import files_of
from flows.sources.http import download
from flows.sources.redact_url import redact_url
from flows.sources.spool import spool_folder
from flows.sql_names import TargetTable
from flows.warehouse.address import table_in
from flows.warehouse.base import WaitBudget
from flows.warehouse.duckdb import in_memory_reader
from flows.warehouse.open import open_warehouse

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Extraction:
    """The result of the extraction: where the files are, never their rows."""

    config: ExtractConfig
    files: tuple[SourceFile | Rejected, ...]


@task(
    retries=3,
    retry_delay_seconds=2,
    retry_condition_fn=may_help_to_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def extract_data(  # noqa: PLR0913, PLR0917 # the parameters of the flow
    source_url: str,
    target_table: str,
    batch_size: int,
    arrival_id: str | None,
    reload: list[str] | None,
    manifest: str | None,
    rules: dict[str, Any] | None,
    spool: Path,
) -> Extraction:
    """Validate the parameters, then find the source's files or download it."""
    logger = get_run_logger()
    logger.info("Initiating extraction...")
    config = extract_config(source_url, target_table, batch_size, arrival_id, reload, manifest, rules)
    settings = read_settings()
    for table in config.tables:
        table_in(settings.warehouse(table.catalog), table)
    files = (
        (download(config.source_url, spool, settings.http_limits),)
        if config.is_http
        else files_of(config.source_url, config.manifest, config.reloaded.covers, config.rules.known_format)
    )
    size = sum(file.size for file in files)
    logger.info("Extracted %d files, %s bytes, from %s", len(files), f"{size:,}", redact_url(source_url))
    for file in files:
        if isinstance(file, SourceFile) and file.remark:
            logger.warning("%s: %s", file.name, file.remark)
    return Extraction(config, (*files, *config.reloaded.not_found(files)))


@task(cache_policy=NO_CACHE, persist_result=False)
def transform_data(extraction: Extraction, spool: Path) -> tuple[Plan, ...]:
    """Plan how the text of each file becomes typed columns; the rows themselves stay in the files."""
    settings = read_settings()
    with (
        infrastructure_errors_translated(),
        in_memory_reader(settings.warehouse_memory_limit, spool / "transform.tmp") as reader,
        Guard(settings.file_limits, lambda: reader.connection) as guard,
    ):
        plans = tuple(plans_of(reader, extraction.files, spool, guard, extraction.config.rules))
    get_run_logger().info("Transformation complete")
    return plans


@task(
    retries=3,
    retry_delay_seconds=2,
    retry_condition_fn=may_help_to_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def load_data(
    config: ExtractConfig, plans: Sequence[Plan], load_id: str, budget: WaitBudget | None = None
) -> tuple[FileResult, ...]:
    """Load the files, each with its load key in one transaction, and return the result of each.

    All attempts together wait for the warehouse no longer than the budget allows.
    """
    logger = get_run_logger()
    settings = read_settings()
    address = settings.warehouse(config.tables[0].catalog)
    began = time.monotonic()
    log = LoadLog(len(plans), began)
    size = sum(size_of(plan) for plan in plans)
    progress = LoadProgress(load_id, len(plans), size, began, logger)
    with (
        infrastructure_errors_translated(),
        open_warehouse(address, settings.open_options, logger.info, budget) as warehouse,
        watched(lambda: warehouse.reader, size, progress.estimate),
        Guard(settings.file_limits, lambda: warehouse.reader) as guard,
    ):
        batch_size = config.batch_size if config.is_http else None
        for table, some in by_table(config, plans):
            loader = Loader(
                warehouse, table_in(address, table), load_id, batch_size, config.reloaded, guard, config.rules
            )
            for known in BulkLoader(loader).load(some):
                now = time.monotonic()
                for level, line in log.lines(known, now):
                    logger.log(level, "%s", line)
                progress.update(known, log.results, now)
    if any(result.outcome is Outcome.LOADED for result in log.results):
        logger.info("Transaction committed successfully")
    places = {plan.name if isinstance(plan, Rejected) else plan.file.name: at for at, plan in enumerate(plans)}
    return tuple(sorted(log.results, key=lambda result: places[result.file]))


def by_table(config: ExtractConfig, plans: Sequence[Plan]) -> list[tuple[TargetTable, list[Plan]]]:
    """Return the tables that the files go into, each with its files; a file without a table is rejected."""
    found: dict[TargetTable, list[Plan]] = {}
    for plan in plans:
        name = plan.name if isinstance(plan, Rejected) else plan.file.name
        table = config.table_of(name)
        one: Plan = plan
        if table is None and not isinstance(plan, Rejected):
            why = f"no pattern of the rule `tables` fits its name; there are {', '.join(config.rules.tables or ())}"
            one = Rejected(name, plan.file.size, why)
        found.setdefault(table or config.tables[0], []).append(one)
    return list(found.items())


def _unsearched(value: _Value) -> _Value:
    """Pass a value to a task unchanged.

    Otherwise Prefect searches every part of every plan for task runs, a second of CPU time per call for 10,000 files
    (measured).
    """
    return cast(_Value, quote(value))


@flow(name="Enterprise Data Pipeline", persist_result=False)
def data_pipeline(
    source_url: str,
    target_table: str,
    batch_size: int = 500,
    arrival_id: str | None = None,
    reload: list[str] | None = None,
    manifest: str | None = None,
    rules: dict[str, Any] | None = None,
) -> State[Any]:
    """Load the files of a source into a table, each exactly once per arrival.

    The run ends Failed when a file is rejected; the other files are loaded.

    Args:
        source_url: http(s)://... or file:///... of a file or of an arrival's folder.
        target_table: The table to load into, as warehouse.schema.table.
        batch_size: How many rows of an http source are inserted at a time; files are loaded whole.
        arrival_id: The arrival that each file is loaded once for. Without it, the run counts as the arrival.
        reload: Names of files of the arrival, or ["*"] for all, whose rows are replaced even if already loaded.
        manifest: The SHA-256 of the arrival's manifest; a file that differs from its entry there is rejected.
        rules: How files are read and loaded, as an inbox's rules: table, tables, format, columns, contract, write.
    """
    logger = get_run_logger()
    logger.info("Pipeline execution started")
    if arrival_id:
        logger.info("Arrival %s", arrival_id)  # to find this run's log by the arrival
    run_id = str(flow_run.id)
    load_id = arrival_id or run_id
    try:
        with spool_folder(read_settings().spool_dir, run_id) as spool:
            extraction = extract_data(source_url, target_table, batch_size, arrival_id, reload, manifest, rules, spool)
            plans = transform_data(_unsearched(extraction), spool)
            budget = WaitBudget(read_settings().warehouse_wait_seconds)
            results = load_data(extraction.config, _unsearched(plans), load_id, _unsearched(budget))
    except PipelineError as error:
        return Failed(message=str(error))
    publish(load_id, results, logger, read_settings().arrival_page(arrival_id))
    logger.info("Pipeline execution finished")
    message = summary(results)
    return Failed(message=message) if has_rejected(results) else Completed(message=message)


if __name__ == "__main__":
    from flows.sample_run import run_sample

    run_sample(data_pipeline)
