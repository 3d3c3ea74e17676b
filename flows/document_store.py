"""An example of another flow: store each JSON document once, under a name made of its content's hash.

To add such a flow, an inbox that announces its arrivals by its own event, an automation that expects that event and a
deployment are enough: docs/add-an-inbox.md.
"""

import hashlib
import os
import secrets
import sqlite3
import time
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any, Self

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.errors import PipelineError, RejectionError, may_help_to_retry
from flows.loading.file_result import FileResult, Outcome, has_rejected, summary
from flows.readers.guard import HEAD_BYTES, check_signature
from flows.readers.json_record import JsonRecord, examined
from flows.report.artifacts import publish
from flows.settings import read_settings
from flows.source_file import FileFormat, Rejected, SourceFile
from flows.sources.files import files_of
from flows.sources.spool import sync_folder

LARGEST = 64 * 2**20
"""The maximum size of a document in bytes: it is read as a whole."""
BUSY_SECONDS = 60.0
"""How long a run waits for another run that is writing to the index."""
_INDEX = """
CREATE TABLE IF NOT EXISTS documents (
    arrival_id TEXT NOT NULL,
    file       TEXT NOT NULL,
    sha256     TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    PRIMARY KEY (arrival_id, file)
)
"""


class DocumentFolder:
    """Stores documents in `<folder>/<2 digits>/<sha256>.json`, and lists them in `<folder>/index.db`.

    A killed run may be repeated: a document has the same name in each run and is listed once for its arrival.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._index = sqlite3.connect(folder / "index.db", timeout=BUSY_SECONDS)
        with self._index:
            self._index.execute(_INDEX)

    def store(self, file: SourceFile | Rejected, arrival_id: str) -> FileResult:
        """Store a document and return the result: loaded as one row, skipped, or rejected with the reason.

        Raises OSError and sqlite3.Error for failures that are not the document's fault.
        """
        began = time.monotonic()
        try:
            content = _document(file)
        except RejectionError as error:
            if self._is_listed(file.name, arrival_id):
                return FileResult(file.name, Outcome.SKIPPED, 1, file.size, 0.0)
            return FileResult(file.name, Outcome.REJECTED, 0, file.size, 0.0, str(error))
        digest = hashlib.sha256(content).hexdigest()
        self._keep(content, digest)
        with self._index:
            listed = self._index.execute(
                "INSERT INTO documents VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (arrival_id, file.name, digest, len(content)),
            ).rowcount
        outcome = Outcome.LOADED if listed else Outcome.SKIPPED
        return FileResult(file.name, outcome, 1, file.size, round(time.monotonic() - began, 6))

    def _is_listed(self, name: str, arrival_id: str) -> bool:
        """Return whether the document was stored before, when the file was still valid."""
        found = self._index.execute("SELECT 1 FROM documents WHERE arrival_id = ? AND file = ?", (arrival_id, name))
        return found.fetchone() is not None

    def _keep(self, content: bytes, digest: str) -> None:
        """Write a document under its name atomically, unless it exists."""
        place = self._folder / digest[:2] / f"{digest}.json"
        if place.exists():
            return
        place.parent.mkdir(exist_ok=True)
        sync_folder(self._folder)
        partial = place.with_name(f".{secrets.token_hex(8)}.part")
        # Never follow a link that another user could have made.
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        partial.replace(place)
        sync_folder(place.parent)  # before the index lists it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._index.close()


def _document(file: SourceFile | Rejected) -> bytes:
    """Return a document's content. Raises RejectionError if the file is not a valid JSON document."""
    if isinstance(file, Rejected):
        raise RejectionError(file.reason)
    if file.format is not FileFormat.JSON or file.compression:
        raise RejectionError(f"expected a JSON document, name.json, got {file.name}")
    if file.size > LARGEST:
        raise RejectionError(f"expected a document of at most {LARGEST:,} bytes, got {file.size:,}")
    content = file.path.read_bytes()
    if change := file.change():
        raise RejectionError(change)
    check_signature(content[:HEAD_BYTES], file.format)
    examined(JsonRecord(content.removeprefix(BOM_UTF8), 1))
    return content


@task(
    retries=3,
    retry_delay_seconds=2,
    retry_condition_fn=may_help_to_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def store_documents(source_url: str, load_id: str, manifest: str | None) -> tuple[FileResult, ...]:
    """Store each document of the source, and record that it came with this arrival."""
    logger = get_run_logger()
    with DocumentFolder(read_settings().state_dir / "documents") as folder:
        results = tuple(folder.store(file, load_id) for file in files_of(source_url, manifest))
    for result in results:
        logger.log(result.log_level, "%s", result)
    return results


@flow(name="Document Store", persist_result=False)
def document_store(source_url: str, arrival_id: str | None = None, manifest: str | None = None) -> State[Any]:
    """Store each JSON document under its content's hash, and list which arrival delivered which documents.

    The run ends Failed when a file is not a JSON document; the other files are stored.

    Args:
        source_url: file:///... of a document or of an arrival's folder.
        arrival_id: The arrival that a document is listed once for. Without it, the run counts as the arrival.
        manifest: The SHA-256 of the arrival's manifest; a file that differs from its entry there is rejected.
    """
    load_id = arrival_id or str(flow_run.id)
    try:
        results = store_documents(source_url, load_id, manifest)
    except PipelineError as error:
        return Failed(message=str(error))
    publish(load_id, results, get_run_logger(), read_settings().arrival_page(arrival_id))
    message = summary(results)
    return Failed(message=message) if has_rejected(results) else Completed(message=message)
