"""Text for people: untrusted text escaped, and times, durations, sizes and counts formatted.

The page, the terminal and the sensor's messages use these, so that they show the same words.
"""

from datetime import datetime, tzinfo


def readable(text: str) -> str:
    r"""Return a text for storage and display, with every character that is not printable escaped.

    File names, reasons and log lines come from other users and programs. `readable` in automations/as_code/diff.py is
    the same function for the package that imports nothing of this one.

    >>> readable("a\x1b[2Jb\n\udcff")
    'a\\x1b[2Jb\\n\\udcff'
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def local_time(moment: datetime | None, zone: tzinfo | None = None) -> str:
    """Format a time as `2026-11-24 09:00:00 CET`, by default in the machine's time zone; None as an empty string."""
    return "" if moment is None else f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"


def local_minute(moment: datetime | None, zone: tzinfo | None = None) -> str:
    """Format a time as `2026-11-24 09:00 CET`."""
    return "" if moment is None else f"{moment.astimezone(zone):%Y-%m-%d %H:%M %Z}"


def table_time(moment: datetime | None) -> str:
    """Format a time as `2026-11-24 09:00:00`, for a table, each row of which would repeat the time zone."""
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def clock_time(moment: datetime | None, zone: tzinfo | None = None) -> str:
    """Format a time as `09:00:00`."""
    return "" if moment is None else f"{moment.astimezone(zone):%H:%M:%S}"


def day_or_time(moment: datetime | None, now: datetime, zone: tzinfo | None = None) -> str:
    """Format a time of today as `09:00:00`, and any other as `2026-11-24 09:00`."""
    if moment is None:
        return ""
    local = moment.astimezone(zone)
    return f"{local:%H:%M:%S}" if local.date() == now.astimezone(zone).date() else f"{local:%Y-%m-%d %H:%M}"


def machine_time(moment: datetime | None) -> str:
    """Format a time in ISO 8601, for the `datetime` attribute of <time>."""
    return "" if moment is None else moment.isoformat()


def duration(seconds: float | None) -> str:
    """Format a duration in seconds.

    >>> [duration(s) for s in (0.0421, 0.75, 12.34, 75.0, 7260.0, None)]
    ['0.04 s', '0.75 s', '12.3 s', '1 min 15 s', '2 h 1 min', '']
    """
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.2f} s" if abs(seconds) < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


_UNITS = (("d", 86400.0), ("h", 3600.0), ("min", 60.0))


def age(seconds: float) -> str:
    """Format a duration in seconds by its largest whole unit.

    >>> age(3.4), age(200), age(7300), age(200_000)
    ('3 s', '3 min', '2 h', '2 d')
    """
    for unit, of_it in _UNITS:
        if seconds >= of_it:
            return f"{seconds // of_it:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def ago(moment: datetime | None, now: datetime) -> str:
    """Format how long ago a moment was; an empty string for None."""
    return "" if moment is None else f"{age((now - moment).total_seconds())} ago"


def size(count: float) -> str:
    """Format a number of bytes, with decimal units.

    >>> [size(n) for n in (1, 999, 1_500, 2 * 10**9)]
    ['1 B', '999 B', '1.5 kB', '2.0 GB']
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def disk_size(count: float) -> str:
    """Format a number of bytes with the units of the setting MIN_FREE_DISK, in which 1 KB has 1024 bytes.

    >>> disk_size(900), disk_size(1_500_000), disk_size(2 * 2**30)
    ('900 bytes', '1.4 MB', '2.0 GB')
    """
    if count < 1024:
        return f"{count:.0f} bytes"
    for unit in ("KB", "MB", "GB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TB"


def number(count: int | None) -> str:
    """Format a count with thousands separators; None gives an empty string."""
    return "" if count is None else f"{count:,}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """Format a count with its noun in singular or plural.

    >>> counted(1, "row"), counted(1200, "row"), counted(2, "address", "addresses")
    ('1 row', '1,200 rows', '2 addresses')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def short_number(count: float) -> str:
    """Format a number in at most five characters, for the axis of a plot.

    >>> [short_number(n) for n in (0, 7, 950, 1500, 20_000, 999_600, 3_400_000)]
    ['0', '7', '950', '1.5k', '20k', '1M', '3.4M']
    """
    for unit in ("", "k", "M"):
        if count < 999.5:  # three digits of more are 1e+03
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g}G"
