"""Services: how server, worker, sensor and the others are, in one line, and what of it needs a person."""

import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sensors.alerts.issues import Issue
from sensors.config.admission import readable
from sensors.config.settings import Settings
from sensors.runs.api import ApiError, NotReachedError
from sensors.runs.issues import RunIssue
from sensors.runtime.clock import Clock
from sensors.runtime.loop import Loop
from sensors.stack.health import NOT_RUNNING, Health, check
from sensors.stack.services import OPTIONAL, Service, services_of
from sensors.web.attention import Matter
from sensors.web.probes import STUCK, no_issues, troubles

_CALLED = {
    Service.SERVER: "The Prefect server is",
    Service.BALANCER: "The balancer is",
    Service.SERVICES: "Prefect's services are",
    Service.WORKER: "The worker is",
    Service.WARM: "The warm server is",
}
_WITHOUT = {
    Service.SERVER: "Without it files are taken, and wait for their runs.",
    Service.BALANCER: "Without it files are taken, and wait for their runs.",
    Service.SERVICES: "Without them no arrival gets a run.",
    Service.WORKER: "Without a worker runs wait.",
    Service.WARM: f"{OPTIONAL[Service.WARM].capitalize()}.",
}
_OF_THE_API = tuple(f"{kind.__name__}: " for kind in (ApiError, NotReachedError))
"""What the troubles begin with that a loop has with the API."""


@dataclass(frozen=True)
class Sign:
    """What one word says of a service; `tone` is a tone of the page."""

    name: str
    tone: str
    word: str


@dataclass(frozen=True)
class Services:
    """How the services were found."""

    healths: dict[Service, Health] = field(default_factory=dict[Service, Health])
    """Without the worker's while no API answers, which alone knows of workers."""
    loops: dict[str, str] = field(default_factory=dict[str, str])
    """What is wrong with loops of the sensor, by their names."""
    issues: dict[str, Issue] = field(default_factory=dict[str, Issue])
    """What is wrong with the sensor apart from its loops, or soon will be, by keys that stay the same."""
    lasting: frozenset[str] = frozenset()
    """What of it was wrong the last time as well: what is started again by itself needs nobody."""
    run_issues: tuple[RunIssue, ...] = ()
    """The runs that need attention: a page that is open is to show what has changed of them."""

    @property
    def wrong(self) -> frozenset[str]:
        """The services and loops that are not well, and what else is wrong."""
        services = {one for one, health in self.healths.items() if not health.healthy}
        return frozenset(services) | frozenset(self.loops) | frozenset(self.issues)

    @property
    def are_well(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    def signs(self) -> tuple[Sign, ...]:
        """Return a word for each, in the order of starting."""
        sensor = Health(healthy=not self.loops and all(issue.is_warning for issue in self.issues.values()))
        known = {Service.WORKER: None, **self.healths, Service.SENSOR: sensor}
        return tuple(_sign(service, known[service]) for service in Service if service in known)

    def matters(self, settings: Settings) -> tuple[Matter, ...]:
        """Return what needs a person."""
        return (
            *(
                _service_matter(service, health, settings)
                for service, health in self.healths.items()
                if service in self.lasting and not health.healthy
            ),
            *(_issue_matter(issue) for key, issue in self.issues.items() if key in self.lasting),
            *(_loop_matter(name, trouble) for name, trouble in self.loops.items() if name in self.lasting),
        )


def look_at_services(
    settings: Settings,
    loops: Sequence[Loop],
    run_issues: Callable[[], tuple[RunIssue, ...]] = tuple,
    issues: Callable[[], Mapping[str, Issue]] = no_issues,
) -> Services:
    """Look at all services once; it may take some seconds for each that does not answer."""
    here = [one for one in services_of(settings) if one not in {Service.SERVER, Service.WORKER, Service.SENSOR}]
    healths = {service: check(settings, service) for service in (Service.SERVER, *here)}
    answers = healths.get(Service.BALANCER, healths[Service.SERVER]).healthy
    if answers:
        healths[Service.WORKER] = check(settings, Service.WORKER)
    return Services(healths, _own_troubles(troubles(loops), answers=answers), dict(issues()), run_issues=run_issues())


def _own_troubles(found: dict[str, str], *, answers: bool) -> dict[str, str]:
    """Leave out what loops say of an API that does not answer: that is told already, and once."""
    return {name: text for name, text in found.items() if answers or not text.startswith(_OF_THE_API)}


def _sign(service: Service, health: Health | None) -> Sign:
    if health is None:
        return Sign(service, "wait", "not known")
    if health.healthy:
        return Sign(service, "good", "well")
    return Sign(service, "wait" if service in OPTIONAL else "bad", _word(health))


def _word(health: Health) -> str:
    return NOT_RUNNING if health.detail == NOT_RUNNING else "in trouble"


def _service_matter(service: Service, health: Health, settings: Settings) -> Matter:
    return Matter(
        f"{_CALLED[service]} {_word(health)}",
        " ".join(_sentences([_found(service, health, settings), _WITHOUT[service]])),
        _mend(service, settings),
    )


def _found(service: Service, health: Health, settings: Settings) -> str:
    if health.detail != NOT_RUNNING:
        return readable(health.detail)
    is_api = service in {Service.SERVER, Service.BALANCER}
    return f"nobody listens at {settings.api_url}" if is_api else ""


def _sentences(said: Iterable[str]) -> list[str]:
    return [f"{one[0].upper()}{one[1:].removesuffix('.')}." for one in said if one]


def _mend(service: Service, settings: Settings) -> str:
    if service is Service.SERVER and not settings.has_server:
        return "`just up` starts it on its own machine; or mend PREFECT_API_URL in .env."
    if service not in services_of(settings):
        return "`just up` starts one on another machine; or set WORKERS=1 in .env to have one here."
    return (
        "`just up` starts again what has ended. If that does not help, "
        f"`just logs {service}` tells why: put that right, then stop `just up` and run it again."
    )


def _issue_matter(issue: Issue) -> Matter:
    mend = f"{issue.mend[0].upper()}{issue.mend[1:].removesuffix('.')}."
    return Matter(readable(issue.title), readable(issue.detail), readable(mend))


def _loop_matter(name: str, trouble: str) -> Matter:
    inbox = name.removeprefix("inbox ") if name.startswith("inbox ") else None
    called = f"Inbox {inbox}" if inbox else f"The sensor's loop \u201c{name}\u201d"
    href = inbox and f"#inbox-{inbox}"
    if trouble == STUCK:
        return Matter(
            f"{called} is stuck",
            "It has made no progress for a minute.",
            "`just logs sensor` tells what it did last. If it stays stuck, stop `just up` and run it again: "
            "no file is lost.",
            href,
        )
    mend = "Put that right; it tries again by itself. `just logs sensor` tells more."
    return Matter(f"{called} is in trouble", readable(trouble), mend, href)


# The services' watch: they are looked at while somebody looks at the page, in the background and not too often.

LOOK_SECONDS = 5.0
"""The pause between two looks: 2 ms of ours and two requests to the server each."""
STALE_SECONDS = 30.0
"""What was found longer ago than this tells nothing of now."""
STARTING_SECONDS = 30.0
"""What starts together with the sensor, and later than it, has this long before it needs anybody."""

logger = logging.getLogger(__name__)


class ServicesWatch:
    """Looks when it is asked, and answers at once with what it knows; nobody asks, and it does nothing.

    What is wrong lasts when two looks in a row have found it, and the sensor is not just starting.
    """

    def __init__(self, look: Callable[[], Services], clock: Clock) -> None:
        self._look = look
        self._clock = clock
        self._started_at = clock.monotonic()
        self._lock = threading.Lock()
        self._is_looking = False
        self._found: Services | None = None
        self._looked_at = -math.inf

    def latest(self) -> Services | None:
        """Return how the services were found a moment ago; None: they are being looked at for the first time."""
        now = self._clock.monotonic()
        with self._lock:
            if not self._is_looking and now - self._looked_at >= LOOK_SECONDS:
                self._is_looking = True
                threading.Thread(target=self._look_once, name="services", daemon=True).start()
            return self._known(now)

    def _known(self, now: float) -> Services | None:
        return self._found if now - self._looked_at < STALE_SECONDS else None

    def _look_once(self) -> None:
        found = None
        try:
            found = self._look()
        except Exception:  # the page says nothing of them then, and goes on
            logger.exception("the services cannot be looked at")
        now = self._clock.monotonic()
        with self._lock:
            self._found = found and replace(found, lasting=self._lasting(found, now))
            self._looked_at = now
            self._is_looking = False

    def _lasting(self, found: Services, now: float) -> frozenset[str]:
        before = self._known(now)
        if before is None or now - self._started_at < STARTING_SECONDS:
            return frozenset()
        return found.wrong & before.wrong
