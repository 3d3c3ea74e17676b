"""Claims that a crash left in the inboxes, given back: without a ledger nobody would go on with them."""

import filecmp
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from sensors.inbox import Inbox
from sensors.staging.take import claimed_name, put_back
from sensors.watching.scan import scan


def give_back_claims(inboxes: Sequence[Inbox], arrivals_dir: Path) -> list[Path]:
    """Return claimed files to the names under which they were dropped, and tell where they are now.

    A claim whose copy is in its arrival's folder already is removed, as whoever had claimed it would have done next.
    Those of another sensor, whose arrivals are not ours, are left alone. Safe to repeat. Raises OSError.
    """
    return [
        path
        for inbox in inboxes
        if not inbox.url
        for claim in _claims(inbox)
        if (path := _give_back(inbox, claim, arrivals_dir))
    ]


def _claims(inbox: Inbox) -> list[str]:
    """Return the paths below the inbox of the claims in it."""
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
    told = claimed_name(hidden)
    if told is None:
        return None
    when, name = told
    folder = arrivals_dir / f"{when[:4]}-{when[4:6]}-{when[6:8]}" / f"{inbox.name}-{when}"
    if not folder.is_dir():
        return None
    path, copy = inbox.path / claim, folder / f"{below}{slash}{name}"
    if copy.is_file() and filecmp.cmp(path, copy, shallow=False):
        path.unlink()
        return None
    return put_back(path, path.with_name(name))
