"""How long to pause after work that may take only a share of the time: smoothed, so that one slow turn counts little,
and capped, so that slow work makes nothing blind."""

from collections import deque
from dataclasses import dataclass, field

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
