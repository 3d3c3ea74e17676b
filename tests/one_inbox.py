"""The intake of one local inbox with its ledger, by a clock turned by hand; made by whichever user works with it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sensors.arrivals.failed_links import FailedFolder
from sensors.arrivals.staging import Stager
from sensors.config.inboxes import Inbox
from sensors.config.settings import Settings
from sensors.inbox.intake import Intake
from sensors.inbox.rejections import Rejections
from sensors.inbox.watcher import Watch
from sensors.ledger import Ledger
from sensors.reports.files import read_needs_attention
from sensors.stack.status import Status
from tests.hand_clock import HandClock


@dataclass
class OneInbox:
    """The intake of one inbox and its ledger, made by whichever user works with them."""

    state_dir: Path
    inbox: Inbox
    hand: HandClock = field(default_factory=HandClock)

    def __post_init__(self) -> None:
        self.settings = Settings(state_dir=self.state_dir)
        self.ledger = Ledger(self.settings.ledger_path)
        self.restart()

    def restart(self) -> None:
        clock = self.hand.clock
        self.watch = Watch(self.inbox.path, polling=True)
        stager = Stager(self.ledger, self.settings.arrivals_dir, clock)
        rejections = Rejections(self.inbox, self.ledger, FailedFolder(self.ledger, self.settings.failed_dir), clock)
        self.intake = Intake(self.inbox, self.watch, self.ledger, stager, rejections, clock)

    def pass_time(self, seconds: float) -> None:
        """Step whenever the loop would."""
        until = self.hand.seconds + seconds
        while self.hand.seconds < until:
            pause = self.intake.step().look_again_in
            self.hand.turn(min(max(pause, 0.05), 5.0, max(until - self.hand.seconds, 0.05)))
        self.intake.step()

    def states(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in self.ledger.rows("SELECT name, state FROM files ORDER BY id")}

    def notices(self) -> list[dict[str, Any]]:
        rows = self.ledger.rows("SELECT event, payload FROM notices ORDER BY created_at")
        return [{"event": row["event"], **json.loads(row["payload"])} for row in rows]

    def attention(self) -> list[str]:
        return Status(self.settings, {}, {}, read_needs_attention(self.settings)).needs_a_person()[1:]

    def folders(self) -> list[str]:
        return [str(path) for path in self.settings.arrivals_dir.glob("*/*")]
