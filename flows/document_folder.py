"""The folder of documents: each under its content's hash, and an index of which arrival brought which."""

import hashlib
import json
import os
import sqlite3
import time
from pathlib import Path
from typing import Self

from flows.failures import RejectionError
from flows.source_file import FileFormat, Rejected, SourceFile
from flows.verdict import Outcome, Verdict

LARGEST = 64 * 2**20
"""How many bytes a document has at most: it is read as a whole."""
BUSY_SECONDS = 60.0
"""How long one run waits for another that writes into the index."""
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

    What is killed may be done again: a document has one name whoever stores it, and is listed once for its arrival.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._index = sqlite3.connect(folder / "index.db", timeout=BUSY_SECONDS)
        with self._index:
            self._index.execute(_INDEX)

    def store(self, file: SourceFile | Rejected, arrival_id: str) -> Verdict:
        """Store a document and return what became of it: loaded as one row, skipped, or rejected with the reason.

        Raises OSError and sqlite3.Error for what is not the document's fault.
        """
        began = time.monotonic()
        if isinstance(file, Rejected):
            return Verdict(file.name, Outcome.REJECTED, 0, file.size, 0.0, file.reason)
        try:
            content = _document(file)
        except RejectionError as error:
            return Verdict(file.name, Outcome.REJECTED, 0, file.size, 0.0, str(error))
        digest = hashlib.sha256(content).hexdigest()
        self._keep(content, digest)
        with self._index:
            listed = self._index.execute(
                "INSERT INTO documents VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (arrival_id, file.name, digest, len(content)),
            ).rowcount
        outcome = Outcome.LOADED if listed else Outcome.SKIPPED
        return Verdict(file.name, outcome, 1, file.size, round(time.monotonic() - began, 6))

    def _keep(self, content: bytes, digest: str) -> None:
        """Write a document under its name, whole or not at all, unless it is there."""
        place = self._folder / digest[:2] / f"{digest}.json"
        if place.exists():
            return
        place.parent.mkdir(exist_ok=True)
        partial = place.with_name(f".{digest}.{os.getpid()}.part")
        with partial.open("wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        partial.replace(place)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._index.close()


def _document(file: SourceFile) -> bytes:
    """Return a document's content. Raises RejectionError if it is none."""
    if file.format is not FileFormat.JSON or file.is_gzipped:
        raise RejectionError(f"expected a JSON document, name.json, got {file.name}")
    if file.size > LARGEST:
        raise RejectionError(f"expected a document of at most {LARGEST:,} bytes, got {file.size:,}")
    content = file.path.read_bytes()
    try:
        json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RejectionError(f"expected a JSON document, got {' '.join(str(error).split()):.200}") from None
    return content
