"""The folder `failed/`: links to what needs a person, with the reasons; the data stays where it is."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sensors.ledger import Ledger

REASONS = "REASONS.txt"


@dataclass(frozen=True)
class FailedFolder:
    """Shows each failed arrival as `failed/<arrival id>/`: a link for each bad file, and the reasons."""

    ledger: Ledger
    folder: Path

    def show(self, arrival_id: str) -> None:
        """Link the bad files of an arrival; safe to repeat. Raises OSError."""
        bad = self.ledger.rows(
            "SELECT f.name, f.reason, a.folder FROM files f JOIN arrivals a ON a.id = f.arrival_id"
            " WHERE a.id = ? AND a.state = 'failed' AND f.state IN ('failed', 'rejected') ORDER BY f.id",
            (arrival_id,),
        )
        if not bad:
            return
        shown = self.folder / arrival_id
        shown.mkdir(parents=True, exist_ok=True)
        for row in bad:
            target = os.path.relpath(Path(row["folder"]) / row["name"], shown)
            with suppress(FileExistsError):
                (shown / row["name"]).symlink_to(target)
        reasons = "".join(f"{row['name']}: {row['reason'] or 'no reason was given'}\n" for row in bad)
        (shown / REASONS).write_text(reasons, "utf-8")

    def show_all(self) -> None:
        """Show the failed arrivals that a crash kept from being shown. Raises OSError."""
        for row in self.ledger.rows("SELECT id FROM arrivals WHERE state = 'failed'"):
            if not (self.folder / row["id"] / REASONS).exists():
                self.show(row["id"])
