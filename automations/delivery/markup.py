"""Escape an alert for the markup of one service, and shorten it to the service's limit.

An alert is plain text, and every service should show it letter by letter. Apprise converts it for services that take
HTML (mail, Telegram), and services that show plain text (webhooks, SMS, Pushover) get it unchanged. But Discord, Teams,
Mattermost and others read Markdown in it although Apprise calls their format text, and Slack and Google Chat read
`<http://...|text>`. For those the text is escaped here. `models.harmless` disables mentions and links with a hidden
target for every service.
"""

import html
import re
from enum import StrEnum
from typing import TYPE_CHECKING

from automations.delivery.models import Alert

if TYPE_CHECKING:
    from apprise import NotifyBase


class Markup(StrEnum):
    """The markup that a service reads in a text."""

    PLAIN = "plain"  # none, or Apprise escapes it
    ENTITIES = "entities"  # <...> is a link or a mention, and &lt; is <
    MARKDOWN = "markdown"


# By the name of Apprise's module: the format in which an alert needs the least escaping, or none.
_FORMATS = {
    "slack": "text",
    "google_chat": "text",
    "telegram": "html",
    "webexteams": "text",
    "chime": "text",
    "kook": "text",
    "evolution": "text",
}
_ENTITIES = {"slack", "google_chat"}
_MARKDOWN = {
    *("discord", "fluxer", "guilded", "mattermost", "nextcloudtalk", "reddit", "revolt", "rocketchat", "ryver"),
    *("stackfield", "twist", "workflows", "zulip"),
}
_PLAIN_TITLES = {"reddit", "slack", "twist", "zulip"}
"""The services that read markup in the body only, or whose title Apprise escapes."""

_URL = re.compile(r"(https?://[^\s<>\"`|*~\\\[\]]+)")
_MARKDOWN_SIGN = re.compile(r"([\\`*_~|\[\]<>#])|&(?=#?\w{1,31};)")
_BLOCK_SIGN = re.compile(r"^(\s*)(?:([-+=])|(\d{1,9})([.)]))(?=\s|$)")

# Limits missing in Apprise, in the unit that the service counts (see `_length`).
_BODY_LIMITS = {"ntfy": 3900, "pagerduty": 1024, "wecombot": 1900}
_SLACK_BLOCK, _SLACK_HEADER = 3000, 150
_TAIL_LIMIT = 400
"""The most characters kept of the last two lines: the next step and the link."""
_LEFT_OUT = "… {} characters are left out here; the log of alerts has them …"


def prepare(service: "NotifyBase", alert: Alert) -> Alert:
    """Set the service's format and return the alert to pass to Apprise, escaped and shortened."""
    import apprise

    name = _name(service)
    if name in _FORMATS:
        service.notify_format = apprise.NotifyFormat(_FORMATS[name])
    markup = markup_of(service)
    is_block = name == "slack" and getattr(service, "use_blocks", False)
    title = alert.subject[: _SLACK_HEADER if is_block else None]
    if markup is not Markup.PLAIN and (name not in _PLAIN_TITLES or service.title_maxlen <= 0 or _is_workflow(service)):
        title = escape(title, markup)
    if service.overflow_mode is not apprise.OverflowMode.TRUNCATE:
        return Alert(title, escape(alert.body, markup))  # the URL sets another mode: Apprise splits the text
    limit = min(service.body_maxlen, _BODY_LIMITS.get(name, service.body_maxlen), _SLACK_BLOCK if is_block else 10**9)
    if service.title_maxlen <= 0 or service.overflow_amalgamate_title:
        # The title is part of the body; 40 covers the tags and line breaks that Apprise adds, and a counter.
        limit -= _length(service, title) + 40
    return Alert(title, _fitting(service, alert.body, markup, limit))


def is_shortened(service: "NotifyBase", alert: Alert) -> bool:
    """Return whether an alert is too long for a service."""
    return prepare(service, alert).body != escape(alert.body, markup_of(service))


def markup_of(service: "NotifyBase") -> Markup:
    """Return the markup that a service reads, given its format."""
    import apprise

    name = _name(service)
    if name in _ENTITIES:
        return Markup.ENTITIES
    # `format=markdown` in the URL does not make the alert's text Markdown.
    if name in _MARKDOWN or service.notify_format is apprise.NotifyFormat.MARKDOWN:
        return Markup.MARKDOWN
    return Markup.PLAIN


def escape(text: str, markup: Markup) -> str:
    """Return a text that a service shows letter by letter; http and https URLs stay links.

    >>> escape("*bold* <http://a|b> https://host/a_b", Markup.MARKDOWN)
    '\\\\*bold\\\\* \\\\<http://a|b\\\\> https://host/a_b'
    >>> escape("a <!channel> & b", Markup.ENTITIES)
    'a &lt;!channel&gt; &amp; b'
    """
    if markup is Markup.ENTITIES:
        return html.escape(text, quote=False)
    if markup is Markup.MARKDOWN:
        return "\n".join(_escape_line(line) for line in text.split("\n"))
    return text


def _escape_line(line: str) -> str:
    parts = _URL.split(line)
    parts[::2] = [_MARKDOWN_SIGN.sub(r"\\\g<0>", part) for part in parts[::2]]
    return _BLOCK_SIGN.sub(_escaped_block, "".join(parts))


def _escaped_block(found: re.Match[str]) -> str:
    indent, bullet, number, after = found.groups()
    return f"{indent}\\{bullet}" if bullet else f"{indent}{number}\\{after}"


def _fitting(service: "NotifyBase", body: str, markup: Markup, limit: int) -> str:
    """Return the escaped body, shortened in the middle if the service takes no more than `limit` characters."""
    whole = escape(body, markup)
    if _length(service, whole) <= limit:
        return whole
    head, *end = body.rsplit("\n", 2)
    tail = "\n".join(end)
    if len(end) < 2 or len(tail) > min(_TAIL_LIMIT, limit // 3):
        head, tail = body, ""

    def shortened(kept: int) -> str:
        note = _LEFT_OUT.format(len(head) - kept) if tail else "…"
        return escape("\n".join([*([head[:kept].rstrip()] if kept else []), note, *([tail] if tail else [])]), markup)

    low, high = 0, len(head)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _length(service, shortened(middle)) <= limit else (low, middle - 1)
    return shortened(low)


def _length(service: "NotifyBase", text: str) -> int:
    """Return the length of a text as the service counts it, or more."""
    import apprise
    from apprise.conversion import convert_between  # pyright: ignore[reportUnknownVariableType]

    if _name(service) in {"ntfy", "wecombot"}:
        return len(text.encode())
    converted = str(convert_between(apprise.NotifyFormat.TEXT, service.notify_format, text))  # pyright: ignore[reportUnknownArgumentType]
    return len(converted.encode("utf-16-le")) // 2  # some services count UTF-16 code units


def _is_workflow(service: "NotifyBase") -> bool:
    """Return whether this is a Slack workflow: Apprise joins its title and body without escaping the title."""
    return "workflow" in str(getattr(service, "mode", "")).lower() and _name(service) == "slack"


def _name(service: "NotifyBase") -> str:
    """Return the name of Apprise's module for a service, such as `slack`; for other plugins, their own module's."""
    return type(service).__module__.removeprefix("apprise.plugins.").split(".")[0]
