"""Channels (the URLs that alerts go to), and the policy that decides which alert goes where and when.

A channel's id and name contain no secret, so they can be logged and stored; its URL may contain one.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from automations.delivery.rate_limit import StormLimit
from automations.delivery.send import misunderstood, service_at, service_name

# Quiet hours: spans of local time in which alerts are held back.

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN = re.compile(
    r"(?:(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))?\s+)?(?P<begin>\d\d?:\d\d)-(?P<end>\d\d?:\d\d)", re.IGNORECASE
)
FORM = "22:00-07:00, Sat-Sun 00:00-24:00 Europe/Berlin"


@dataclass(frozen=True)
class _Span:
    """Minutes of a day on which the span may begin; if it ends before it begins, it goes on past midnight."""

    days: frozenset[int]
    begin: int
    end: int

    @property
    def minutes(self) -> int:
        return (self.end - self.begin) % (24 * 60) or 24 * 60


@dataclass(frozen=True)
class QuietHours:
    """Spans of local time, in the machine's own time zone or in `zone`."""

    spans: tuple[_Span, ...] = ()
    zone: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read spans such as `22:00-07:00, Sat-Sun 00:00-24:00 Europe/Berlin`.

        Each span may name the days on which it begins; the time zone comes last, once, if it is not the machine's own.
        Raises ValueError with everything that is wrong.
        """
        words = text.strip().rpartition(" ")
        zone = words[2] if re.fullmatch(r"[A-Za-z_]+/[A-Za-z0-9_/+-]+|UTC", words[2]) else ""
        spans = [one.strip() for one in (words[0] if zone else text).split(",") if one.strip()]
        read = [_read(one) for one in spans]
        wrong = [one for one, span in zip(spans, read, strict=True) if span is None]
        problems = [f"expected spans such as '{FORM}', got {one!r}" for one in wrong]
        try:
            _zone(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # such as America/Argentina, which is a folder
            problems.append(f"there is no time zone {zone!r}")
        if zone and not spans:
            problems.append(f"expected spans such as '{FORM}', got only a time zone")
        if problems:
            raise ValueError("; ".join(problems))
        return cls(tuple(span for span in read if span), zone)

    def silent_until(self, now: datetime) -> datetime | None:
        """Return when the current quiet hours end, in UTC, or None outside quiet hours.

        Spans that touch are joined. A span keeps its local time across changes of daylight saving time.
        """
        until: datetime | None = None
        for _ in range(len(self.spans) * 8):  # a week has no more spans
            ends = [end for span in self.spans if (end := self._end(span, until or now)) is not None]
            if not ends:
                break
            until = max(ends)
        return until

    def _end(self, span: _Span, moment: datetime) -> datetime | None:
        zone = _zone(self.zone)
        today = moment.astimezone(zone).date()
        for day in (today - timedelta(days=1), today):
            if day.weekday() not in span.days:
                continue
            midnight = datetime.combine(day, time())
            begin, end = (midnight + timedelta(minutes=span.begin + more) for more in (0, span.minutes))
            # Wall clock arithmetic first, the zone afterwards: 22:00 to 07:00 is eight hours on one night of the year.
            begins, is_over = (at.replace(tzinfo=zone).astimezone(UTC) for at in (begin, end))
            if begins <= moment < is_over:
                return is_over
        return None


def _read(text: str) -> _Span | None:
    match = _SPAN.fullmatch(text)
    if match is None:
        return None
    begin, end = (_minutes(match[name]) for name in ("begin", "end"))
    days = _days(match["first"], match["last"])
    if days is None or begin is None or end is None or begin >= 24 * 60:
        return None
    return _Span(days, begin, end)


def _days(first: str | None, last: str | None) -> frozenset[int] | None:
    if first is None:
        return frozenset(range(7))
    names = [first.lower(), (last or first).lower()]
    if not {*names} <= {*_DAYS}:
        return None
    begin, end = map(_DAYS.index, names)
    return frozenset((begin + step) % 7 for step in range((end - begin) % 7 + 1))


def _minutes(text: str) -> int | None:
    hours, minutes = map(int, text.split(":"))
    total = hours * 60 + minutes
    return total if minutes < 60 and total <= 24 * 60 else None


def _zone(name: str) -> tzinfo | None:
    # None is the machine's own zone with its changes, not today's offset from UTC.
    return ZoneInfo(name) if name else None


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
