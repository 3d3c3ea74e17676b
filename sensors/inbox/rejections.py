"""Rejected files of an inbox: they stay where they are, appear in `failed/`, and are reported."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sensors.arrivals.failed_links import FailedFolder
from sensors.config.inboxes import Inbox
from sensors.files.beneath import Identity
from sensors.ledger import Ledger, files, notices
from sensors.ledger.files import RejectedInPlace
from sensors.ledger.notices import Notice, first_lines
from sensors.runtime.clock import Clock
from sensors.runtime.crash_points import kill_point
from sensors.runtime.json_logging import about_inbox
from sensors.runtime.text import counted, local_minute, readable

logger = logging.getLogger(__name__)

EVENT = "inbox.files.rejected"


@dataclass
class Rejections:
    """The rejected files of one inbox; each file is rejected once, however often it is seen."""

    inbox: Inbox
    ledger: Ledger
    failed: FailedFolder
    clock: Clock
    _known: dict[str, list[Identity]] = field(init=False)
    """Identities of the rejected files, by readable name, which two files may share."""
    _seen: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]], init=False)
    """The rejected files that the current scan has found, by name and inode."""
    _new: list[RejectedInPlace] = field(default_factory=list[RejectedInPlace], init=False)
    _gone: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]], init=False)
    """The rejections to be withdrawn, by name and inode."""
    _is_shown: bool = field(default=False, init=False)
    """Whether `failed/` shows all of them: not after a start, which may follow a crash."""

    def __post_init__(self) -> None:
        self._folder = self.inbox.at("")
        prefix = readable(self._folder)
        self._known = {}
        for path, identity in files.rejected_in_place(self.ledger, self.inbox.name):
            if path.startswith(prefix):
                self._known.setdefault(path.removeprefix(prefix), []).append(identity)

    def covers(self, name: str, identity: Identity) -> bool:
        """Return whether exactly this file has been rejected, so that it is skipped until it changes."""
        if not self._known:
            return False
        shown = readable(name)
        known = self._known.get(shown, ())
        if any(one.inode == identity.inode for one in known):
            self._seen.add((shown, identity.inode))
        return identity in known

    def note(self, name: str, identity: Identity, reason: str) -> None:
        """Note a rejected file for the next `write`, unless it is already known."""
        shown = readable(name)
        known = self._known.get(shown, [])
        for number, one in enumerate(known):
            if (one.device, one.inode) == (identity.device, identity.inode):
                known[number] = identity  # it has grown since
                return
        self._new.append(RejectedInPlace(readable(self._folder + name), shown, identity, reason))

    def begin_scan(self) -> None:
        """Start a scan, which has to find every rejected file that is still there."""
        self._seen.clear()

    def end_scan(self) -> None:
        """Withdraw the rejection of files not found: removed, replaced or renamed, and perhaps taken since."""
        for shown, known in list(self._known.items()):
            self._withdraw(shown, [one for one in known if (shown, one.inode) not in self._seen])

    def withdraw(self, names: Iterable[str]) -> None:
        """Withdraw the rejection of files that were replaced by files the inbox takes."""
        for shown in map(readable, names) if self._known else ():
            self._withdraw(shown, self._known.get(shown, []))

    def _withdraw(self, shown: str, gone: Sequence[Identity]) -> None:
        if not gone:
            return
        self._gone += [(shown, one.inode) for one in gone]
        left = [one for one in self._known.pop(shown) if one not in gone]
        if left:
            self._known[shown] = left

    def write(self) -> None:
        """Record new and withdrawn rejections in the ledger, with a notice, and update `failed/`.

        Raises sqlite3.Error, OSError; the next call continues.
        """
        if self._gone:
            prefix = readable(self._folder)
            gone = [(name, prefix + name, inode) for name, inode in self._gone]
            count = files.record_rejections_withdrawn(self.ledger, gone, self.clock.utc())
            self._gone, self._is_shown = [], False
            kill_point("rejection-withdrawn")
            logger.info(
                "inbox %s: %d rejected files are not there any more",
                self.inbox.name,
                count,
                extra=about_inbox(self.inbox.name),
            )
        if self._new:
            refused, self._new = self._new, []
            notice = _notice(self.inbox, refused)
            files.record_rejected_in_place(self.ledger, self.inbox.name, refused, notice, self.clock.utc())
            were_shown, self._is_shown = self._is_shown, False
            kill_point("refused")
            for file in refused:
                self._known.setdefault(file.name, []).append(file.identity)
                logger.warning(
                    "inbox %s: %s is rejected: %s",
                    self.inbox.name,
                    file.name,
                    file.reason,
                    extra=about_inbox(self.inbox.name),
                )
            if were_shown:
                self.failed.show_more_refused(self.inbox.name, refused)
                self._is_shown = True
        if not self._is_shown:
            self.failed.show_rejected(self.inbox.name)
            self._is_shown = True


def _notice(inbox: Inbox, refused: list[RejectedInPlace]) -> Notice:
    first, count = refused[0], len(refused)
    named = first_lines([f"{file.name}: {file.reason}" for file in refused])
    return Notice(
        key=f"refused/{inbox.name}/{first.path}/{first.identity.inode}/{first.identity.mtime_ns}",
        event=EVENT,
        inbox=inbox.name,
        payload={
            "count": count,
            "subject": f"{counted(count, 'file')} rejected in inbox {inbox.name}",
            "text": "\n".join([*named, f"Where: {readable(inbox.where)}"]),
        },
    )


# Files with temporary names: shown as being written, and reported once if they stay unchanged for a day.

UNFINISHED_EVENT = "inbox.files.waiting"
STALE = timedelta(days=1)
"""No transfer pauses for so long; the file was left behind."""
_PREFIX = "unfinished/"
SHOWN = 3
"""How many names of files that are being written are shown."""


class Shown(Protocol):
    """Holds the state of an inbox for display."""

    being_written: tuple[str, ...]


@dataclass
class UnfinishedFiles:
    """The files of one inbox that have temporary names."""

    inbox: Inbox
    ledger: Ledger
    clock: Clock
    shown: Shown
    _reported: set[str] = field(default_factory=set[str], init=False)
    """The keys of the reported files."""

    def note(self, changed_at: Mapping[str, float]) -> None:
        """Set which files are there, and when each last changed (seconds since 1970). Raises sqlite3.Error."""
        self.shown.being_written = tuple(sorted(map(readable, changed_at)))
        if not changed_at:
            self._reported.clear()
            return
        before = (self.clock.utc() - STALE).timestamp()
        stale = {self._key(name, at): name for name, at in changed_at.items() if at < before}
        self._reported &= stale.keys()
        if new := stale.keys() - self._reported:
            with self.ledger.transaction():
                new -= notices.covered(self.ledger, _PREFIX)
                since = {key: datetime.fromtimestamp(changed_at[stale[key]], UTC) for key in new}
                lines = [f"{readable(stale[key])}: unchanged since {local_minute(since[key])}" for key in sorted(new)]
                if lines:
                    notices.write(self.ledger, self._notice(sorted(new), lines), self.clock.utc())
            self._reported |= stale.keys()

    def _key(self, name: str, at: float) -> str:
        return f"{_PREFIX}{self.inbox.name}/{readable(self.inbox.at(name))}/{at:.0f}"

    def _notice(self, keys: Sequence[str], lines: Sequence[str]) -> Notice:
        count = len(lines)
        files = counted(count, "file has", "files have")
        next_ = "finish the transfer, or delete what was left behind; a file is taken once it has its own name"
        return Notice(
            key=keys[0],
            event=UNFINISHED_EVENT,
            inbox=self.inbox.name,
            payload={
                "count": count,
                "covers": list(keys),
                "subject": f"{files} had a temporary name for a day in inbox {self.inbox.name}",
                "text": "\n".join([*first_lines(lines), f"Where: {readable(self.inbox.where)}", f"Next: {next_}"]),
            },
        )


def in_words(names: Sequence[str]) -> str:
    """Return which files are being written, as text; empty if there are none.

    >>> in_words(["a.part", "b.part", "c.part", "d.part"])
    '4 being written: a.part, b.part, c.part and 1 more'
    """
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} being written: {', '.join(names[:SHOWN])}{more}"
