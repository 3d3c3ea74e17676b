"""What is remembered of the files that lie in an inbox: one entry a file, kept up to date by each scan."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from sensors.identity import Identity
from sensors.settling import settle
from sensors.settling.settle import Sighting


class Look(Enum):
    """What a scan makes of a file."""

    NEW = auto()
    CHANGED = auto()  # after it had settled, so that it may be another file as well
    KNOWN = auto()


@dataclass(slots=True)
class _Lying:
    sighting: Sighting
    scan: int
    """The number of the scan that saw it last."""


@dataclass
class LyingFiles:
    """The files of one inbox by their names; those that are `open` have not settled."""

    open: set[str] = field(default_factory=set[str])
    _files: dict[str, _Lying] = field(default_factory=dict[str, _Lying])
    _scan: int = 0

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> Sighting:
        return self._files[name].sighting

    def names(self) -> Iterable[str]:
        """Return the names of all files that are remembered."""
        return self._files.keys()

    def begin_scan(self) -> None:
        """Begin to count who is seen."""
        self._scan += 1

    def see(self, name: str, identity: Identity, now: float, *, completed: bool) -> Look:
        """Take note of how a file looks in this scan; `completed` as in `settle.sight`."""
        known = self._files.get(name)
        if known is None:
            self._files[name] = _Lying(settle.sight(None, identity, now, completed=completed), self._scan)
            self.open.add(name)
            return Look.NEW
        known.scan = self._scan
        if name in self.open:
            known.sighting = settle.sight(known.sighting, identity, now, completed=completed)
        elif known.sighting.identity != identity:
            known.sighting = settle.sight(None, identity, now, completed=completed)
            self.open.add(name)
            return Look.CHANGED
        return Look.KNOWN

    def see_changed(self, name: str, identity: Identity, now: float) -> None:
        """Take note that a file has just been found changed."""
        lying = self._files[name]
        lying.sighting = settle.sight(lying.sighting, identity, now, completed=False)

    def mark_done(self, done: Mapping[str, int], now: float) -> None:
        """Take note of the done-files in this scan: the time of each, in nanoseconds, by the name it is about."""
        for name in self.open:
            lying = self._files[name]
            is_done = done.get(name, -1) >= lying.sighting.identity.mtime_ns
            lying.sighting = settle.mark_done(lying.sighting, now, done=is_done)

    def gone(self) -> list[str]:
        """Return the names that this scan has not seen."""
        return [name for name, lying in self._files.items() if lying.scan != self._scan]

    def forget(self, names: Iterable[str]) -> None:
        """Forget files that do not lie there any more, or that are not ours."""
        for name in names:
            self._files.pop(name, None)
            self.open.discard(name)

    def reopen(self, names: Iterable[str], now: float) -> None:
        """Have settled files settle again."""
        for name in names:
            if lying := self._files.get(name):
                lying.sighting = settle.sight(None, lying.sighting.identity, now, completed=False)
                self.open.add(name)

    def clear(self) -> None:
        """Forget everything."""
        self._files.clear()
        self.open.clear()
