"""Log-ins: credentials checked at a limited rate, and recorded, the same way on the page and in front of the API."""

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sensors.access.accounts import Account, Visitor, find_account, same
from sensors.access.audit import Action, Audit
from sensors.access.origins import Rejection, is_loopback
from sensors.access.peer import is_our_own
from sensors.access.throttle import Throttle

RECORDED_AGAIN_SECONDS = 3600.0
"""Every request carries its credentials; a log-in is recorded once in this time for a user and address."""
MOST_RECORDED = 2_000

logger = logging.getLogger(__name__)

T = TypeVar("T", Account, Visitor)
Client = tuple[str, int]
"""A client's address and port, as ASGI has them."""


@dataclass
class LogIns:
    """Looks at the credentials of requests to one service; used from one thread."""

    accounts: Sequence[Account]
    audit: Audit
    clock: Callable[[], float]
    """Monotonic seconds."""
    service: str
    """What the audit log calls the service: `page` or `api`."""
    _recorded: OrderedDict[tuple[str, str], float] = field(default_factory=OrderedDict[tuple[str, str], float])

    def __post_init__(self) -> None:
        self.throttle = Throttle(self.clock)

    def check(self, given: bytes, client: Client, server: Client) -> Account | Rejection | None:
        """Return the account of `user:password`, None if there is none, or the rejection of an address over its limit.

        Over it the credentials are not looked at, except those of our own user's processes on this machine: the worker
        and the sensor share their address with every local user, and could read the credentials anyway.
        """
        user = given.partition(b":")[0].decode("utf-8", "backslashreplace")
        # What was typed as a user name may be a password.
        known = user if any(user == one.user for one in self.accounts) else "unknown"
        return self._check(lambda: find_account(given, self.accounts), known, client, server)

    def check_token(
        self, given: str, expected: str, visitor: Visitor, client: Client, server: Client
    ) -> Visitor | Rejection | None:
        """Return the visitor that has a token, as `check` does for an account."""
        return self._check(lambda: visitor if same(given.encode(), expected) else None, visitor.name, client, server)

    def _check(self, find: Callable[[], T | None], user: str, client: Client, server: Client) -> T | Rejection | None:
        seconds = self.throttle.seconds_to_wait(client[0])
        if seconds and not (is_loopback(client[0]) and is_our_own(client, server)):
            return _limited(client, seconds)
        if (found := find()) is not None:
            self._succeeded(user, client)
            return found
        if seconds:
            return _limited(client, seconds)
        self._failed(user, client)
        return None

    def _succeeded(self, user: str, client: Client) -> None:
        """Record a log-in, if it is the first in a while."""
        key, now = (user, client[0]), self.clock()
        at = self._recorded.pop(key, None)
        is_new = at is None or now - at >= RECORDED_AGAIN_SECONDS
        self._recorded[key] = now if at is None or is_new else at
        if len(self._recorded) > MOST_RECORDED:
            self._recorded.popitem(last=False)
        if is_new:
            self.audit.record(Action.LOG_IN, user, client[0], service=self.service)

    def _failed(self, user: str, client: Client) -> None:
        self.audit.record(Action.LOG_IN_FAILED, user, client[0], service=self.service)
        logger.warning("failed log-in to the %s from %s", self.service, client[0])
        if self.throttle.note_failure(client[0]):
            self.audit.record(Action.LOG_INS_LIMITED, user, client[0], service=self.service)
            logger.warning("too many failed log-ins to the %s from %s: limited now", self.service, client[0])


def _limited(client: Client, seconds: float) -> Rejection:
    whole = math.ceil(seconds)
    return Rejection(429, f"too many failed log-ins from {client[0]}; try again in {whole} s", whole)
