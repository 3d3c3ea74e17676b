"""Refusals: files that an inbox does not take stay where they lie, are shown in `failed/`, and somebody is told."""

import logging
from collections.abc import Set
from dataclasses import dataclass, field

from sensors.clock import Clock
from sensors.failed import FailedFolder
from sensors.identity import Identity
from sensors.inbox import Inbox
from sensors.json_log import about_inbox
from sensors.killpoint import kill_point
from sensors.ledger import Ledger
from sensors.ledger import files as ledger_files
from sensors.ledger.files import Refused
from sensors.ledger.notices import Notice
from sensors.settling.admission import readable

logger = logging.getLogger(__name__)

EVENT = "inbox.files.rejected"
NAMED = 10
"""How many files a notice names."""


@dataclass
class Refusals:
    """The refusals of one inbox; each file is refused once, however often it is seen."""

    inbox: Inbox
    ledger: Ledger
    failed: FailedFolder
    clock: Clock
    _known: dict[str, Identity] = field(init=False)
    """By `_key`."""
    _new: list[Refused] = field(default_factory=list[Refused], init=False)
    _is_shown: bool = field(default=False, init=False)
    """Whether `failed/` has them all: not after a start, which may follow a crash."""

    def __post_init__(self) -> None:
        self._folder = self.inbox.at("")
        prefix = readable(self._folder)
        known = ledger_files.refused_in_place(self.ledger, self.inbox.name)
        self._known = {
            _key(path.removeprefix(prefix), identity): identity for path, identity in known if path.startswith(prefix)
        }

    def covers(self, name: str, identity: Identity) -> bool:
        """Tell whether just this file has been refused, so that it is not looked at again before it changes."""
        return bool(self._known) and self._known.get(_key(readable(name), identity)) == identity

    def note(self, name: str, identity: Identity, reason: str) -> None:
        """Take note that a file is refused, unless that is known."""
        known = self._known.get(_key(readable(name), identity))
        if known is not None and (known.device, known.inode) == (identity.device, identity.inode):
            return  # also while it still grows
        self._new.append(Refused(readable(self._folder + name), readable(name), identity, reason))

    def forget_all_but(self, names: Set[str]) -> None:
        """Forget files that do not lie there any more, where the next one of the name would look like the same."""
        if self._known:
            there = set(map(readable, names))
            self._known = {key: known for key, known in self._known.items() if key.partition("\0")[0] in there}

    def tell(self) -> None:
        """Write the new refusals down and show them. Raises sqlite3.Error, OSError; the next call goes on then."""
        if self._new:
            refused, self._new = self._new, []
            notice = _notice(self.inbox, refused)
            ledger_files.record_refused(self.ledger, self.inbox.name, refused, notice, self.clock.utc())
            were_shown, self._is_shown = self._is_shown, False
            kill_point("refused")
            for file in refused:
                self._known[_key(file.name, file.identity)] = file.identity
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
            self.failed.show_refused(self.inbox.name)
            self._is_shown = True


def _key(shown: str, identity: Identity) -> str:
    """Return what a rejected file is known by: its name as it can be written down.

    Two files can have one such name, `a\\nb.csv` and one with a line feed in its name; these have their inode with it.
    """
    return f"{shown}\0{identity.inode}" if "\\" in shown else shown


def _notice(inbox: Inbox, refused: list[Refused]) -> Notice:
    first, count = refused[0], len(refused)
    named = [f"{file.name}: {file.reason}" for file in refused[:NAMED]]
    more = [f"and {count - NAMED} more"] if count > NAMED else []
    return Notice(
        key=f"refused/{inbox.name}/{first.path}/{first.identity.inode}/{first.identity.mtime_ns}",
        event=EVENT,
        inbox=inbox.name,
        payload={
            "count": count,
            "subject": f"{count} {'file' if count == 1 else 'files'} rejected in inbox {inbox.name}",
            "text": "\n".join([*named, *more, f"Where: {readable(inbox.where)}"]),
        },
    )
