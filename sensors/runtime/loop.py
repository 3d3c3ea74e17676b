"""A loop that does one step after the other and survives what goes wrong in them."""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from sensors.runtime.clock import Clock

logger = logging.getLogger(__name__)

AFTER_ERROR_SECONDS = 1.0
STUCK_SECONDS = 60.0
"""A step that gives no sign of life for longer than this is taken for stuck, and so is a loop that does not step again
so long after the pause that it was to make."""

LONGEST_PAUSE_SECONDS = 86_400.0


class PausingError(OSError):
    """A trouble that knows how long to wait before the next step; a store that is down is not asked every second."""

    pause_seconds = AFTER_ERROR_SECONDS


def beat() -> None:
    """Report progress in the middle of a long step, from the thread of a loop; anywhere else do nothing."""
    thread = threading.current_thread()
    if isinstance(thread, Loop):
        thread.beat()


class Loop(threading.Thread):
    """Calls a step again and again; between two steps it sleeps as long as the first one said, or until woken.

    A step that raises is tried again after a pause: a full disk or a server that is down must not end the sensor.
    """

    def __init__(self, name: str, step: Callable[[], float], clock: Clock) -> None:
        """`step` does one thing and returns the seconds after which there may be more to do."""
        super().__init__(name=name, daemon=True)
        self.wake = threading.Event()
        self.trouble: str | None = None
        self.error: BaseException | None = None
        """What the last step has raised."""
        self.has_stepped = False
        """Whether the first step is over, well or not."""
        self._step = step
        self._clock = clock
        self._stopping = False
        self._failing_since: float | None = None
        self._next_sign_due = clock.monotonic()
        """Until when nothing is expected of the loop: the end of a pause, or the last sign of life within a step."""

    def run(self) -> None:
        """Step until stopped."""
        while not self._stopping:
            pause = min(self._one_step(), LONGEST_PAUSE_SECONDS)
            self._next_sign_due = self._clock.monotonic() + pause
            self.wake.wait(pause)
            self.wake.clear()

    def _one_step(self) -> float:
        self.beat()
        try:
            pause = self._step()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the files are safe and the next step may do
            if self._failing_since is None:
                self._failing_since = self._clock.monotonic()
            self._tell(f"{type(error).__name__}: {error}", error)
            pause = error.pause_seconds if isinstance(error, PausingError) else AFTER_ERROR_SECONDS
        else:
            if self.trouble is not None:
                logger.info("%s: works again", self.name)
            self.trouble = self.error = self._failing_since = None
        self.has_stepped = True
        return pause

    def beat(self) -> None:
        """Give a sign of life in the middle of a long step."""
        self._next_sign_due = self._clock.monotonic()

    def _tell(self, trouble: str, error: BaseException) -> None:
        """Log a trouble once, however often it comes again; with its origin if it is none that we expect."""
        if trouble != self.trouble:
            ours = type(error).__module__.startswith(("sensors.", "automations."))
            expected = ours or isinstance(error, OSError | sqlite3.Error)
            logger.error("%s: %s", self.name, trouble, exc_info=None if expected else error)
        error.__context__ = error.__cause__ = None  # their frames would keep files and memory for as long as it lasts
        self.trouble, self.error = trouble, error.with_traceback(None)

    @property
    def silent_seconds(self) -> float:
        """For how long the step that is under way has given no sign of life, or since when one should have begun.

        0 during the pause that the last step asked for. The time in which this process was suspended does not count.
        """
        resumed = self._clock.resumed()
        due = self._next_sign_due if resumed is None else max(self._next_sign_due, resumed.monotonic)
        return max(0.0, self._clock.monotonic() - due)

    @property
    def failing_seconds(self) -> float:
        """For how long every step has failed; 0 while the last one did not."""
        since = self._failing_since
        return 0.0 if since is None else self._clock.monotonic() - since

    @property
    def has_ended(self) -> bool:
        """Whether the loop's thread has ended although nothing has stopped it."""
        return self.ident is not None and not self.is_alive() and not self._stopping

    @property
    def alive(self) -> bool:
        """Whether the loop is running and neither hangs in a step nor fails to begin the next."""
        return self.is_alive() and self.silent_seconds < STUCK_SECONDS

    def stop(self) -> None:
        """Let the step that is under way end, and no other begin."""
        self._stopping = True
        self.wake.set()


# How long to pause after work that may take only a share of the time: smoothed, so that one slow turn counts little,
# and capped, so that slow work makes nothing blind.

SLOW_TURNS = 3
"""So many turns in a row have to be slow before the pause grows. A network folder that stalls once, or a machine that
was busy for a moment, is looked at again as soon as ever."""


@dataclass
class DutyCycle:
    """The pause after each turn of some work, in seconds."""

    share: float
    """The share of the time that the work may take, where that does not make the pause longer than `longest`."""
    longest: float
    _recent: deque[float] = field(default_factory=lambda: deque[float](maxlen=SLOW_TURNS), init=False)

    def pause_after(self, seconds: float) -> float:
        """Take note that a turn took so long; return for how long to pause.

        >>> duty = DutyCycle(share=0.1, longest=30.0)
        >>> [duty.pause_after(seconds) for seconds in (6, 0, 2, 2, 2, 60, 60, 60, 0)]
        [0.0, 0.0, 0.0, 0.0, 18.0, 18.0, 18.0, 30.0, 0.0]
        """
        self._recent.append(seconds)
        usual = min(self._recent) if len(self._recent) == SLOW_TURNS else 0.0
        return min(self.longest, usual * (1 / self.share - 1))
