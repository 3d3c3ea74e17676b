"""Report inboxes whose expected files are overdue, and inboxes whose overdue files have come."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim

from sensors.config.inboxes import Expectation, Inbox
from sensors.ledger import Ledger, notices
from sensors.ledger.notices import Expected, Notice
from sensors.runtime.clock import Clock
from sensors.runtime.text import counted, local_minute

OVERDUE = "inbox.overdue"
RECOVERED = "inbox.recovered"

CountArrived = Callable[[datetime, datetime], int]
"""Returns how many files came after the first time and up to the second."""


@dataclass(frozen=True)
class OverdueCheck:
    """Checks the inboxes that expect files and writes a notice of each change."""

    ledger: Ledger
    inboxes: Sequence[Inbox]
    clock: Clock

    def step(self) -> bool:
        """Check every inbox that expects files; return whether any of them became overdue or recovered."""
        changed = [self._look(inbox, inbox.expect) for inbox in self.inboxes if inbox.expect is not None]
        return any(changed)

    def _look(self, inbox: Inbox, expect: Expectation) -> bool:
        now = self.clock.utc()
        rule = expect.model_dump_json()
        before = notices.read(self.ledger, inbox.name)
        if before is None or before.rule != rule:
            notices.record(self.ledger, inbox.name, Expected(rule, now), None, now)
            return False

        def arrived(after: datetime, until: datetime) -> int:
            return notices.count_arrived(self.ledger, inbox.name, after, until)

        after, event = judge(expect, before, now, arrived)
        if after == before:
            return False
        notice = None if event is None else _notice(inbox, expect, event, after.overdue_since or before.overdue_since)
        notices.record(self.ledger, inbox.name, after, notice, now)
        return event is not None


def judge(expect: Expectation, before: Expected, now: datetime, arrived: CountArrived) -> tuple[Expected, str | None]:
    """Return the new state of the expectation, and `inbox.overdue` or `inbox.recovered` if that is to be reported.

    Checks one due time at most; the next call continues with the following one. An overdue inbox is reported once,
    however many due times pass, until as many files have come as were expected at the first one missed.
    """
    if before.overdue_since is not None:
        enough = arrived(previous_due(expect, before.overdue_since), now) >= expect.at_least
        if enough:
            return replace(before, overdue_since=None), RECOVERED
    due = next_due(expect, before.checked_until)
    if due > now:
        return before, None
    after = replace(before, checked_until=due)
    if before.overdue_since is None and arrived(previous_due(expect, due), due) < expect.at_least:
        return replace(after, overdue_since=due), OVERDUE
    return after, None


def next_due(expect: Expectation, after: datetime) -> datetime:
    """Return the first due time after a moment, in UTC; daylight saving time does not shift its local time."""
    return next(CronSim(expect.cron, after.astimezone(ZoneInfo(expect.timezone)))).astimezone(UTC)


def previous_due(expect: Expectation, before: datetime) -> datetime:
    """Return the last due time before a moment, in UTC."""
    return next(CronSim(expect.cron, before.astimezone(ZoneInfo(expect.timezone)), reverse=True)).astimezone(UTC)


def _notice(inbox: Inbox, expect: Expectation, event: str, due: datetime | None) -> Notice:
    at = local_minute(due, ZoneInfo(expect.timezone))
    files = counted(expect.at_least, "file")
    subject, text = {
        OVERDUE: (
            f"Inbox {inbox.name} is overdue",
            f"Expected: {files} by {at}\nWhere: {inbox.where}\nNext: ask the sender; an alert says when it comes",
        ),
        RECOVERED: (f"Inbox {inbox.name} has its files", f"Expected: {files} by {at}\nThey have come now."),
    }[event]
    return Notice(
        key=f"{event}/{inbox.name}/{at}",
        event=event,
        inbox=inbox.name,
        payload={"due": None if due is None else due.isoformat(), "subject": subject, "text": text},
    )
