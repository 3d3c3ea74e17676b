"""What is remembered of the files that lie in an inbox: little of a file that has settled, a sighting of the others.

Each change of what is known makes a file due to be judged; one that waits for a time is due then. So the cost of a
look is that of the files that changed, however many lie there.
"""

import heapq
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import chain

from sensors.files import stability as settle
from sensors.files.identity import Identity
from sensors.files.stability import Sighting


class Look(Enum):
    """What a look makes of a file."""

    NEW = auto()
    CHANGED = auto()  # after it had settled, so that it may be another file as well
    KNOWN = auto()


_NO_HASH = -1
"""Python gives it to nothing."""


@dataclass
class LyingFiles:
    """The files of one inbox by their names; those that are `open` have not settled."""

    open: dict[str, Sighting] = field(default_factory=dict[str, Sighting])
    unwanted: dict[str, str] = field(default_factory=dict[str, str])
    """Those of the open ones that the inbox does not take, and why; they are rejected when they have settled."""
    unrecorded: set[str] = field(default_factory=set[str])
    """Those that were never wanted, so that the ledger does not know them."""
    _settled: dict[str, int] = field(default_factory=dict[str, int])
    """The hash of the identity with which each settled, 64 bits; whoever takes it compares the identity itself."""
    _due: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    """A heap: when which file is to be judged. One that is in it twice, or gone, is judged in vain."""

    def __contains__(self, name: str) -> bool:
        return name in self.open or name in self._settled

    def __len__(self) -> int:
        return len(self.open) + len(self._settled)

    def has_settled(self, name: str) -> bool:
        """Tell whether a file has settled and has not changed since."""
        return name in self._settled

    def names(self) -> Iterable[str]:
        """Return the names of all files that are remembered."""
        return chain(self.open, self._settled)

    def see(
        self,
        name: str,
        identity: Identity,
        now: float,
        *,
        completed: bool = False,
        renamed: bool = False,
        unwanted: str = "",
    ) -> Look:
        """Take note of how a file looks now; `completed` and `renamed` as in `settle.sight`.

        A file that is `unwanted`, for a reason, is no new one; if it is wanted after all, as it got smaller, it is.
        """
        look = self._see(name, identity, now, completed=completed, renamed=renamed)
        if not unwanted:
            self.unwanted.pop(name, None)
            if name in self.unrecorded:
                self.unrecorded.discard(name)
                return Look.NEW
            return look
        if look is Look.NEW:
            self.unrecorded.add(name)
        self.unwanted[name] = unwanted
        return Look.CHANGED if look is Look.CHANGED else Look.KNOWN

    def _see(self, name: str, identity: Identity, now: float, *, completed: bool, renamed: bool) -> Look:
        known = self.open.get(name)
        if known is not None:
            self._note(name, known, settle.sight(known, identity, now, completed=completed, renamed=renamed), now)
            return Look.KNOWN
        settled = self._settled.get(name)
        if settled == hash(identity):
            return Look.KNOWN
        self._settled.pop(name, None)
        self._note(name, None, settle.sight(None, identity, now, completed=completed, renamed=renamed), now)
        return Look.NEW if settled is None else Look.CHANGED

    def mark_done(self, names: Iterable[str], done: Mapping[str, int], now: float) -> None:
        """Take note of which of these files have a done-file, and of its time in nanoseconds."""
        for name in names:
            if (sighting := self.open.get(name)) is not None:
                is_done = done.get(name, -1) >= sighting.identity.mtime_ns
                self._note(name, sighting, settle.mark_done(sighting, now, done=is_done), now)

    def _note(self, name: str, before: Sighting | None, sighting: Sighting, now: float) -> None:
        if sighting is not before:
            self.open[name] = sighting
            self.judge_at(name, now)

    # -- who is to be judged

    def judge_at(self, name: str, at: float) -> None:
        """Have a file judged at a time."""
        heapq.heappush(self._due, (at, name))

    def take_due(self, now: float) -> list[str]:
        """Return the open files that are to be judged, each once, in the order of their times."""
        found: dict[str, None] = {}
        while self._due and self._due[0][0] <= now:
            name = heapq.heappop(self._due)[1]
            if name in self.open:
                found[name] = None
        return list(found)

    @property
    def next_due(self) -> float:
        """When the next file is to be judged."""
        return self._due[0][0] if self._due else float("inf")

    # -- what becomes of them

    def settle(self, names: Iterable[str]) -> None:
        """Take note that files have settled."""
        for name in names:
            self._settled[name] = hash(self.open.pop(name).identity)

    def reopen(self, names: Iterable[str]) -> None:
        """Take note that files have to settle again, however they look when they are seen next."""
        for name in names:
            self.open.pop(name, None)
            self._settled[name] = _NO_HASH

    def gone(self, seen: Container[str]) -> list[str]:
        """Return the names that are not among those that were seen."""
        return [name for name in self.names() if name not in seen]

    def forget(self, names: Iterable[str]) -> None:
        """Forget files that do not lie there any more, or that are not ours."""
        for name in names:
            self.open.pop(name, None)
            self._settled.pop(name, None)
            self.unwanted.pop(name, None)
            self.unrecorded.discard(name)

    def clear(self) -> None:
        """Forget everything."""
        self.open.clear()
        self._settled.clear()
        self.unwanted.clear()
        self.unrecorded.clear()
        self._due.clear()
