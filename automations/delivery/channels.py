"""Channels: the URLs that alerts go to, each with a name that can be told, and which alert goes to which."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from automations.delivery.send import misunderstood, service_at, service_name

ROUTE_FORM = "env:prod=slack://tokenA/tokenB/tokenC"


@dataclass(frozen=True)
class Channel:
    """One URL; its `id` is the same after its password was mended, and tells none."""

    id: str
    name: str
    """What is told of it: the position in its list and the service, such as `1 (Slack)`."""
    url: str = field(repr=False)


@dataclass(frozen=True)
class Route:
    """Alerts with this tag go to these URLs instead of the others."""

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
    """Return where an alert with these tags goes: to the routes of its tags, else to `urls`."""
    known = {*tags}
    chosen = [route for route in routes if route.tag in known]
    if not chosen:
        return channels(tuple(urls))
    return tuple({one.id: one for route in chosen for one in channels(route.urls, f"{route.tag} ")}.values())


@lru_cache(maxsize=64)
def channels(urls: tuple[str, ...], prefix: str = "") -> tuple[Channel, ...]:
    """Return a channel for each URL of a list; `prefix` says which list it is."""
    seen: dict[str, int] = {}
    found: list[Channel] = []
    for position, url in enumerate(urls, start=1):
        service = service_at(url)
        # As Apprise shows it to everybody, without passwords and tokens: that stays the same when one is changed.
        shown = str(service.url(privacy=True)) if service else url.partition("://")[0]  # pyright: ignore[reportUnknownMemberType]
        seen[shown] = again = seen.get(shown, 0) + 1
        digest = hashlib.sha256(f"{shown}\0{again}".encode()).hexdigest()[:16]
        found.append(Channel(digest, f"{prefix}{position} ({service_name(service)})", url))
    return tuple(found)
