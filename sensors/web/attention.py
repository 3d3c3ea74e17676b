"""The page's list of everything that needs attention, each entry with its remedy, most urgent first."""

import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sensors.alerts.issues import Issue
from sensors.config.settings import Settings
from sensors.ledger.files import BlockedFile
from sensors.reports.arrivals import run_url
from sensors.reports.files import Alerts, NeedsAttention, StalledArrival
from sensors.runs.api import ApiError, NotReachedError
from sensors.runs.issues import RunIssue
from sensors.runtime.clock import Clock
from sensors.runtime.loop import Loop
from sensors.runtime.text import counted, readable
from sensors.stack.health import NOT_RUNNING, Health, check
from sensors.stack.services import OPTIONAL, Service, services_of
from sensors.web.metrics import STUCK, no_issues, troubles
from sensors.web.models import FileView

SHOWN_FILES = 4


@dataclass(frozen=True)
class AttentionItem:
    """A problem that needs attention, in words."""

    title: str
    detail: str
    mend: str
    href: str | None = None
    dismiss: str | None = None
    """The address to which the form that dismisses the problem is sent."""


@dataclass(frozen=True)
class Attention:
    """Everything that needs attention."""

    matters: tuple[AttentionItem, ...] = ()
    files: tuple[FileView, ...] = ()
    """The latest files that were not loaded and not dismissed."""
    file_count: int = 0
    """The total number of such files."""

    @property
    def count(self) -> int:
        """The total number of problems and files."""
        return len(self.matters) + self.file_count

    @property
    def more_files(self) -> int:
        """The number of files beyond those in `files`."""
        return self.file_count - len(self.files)


def attention_of(
    trouble: NeedsAttention,
    alerts: Alerts,
    files: tuple[FileView, ...],
    file_count: int,
    services: tuple[AttentionItem, ...] = (),
    runs: tuple[AttentionItem, ...] = (),
) -> Attention:
    """Combine all problems into one list; pure."""
    return Attention(
        (
            *services,
            *(_alert(line) for line in alerts.needs_a_person),
            *runs,
            *(_overdue(inbox, since) for inbox, since in trouble.overdue.items()),
            *(_stalled(arrival) for arrival in trouble.arrivals),
            *(_blocked(file) for file in trouble.blocked),
            *(_more_blocked(inbox, count) for inbox, count in trouble.more_blocked.items()),
        ),
        files,
        file_count,
    )


def run_matter(issue: RunIssue, prefect_page: str) -> AttentionItem:
    """Return the entry for a run that needs attention."""
    more = f", and {issue.more:,} more" if issue.more else ""
    title = f"{issue.title[0].upper()}{issue.title[1:]}{more}"
    mend = issue.mend.partition(", or `just dismiss")[0]  # the page has a button for that
    href = None if issue.run_id is None else run_url(prefect_page, issue.run_id)
    dismiss = f"/runs/{issue.key}/dismiss" if issue.is_dismissable else None
    return AttentionItem(readable(title), readable(issue.reason), mend, href, dismiss)


def _alert(line: str) -> AttentionItem:
    said, _, mend = line.partition("; ")
    title = "Alerts are perhaps delivered" if "are perhaps delivered" in said else "Alerts do not get through"
    return AttentionItem(title, readable(said), mend or "They are sent again until they get through.")


def _overdue(inbox: str, since: str) -> AttentionItem:
    return AttentionItem(
        f"Files for {inbox} are overdue",
        f"They were expected by {since}.",
        "Drop them below, or ask their sender.",
        f"#inbox-{inbox}",
    )


def _blocked(file: BlockedFile) -> AttentionItem:
    why, _, mend = file.reason.partition("; ")
    return AttentionItem(
        f"{readable(file.name)} cannot be taken from {file.inbox}",
        readable(why),
        mend or "It is tried again by itself.",
        f"#inbox-{file.inbox}",
    )


def _more_blocked(inbox: str, count: int) -> AttentionItem:
    return AttentionItem(
        f"{counted(count, 'more file')} cannot be taken from {inbox}",
        "They may not be moved.",
        "They are taken by themselves when that is mended.",
        f"#inbox-{inbox}",
    )


def _stalled(arrival: StalledArrival) -> AttentionItem:
    return AttentionItem(
        f"Arrival {arrival.id} has no run",
        f"It was announced {arrival.attempt} times: {readable(arrival.reason)}",
        "`just status` shows whether server and worker are well; it is announced again by itself.",
        f"/arrivals/{arrival.id}",
    )


# Health of the stack's services for the drop page: one word for each, and the problems that need attention.
#
# Checks run in the background while the page is open, at most one every LOOK_SECONDS, so no request waits for them.

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
"""How the text of a loop's trouble begins if Prefect's API caused it."""


@dataclass(frozen=True)
class ServiceState:
    """The state of a service in one word; `tone` is the page's CSS class for it."""

    name: str
    tone: str
    word: str


@dataclass(frozen=True)
class Services:
    """The result of one check of all services."""

    healths: dict[Service, Health] = field(default_factory=dict[Service, Health])
    """The health of each service; while no API responds, the worker is missing, as only the API knows of workers."""
    loops: dict[str, str] = field(default_factory=dict[str, str])
    """Troubles of the sensor's loops, by the names of the loops."""
    issues: dict[str, Issue] = field(default_factory=dict[str, Issue])
    """Other present or impending problems of the sensor, by keys that stay the same."""
    lasting: frozenset[str] = frozenset()
    """The problems that the previous check found as well; a service that restarts by itself needs no attention."""
    run_issues: tuple[RunIssue, ...] = ()
    """The runs that need attention; they are here so that an open page shows changes."""

    @property
    def wrong(self) -> frozenset[str]:
        """The unhealthy services, the loops in trouble and the keys of the issues."""
        services = {one for one, health in self.healths.items() if not health.healthy}
        return frozenset(services) | frozenset(self.loops) | frozenset(self.issues)

    @property
    def are_well(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    def signs(self) -> tuple[ServiceState, ...]:
        """Return the sign of each service, in the order in which they start."""
        sensor = Health(healthy=not self.loops and all(issue.is_warning for issue in self.issues.values()))
        known = {Service.WORKER: None, **self.healths, Service.SENSOR: sensor}
        return tuple(_sign(service, known[service]) for service in Service if service in known)

    def matters(self, settings: Settings) -> tuple[AttentionItem, ...]:
        """Return the lasting problems, which need attention."""
        return (
            *(
                _service_matter(service, health, settings)
                for service, health in self.healths.items()
                if service in self.lasting and not health.healthy
            ),
            *(_issue_matter(issue) for key, issue in self.issues.items() if key in self.lasting),
            *(_loop_matter(name, trouble) for name, trouble in self.loops.items() if name in self.lasting),
        )


def check_services(
    settings: Settings,
    loops: Sequence[Loop],
    run_issues: Callable[[], tuple[RunIssue, ...]] = tuple,
    issues: Callable[[], Mapping[str, Issue]] = no_issues,
) -> Services:
    """Check all services once; each that does not respond may take some seconds."""
    here = [one for one in services_of(settings) if one not in {Service.SERVER, Service.WORKER, Service.SENSOR}]
    healths = {service: check(settings, service) for service in (Service.SERVER, *here)}
    answers = healths.get(Service.BALANCER, healths[Service.SERVER]).healthy
    if answers:
        healths[Service.WORKER] = check(settings, Service.WORKER)
    return Services(healths, _own_troubles(troubles(loops), answers=answers), dict(issues()), run_issues=run_issues())


def _own_troubles(found: dict[str, str], *, answers: bool) -> dict[str, str]:
    """Leave out the loops' complaints about an API that does not respond: the services' health shows it already."""
    return {name: text for name, text in found.items() if answers or not text.startswith(_OF_THE_API)}


def _sign(service: Service, health: Health | None) -> ServiceState:
    if health is None:
        return ServiceState(service, "wait", "not known")
    if health.healthy:
        return ServiceState(service, "good", "well")
    return ServiceState(service, "wait" if service in OPTIONAL else "bad", _word(health))


def _word(health: Health) -> str:
    return NOT_RUNNING if health.detail == NOT_RUNNING else "in trouble"


def _service_matter(service: Service, health: Health, settings: Settings) -> AttentionItem:
    return AttentionItem(
        f"{_CALLED[service]} {_word(health)}",
        " ".join(_sentences([_found(service, health, settings), _WITHOUT[service]])),
        _mend(service, settings),
    )


def _found(service: Service, health: Health, settings: Settings) -> str:
    if health.detail != NOT_RUNNING:
        return readable(health.detail)
    is_api = service in {Service.SERVER, Service.BALANCER}
    return f"nothing listens at {settings.api_url}" if is_api else ""


def _sentences(said: Iterable[str]) -> list[str]:
    return [f"{one[0].upper()}{one[1:].removesuffix('.')}." for one in said if one]


def _mend(service: Service, settings: Settings) -> str:
    if service is Service.SERVER and not settings.has_server:
        return "`just up` starts it on its own machine; or mend PREFECT_API_URL in .env."
    if service not in services_of(settings):
        return "`just up` starts one on another machine; or set WORKERS=1 in .env to have one here."
    return (
        "`just up` starts again what has ended. If that does not help, "
        f"`just logs {service}` shows why: put that right, then stop `just up` and run it again."
    )


def _issue_matter(issue: Issue) -> AttentionItem:
    mend = f"{issue.mend[0].upper()}{issue.mend[1:].removesuffix('.')}."
    return AttentionItem(readable(issue.title), readable(issue.detail), readable(mend))


def _loop_matter(name: str, trouble: str) -> AttentionItem:
    inbox = name.removeprefix("inbox ") if name.startswith("inbox ") else None
    called = f"Inbox {inbox}" if inbox else f"The sensor's loop \u201c{name}\u201d"
    href = inbox and f"#inbox-{inbox}"
    if trouble == STUCK:
        return AttentionItem(
            f"{called} is stuck",
            "It has made no progress for a minute.",
            "`just logs sensor` shows what it did last. If it stays stuck, stop `just up` and run it again: "
            "no file is lost.",
            href,
        )
    mend = "Put that right; it tries again by itself. `just logs sensor` shows more."
    return AttentionItem(f"{called} is in trouble", readable(trouble), mend, href)


LOOK_SECONDS = 5.0
"""The pause between two checks; each takes 2 ms of CPU and two requests to the server."""
STALE_SECONDS = 30.0
"""Results older than this are not used."""
STARTING_SECONDS = 30.0
"""How long after the sensor's start no problem counts as lasting: other services start later than the sensor."""

logger = logging.getLogger(__name__)


class ServicesWatch:
    """Checks the services in the background when a caller asks, and immediately returns the latest result.

    A problem is lasting if two checks in a row found it and the sensor has been running for STARTING_SECONDS.
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
        """Return the latest result, None if it is older than STALE_SECONDS or missing; start a check if one is due."""
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
        except Exception:  # the page then shows no services
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
