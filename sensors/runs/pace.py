"""The pace at which Prefect is asked: fast for what is young, slower for what takes its time."""

from collections.abc import Iterable
from datetime import datetime, timedelta

FASTEST = 0.4
"""Each question takes 10 ms of the server's time (measured), which the run that is about to start has to wait for."""
SLOWEST = 2.0
IDLE = 1.0
"""Only the ledger is asked then: a person may have an arrival announced again."""
SHARE = 0.1
"""The pause grows with this share of the age, up to SLOWEST: what took 5 s is noticed 0.5 s late at most."""


def pause(since: Iterable[datetime], now: datetime) -> float:
    """Return the seconds to wait, given when each thing that is waited for began; nothing to wait for is idle."""
    ages = [max(now - began, timedelta(0)).total_seconds() for began in since]
    if not ages:
        return IDLE
    return min(max(FASTEST, SHARE * min(ages)), SLOWEST)
