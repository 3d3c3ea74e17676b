"""Check the credentials of a request, limit failed log-ins by client address, and record log-ins.

The drop page and the front of Prefect's API use the same checks. A client address has a burst of failed log-ins, then
one every two seconds. Over the limit it gets 429 and its credentials are not checked. One client's guesses lock out no
client with another address. On the loopback, processes of our own user are exempt.
"""

import ipaddress
import logging
import math
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from starlette.types import Scope

from sensors.access.accounts import Account, Visitor, find_account, same
from sensors.access.audit import Action, Audit
from sensors.access.origins import Rejection, is_loopback

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def is_our_own(client: tuple[str, int], server: tuple[str, int]) -> bool:
    """Return whether a process of our user is the client of a connection on this machine; False if unknown."""
    wanted = (_kernel_form(client), _kernel_form(server))
    try:
        return any(_owner(Path(table), wanted) == os.getuid() for table in _TABLES)
    except (OSError, ValueError, IndexError):  # not Linux, or the tables may not be read
        return False


def _owner(table: Path, wanted: tuple[set[str], set[str]]) -> int | None:
    for line in table.read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if fields[1] in wanted[0] and fields[2] in wanted[1]:
            return int(fields[7])
    return None


def _kernel_form(end: tuple[str, int]) -> set[str]:
    """Return an address and port as /proc/net writes them: 32-bit words in native byte order, IPv4 also as IPv6."""
    address = ipaddress.ip_address(end[0].partition("%")[0])
    forms = [address.packed]
    if isinstance(address, ipaddress.IPv4Address):
        forms.append(b"\0" * 10 + b"\xff\xff" + address.packed)
    return {f"{_words(form)}:{end[1]:04X}" for form in forms}


def _words(packed: bytes) -> str:
    parts = [packed[start : start + 4] for start in range(0, len(packed), 4)]
    return "".join(f"{int.from_bytes(part, sys.byteorder):08X}" for part in parts)


BURST = 10
"""Failed log-ins of an address before the limit applies."""
SECONDS_EACH = 2.0
"""The pause after which an address over its limit has another attempt."""
MOST_ADDRESSES = 10_000
"""How many addresses are kept, about 2 MB; beyond that the address whose last failure is oldest is dropped."""


class Throttle:
    """Counts failed log-ins in a leaky bucket for each address; used from one thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns monotonic seconds."""
        self._clock = clock
        self._empty_at: OrderedDict[str, float] = OrderedDict()

    def seconds_to_wait(self, address: str) -> float:
        """Return the seconds after which an address may try again; 0 if it may now."""
        empty_at = self._empty_at.get(network_of(address), -math.inf)
        return max(0.0, empty_at - self._clock() - (BURST - 1) * SECONDS_EACH)

    def note_failure(self, address: str) -> bool:
        """Count a failed log-in; return whether the address has just reached its limit."""
        network, now = network_of(address), self._clock()
        was_free = self.seconds_to_wait(address) == 0
        self._empty_at[network] = max(self._empty_at.pop(network, now), now) + SECONDS_EACH
        if len(self._empty_at) > MOST_ADDRESSES:
            self._empty_at.popitem(last=False)
        return was_free and self.seconds_to_wait(address) > 0

    def __len__(self) -> int:
        """Return how many addresses are kept."""
        return len(self._empty_at)


def network_of(address: str) -> str:
    """Return the address or network that counts as one client: an IPv4 address, or an IPv6 customer's /64.

    >>> network_of("10.0.0.5"), network_of("2001:db8::1:2:3:4"), network_of("::ffff:10.0.0.5")
    ('10.0.0.5', '2001:db8::/64', '10.0.0.5')
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return address if found.is_loopback else str(ipaddress.ip_network((found, 64), strict=False))


RECORDED_AGAIN_SECONDS = 3600.0
"""Every request carries credentials; a log-in is recorded once in this time for each user and address."""
MOST_RECORDED = 2_000

logger = logging.getLogger(__name__)

T = TypeVar("T", Account, Visitor)
Client = tuple[str, int]
"""A client's address and port, as ASGI has them."""


@dataclass
class LogIns:
    """Checks the credentials of requests to one service; used from one thread."""

    accounts: Sequence[Account]
    audit: Audit
    clock: Callable[[], float]
    """Monotonic seconds."""
    service: str
    """The name of the service in the audit log: `page` or `api`."""
    _recorded: OrderedDict[tuple[str, str], float] = field(default_factory=OrderedDict[tuple[str, str], float])

    def __post_init__(self) -> None:
        self.throttle = Throttle(self.clock)

    def check(self, given: bytes, client: Client, server: Client) -> Account | Rejection | None:
        """Return the account of `user:password`, None if there is none, or the rejection of an address over its limit.

        Over the limit, credentials are checked only for processes of our own user on this machine: the worker and the
        sensor share their address with every local user, and can read the credentials anyway.
        """
        user = given.partition(b":")[0].decode("utf-8", "backslashreplace")
        # An unknown user name is not recorded: it may be a password typed into the wrong field.
        known = user if any(user == one.user for one in self.accounts) else "unknown"
        return self._check(lambda: find_account(given, self.accounts), known, client, server)

    def check_token(
        self, given: str, expected: str, visitor: Visitor, client: Client, server: Client
    ) -> Visitor | Rejection | None:
        """Return the visitor of a token, None or a rejection, as `check` does for an account."""
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
        """Record a log-in, if it is the first of this user and address in `RECORDED_AGAIN_SECONDS`."""
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


UNKNOWN: Client = ("unknown", 0)


def headers_of(scope: Scope) -> dict[str, str]:
    """Return an ASGI request's headers by name; of a repeated header, which no browser or proxy sends, the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def client_of(scope: Scope) -> Client:
    """Return the client's address and port of an ASGI request."""
    return _end(scope.get("client"))


def server_of(scope: Scope) -> Client:
    """Return the address and port that the client of an ASGI request connected to."""
    return _end(scope.get("server"))


def _end(end: tuple[str, int | None] | None) -> Client:
    return UNKNOWN if end is None else (end[0], end[1] or 0)


def retry_after(rejection: Rejection) -> dict[str, str]:
    """Return the Retry-After header of a rejection; empty if the rejection names no time."""
    return {"Retry-After": str(rejection.seconds)} if rejection.seconds else {}
