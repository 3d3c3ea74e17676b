"""Claims that a crash left in remote inboxes, given back as those of local ones are."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from sensors.config.inboxes import Inbox
from sensors.remote.store import ChangedError, Claim, Store, StoreError


def give_back_remote_claims(inboxes: Sequence[Inbox], arrivals_dir: Path) -> list[str]:
    """Return claimed files to their inboxes, and tell in lines what was done and what could not be.

    A file whose copy is in its arrival's folder already is removed, as whoever had claimed it would have done next.
    Those of another sensor are left alone. Safe to repeat.
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
    """Tell whether the file is back, and not in its arrival or another sensor's."""
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
        return True  # it is gone, or another one lies there; either way this one is not to be given back
    with copy.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest() == digest.digest()
