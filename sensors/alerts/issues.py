"""Find out what is wrong with the sensor's loops, disks or files, and decide when an alert about it is due.

No I/O: loops and findings go in, the changes that deserve an alert come out. sensors/alerts/monitor.py sends them.
"""

import errno
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from automations.sqlite_file import SqliteFault, fault_of
from sensors.files.file_systems import DiskSpaceError
from sensors.ledger import LedgerError
from sensors.runs.api import ApiError
from sensors.runtime.loop import STUCK_SECONDS, Loop

CALM_SECONDS = 30.0
"""How long an issue has to be absent before it is over: a loop may succeed once between two failures."""
ADOPTED_CALM_SECONDS = 120.0
"""The same after a restart: a loop may need a while to fail again, such as half a minute for a lock."""

NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
OUTBOX_LOOPS = frozenset({"bell", "watchman"})
"""The loops whose SQLite errors come from the outbox."""
_SEE_LOG = "`just logs sensor` has the details"


@dataclass(frozen=True)
class Issue:
    """A problem that keeps the sensor from its work, or soon will."""

    key: str
    """Identifies the issue, the same at every check."""
    title: str
    parts: Mapping[str, str]
    """The affected parts, each with the reason."""
    mend: str
    is_warning: bool = False
    """Whether the sensor still does all of its work."""
    patience_seconds: float | None = None
    """How long the issue has to last before an alert is due; None: the time configured for all issues."""
    grows: bool = False
    """Whether a part that is affected later deserves an alert of its own."""

    @property
    def detail(self) -> str:
        """The parts and their reasons in one line; a reason that several parts share is given once."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.parts.items():
            by_reason.setdefault(reason, []).append(name)
        return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())


_TEMPLATES = {
    "ledger": ("The ledger cannot be used", "put right what it says; `just rebuild` makes a new one if it is damaged"),
    "outbox": ("The outbox of alerts cannot be used", "put right what it says; alerts are sent directly meanwhile"),
    "disk full": ("The disk is full, the intake pauses", "make room; it goes on by itself then, no file is lost"),
    "descriptors": (
        "The sensor has no file descriptors left",
        "stop `just up`, raise the limit (`ulimit -n`), and run it again; no file is lost",
    ),
    "api": ("Prefect's API does not do what the sensor asks", f"`just status`; {_SEE_LOG} and `just logs server`"),
}


def issues_of(loops: Iterable[Loop], *, is_server_silent: bool) -> dict[str, Issue]:
    """Return the issues of the loops by key, one for each cause.

    Loop errors because of a silent server are left out: the silence has its own alert. They are also left out while the
    watchman loop, which detects the silence, fails itself.
    """
    loops = list(loops)
    is_server_silent |= any(loop.name == "watchman" and loop.error is not None for loop in loops)
    found: dict[str, dict[str, str]] = {}
    for loop in loops:
        if wrong := _wrong(loop, is_server_silent=is_server_silent):
            key, reason = wrong
            found.setdefault(key, {})[loop.name] = reason
    if "ledger" in found and found.get("outbox", {}).keys() == {"watchman"}:
        found["ledger"] |= found.pop("outbox")  # the watchman uses both
    return {key: issue_of(key, parts) for key, parts in found.items()}


def _wrong(loop: Loop, *, is_server_silent: bool) -> tuple[str, str] | None:
    if loop.has_ended:
        return "ended", "its thread has ended"
    if loop.ident is not None and loop.silent_seconds >= STUCK_SECONDS:
        return "stuck", "no progress for a minute"
    if loop.error is None:
        return None
    kind = kind_of(loop.error, loop.name)
    if kind == "api" and is_server_silent:
        return None
    return kind, loop.trouble or type(loop.error).__name__


def kind_of(error: BaseException, loop: str) -> str:
    """Return the issue key for an error: one that several loops share, or the loop's own."""
    number = getattr(error, "errno", None)
    text = str(error)
    if number in NO_DESCRIPTORS or "Too many open files" in text:
        return "descriptors"
    if isinstance(error, DiskSpaceError) or number in DISK_FULL or fault_of(error) is SqliteFault.DISK_FULL:
        return "disk full"
    if isinstance(error, LedgerError):
        return "ledger"
    if type(error).__name__ == "OutboxError" or (isinstance(error, sqlite3.Error) and loop in OUTBOX_LOOPS):
        return "outbox"
    if isinstance(error, sqlite3.Error):
        return "ledger"
    return "api" if isinstance(error, ApiError) else f"loop {loop}"


def issue_of(key: str, parts: Mapping[str, str]) -> Issue:
    """Return the issue with this key."""
    names = ", ".join(parts)
    if key == "ended":
        mend = f"stop `just up` and run it again; no file is lost; {_SEE_LOG}"
        return Issue(key, f"A part of the sensor has ended: {names}", parts, mend, patience_seconds=0, grows=True)
    if key == "stuck":
        mend = (
            f"{_SEE_LOG}; a network folder may hang; if it stays so, stop `just up` and run it again: no file is lost"
        )
        return Issue(key, f"The sensor is stuck: {names}", parts, mend, patience_seconds=0, grows=True)
    title, mend = _TEMPLATES.get(key, (f"The sensor fails: {names}", f"put that right, it tries again; {_SEE_LOG}"))
    return Issue(key, title, parts, mend)


class ChangeKind(StrEnum):
    """How an issue has changed."""

    BEGUN = "begun"
    GROWN = "grown"
    OVER = "over"


@dataclass(frozen=True)
class IssueChange:
    """An issue that has begun, affects more parts, or is over."""

    turn: ChangeKind
    issue: Issue
    lasted: float
    """Seconds from the first to the last time that the issue was seen."""


@dataclass
class _Known:
    issue: Issue
    first: dict[str, float]
    """When each part was first seen, on the monotonic clock."""
    last: float
    calm_seconds: float = CALM_SECONDS
    is_reported: bool = False
    reported: set[str] = field(default_factory=set[str])


class IssueTracker:
    """Decides which issues deserve an alert: each once when it has lasted long enough, and once when it is over."""

    def __init__(self, patience_seconds: float) -> None:
        """`patience_seconds` is how long an issue has to last if it sets no time of its own."""
        self._patience_seconds = patience_seconds
        self._known: dict[str, _Known] = {}

    def adopt(self, titles: Mapping[str, str], now: float) -> None:
        """Take over the issues, by key, that were reported before a restart and are not known to be over."""
        for key, title in titles.items():
            issue = Issue(key, title, {}, "")
            self._known[key] = _Known(issue, {"": now}, now, ADOPTED_CALM_SECONDS, is_reported=True)

    def look(self, issues: Iterable[Issue], now: float, resumed: float | None = None) -> list[IssueChange]:
        """Record the current issues, with the monotonic time; return the changes that deserve an alert.

        `resumed` is when this process last resumed after a suspension; an issue has to last anew from then on.
        """
        changes: list[IssueChange] = []
        for issue in issues:
            known = self._known.setdefault(issue.key, _Known(issue, {}, now))
            known.issue, known.last = issue, now
            for part in issue.parts:
                known.first.setdefault(part, now)
            if turn := self._turn(known, now, resumed):
                changes.append(IssueChange(turn, issue, now - min(known.first.values())))
        for key, known in list(self._known.items()):
            if now - known.last >= known.calm_seconds:
                del self._known[key]
                if known.is_reported:
                    changes.append(IssueChange(ChangeKind.OVER, known.issue, known.last - min(known.first.values())))
        return changes

    def _turn(self, known: _Known, now: float, resumed: float | None) -> ChangeKind | None:
        new = known.issue.parts.keys() - known.reported
        own = known.issue.patience_seconds
        patience = self._patience_seconds if own is None else own
        since = [max(known.first[part], resumed or known.first[part]) for part in new]
        if not any(now - one >= patience for one in since) or (known.is_reported and not known.issue.grows):
            return None
        turn = ChangeKind.GROWN if known.is_reported else ChangeKind.BEGUN
        known.is_reported = True
        known.reported |= new  # with the first part, also parts that are not due yet: they have the same cause
        return turn
