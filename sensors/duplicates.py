"""Duplicates: files whose content has come before, told by its SHA-256."""

import hashlib
from collections.abc import Sequence

from sensors.identity import identity_at
from sensors.inbox import Duplicates, Inbox
from sensors.ledger import Ledger
from sensors.ledger import files as ledger_files
from sensors.ledger.files import WaitingFile


def duplicates_among(ledger: Ledger, inbox: Inbox, batch: Sequence[WaitingFile]) -> dict[int, str]:
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
        digest = _digest(file)
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


def _digest(file: WaitingFile) -> str | None:
    try:
        with file.path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        return digest if identity_at(file.path) == file.identity else None
    except OSError:
        return None
