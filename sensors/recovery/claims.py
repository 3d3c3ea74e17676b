"""Give back files that a crash left claimed, in local and in remote inboxes.

This is for rebuilding the ledger: without the old one, no other code would finish or undo these claims.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from sensors.arrivals.move import claimed_name, put_back
from sensors.config.inboxes import Inbox
from sensors.files.beneath import NOT_THERE, NotRegularError, OpenFolders, Place, place_of
from sensors.inbox.pending_files import scan
from sensors.ledger.files import WaitingFile
from sensors.remote.store import ChangedError, Claim, Store, StoreError


def give_back_claims(inboxes: Sequence[Inbox], arrivals_dir: Path) -> list[Path]:
    """Return claimed files to the names under which they were dropped; return their paths.

    If a claim's content is already in its arrival's folder, the claim is removed, as the interrupted move would have
    done next. The claims of another sensor, whose arrivals are not ours, are left alone. Safe to repeat. Raises
    OSError.
    """
    return [
        path
        for inbox in inboxes
        if not inbox.url
        for claim in _claims(inbox)
        if (path := _give_back(inbox, claim, arrivals_dir))
    ]


def _claims(inbox: Inbox) -> list[str]:
    """Return the paths, below the inbox, of the claims in it."""
    if not inbox.path.is_dir():
        return []
    entries = scan(inbox.path, _cover_nothing, subfolders=inbox.subfolders)
    return [
        entry.name
        for entry in entries
        if claimed_name(entry.name.rpartition("/")[2]) and stat.S_ISREG(entry.status.st_mode)
    ]


def _cover_nothing(_folder: str, _status: os.stat_result) -> None:
    pass


def _give_back(inbox: Inbox, claim: str, arrivals_dir: Path) -> Path | None:
    """Return where the file is now, or None if it is in its arrival or is another sensor's."""
    below, slash, hidden = claim.rpartition("/")
    parsed = claimed_name(hidden)
    if parsed is None:
        return None
    when, name = parsed
    folder = arrivals_dir / f"{when[:4]}-{when[4:6]}-{when[6:8]}" / f"{inbox.name}-{when}"
    if not folder.is_dir():
        return None
    dropped = f"{below}{slash}{name}"
    with OpenFolders() as folders:
        claimed = folders.place(inbox.path, claim)
        identity = claimed.identity()
        if identity is None:
            return None
        if _is_copied(claimed, folder, dropped):
            claimed.remove()
            return None
        file = WaitingFile(0, inbox.path / dropped, dropped, identity)
        return inbox.path / put_back(claimed, file, claimed.beside(name))


def _is_copied(claimed: Place, folder: Path, name: str) -> bool:
    """Return whether an arrival has a file with the same content as the claimed one."""
    try:
        with place_of(folder, name) as copied, claimed.reading() as one, copied.reading() as other:
            if os.fstat(one.fileno()).st_size != os.fstat(other.fileno()).st_size:
                return False
            return hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(other, "sha256").digest()
    except OSError as error:
        if error.errno in NOT_THERE or isinstance(error, NotRegularError):
            return False
        raise


def give_back_remote_claims(inboxes: Sequence[Inbox], arrivals_dir: Path) -> list[str]:
    """Return claimed files to their remote inboxes; return lines that say what was done and what failed.

    If a claim's content is already in its arrival's folder, the claimed file is removed, as the interrupted move would
    have done next. The claims of another sensor are left alone. Safe to repeat.
    """
    return [line for inbox in inboxes if inbox.url for line in _give_back_all(inbox, arrivals_dir)]


def _give_back_all(inbox: Inbox, arrivals_dir: Path) -> Iterator[str]:
    from sensors.remote.open import open_store

    try:
        store = open_store(inbox)
        try:
            for claim in list(store.claims(subfolders=inbox.subfolders)):
                if _give_back_remotely(store, claim, inbox, arrivals_dir):
                    yield f"{inbox.at(claim.name)} was being taken; it is back and is taken again"
        finally:
            store.close()
    except (StoreError, PermissionError) as error:
        yield f"what was being taken there stays claimed until this is mended and the command run again: {error}"


def _give_back_remotely(store: Store, claim: Claim, inbox: Inbox, arrivals_dir: Path) -> bool:
    """Return whether the file was given back; False if it is in its arrival or is another sensor's."""
    when = claim.token.rpartition("-")[0]
    folder = arrivals_dir / f"{when[:4]}-{when[4:6]}-{when[6:8]}" / f"{inbox.name}-{when}"
    if not when or not folder.is_dir():
        return False
    if _is_stored(store, claim, folder / claim.name):
        store.remove(claim.name, claim.identity, claim.token)
        return False
    store.release(claim.name, claim.identity, claim.token)
    return True


def _is_stored(store: Store, claim: Claim, copy: Path) -> bool:
    if not copy.is_file() or copy.stat().st_size != claim.identity.size:
        return False
    digest = hashlib.sha256()
    try:
        for block in store.read(claim.name, claim.identity, claim.token):
            digest.update(block)
    except ChangedError:
        return True  # it is gone or was replaced; either way there is nothing to give back
    with copy.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest() == digest.digest()
