"""Delivering one alert to every Apprise URL, and saying of each whether it arrived."""

import logging
import re
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from automations.alerting.alert import Alert, harmless
from automations.alerting.cause import NotifyType

if TYPE_CHECKING:
    from apprise import NotifyBase

# Apprise gives a service 4 s to accept a connection and 4 s to answer, but some speak to a service several
# times. What has not answered by then is told as not delivered; it may still arrive.
TIME_LIMIT_SECONDS = 30.0


@dataclass(frozen=True)
class Delivery:
    """What became of an alert at one URL, told by its position in the list and the service's name."""

    position: int
    service: str
    failure: str | None = None

    @property
    def delivered(self) -> bool:
        """Whether the service took the alert."""
        return self.failure is None

    @property
    def channel(self) -> str:
        """The URL's position, counted from 1, and its service, such as `1 (Slack)`: never the URL itself."""
        return f"{self.position} ({self.service})"


def misunderstood(urls: Sequence[str]) -> list[str]:
    """Say which URLs Apprise cannot use, by position, counted from 1; nothing if it understands them all."""
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

    Takes at most `time_limit` seconds. Never raises for what a service or the network does.
    """
    if not urls:
        return []
    executor = ThreadPoolExecutor(max_workers=len(urls), thread_name_prefix="alert")
    sending = [executor.submit(_send, alert, url, position, notify_type) for position, url in enumerate(urls, start=1)]
    wait(sending, timeout=time_limit)
    executor.shutdown(wait=False, cancel_futures=True)
    return [
        _result(future, position, url, time_limit)
        for position, (future, url) in enumerate(zip(sending, urls, strict=True), start=1)
    ]


def _result(future: Future[Delivery], position: int, url: str, time_limit: float) -> Delivery:
    if not future.done() or future.cancelled():
        return Delivery(position, service_name(service_at(url)), f"no answer within {time_limit:g} s")
    if error := future.exception():
        return Delivery(position, "unknown service", f"sending ended in {type(error).__name__}")
    return future.result()


def _send(alert: Alert, url: str, position: int, notify_type: NotifyType) -> Delivery:
    import apprise  # here: it takes 0.3 s, and every process of Prefect imports our block

    with _captured_log() as log:
        service = service_at(url)
        if service is None:
            return Delivery(position, "unknown service", "the URL is not understood by Apprise")
        name = service_name(service)
        sender = apprise.Apprise()
        sender.add(service)  # pyright: ignore[reportUnknownMemberType]
        try:
            # The text says that it is plain text, so that services which speak a markup have it escaped.
            sent = sender.notify(
                body=alert.body,
                title=alert.subject,
                notify_type=notify_type,
                body_format=apprise.NotifyFormat.TEXT.value,
            )
        except Exception as error:  # noqa: BLE001 - one of 100+ plugins; the other URLs must still be told
            log.append(type(error).__name__)
            sent = False
    if sent:
        return Delivery(position, name)
    return Delivery(position, name, _without_secrets(" ".join(log), url) or "the service gave no reason")


def service_at(url: str) -> "NotifyBase | None":
    """Return Apprise's service for a URL, or None if it does not understand it; nothing is logged."""
    import apprise

    asset = apprise.AppriseAsset(
        app_id="Prefect",
        app_desc="Prefect alerts",
        async_mode=False,  # we have a thread per URL already
        storage_mode=apprise.PersistentStoreMode.MEMORY,
    )
    with _captured_log():
        return apprise.Apprise.instantiate(url, asset=asset)  # pyright: ignore[reportUnknownMemberType]


def service_name(service: "NotifyBase | None") -> str:
    """Return the name of a service, such as `Slack`."""
    return str(getattr(service, "service_name", "")) or "unknown service"


def _without_secrets(text: str, url: str) -> str:
    """Replace in the text whatever is also in the URL behind its scheme: any part of it may be a token."""
    rest = url.partition("://")[2]
    parts = {part for whole in (rest, unquote(rest)) for part in re.split(r"[/:@?&=#,;+\s]+", whole)}
    for part in sorted((part for part in parts if len(part) > 2), key=len, reverse=True):
        text = text.replace(part, "***")
    # A service may answer with anything, and what is told of it is kept and told on.
    return " ".join(harmless(text).split())[:300]


# Apprise logs whole URLs: as errors when it cannot read one, for debugging otherwise. What it logs on our
# behalf is kept from every handler, and its warnings are the only place where it says why a service refused.
_log: ContextVar[list[str] | None] = ContextVar("apprise log", default=None)


@contextmanager
def _captured_log() -> Generator[list[str], None, None]:
    logger = logging.getLogger("apprise")
    if _keep_from_handlers not in logger.filters:
        logger.addFilter(_keep_from_handlers)
    lines: list[str] = []
    token = _log.set(lines)
    try:
        yield lines
    finally:
        _log.reset(token)


def _keep(record: logging.LogRecord) -> bool:
    lines = _log.get()
    if lines is None:
        return True
    if record.levelno >= logging.WARNING:
        lines.append(record.getMessage())
    return False


_keep_from_handlers: Callable[[logging.LogRecord], bool] = _keep
