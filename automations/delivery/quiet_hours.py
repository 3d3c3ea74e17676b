"""Quiet hours: spans of local time in which alerts are held back."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

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
