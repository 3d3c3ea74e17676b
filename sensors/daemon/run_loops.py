"""The loops that use Prefect: one announces arrivals, one looks up receipts and follows runs, one names runs.

They are separate so that a new arrival does not wait while a busy server is asked about the others, and so that nothing
waits for a run's name.
"""

from collections.abc import Callable, Sequence

from sensors.arrivals.failed_links import FailedFolder
from sensors.config.inboxes import Inbox
from sensors.config.settings import Settings
from sensors.ledger import Ledger, arrivals
from sensors.ledger.states import ArrivalState
from sensors.runs import api as pace
from sensors.runs.announcer import Announcer, NoticeSender, RunNamer
from sensors.runs.api import PrefectApi
from sensors.runs.outcomes import LostRuns, RunFollower
from sensors.runs.receipts import ReceiptFinder
from sensors.runtime.clock import Clock
from sensors.runtime.loop import Loop


class RunLoops:
    """The three loops; each has its own connections to the ledger and to the server."""

    def __init__(
        self,
        settings: Settings,
        inboxes: Sequence[Inbox],
        clock: Clock,
        require_space: Callable[[], None] = lambda: None,
    ) -> None:
        """`require_space` raises while the disks are too full for more runs."""
        limits = {inbox.name: inbox.max_in_flight for inbox in inboxes}
        events = {inbox.name: inbox.event for inbox in inboxes}
        self._announcer = Announcer(Ledger(settings.ledger_path), _api(settings), clock, limits, events)
        self._ledger = Ledger(settings.ledger_path)
        api = _api(settings)
        self._failed = FailedFolder(self._ledger, settings.failed_dir)
        self._is_shown = False
        self._namer = RunNamer(Ledger(settings.ledger_path), _api(settings), clock)
        self._clerk = ReceiptFinder(self._ledger, api, self._failed, clock, self._has_started)
        self._messenger = NoticeSender(self._ledger, api, clock)
        self._follower = RunFollower(self._ledger, api, self._failed, LostRuns(api, clock), clock)
        self._clock = clock
        self._require_space = require_space
        self._waiting_for_runs: Sequence[Loop] = ()
        self.announcing = Loop("announce", self._announce, clock)
        self.following = Loop("prefect", self._follow, clock)
        self.naming = Loop("run names", self._namer.step, clock)

    def wake_when_runs_end(self, intakes: Sequence[Loop]) -> None:
        """Have the intakes check immediately when a run has ended: the next arrival may have waited for that."""
        self._waiting_for_runs = intakes

    def _has_started(self, arrival_id: str, run_id: str) -> None:
        self._namer.notice(arrival_id, run_id)
        self.naming.wake.set()

    def _announce(self) -> float:
        """Announce what is due; return the seconds until the next check."""
        self._require_space()
        if not self._announcer.step():
            return pace.IDLE
        self.following.wake.set()
        return 0.0

    def _follow(self) -> float:
        """Take one step of each kind; return the seconds until Prefect should be polled again."""
        if not self._is_shown:
            self._failed.show_all()
            self._is_shown = True
        has_ended = self._follower.step()
        if any([has_ended, self._clerk.step(), self._messenger.step()]):
            if has_ended:
                for loop in (self.announcing, *self._waiting_for_runs):
                    loop.wake.set()
            return 0.0
        now = self._clock.utc()
        waiting_since = [
            one.receipt_at or one.announced_at or now
            for state in (ArrivalState.STAGED, ArrivalState.ANNOUNCED, ArrivalState.RUNNING)
            for one in arrivals.in_state(self._ledger, state)
        ]
        return pace.pause(waiting_since, now)


def _api(settings: Settings) -> PrefectApi:
    return PrefectApi(settings.api_url, settings.auth_string)
