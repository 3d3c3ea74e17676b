"""Detect files whose content, by SHA-256, arrived in the same inbox before, and mark the arrivals that keep them."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from sensors.config.inboxes import Duplicates, Inbox
from sensors.files.beneath import Identity, appending, place_of
from sensors.ledger import Ledger, files
from sensors.ledger.files import WaitingFile

_MARK = ".duplicates"
"""Marker file in the folder of an arrival of duplicates: hidden from the flow, read when the ledger is rebuilt."""


def duplicates_among(
    ledger: Ledger, inbox: Inbox, batch: Sequence[WaitingFile], digest_file: Callable[[WaitingFile], str | None]
) -> dict[int, str]:
    """Return the ids of files that repeat a loaded or in-flight file, each with a text that names that file.

    Reads every file whole, unless the inbox loads duplicates anyway. A file that changes meanwhile or cannot be read
    is not reported as a duplicate: the move detects the problem.
    """
    if inbox.duplicates is Duplicates.LOAD:
        return {}
    found: dict[int, str] = {}
    first: dict[str, str] = {}
    digests: list[tuple[int, str]] = []
    for file in batch:
        digest = digest_file(file)
        if digest is None:
            continue
        digests.append((file.id, digest))
        earlier = first.get(digest) or files.first_with_content(ledger, inbox.name, digest)
        if earlier is None:
            first[digest] = f"{file.name}, which came with it"
        else:
            found[file.id] = f"a duplicate: the same content as {earlier}"
    files.record_content(ledger, digests)
    return found


def digest_of(root: Path | str, name: str, identity: Identity) -> str | None:
    """Return the SHA-256 of a file, by its path below a root, or None if it cannot be read or was changed or replaced.

    Identity and content are read from the same open descriptor. A FIFO that has replaced the file is not read.
    """
    try:
        with place_of(root, name) as place, place.reading() as content:
            if Identity.of(os.fstat(content.fileno())) != identity:
                return None
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            return digest if Identity.of(os.fstat(content.fileno())) == identity else None
    except OSError:
        return None


def mark_duplicates(folder: Path) -> None:
    """Mark an arrival's folder as one of duplicates; call it before the first file is moved in. Raises OSError."""
    with place_of(folder, _MARK) as mark, appending(mark):
        pass


def unmark_duplicates(folder: Path) -> None:
    """Remove the mark, because the arrival is replayed or empty. Raises OSError."""
    (folder / _MARK).unlink(missing_ok=True)


def is_marked_as_duplicates(folder: Path) -> bool:
    """Return whether an arrival's folder is marked as one of duplicates."""
    return (folder / _MARK).exists()
