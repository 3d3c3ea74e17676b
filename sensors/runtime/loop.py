"""Loops that run one step after the other in a thread, survive errors, and report when they are stuck.

`DutyCycle` says how long to pause after work that may take only a share of the time.
"""

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
"""A loop counts as stuck if a step reports no progress for longer than this, or if the next step does not begin within
this time after the pause."""

LONGEST_PAUSE_SECONDS = 86_400.0


class RetryLaterError(OSError):
    """An error that sets the pause before the next step: a store that is down is not asked every second."""

    pause_seconds = AFTER_ERROR_SECONDS


def beat() -> None:
    """Report progress in the middle of a long step; does nothing outside the thread of a loop."""
    thread = threading.current_thread()
    if isinstance(thread, Loop):
        thread.beat()


class Loop(threading.Thread):
    """A thread that calls a step repeatedly; it sleeps for the time that the step returned, or until woken.

    A step that raises is tried again after a pause: a full disk or a server that is down must not end the sensor.
    """

    def __init__(self, name: str, step: Callable[[], float], clock: Clock) -> None:
        """`step` returns the seconds after which there may be more to do."""
        super().__init__(name=name, daemon=True)
        self.wake = threading.Event()
        self.trouble: str | None = None
        self.error: BaseException | None = None
        """The error that the last step raised."""
        self.has_stepped = False
        """Whether the first step has ended, with or without an error."""
        self._step = step
        self._clock = clock
        self._stopping = False
        self._next_sign_due = clock.monotonic()
        """The end of the pause, or the time of the last progress within a step; silence counts from there."""

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
        except BaseException as error:  # noqa: BLE001 - the files are safe, and the next step may succeed
            self._tell(f"{type(error).__name__}: {error}", error)
            pause = error.pause_seconds if isinstance(error, RetryLaterError) else AFTER_ERROR_SECONDS
        else:
            if self.trouble is not None:
                logger.info("%s: works again", self.name)
            self.trouble = self.error = None
        self.has_stepped = True
        return pause

    def beat(self) -> None:
        """Report progress in the middle of a long step."""
        self._next_sign_due = self._clock.monotonic()

    def _tell(self, trouble: str, error: BaseException) -> None:
        """Log an error once, however often it repeats; with a traceback if it is of an unexpected kind."""
        if trouble != self.trouble:
            ours = type(error).__module__.startswith(("sensors.", "automations."))
            expected = ours or isinstance(error, OSError | sqlite3.Error)
            logger.error("%s: %s", self.name, trouble, exc_info=None if expected else error)
        error.__context__ = error.__cause__ = None  # their frames would keep files and memory alive until it is solved
        self.trouble, self.error = trouble, error.with_traceback(None)

    @property
    def silent_seconds(self) -> float:
        """Seconds since the running step last reported progress, or since the next step should have begun.

        0 during the pause that the last step asked for. Time in which this process was suspended does not count.
        """
        resumed = self._clock.resumed()
        due = self._next_sign_due if resumed is None else max(self._next_sign_due, resumed.monotonic)
        return max(0.0, self._clock.monotonic() - due)

    @property
    def has_ended(self) -> bool:
        """Whether the loop's thread has ended without `stop()`."""
        return self.ident is not None and not self.is_alive() and not self._stopping

    @property
    def alive(self) -> bool:
        """Whether the loop is running and neither hangs in a step nor fails to begin the next."""
        return self.is_alive() and self.silent_seconds < STUCK_SECONDS

    def stop(self) -> None:
        """Let the running step end, and start no other."""
        self._stopping = True
        self.wake.set()


SLOW_TURNS = 3
"""The pause grows only after this many slow turns in a row: a network folder that stalls once, or a machine that is
busy for a moment, does not delay the next turn."""


@dataclass
class DutyCycle:
    """The pause after each turn of work that may take only a share of the time; at most `longest` seconds."""

    share: float
    """The share of the time that the work may take, as far as the limit `longest` allows."""
    longest: float
    _recent: deque[float] = field(default_factory=lambda: deque[float](maxlen=SLOW_TURNS), init=False)

    def pause_after(self, seconds: float) -> float:
        """Record how many seconds a turn took; return the seconds to pause.

        >>> duty = DutyCycle(share=0.1, longest=30.0)
        >>> [duty.pause_after(seconds) for seconds in (6, 0, 2, 2, 2, 60, 60, 60, 0)]
        [0.0, 0.0, 0.0, 0.0, 18.0, 18.0, 18.0, 30.0, 0.0]
        """
        self._recent.append(seconds)
        usual = min(self._recent) if len(self._recent) == SLOW_TURNS else 0.0
        return min(self.longest, usual * (1 / self.share - 1))
