"""What stands in for a watch: a remote inbox tells nothing of changes, it is listed."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from sensors.config.inboxes import Inbox
from sensors.inbox.intake import Step
from sensors.inbox.pending_files import LyingFiles
from sensors.inbox.rejections import Refusals
from sensors.inbox.scanner import Outlook
from sensors.inbox.watcher import WatchMode
from sensors.remote.patience import Patience
from sensors.remote.scanner import RemoteLookout
from sensors.remote.source import RemoteOrigin
from sensors.runtime.clock_part import Clock


@dataclass
class RemoteWatch:
    """How one remote inbox is looked at."""

    inbox: Inbox
    origin: RemoteOrigin
    wake: threading.Event = field(default_factory=threading.Event)
    being_written: tuple[str, ...] = field(default=(), init=False)
    """The files with temporary names, as they were listed last."""
    mode: WatchMode = field(default=WatchMode.LISTING, init=False)

    @property
    def why_polling(self) -> str:
        """How often it is listed, in words."""
        return f"every {self.inbox.rescan_seconds:g} s"

    def outlook(self, inbox: Inbox, refusals: Refusals, lying: LyingFiles, clock: Clock) -> Outlook:
        """Return who looks at the inbox."""
        return RemoteLookout(inbox, self.origin, refusals, lying, clock)

    def patient(self, step: Callable[[], Step], found_work: Callable[[], object]) -> Callable[[], Step]:
        """Return the steps of the inbox's intake with longer pauses while the store fails."""
        return Patience(step, self.origin, found_work)

    def close(self) -> None:
        """Have what is under way end soon, and hang up."""
        self.origin.stop()
