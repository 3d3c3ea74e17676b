"""Send one alert to every Apprise URL, and return for each whether it arrived."""

import html
import logging
import re
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import unquote

from automations.delivery.models import Alert, NotifyType, harmless
from automations.delivery.transport import RequestWatch, SendOutcome, judge, watching, words_of

if TYPE_CHECKING:
    from apprise import NotifyBase
if TYPE_CHECKING:
    from apprise import NotifyBase


CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
"""Timeouts for connecting and for the response, unless the URL sets them (`cto`, `rto`)."""
TIME_LIMIT_SECONDS = 45.0
"""Time limit for all requests of one alert, such as a log-in and a message."""


@dataclass(frozen=True)
class Delivery:
    """The result of an alert at one URL, identified by its position in the list and the service's name."""

    position: int
    service: str
    failure: str | None = None
    is_open: bool = False
    """Whether the service may have taken the alert nevertheless: it was sent, and no response came."""
    retry_after: float = 0.0
    """How many seconds the service asks to wait before the next attempt."""

    @property
    def delivered(self) -> bool:
        """Whether the service took the alert."""
        return self.failure is None

    @property
    def channel(self) -> str:
        """The URL's position, counted from 1, and its service, such as `1 (Slack)`; never the URL itself."""
        return f"{self.position} ({self.service})"


def misunderstood(urls: Sequence[str]) -> list[str]:
    """Return why Apprise cannot use some of the URLs, by their positions, counted from 1."""
    problems: list[str] = []
    for position, url in enumerate(urls, start=1):
        scheme, separator, _ = url.partition("://")
        if not separator or not re.fullmatch(r"[a-zA-Z0-9+.-]{1,30}", scheme):
            problems.append(f"URL {position} has no scheme such as slack:// or mailto://")
        elif service_at(url) is None:
            problems.append(
                f"URL {position} ({scheme}://...) is not understood by Apprise: the service is unknown, "
                "something is missing in the URL, or a library of the service is not installed"
            )
    return problems


def deliver(
    alert: Alert, urls: Sequence[str], notify_type: NotifyType, *, time_limit: float = TIME_LIMIT_SECONDS
) -> list[Delivery]:
    """Send the alert to all URLs at the same time and return one Delivery per URL, in their order.

    Takes at most `time_limit` seconds. Never raises because of a service or the network.
    """
    if not urls:
        return []
    watches = [RequestWatch(words_of((alert.subject, alert.body), url), url) for url in urls]
    executor = ThreadPoolExecutor(max_workers=len(urls), thread_name_prefix="alert")
    sending = [
        executor.submit(_send, alert, watch, position, notify_type) for position, watch in enumerate(watches, start=1)
    ]
    wait(sending, timeout=time_limit)
    executor.shutdown(wait=False, cancel_futures=True)
    return [
        _result(future, position, watch, time_limit)
        for position, (future, watch) in enumerate(zip(sending, watches, strict=True), start=1)
    ]


def takes_whole(alert: Alert, urls: Sequence[str]) -> bool:
    """Return whether every one of these services takes an alert without shortening."""
    services = [service for service in map(service_at, urls) if service is not None]
    for service in services:
        _set_up(service)
    return not any(is_shortened(service, alert) for service in services)


def _result(future: Future[Delivery], position: int, watch: RequestWatch, time_limit: float) -> Delivery:
    watch.end()
    if not future.done() or future.cancelled():
        service = service_at(watch.url)
        judged = judge(watch, sent=None, is_watched=_is_watched(service))
        failure = f"no answer within {time_limit:g} s"
        return Delivery(position, service_name(service), failure, judged.outcome is SendOutcome.PERHAPS)
    if error := future.exception():
        return Delivery(position, "unknown service", f"sending ended in {type(error).__name__}")
    return future.result()


def _send(alert: Alert, watch: RequestWatch, position: int, notify_type: NotifyType) -> Delivery:
    import apprise  # deferred: it takes 0.3 s, and every process of Prefect imports our block

    with _captured_log() as log:
        service = service_at(watch.url)
        if service is None:
            return Delivery(position, "unknown service", "the URL is not understood by Apprise")
        _set_up(service)
        name = service_name(service)
        sender = apprise.Apprise()
        sender.add(service)  # pyright: ignore[reportUnknownMemberType]
        try:
            with watching(watch):
                prepared = prepare(service, alert)
                sent = sender.notify(
                    body=prepared.body,
                    title=prepared.subject,
                    notify_type=notify_type,
                    body_format=apprise.NotifyFormat.TEXT.value,
                )
        except Exception as error:  # noqa: BLE001 - one of 100+ plugins; the other URLs must still get the alert
            log.lines.append(type(error).__name__)
            log.errors.append(error)
            sent = False
    judged = judge(watch, sent=bool(sent), is_watched=_is_watched(service), errors=log.errors)
    if judged.outcome is SendOutcome.DELIVERED:
        return Delivery(position, name)
    said = _without_secrets(" ".join(log.lines), watch.url)
    failure = " ".join(one for one in (judged.reason, said) if one) or "the service gave no reason"
    return Delivery(position, name, failure, judged.outcome is SendOutcome.PERHAPS, judged.retry_after or 0.0)


def _is_watched(service: "NotifyBase | None") -> bool:
    """Return whether `transport` sees the requests of a plugin."""
    return _speaks_through(service, "requests") or _speaks_through(service, "smtplib")


def _speaks_through(service: "NotifyBase | None", library: str) -> bool:
    return any(hasattr(sys.modules.get(one.__module__), library) for one in type(service).__mro__)


def service_at(url: str) -> "NotifyBase | None":
    """Return Apprise's service for a URL, or None if Apprise does not understand it; nothing is logged."""
    import apprise

    asset = apprise.AppriseAsset(
        app_id="Prefect",
        app_desc="Prefect alerts",
        async_mode=False,  # there is one thread per URL already
        storage_mode=apprise.PersistentStoreMode.MEMORY,
    )
    with _captured_log():
        return apprise.Apprise.instantiate(url, asset=asset)  # pyright: ignore[reportUnknownMemberType]


def _set_up(service: "NotifyBase") -> None:
    """Set timeouts and truncation, unless the URL sets them, and turn off Apprise's own retries."""
    import apprise

    given = vars(service)
    if "socket_read_timeout" not in given:
        service.socket_read_timeout = ANSWER_SECONDS
    if "socket_connect_timeout" not in given:
        # For mail, the connect timeout covers the responses as well.
        is_mail = _speaks_through(service, "smtplib")
        service.socket_connect_timeout = ANSWER_SECONDS if is_mail else CONNECT_SECONDS
    if "overflow_mode" not in given:
        service.overflow_mode = apprise.OverflowMode.TRUNCATE
    # The outbox retries, with pauses; an `optional` failure would count as delivered.
    service.retry, service.optional = 0, False


def service_name(service: "NotifyBase | None") -> str:
    """Return the name of a service, such as `Slack`."""
    return str(getattr(service, "service_name", "")) or "unknown service"


def _without_secrets(text: str, url: str) -> str:
    """Mask every part of the text that also occurs in the URL after its scheme: any part may be a token."""
    rest = url.partition("://")[2]
    parts = {part for whole in (rest, unquote(rest)) for part in re.split(r"[/:@?&=#,;+\s]+", whole)}
    for part in sorted((part for part in parts if len(part) > 2), key=len, reverse=True):
        text = text.replace(part, "***")
    # A service may answer with anything, and its answer is stored and shown.
    return " ".join(harmless(text).split())[:300]


# Apprise logs whole URLs: as errors if it cannot read one, for debugging otherwise. Its log records for our calls are
# kept from every handler; its warnings are the only place where it says why a service rejected an alert.
@dataclass
class _Log:
    """A plugin's warnings, and the exceptions that it was handling then."""

    lines: list[str] = field(default_factory=list[str])
    errors: list[BaseException] = field(default_factory=list[BaseException])


_log: ContextVar[_Log | None] = ContextVar("apprise log", default=None)


@contextmanager
def _captured_log() -> Generator[_Log, None, None]:
    logger = logging.getLogger("apprise")
    if _keep_from_handlers not in logger.filters:
        logger.addFilter(_keep_from_handlers)
    log = _Log()
    token = _log.set(log)
    try:
        yield log
    finally:
        _log.reset(token)


def _keep(record: logging.LogRecord) -> bool:
    log = _log.get()
    if log is None:
        return True
    if record.levelno >= logging.WARNING:
        log.lines.append(record.getMessage())
        if (error := sys.exception()) is not None:
            log.errors.append(error)
    return False


_keep_from_handlers: Callable[[logging.LogRecord], bool] = _keep


# Escape an alert for the markup of one service, and shorten it to the service's limit.
#
# An alert is plain text, and every service should show it letter by letter. Apprise converts it for services that
# take HTML (mail, Telegram), and services that show plain text (webhooks, SMS, Pushover) get it unchanged. But
# Discord, Teams, Mattermost and others read Markdown in it although Apprise calls their format text, and Slack and
# Google Chat read `<http://...|text>`. For those the text is escaped here. `models.harmless` disables mentions and
# links with a hidden target for every service.


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
_BLOCK_SIGN = re.compile(r"^(\s*)(?:([-+=])(?=\s|[-=\s]*$)|(\d{1,9})([.)])(?=\s|$))")

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
