"""Duplicates: files whose content has come before, told by its SHA-256."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from sensors.config.inboxes import Duplicates, Inbox
from sensors.files.beneath import appending, place_of
from sensors.files.identity import Identity
from sensors.ledger import Ledger
from sensors.ledger import files as ledger_files
from sensors.ledger.files import WaitingFile

_MARK = ".duplicates"
"""Lies in the folder of an arrival of duplicates, hidden from the flow, for when the ledger is rebuilt from there."""


def duplicates_among(
    ledger: Ledger, inbox: Inbox, batch: Sequence[WaitingFile], digest_file: Callable[[WaitingFile], str | None]
) -> dict[int, str]:
    """Return which of the files, by their ids, repeat one that is loaded or on its way, and which that is.

    Reads every file whole, unless the inbox loads duplicates anyway. A file that changes meanwhile or cannot be read
    is none: whoever takes it finds out.
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
        earlier = first.get(digest) or ledger_files.first_with_content(ledger, inbox.name, digest)
        if earlier is None:
            first[digest] = f"{file.name}, which came with it"
        else:
            found[file.id] = f"a duplicate: the same content as {earlier}"
    ledger_files.record_content(ledger, digests)
    return found


def digest_of(root: Path | str, name: str, identity: Identity) -> str | None:
    """Return the SHA-256 of a file, by its path below a root, or None if it cannot be read or has been replaced.

    What was opened is what is compared and hashed; a FIFO that has the name by now is not read.
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
    """Mark an arrival's folder as one of duplicates, before the first of them is in it. Raises OSError."""
    with place_of(folder, _MARK) as mark, appending(mark):
        pass


def unmark_duplicates(folder: Path) -> None:
    """Remove the mark: the arrival is wanted after all, or is empty. Raises OSError."""
    (folder / _MARK).unlink(missing_ok=True)


def is_marked_as_duplicates(folder: Path) -> bool:
    """Tell whether an arrival's files were kept as duplicates, never to be announced."""
    return (folder / _MARK).exists()
