"""In-memory state of the files in an inbox.

An open file has an observation (`Observation`); of a settled one only a hash is kept.

Each change makes a file due to be judged, and a file that waits for a time is due at that time. The cost of a look
therefore depends on the files that changed, not on how many are in the inbox.
"""

import heapq
import os
import stat
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import chain
from pathlib import Path

from sensors.config.admission import is_ignored_folder
from sensors.files import stability
from sensors.files.beneath import NOT_THERE, Identity, Place, open_folder, open_root
from sensors.files.stability import Observation


class Change(Enum):
    """Result of comparing a file with what was known of it."""

    NEW = auto()
    CHANGED = auto()  # after it had settled, so it may be a different file
    KNOWN = auto()


_NO_HASH = -1
"""`hash()` never returns -1 in CPython, so it can mark "no hash"."""


@dataclass
class PendingFiles:
    """The files of one inbox by name; the `open` ones have not settled."""

    open: dict[str, Observation] = field(default_factory=dict[str, Observation])
    unwanted: dict[str, str] = field(default_factory=dict[str, str])
    """The open files that the inbox does not take, and why; they are rejected once they have settled."""
    unrecorded: set[str] = field(default_factory=set[str])
    """The files that were never wanted, so the ledger does not have them."""
    _settled: dict[str, int] = field(default_factory=dict[str, int])
    """The 64-bit hash of each settled file's identity; the identity itself is compared when the file is taken."""
    _due: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    """A heap of times at which files are to be judged. It may hold a file twice, or one that is gone; both are
    harmless."""

    def __contains__(self, name: str) -> bool:
        return name in self.open or name in self._settled

    def has_settled(self, name: str) -> bool:
        """Return whether a file has settled and has not changed since."""
        return name in self._settled

    def names(self) -> Iterable[str]:
        """Return the names of all known files."""
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
    ) -> Change:
        """Record a file's current identity and return how it compares; `completed` and `renamed` as in `settle.sight`.

        A file that is `unwanted`, for the given reason, does not count as new until the inbox takes it, for example
        because it shrank.
        """
        look = self._see(name, identity, now, completed=completed, renamed=renamed)
        if not unwanted:
            self.unwanted.pop(name, None)
            if name in self.unrecorded:
                self.unrecorded.discard(name)
                return Change.NEW
            return look
        if look is Change.NEW:
            self.unrecorded.add(name)
        self.unwanted[name] = unwanted
        return Change.CHANGED if look is Change.CHANGED else Change.KNOWN

    def _see(self, name: str, identity: Identity, now: float, *, completed: bool, renamed: bool) -> Change:
        known = self.open.get(name)
        if known is not None:
            self._note(name, known, stability.observe(known, identity, now, completed=completed, renamed=renamed), now)
            return Change.KNOWN
        settled = self._settled.get(name)
        if settled == hash(identity):
            return Change.KNOWN
        self._settled.pop(name, None)
        self._note(name, None, stability.observe(None, identity, now, completed=completed, renamed=renamed), now)
        return Change.NEW if settled is None else Change.CHANGED

    def mark_done(self, names: Iterable[str], done: Mapping[str, int], now: float) -> None:
        """Record which of these files have a done-file; `done` has the times of the done-files in nanoseconds.

        A done-file that is older than its file does not count.
        """
        for name in names:
            if (sighting := self.open.get(name)) is not None:
                is_done = done.get(name, -1) >= sighting.identity.mtime_ns
                self._note(name, sighting, stability.mark_done(sighting, now, done=is_done), now)

    def _note(self, name: str, before: Observation | None, sighting: Observation, now: float) -> None:
        if sighting is not before:
            self.open[name] = sighting
            self.judge_at(name, now)

    # -- files due to be judged

    def judge_at(self, name: str, at: float) -> None:
        """Schedule a file to be judged at a time."""
        heapq.heappush(self._due, (at, name))

    def take_due(self, now: float) -> list[str]:
        """Return the open files that are due, each once, in the order of their times."""
        found: dict[str, None] = {}
        while self._due and self._due[0][0] <= now:
            name = heapq.heappop(self._due)[1]
            if name in self.open:
                found[name] = None
        return list(found)

    @property
    def next_due(self) -> float:
        """When the next file is due."""
        return self._due[0][0] if self._due else float("inf")

    # -- changes of state

    def settle(self, names: Iterable[str]) -> None:
        """Mark files as settled."""
        for name in names:
            self._settled[name] = hash(self.open.pop(name).identity)

    def reopen(self, names: Iterable[str]) -> None:
        """Make files settle again, whatever their identity is when they are next seen."""
        for name in names:
            self.open.pop(name, None)
            self._settled[name] = _NO_HASH

    def gone(self, seen: Container[str]) -> list[str]:
        """Return the known names that are not in `seen`."""
        return [name for name in self.names() if name not in seen]

    def forget(self, names: Iterable[str]) -> None:
        """Forget files that are not in the inbox any more, or are not ours."""
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


# List the files in an inbox. Hints say when to look; only a scan says what is there.

Cover = Callable[[str, os.stat_result], None]
"""Called with each folder (its path below the inbox, `""` for the inbox itself) before it is listed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One directory entry: its path below the inbox, and its own stat (symlinks are not followed)."""

    name: str
    status: os.stat_result


LONGEST_FOLDER = 3000
"""Bytes of a folder's path below the inbox; Linux takes paths of 4,096 bytes. Deeper folders are not listed."""


def scan(inbox: Path, cover: Cover, *, subfolders: bool = False) -> Iterator[Entry]:
    """Yield the entries of an inbox, one stat each; entries that vanish meanwhile are left out.

    No symlink below the inbox is followed, and system folders such as `lost+found` and hidden ones are skipped. If a
    subfolder cannot be read, OSError is raised after everything else has been yielded; if the inbox itself cannot be
    read, it is raised immediately. Two descriptors are open at a time, however deep the folders are.
    """
    troubles: list[OSError] = []
    root = open_root(inbox)
    try:
        pending = [""]
        while pending:
            folder = pending.pop()
            try:
                descriptor = open_folder(root, folder)
            except OSError as error:
                if error.errno not in NOT_THERE:
                    troubles.append(OSError(error.errno, error.strerror, folder))
                continue
            below: list[str] = []
            yield from _folder(descriptor, folder, cover, below if subfolders else None)
            pending += reversed(below)
    finally:
        os.close(root)
    if troubles:
        raise troubles[0]


def look(inbox: Path, names: Iterable[str]) -> Iterator[Entry]:
    """Yield the entries of these names, paths below the inbox: one stat a name, however many other files there are.

    No symlink is followed, as in a scan. Raises OSError if the inbox or a folder in it cannot be read.
    """
    by_folder: dict[str, list[str]] = {"": []}
    for name in names:
        by_folder.setdefault(name.rpartition("/")[0], []).append(name)
    root = open_root(inbox)
    try:
        for folder, its in by_folder.items():
            try:
                descriptor = open_folder(root, folder)
            except OSError as error:
                if error.errno in NOT_THERE:
                    continue  # the folder is gone or was replaced
                raise
            try:
                for name in its:
                    with suppress(FileNotFoundError):
                        yield Entry(name, Place(descriptor, name.rpartition("/")[2]).status())
            finally:
                os.close(descriptor)
    finally:
        os.close(root)


def _folder(descriptor: int, folder: str, cover: Cover, below: list[str] | None) -> Iterator[Entry]:
    """Yield the entries of an open folder, then close it; with `below`, its subfolders are added there instead."""
    prefix = f"{folder}/" if folder else ""
    try:
        cover(folder, os.fstat(descriptor))
        with os.scandir(descriptor) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                path = prefix + entry.name
                if below is None or not stat.S_ISDIR(status.st_mode) or len(os.fsencode(path)) > LONGEST_FOLDER:
                    yield Entry(path, status)
                elif not is_ignored_folder(entry.name):
                    below.append(path)
    finally:
        os.close(descriptor)
