"""Channels (the URLs that alerts go to), and the policy that decides which alert goes where and when.

A channel's id and name contain no secret, so they can be logged and stored; its URL may contain one.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Self

from automations.delivery.quiet_hours import QuietHours
from automations.delivery.rate_limit import StormLimit
from automations.delivery.send import misunderstood, service_at, service_name

ROUTE_FORM = "env:prod=slack://tokenA/tokenB/tokenC"


@dataclass(frozen=True)
class Channel:
    """One URL; its `id` reveals no password and stays the same when the password changes."""

    id: str
    name: str
    """The position in its list and the service, such as `1 (Slack)`."""
    url: str = field(repr=False)


@dataclass(frozen=True)
class Route:
    """URLs for alerts with a tag, used instead of the default URLs."""

    tag: str
    urls: tuple[str, ...] = field(repr=False)


def read_routes(text: str) -> tuple[Route, ...]:
    """Read routes such as `env:prod=slack://... env:test=json://...`, separated by spaces; a tag may come repeatedly.

    Raises ValueError with every position that is wrong, and no URL.
    """
    urls: dict[str, list[str]] = {}
    problems: list[str] = []
    for position, word in enumerate(text.split(), start=1):
        tag, _, url = word.partition("=")
        if "://" in tag or not (tag and url):
            problems.append(f"route {position} is not of the form {ROUTE_FORM}")
        elif wrong := misunderstood([url]):
            problems.append(wrong[0].replace("URL 1", f"the URL of route {position}", 1))
        else:
            urls.setdefault(tag, []).append(url)
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(Route(tag, tuple(ones)) for tag, ones in urls.items())


def channels_for(tags: Iterable[str], urls: Sequence[str], routes: Sequence[Route]) -> tuple[Channel, ...]:
    """Return the channels for an alert with these tags: the routes of its tags, or else `urls`."""
    known = {*tags}
    chosen = [route for route in routes if route.tag in known]
    if not chosen:
        return channels(tuple(urls))
    return tuple({one.id: one for route in chosen for one in channels(route.urls, f"{route.tag} ")}.values())


@lru_cache(maxsize=64)
def channels(urls: tuple[str, ...], prefix: str = "") -> tuple[Channel, ...]:
    """Return a channel for each URL of a list; `prefix` names the list."""
    seen: dict[str, int] = {}
    found: list[Channel] = []
    for position, url in enumerate(urls, start=1):
        service = service_at(url)
        # The URL without passwords and tokens: this text stays the same when one of them changes.
        shown = str(service.url(privacy=True)) if service else url.partition("://")[0]  # pyright: ignore[reportUnknownMemberType]
        seen[shown] = again = seen.get(shown, 0) + 1
        digest = hashlib.sha256(f"{shown}\0{again}".encode()).hexdigest()[:16]
        found.append(Channel(digest, f"{prefix}{position} ({service_name(service)})", url))
    return tuple(found)


ALERTS = "alerts"
FALLBACK = "fallback"
"""The names of our two notification blocks: the second is for alerts that the first one's URLs do not take."""


@dataclass(frozen=True)
class Policy:
    """Alert routing, rate limit and quiet hours; the URLs are secrets."""

    urls: tuple[str, ...] = field(default=(), repr=False)
    fallback_urls: tuple[str, ...] = field(default=(), repr=False)
    routes: tuple[Route, ...] = ()
    storm: StormLimit = field(default_factory=StormLimit)
    silence: QuietHours = field(default_factory=QuietHours)
    silence_except: frozenset[str] = frozenset()

    @classmethod
    def read(cls, *, urls: str, fallback_urls: str, routes: str, storm: str, silence: str, silence_except: str) -> Self:
        """Read the policy from the texts in the settings and the blocks; raises ValueError for invalid text."""
        return cls(
            tuple(urls.split()),
            tuple(fallback_urls.split()),
            read_routes(routes),
            StormLimit.parse(storm),
            QuietHours.parse(silence),
            frozenset(silence_except.split()),
        )

    def channels(self, block: str, tags: Iterable[str]) -> tuple[Channel, ...]:
        """Return the channels for an alert that was posted to one of our blocks."""
        if block == FALLBACK:
            return self.fallback_channels
        return channels_for(tags, self.urls, self.routes)

    @property
    def fallback_channels(self) -> tuple[Channel, ...]:
        """Channels for alerts that the primary channels do not take."""
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
