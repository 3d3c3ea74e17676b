"""The services' watch: they are looked at while somebody looks at the page, in the background and not too often."""

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import replace

from sensors.runtime.clock_part import Clock
from sensors.web.services import Services

LOOK_SECONDS = 5.0
"""The pause between two looks: 2 ms of ours and two requests to the server each."""
STALE_SECONDS = 30.0
"""What was found longer ago than this tells nothing of now."""
STARTING_SECONDS = 30.0
"""What starts together with the sensor, and later than it, has this long before it needs anybody."""

logger = logging.getLogger(__name__)


class ServicesWatch:
    """Looks when it is asked, and answers at once with what it knows; nobody asks, and it does nothing.

    What is wrong lasts when two looks in a row have found it, and the sensor is not just starting.
    """

    def __init__(self, look: Callable[[], Services], clock: Clock) -> None:
        self._look = look
        self._clock = clock
        self._started_at = clock.monotonic()
        self._lock = threading.Lock()
        self._is_looking = False
        self._found: Services | None = None
        self._looked_at = -math.inf

    def latest(self) -> Services | None:
        """Return how the services were found a moment ago; None: they are being looked at for the first time."""
        now = self._clock.monotonic()
        with self._lock:
            if not self._is_looking and now - self._looked_at >= LOOK_SECONDS:
                self._is_looking = True
                threading.Thread(target=self._look_once, name="services", daemon=True).start()
            return self._known(now)

    def _known(self, now: float) -> Services | None:
        return self._found if now - self._looked_at < STALE_SECONDS else None

    def _look_once(self) -> None:
        found = None
        try:
            found = self._look()
        except Exception:  # the page says nothing of them then, and goes on
            logger.exception("the services cannot be looked at")
        now = self._clock.monotonic()
        with self._lock:
            self._found = found and replace(found, lasting=self._lasting(found, now))
            self._looked_at = now
            self._is_looking = False

    def _lasting(self, found: Services, now: float) -> frozenset[str]:
        before = self._known(now)
        if before is None or now - self._started_at < STARTING_SECONDS:
            return frozenset()
        return found.wrong & before.wrong
