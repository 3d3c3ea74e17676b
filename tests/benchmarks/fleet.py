"""A fleet in simulation: many inboxes and sensors, and what the parts between them would need.

`just simulate` runs it. Three kinds of queues, as in the real thing: an inbox gathers what comes while `max_in_flight`
of its arrivals are unfinished; the service processes make a run of each arrival, one at a time; the workers' cores run
them. The seconds that each step takes are those that were measured, see `Costs`; that they stay the same when there is
more of everything is assumed, and so is that neither PostgreSQL nor the network is the limit.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

MAX_FILES = 4000


@dataclass(frozen=True)
class Costs:
    """What was measured, in seconds of one core."""

    services: float
    """Making a run of an arrival, in the service process."""
    api: float
    """What the API servers have to do for it, and for the run until its end."""
    run: float
    """A run, whatever is in it."""
    file: float
    """Each of its files more."""
    database_bytes: float
    """What a run leaves in Prefect's database."""
    postgres: float = 0.0
    redis: float = 0.0
    """What both have to do for it, until its end."""


@dataclass(frozen=True)
class Fleet:
    """What there is of everything."""

    inboxes: int
    files_per_second: float
    service_processes: int
    worker_cores: int
    max_in_flight: int = 4


@dataclass(frozen=True)
class Report:
    """What a fleet did in a time."""

    files: int
    """How many were loaded."""
    arrivals: int
    """How many became runs."""
    seconds: float
    latencies: tuple[float, ...] = field(repr=False)
    """From drop to load, in order of size, of the files that were loaded."""
    services_busy: float
    """How much of their time the service processes were at work."""
    workers_busy: float

    def latency(self, share: float) -> float:
        """Return what so large a share of the files did not exceed."""
        return self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]

    @property
    def arrivals_per_second(self) -> float:
        return self.arrivals / self.seconds


class _Kind(IntEnum):
    DROP = 0
    MADE = 1
    LOADED = 2


@dataclass
class _Inbox:
    waiting: deque[float] = field(default_factory=deque[float])
    in_flight: int = 0


@dataclass
class _Arrival:
    inbox: _Inbox
    dropped: list[float]


@dataclass
class _Station:
    """Servers that work on one arrival at a time each, first come, first served."""

    free: int
    queue: deque[_Arrival] = field(default_factory=deque["_Arrival"])
    busy_seconds: float = 0.0


def weights(inboxes: int) -> list[float]:
    """Return how much comes into each inbox: few get most, the n-th a n-th of the first."""
    shares = [1 / (n + 1) for n in range(inboxes)]
    return [share / sum(shares) for share in shares]


def simulate(fleet: Fleet, costs: Costs, seconds: float, seed: int = 6) -> Report:
    """Run a fleet for so many seconds of its own time."""
    return _Simulation(fleet, costs, seconds, seed).run()


class _Simulation:
    def __init__(self, fleet: Fleet, costs: Costs, seconds: float, seed: int) -> None:
        self._fleet, self._costs, self._seconds = fleet, costs, seconds
        self._chance = random.Random(seed)
        self._inboxes = [_Inbox() for _ in range(fleet.inboxes)]
        self._services, self._workers = _Station(fleet.service_processes), _Station(fleet.worker_cores)
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, _Kind, object]] = []
        self._latencies: list[float] = []
        self._arrivals = 0

    def run(self) -> Report:
        drops = self._drops()
        self._plan_drop(drops)
        while self._agenda:
            now, _, kind, what = heapq.heappop(self._agenda)
            if now > self._seconds:
                break
            if kind is _Kind.DROP:
                self._take(what, now)  # pyright: ignore[reportArgumentType]
                self._plan_drop(drops)
            elif kind is _Kind.MADE:
                self._arrivals += 1
                self._leave(self._services, now, kind)
                self._enter(self._workers, what, now, _Kind.LOADED)  # pyright: ignore[reportArgumentType]
            else:
                self._leave(self._workers, now, kind)
                self._loaded(what, now)  # pyright: ignore[reportArgumentType]
        time = self._seconds
        return Report(
            files=len(self._latencies),
            arrivals=self._arrivals,
            seconds=time,
            latencies=tuple(sorted(self._latencies)),
            services_busy=self._services.busy_seconds / time / self._fleet.service_processes,
            workers_busy=self._workers.busy_seconds / time / self._fleet.worker_cores,
        )

    def _drops(self) -> Iterator[tuple[float, _Inbox]]:
        at, shares = 0.0, weights(self._fleet.inboxes)
        while True:
            for inbox in self._chance.choices(self._inboxes, shares, k=1000):
                at += self._chance.expovariate(self._fleet.files_per_second)
                yield at, inbox

    def _plan_drop(self, drops: Iterator[tuple[float, _Inbox]]) -> None:
        at, inbox = next(drops)
        self._plan(at, _Kind.DROP, (at, inbox))

    def _plan(self, at: float, kind: _Kind, what: object) -> None:
        heapq.heappush(self._agenda, (at, next(self._order), kind, what))

    def _take(self, drop: tuple[float, _Inbox], now: float) -> None:
        at, inbox = drop
        inbox.waiting.append(at)
        self._announce(inbox, now)

    def _announce(self, inbox: _Inbox, now: float) -> None:
        if not inbox.waiting or inbox.in_flight >= self._fleet.max_in_flight:
            return
        files = [inbox.waiting.popleft() for _ in range(min(MAX_FILES, len(inbox.waiting)))]
        inbox.in_flight += 1
        self._enter(self._services, _Arrival(inbox, files), now, _Kind.MADE)

    def _enter(self, station: _Station, arrival: _Arrival, now: float, kind: _Kind) -> None:
        station.queue.append(arrival)
        self._serve(station, now, kind)

    def _leave(self, station: _Station, now: float, kind: _Kind) -> None:
        station.free += 1
        self._serve(station, now, kind)

    def _serve(self, station: _Station, now: float, kind: _Kind) -> None:
        while station.free and station.queue:
            arrival = station.queue.popleft()
            takes = self._takes(arrival, kind)
            station.free -= 1
            station.busy_seconds += min(takes, max(0.0, self._seconds - now))
            self._plan(now + takes, kind, arrival)

    def _takes(self, arrival: _Arrival, kind: _Kind) -> float:
        if kind is _Kind.MADE:
            return self._costs.services
        return self._costs.run + self._costs.file * len(arrival.dropped)

    def _loaded(self, arrival: _Arrival, now: float) -> None:
        self._latencies += [now - at for at in arrival.dropped]
        arrival.inbox.in_flight -= 1
        self._announce(arrival.inbox, now)
