"""Find out what became of the HTTP requests and mails that Apprise sends for one alert.

Apprise returns True or False. That does not say whether a service may have taken an alert whose response never came,
where a redirect led, or how long a service asks to wait. So the two methods in which almost all of its plugins end are
wrapped: `requests.adapters.HTTPAdapter.send` and `smtplib.SMTP.sendmail`. The wrappers do nothing unless `watching` is
active in the calling thread. For a plugin that uses another library, `judge` has only the exceptions that the plugin
logged.

Redirects: a POST that follows a 301, 302 or 303 becomes an empty GET, whose success says nothing. Only 307 and 308,
which keep method and body, are followed, on the same host or from http to https; any other is a failure.
"""

import functools
import re
import smtplib
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urljoin, urlsplit

if TYPE_CHECKING:
    from requests import PreparedRequest, Response
    from requests.adapters import HTTPAdapter

REDIRECTS = 3
LONGEST_RETRY_AFTER = 3600.0
_KEEP_METHOD = {307, 308}
_PAGE = re.compile(
    rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*<(?:!doctype\s+html|html[\s>])",
    re.IGNORECASE | re.DOTALL,
)
_PAGE_WITHIN = 2048
# The functions in which urllib3 and ssl connect: if one of them fails, the request was not sent.
_CONNECTING = {"_new_conn", "_validate_conn", "_prepare_proxy", "create_connection", "do_handshake"}


class SendOutcome(StrEnum):
    """The result of sending an alert to a channel."""

    DELIVERED = "delivered"
    PERHAPS = "perhaps delivered"  # sent, but no response says whether it was taken
    FAILED = "failed"


class _State(StrEnum):
    UNDER_WAY = "under way"
    ANSWERED = "answered"
    NOT_SENT = "not sent"
    UNANSWERED = "unanswered"


@dataclass
class _Attempt:
    """One HTTP request or mail."""

    carries_alert: bool
    state: _State = _State.UNDER_WAY
    status: int = 0
    reason: str = ""
    is_page: bool = False
    is_partial: bool = False
    """Whether the server took the mail, but rejected some of its recipients."""
    retry_after: float | None = None

    @property
    def is_taken(self) -> bool:
        return self.state is _State.ANSWERED and 200 <= self.status < 300


@dataclass
class RequestWatch:
    """The requests made for one alert on one channel."""

    words: frozenset[str] = frozenset()
    """Words of the alert: a request that contains one of them carries the alert."""
    url: str = field(default="", repr=False)
    attempts: list[_Attempt] = field(default_factory=list[_Attempt])
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_over: bool = False

    def begin(self, content: str) -> _Attempt:
        """Register a request before it is made. Raises TimeoutError after `end`: its result would go unnoticed."""
        with self._lock:
            if self._is_over:
                raise TimeoutError("the time for this alert is over")
            attempt = _Attempt(any(word in content for word in self.words))
            self.attempts.append(attempt)
            return attempt

    def end(self) -> None:
        """Block any further request."""
        with self._lock:
            self._is_over = True


@dataclass(frozen=True)
class SendJudgement:
    """The result of an alert, derived from its requests."""

    outcome: SendOutcome
    reason: str = ""
    retry_after: float | None = None


def judge(
    watch: RequestWatch, *, sent: bool | None, is_watched: bool = True, errors: Iterable[BaseException] = ()
) -> SendJudgement:
    """Return the result of an alert; `sent` is what Apprise returned, None if it did not return in time.

    `is_watched` says whether the plugin makes its requests through the wrapped methods, and `errors` are the exceptions
    that it handled.
    """
    attempts = [one for one in watch.attempts if one.carries_alert] or watch.attempts
    pages = [one for one in attempts if one.is_page]
    reasons = " ".join(dict.fromkeys(one.reason for one in attempts if one.reason))
    waits = [one.retry_after for one in attempts if one.retry_after is not None]
    is_partial = any(one.is_partial for one in attempts)
    if sent and not pages and not is_partial:
        return SendJudgement(SendOutcome.DELIVERED)
    if sent and pages:
        return SendJudgement(SendOutcome.PERHAPS, "it answered with a web page, perhaps a log-in page")
    if any(one.state in {_State.UNANSWERED, _State.UNDER_WAY} for one in attempts):
        return SendJudgement(SendOutcome.PERHAPS, reasons or "no answer came in time")
    taken = [one for one in attempts if one.is_taken and one.carries_alert]
    if is_partial or (taken and (len(taken) > 1 or len(attempts) > len(taken))):
        return SendJudgement(
            SendOutcome.PERHAPS, f"only a part of it was taken, or some of its recipients have it. {reasons}"
        )
    lost = any(isinstance(one, TimeoutError | ConnectionResetError | BrokenPipeError) for one in errors)
    if not attempts and not is_watched and (sent is None or lost):
        return SendJudgement(SendOutcome.PERHAPS, "no answer came in time")
    return SendJudgement(SendOutcome.FAILED, reasons, max(waits, default=None))


_watch: ContextVar[RequestWatch | None] = ContextVar("alert being sent", default=None)
_installing = threading.Lock()
_is_installed = False


@contextmanager
def watching(watch: RequestWatch) -> Generator[None]:
    """Record every request that this thread makes within the block."""
    _install()
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def words_of(texts: Iterable[str], url: str) -> frozenset[str]:
    """Return words that are the same in every encoding of a text, except for those in the channel's own URL."""
    found = (word for text in texts for word in re.findall(r"[A-Za-z0-9]{6,40}", text))
    return frozenset([*dict.fromkeys(word for word in found if word not in url)][:50])


def _install() -> None:
    import requests.adapters  # deferred: every process of Prefect imports our block

    global _is_installed  # noqa: PLW0603 - once per process
    with _installing:
        if not _is_installed:
            requests.adapters.HTTPAdapter.send = _wrapped_send(requests.adapters.HTTPAdapter.send)
            smtplib.SMTP.sendmail = _wrapped_sendmail(smtplib.SMTP.sendmail)
            _is_installed = True


def _wrapped_send(original: Callable[..., "Response"]) -> Callable[..., "Response"]:
    @functools.wraps(original)
    def send(adapter: "HTTPAdapter", request: "PreparedRequest", *args: Any, **kwargs: Any) -> "Response":
        watch = _watch.get()
        if watch is None:
            return original(adapter, request, *args, **kwargs)
        return _watched_send(watch, functools.partial(original, adapter), request, args, kwargs)

    return send


def _watched_send(
    watch: RequestWatch,
    send: "Callable[..., Response]",
    request: "PreparedRequest",
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> "Response":
    import requests

    hops = 0
    while True:
        try:
            attempt = watch.begin(_content(request))
        except TimeoutError as error:
            raise requests.Timeout(str(error), request=request) from None
        response = _noted(attempt, functools.partial(send, request, *args, **kwargs), bool(kwargs.get("stream")))
        location = response.headers.get("Location")
        if not (300 <= attempt.status < 400 and location) or _is_discovery(request):
            return response
        target = urljoin(request.url or "", location)
        if attempt.status not in _KEEP_METHOD or not may_follow(request.url or "", target) or hops >= REDIRECTS:
            attempt.reason = f"it redirects ({attempt.status}) to {_shown(target, watch.url)}; mend the URL."
            raise requests.TooManyRedirects("the redirect was not followed", request=request, response=response)
        hops += 1
        watch.attempts.remove(attempt)
        request = request.copy()
        request.url = target


def _noted(attempt: _Attempt, send: "Callable[[], Response]", is_stream: bool) -> "Response":
    """Make a request and record its result."""
    try:
        response = send()
        attempt.status, attempt.retry_after = response.status_code, _retry_after(response)
        # Read the body here, so that errors while reading are noticed; the connection is closed afterwards anyway.
        body = b"" if is_stream else response.content
    except Exception as error:
        if attempt.status and not 200 <= attempt.status < 300:
            attempt.state = _State.ANSWERED  # the status says enough, even if the rest of the response is lost
        else:
            attempt.state = _State.NOT_SENT if _was_not_sent(error) else _State.UNANSWERED
            attempt.reason = _reason(error)
        raise
    attempt.state = _State.ANSWERED
    attempt.is_page = attempt.is_taken and bool(_PAGE.match(body[:_PAGE_WITHIN]))
    return response


def _content(request: "PreparedRequest") -> str:
    body = request.body
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body if isinstance(body, str) else ""
    headers = " ".join(str(value) for value in request.headers.values())  # ntfy and others put the title there
    return f"{request.url} {headers} {text}"


def _is_discovery(request: "PreparedRequest") -> bool:
    """Return whether a request only looks up a server's address, as Matrix does; its redirects may be followed."""
    return request.method == "GET" and urlsplit(request.url or "").path.startswith("/.well-known/")


def may_follow(old: str, new: str) -> bool:
    """Return whether a redirect keeps scheme, host and port, or leads from http to https on the same host."""
    before, after = urlsplit(old), urlsplit(new)
    if before.hostname != after.hostname:
        return False
    same = (before.scheme, _port(before)) == (after.scheme, _port(after))
    is_upgrade = (before.scheme, after.scheme) == ("http", "https")
    return same or is_upgrade


def _port(url: SplitResult) -> int | None:
    try:
        return url.port or {"http": 80, "https": 443}.get(url.scheme)
    except ValueError:
        return None


def _shown(target: str, url: str) -> str:
    """Return an address without possible secrets: no credentials, no query, no part of the channel's own URL."""
    split = urlsplit(target)
    own = {*re.split(r"[/:@?&=#,;+\s]+", url.partition("://")[2])}
    parts = ["***" if part and (part in own or len(part) > 20) else part for part in split.path.split("/")]
    return f"{split.scheme}://{split.netloc.rpartition('@')[2]}{'/'.join(parts)}"[:200]


def _retry_after(response: "Response") -> float | None:
    """Return how many seconds a busy service (429 or 503) asks to wait; the header has seconds or a date."""
    text = response.headers.get("Retry-After", "").strip()
    if response.status_code not in {429, 503} or not text:
        return None
    try:
        seconds = float(text) if re.fullmatch(r"\d{1,9}(\.\d+)?", text) else _seconds_until(text)
    except (ValueError, TypeError):
        return None
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)


def _seconds_until(date: str) -> float:
    moment = parsedate_to_datetime(date)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time()


def _was_not_sent(error: BaseException) -> bool:
    """Return whether an error occurred before the request was sent, so that the service cannot have it."""
    import requests

    if isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError):
        return True
    if not isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError):
        return isinstance(error, requests.RequestException)
    return bool(_CONNECTING & _functions(error))


def _functions(error: BaseException) -> set[str]:
    """Return the names of the functions in the tracebacks of an error and of its causes."""
    names: set[str] = set()
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        trace = one.__traceback__
        while trace is not None:
            names.add(trace.tb_frame.f_code.co_name)
            trace = trace.tb_next
        reason = getattr(one, "reason", None)
        waiting += [one.__cause__, one.__context__, reason if isinstance(reason, BaseException) else None]
        waiting += [argument for argument in one.args if isinstance(argument, BaseException)]
    return names


def _reason(error: BaseException) -> str:
    import requests

    if isinstance(error, requests.ConnectTimeout):
        return "no connection within the time allowed."
    if isinstance(error, requests.ReadTimeout):
        return "the alert was sent, and no answer came within the time allowed."
    if not _was_not_sent(error):
        return "the alert was sent, and the connection was lost before an answer came."
    return ""


def _wrapped_sendmail(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def sendmail(client: smtplib.SMTP, sender: str, recipients: Any, *args: Any, **kwargs: Any) -> Any:
        watch = _watch.get()
        if watch is None:
            return original(client, sender, recipients, *args, **kwargs)
        attempt = watch.begin("")
        attempt.carries_alert = True
        try:
            rejected = original(client, sender, recipients, *args, **kwargs)
        except Exception as error:
            # The server can have the mail only once the text is being sent; an SMTP error response is a definite no.
            is_open = "data" in _functions(error) and not isinstance(error, smtplib.SMTPResponseException)
            attempt.state = _State.UNANSWERED if is_open else _State.NOT_SENT
            attempt.reason = "the mail was sent, and no answer came." if is_open else _mail_reason(error)
            raise
        attempt.state, attempt.status = _State.ANSWERED, 250
        if rejected:
            attempt.is_partial = True
            # Only the beginning of an address: it is part of the channel's URL, which is secret.
            names = ", ".join(f"{address[:1]}*** ({code})" for address, (code, _) in rejected.items())
            attempt.reason = f"{len(rejected)} of {len(recipients)} recipients were rejected: {names}."
        return rejected

    return sendmail


def _mail_reason(error: BaseException) -> str:
    code = getattr(error, "smtp_code", None)
    return f"the mail server answered {code}." if code else ""
