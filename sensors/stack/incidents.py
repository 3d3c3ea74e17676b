"""Incidents: what supervisord reports about the services, told so that a person understands it.

supervisord's log is the only place where it says which signal a process died of; the lines are those of
supervisor 4.3 (supervisor/process.py: `finish`, `spawn`, `transition`).
"""

import re
from dataclasses import dataclass, field

from sensors.stack.services import Service

RESTART_LIMIT = 5
"""How often in a row a service that dies early is started again before it is given up."""

EARLY_SECONDS = 30
"""A service that lives longer than this has started well, and its restarts are counted anew."""

_SERVICES = "|".join(Service)
_DIED = re.compile(rf"exited: (?P<service>{_SERVICES}) \((?P<how>.+); (not )?expected\)")
_SPAWNED = re.compile(rf"spawned: '(?P<service>{_SERVICES})' with pid (?P<pid>\d+)")
_STARTED_WELL = re.compile(rf"success: (?P<service>{_SERVICES}) entered RUNNING state")
_GAVE_UP = re.compile(rf"gave up: (?P<service>{_SERVICES}) ")


@dataclass(frozen=True)
class Incident:
    """Something that happened to a service; `gave_up` when it will not be started again."""

    service: Service
    message: str
    gave_up: bool = False


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

    _pasts: dict[str, _Past] = field(default_factory=lambda: {service: _Past() for service in Service})

    def read(self, line: str) -> Incident | None:
        """Return the incident that a line completes, or None."""
        if match := _DIED.search(line):
            past = self._pasts[match["service"]]
            past.death = match["how"].replace("terminated by", "killed by")
            past.early_deaths = 0 if past.started_well else past.early_deaths + 1
            past.started_well = False
        elif match := _STARTED_WELL.search(line):
            past = self._pasts[match["service"]]
            past.started_well = True
        elif match := _SPAWNED.search(line):
            return self._restarted(Service(match["service"]))
        elif match := _GAVE_UP.search(line):
            return self._given_up(Service(match["service"]))
        return None

    def _restarted(self, service: Service) -> Incident | None:
        past = self._pasts[service]
        if not past.death:
            return None
        count = f", {past.early_deaths} of {RESTART_LIMIT}" if past.early_deaths else ""
        message = f"{service} stopped ({past.death}); restarted{count}"
        past.death = ""
        return Incident(service, message)

    def _given_up(self, service: Service) -> Incident:
        past = self._pasts[service]
        message = f"{service} stopped ({past.death or 'it could not be started'}) and is given up"
        return Incident(service, f"{message} after {RESTART_LIMIT} restarts", gave_up=True)
