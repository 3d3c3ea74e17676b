"""Call a URL outside this machine each minute while everything is healthy (a dead man's switch).

When the calls stop, because the machine, `just up` or the network is down, or because something is unhealthy, the
service at that URL (healthchecks.io, Uptime Kuma, Cronitor, Better Stack) sends an alert. Nothing on this machine
has to work for that. The URL is a secret, as anyone who has it can call it; logs and errors show only its host.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

EVERY_SECONDS = 60.0
LOOK_SECONDS = 10.0
FAILING_SECONDS = 60.0
"""How long something has to be unhealthy before the failure URL is called: a restarting service needs no attention."""
TIMEOUT_SECONDS = 10.0

logger = logging.getLogger(__name__)


def masked_address(url: str) -> str:
    """Return a URL with everything masked except scheme, host and port: all the rest may be a secret.

    >>> masked_address("https://hc-ping.com/0b7f9a1e?rid=1")
    'https://hc-ping.com/***'
    """
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}/***"


def wrong_heartbeat_url(url: str) -> str:
    """Return what is wrong with a URL, without showing it; empty if it can be called."""
    expected = "expected an address such as https://hc-ping.com/your-uuid"
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return expected
    return "" if is_one and not any(map(str.isspace, url)) else expected


def call(url: str) -> str:
    """Call a URL; return why that failed, or an empty string. The body of the response is not read."""
    import httpx  # here: the settings import this module, and every command reads them

    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs whole URLs
    try:
        with (
            httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False) as client,
            client.stream("GET", url, headers={"User-Agent": "prefect-blueprint"}) as answer,
        ):
            return "" if answer.is_success else f"it answered {answer.status_code}, expected 200"
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return type(error).__name__  # its text may contain the URL


@dataclass
class DeadMansSwitch:
    """Calls the URLs from a daemon thread."""

    url: str
    fail_url: str
    """The URL that is called while something is unhealthy; if empty, the calls of `url` just stop."""
    find_problems: Callable[[], str]
    """Returns what is unhealthy, in words; empty if everything is healthy."""
    monotonic: Callable[[], float] = time.monotonic
    call: Callable[[str], str] = call
    _called_at: float = field(default=float("-inf"), init=False)
    _failed_at: float = field(default=float("-inf"), init=False)
    _unwell_since: float | None = field(default=None, init=False)
    _logged: dict[str, str] = field(default_factory=dict[str, str], init=False)
    _is_over: threading.Event = field(default_factory=threading.Event, init=False)

    def step(self) -> None:
        """Check once, and call a URL if its call is due."""
        wrong = self.find_problems()
        now = self.monotonic()
        if not wrong:
            self._unwell_since = None
            if self.url and now - self._called_at >= EVERY_SECONDS and self._call("HEARTBEAT_URL", self.url):
                self._called_at = now
            return
        self._unwell_since = now if self._unwell_since is None else self._unwell_since
        if self.fail_url and now - max(self._unwell_since + FAILING_SECONDS, self._failed_at + EVERY_SECONDS) >= 0:
            self._call("HEARTBEAT_FAIL_URL", self.fail_url)
            self._failed_at = now

    def _call(self, name: str, url: str) -> bool:
        """Call a URL and return whether that succeeded; log a failure once."""
        failure = self.call(url)
        if failure and failure != self._logged.get(name):
            logger.warning("%s (%s) cannot be called, it is tried again: %s", name, masked_address(url), failure)
        elif not failure and self._logged.get(name):
            logger.warning("%s (%s) is called again", name, masked_address(url))
        self._logged[name] = failure
        return not failure

    def start(self) -> None:
        """Start the thread, if there is a URL."""
        if self.url or self.fail_url:
            threading.Thread(target=self._run, name="dead man's switch", daemon=True).start()

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                self.step()
            except Exception:  # the thread has to survive every error
                logger.exception("it cannot be seen whether everything is well")
            self._is_over.wait(LOOK_SECONDS)

    def stop(self) -> None:
        """Stop the calls."""
        self._is_over.set()
