"""A limit on failed log-ins for each client address: a burst, then one every two seconds.

An address over its limit gets 429 and its credentials are not looked at, so that a guess costs as much time as it must.
The limit is by address, hence guesses from one address lock out no client of another.
"""

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable

BURST = 10
"""Failed log-ins of an address that are answered without a limit."""
SECONDS_EACH = 2.0
"""The pause after which an address over its limit has another attempt."""
MOST_ADDRESSES = 10_000
"""How many are remembered; beyond that the one whose last failure is oldest is forgotten. About 2 MB."""


class Throttle:
    """Counts failed log-ins in a leaky bucket for each address; used from one thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives monotonic seconds."""
        self._clock = clock
        self._empty_at: OrderedDict[str, float] = OrderedDict()

    def seconds_to_wait(self, address: str) -> float:
        """Return after how many seconds an address may try again; 0 if it may now."""
        empty_at = self._empty_at.get(network_of(address), -math.inf)
        return max(0.0, empty_at - self._clock() - (BURST - 1) * SECONDS_EACH)

    def note_failure(self, address: str) -> bool:
        """Count a failed log-in; return whether the address has just come to its limit."""
        network, now = network_of(address), self._clock()
        was_free = self.seconds_to_wait(address) == 0
        self._empty_at[network] = max(self._empty_at.pop(network, now), now) + SECONDS_EACH
        if len(self._empty_at) > MOST_ADDRESSES:
            self._empty_at.popitem(last=False)
        return was_free and self.seconds_to_wait(address) > 0

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._empty_at)


def network_of(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 that one IPv6 customer has.

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
