"""The policy: who is told, how many messages at most, and when nobody is to be disturbed."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from automations.delivery.channels import Channel, Route, channels, channels_for, read_routes
from automations.delivery.quiet_hours import QuietHours
from automations.delivery.rate_limit import StormLimit

ALERTS = "alerts"
FALLBACK = "fallback"
"""The names of our two notification blocks: the second is for alerts that the first one's URLs do not take."""


@dataclass(frozen=True)
class Policy:
    """What is configured about alerts; the URLs are secrets."""

    urls: tuple[str, ...] = field(default=(), repr=False)
    fallback_urls: tuple[str, ...] = field(default=(), repr=False)
    routes: tuple[Route, ...] = ()
    storm: StormLimit = field(default_factory=StormLimit)
    silence: QuietHours = field(default_factory=QuietHours)
    silence_except: frozenset[str] = frozenset()

    @classmethod
    def read(cls, *, urls: str, fallback_urls: str, routes: str, storm: str, silence: str, silence_except: str) -> Self:
        """Read the policy as the settings and the blocks hold it; raises ValueError for what cannot be read."""
        return cls(
            tuple(urls.split()),
            tuple(fallback_urls.split()),
            read_routes(routes),
            StormLimit.parse(storm),
            QuietHours.parse(silence),
            frozenset(silence_except.split()),
        )

    def channels(self, block: str, tags: Iterable[str]) -> tuple[Channel, ...]:
        """Return where an alert goes that was posted to one of our blocks."""
        if block == FALLBACK:
            return self.fallback_channels
        return channels_for(tags, self.urls, self.routes)

    @property
    def fallback_channels(self) -> tuple[Channel, ...]:
        """Where alerts go that have not got through."""
        return channels(self.fallback_urls, "fallback ")

    @property
    def all_channels(self) -> dict[str, Channel]:
        """Every channel by its id."""
        lists = [channels(self.urls), self.fallback_channels]
        lists += [channels(route.urls, f"{route.tag} ") for route in self.routes]
        return {one.id: one for found in reversed(lists) for one in found}

    def silent_until(self, tags: Iterable[str], now: datetime) -> datetime | None:
        """Return until when an alert with these tags is held back, or None."""
        return None if self.silence_except.intersection(tags) else self.silence.silent_until(now)
