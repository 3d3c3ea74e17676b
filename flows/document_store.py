"""A flow of another shape, as an example: each JSON document is kept once, under a name made of its content.

An inbox that announces its arrivals by an event of its own, an automation that expects it and a deployment are all it
takes: docs/add-an-inbox.md.
"""

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.document_folder import DocumentFolder
from flows.failures import PipelineError, may_help_to_retry
from flows.file_source import files_of
from flows.load_report import publish
from flows.pipeline_settings import read_settings
from flows.verdict import Verdict, has_rejected, summary


@task(
    retries=3,
    retry_delay_seconds=2,
    retry_condition_fn=may_help_to_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def store_documents(source_url: str, load_id: str) -> tuple[Verdict, ...]:
    """Store each document of the source, and write down that it came with this arrival."""
    logger = get_run_logger()
    with DocumentFolder(read_settings().state_dir / "documents") as folder:
        verdicts = tuple(folder.store(file, load_id) for file in files_of(source_url))
    for verdict in verdicts:
        logger.log(verdict.log_level, "%s", verdict)
    return verdicts


@flow(name="Document Store", persist_result=False)
def document_store(source_url: str, arrival_id: str | None = None) -> State[Any]:
    """Keep each JSON document under its content's hash, and list which arrival brought which.

    The run ends Failed when a file is no JSON document; the others are stored then.

    Args:
        source_url: file:///... of a document or of an arrival's folder.
        arrival_id: What a document is listed once for. Without it the run stores for itself.
    """
    load_id = arrival_id or str(flow_run.id)
    try:
        verdicts = store_documents(source_url, load_id)
    except PipelineError as error:
        return Failed(message=str(error))
    publish(load_id, verdicts, get_run_logger(), read_settings().arrival_page(arrival_id))
    message = summary(verdicts)
    return Failed(message=message) if has_rejected(verdicts) else Completed(message=message)
