"""Files with temporary names: shown as being written, and reported once if they stay unchanged for a day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sensors.config.admission import readable
from sensors.config.inboxes import Inbox
from sensors.ledger import Ledger, notices
from sensors.ledger.notices import Notice, first_lines
from sensors.runtime.clock import Clock

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
                lines = [
                    f"{readable(stale[key])}: unchanged since {_day(changed_at[stale[key]])}" for key in sorted(new)
                ]
                if lines:
                    notices.write(self.ledger, self._notice(sorted(new), lines), self.clock.utc())
            self._reported |= stale.keys()

    def _key(self, name: str, at: float) -> str:
        return f"{_PREFIX}{self.inbox.name}/{readable(self.inbox.at(name))}/{at:.0f}"

    def _notice(self, keys: Sequence[str], lines: Sequence[str]) -> Notice:
        count = len(lines)
        files = "1 file has" if count == 1 else f"{count} files have"
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


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%Y-%m-%d %H:%M}"
