"""The folder `failed/`: links to what needs a person, with the reasons; the data stays where it is."""

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sensors.ledger import Ledger
from sensors.ledger.files import Refused

REASONS = "REASONS.txt"
LONGEST = 240
"""Bytes of a shortcut's name; most file systems take 255."""


@dataclass(frozen=True)
class FailedFolder:
    """Shows what was not loaded: a folder for each failed arrival, and one for each inbox that refused files.

    In it are a link for each bad file, and the reasons.
    """

    ledger: Ledger
    folder: Path

    def show(self, arrival_id: str) -> None:
        """Link the bad files of an arrival; safe to repeat. Raises OSError."""
        bad = self.ledger.rows(
            "SELECT f.name, f.reason, a.folder || '/' || f.name AS path FROM files f"
            " JOIN arrivals a ON a.id = f.arrival_id"
            " WHERE a.id = ? AND a.state = 'failed' AND f.state IN ('failed', 'rejected') ORDER BY f.id",
            (arrival_id,),
        )
        self._link(self.folder / arrival_id, bad)

    def refresh(self, arrival_id: str) -> None:
        """Show an arrival's bad files as they are now, or nothing when it needs nobody any more. Raises OSError."""
        if (self.folder / arrival_id).exists():
            shutil.rmtree(self.folder / arrival_id)
        self.show(arrival_id)

    def show_refused(self, inbox: str) -> None:
        """Link the files that an inbox refused where they lie; safe to repeat. Raises OSError."""
        bad = self.ledger.rows(
            "SELECT name, reason, path FROM files WHERE inbox = ? AND state = 'rejected' AND arrival_id IS NULL"
            " ORDER BY id",
            (inbox,),
        )
        self._link(self.folder / inbox, bad)

    def show_all(self) -> None:
        """Bring in line what a crash kept from being shown, or from being taken away. Raises OSError."""
        for row in self.ledger.rows("SELECT id FROM arrivals WHERE state = 'failed'"):
            if not (self.folder / row["id"] / REASONS).exists():
                self.show(row["id"])
        for shown in self.folder.iterdir() if self.folder.exists() else ():
            if self.ledger.rows("SELECT 1 FROM arrivals WHERE id = ? AND state = 'loaded'", (shown.name,)):
                shutil.rmtree(shown)

    def show_more_refused(self, inbox: str, refused: Sequence[Refused]) -> None:
        """Link what an inbox has refused since all were shown, however many those are. Raises OSError."""
        shown = self.folder / inbox
        for file in refused:
            _make_link(shown / _shown_as(file.name, file.path), file.path)
        with (shown / REASONS).open("a", encoding="utf-8") as reasons:
            reasons.writelines(_line(file.name, file.reason) for file in refused)

    def _link(self, shown: Path, bad: list[sqlite3.Row]) -> None:
        if not bad:
            return
        linked = set(os.listdir(shown)) if shown.exists() else set[str]()  # noqa: PTH208 - their names
        for row in bad:
            if (name := _shown_as(row["name"], row["path"])) not in linked:
                _make_link(shown / name, row["path"])
        reasons = "".join(_line(row["name"], row["reason"]) for row in bad)
        (shown / REASONS).write_text(reasons, "utf-8")


def _shown_as(name: str, path: str) -> str:
    """Return the name under which a file is shown: a remote one as a shortcut, no link leads there."""
    if "://" not in path:
        return name
    plain = name.replace("/", "_")  # a key may have `..` in it
    if len(plain.encode()) > LONGEST:
        plain = f"{plain[:50]}-{hashlib.sha256(plain.encode()).hexdigest()[:16]}"
    return f"{plain}.url"


def _make_link(link: Path, path: str) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if "://" in path:
        link.write_text(f"[InternetShortcut]\nURL={path}\n", "utf-8")
        return
    with suppress(FileExistsError):
        link.symlink_to(os.path.relpath(path, link.parent))


def _line(name: str, reason: str | None) -> str:
    return f"{name}: {reason or 'no reason was given'}\n"
