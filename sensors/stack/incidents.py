"""Incidents: what supervisord reports about the programs, told so that a person understands it.

supervisord's log is the only place where it says which signal a process died of; the lines are those of
supervisor 4.3 (supervisor/process.py: `finish`, `spawn`, `transition`).
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field

from sensors.stack.services import Service, program_name

RESTART_LIMIT = 5
"""How often in a row a service that dies early is started again before it is given up."""

EARLY_SECONDS = 30
"""A service that lives longer than this has started well, and its restarts are counted anew."""

_SERVICES = "|".join(Service)
_NAME = rf"(?P<name>(?P<service>{_SERVICES})(-(?P<number>\d+))?)"
_DIED = re.compile(rf"exited: {_NAME} \((?P<how>.+); (not )?expected\)")
_SPAWNED = re.compile(rf"spawned: '{_NAME}' with pid (?P<pid>\d+)")
_STARTED_WELL = re.compile(rf"success: {_NAME} entered RUNNING state")
_GAVE_UP = re.compile(rf"gave up: {_NAME} ")


@dataclass(frozen=True)
class Incident:
    """Something that happened to a service; `gave_up` when it will not be started again."""

    service: Service
    message: str
    gave_up: bool = False
    number: int | None = None
    """Which of the service's processes it happened to, where there may be several."""

    @property
    def program(self) -> str:
        """The name of the program that it happened to."""
        return program_name(self.service, self.number)


@dataclass
class _Past:
    death: str = ""
    early_deaths: int = 0
    started_well: bool = False


@dataclass
class Incidents:
    """Turns supervisord's lines into incidents; remembers how often each service has died early.

    >>> incidents = Incidents()
    >>> incidents.read("WARN exited: sensor (terminated by SIGKILL; not expected)")
    >>> incidents.read("INFO spawned: 'sensor' with pid 4711").message
    'sensor stopped (killed by SIGKILL); restarted, 1 of 5'
    """

    _pasts: defaultdict[str, _Past] = field(default_factory=lambda: defaultdict[str, _Past](_Past))

    def read(self, line: str) -> Incident | None:
        """Return the incident that a line completes, or None."""
        if match := _DIED.search(line):
            past = self._pasts[match["name"]]
            past.death = match["how"].replace("terminated by", "killed by")
            past.early_deaths = 0 if past.started_well else past.early_deaths + 1
            past.started_well = False
        elif match := _STARTED_WELL.search(line):
            past = self._pasts[match["name"]]
            past.started_well = True
        elif match := _SPAWNED.search(line):
            return self._restarted(match["name"], _which(match))
        elif match := _GAVE_UP.search(line):
            return self._given_up(match["name"], _which(match))
        return None

    def _restarted(self, name: str, which: tuple[Service, int | None]) -> Incident | None:
        past = self._pasts[name]
        if not past.death:
            return None
        count = f", {past.early_deaths} of {RESTART_LIMIT}" if past.early_deaths else ""
        message = f"{name} stopped ({past.death}); restarted{count}"
        past.death = ""
        service, number = which
        return Incident(service, message, number=number)

    def _given_up(self, name: str, which: tuple[Service, int | None]) -> Incident:
        past = self._pasts[name]
        message = f"{name} stopped ({past.death or 'it could not be started'}) and is given up"
        service, number = which
        return Incident(service, f"{message} after {RESTART_LIMIT} restarts", gave_up=True, number=number)


def _which(match: re.Match[str]) -> tuple[Service, int | None]:
    return Service(match["service"]), int(match["number"]) if match["number"] else None
