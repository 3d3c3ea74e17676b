"""Retry and replay: announce arrivals again; load keys make loading a file a second time a no-op."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sensors.arrivals.duplicates import unmark_duplicates
from sensors.config.inboxes import read_inboxes
from sensors.config.settings import Settings
from sensors.ledger import Ledger, arrivals, files
from sensors.ledger.arrivals import ENDED, NewRules, Replayable
from sensors.ledger.states import ArrivalState
from sensors.reports.files import journey_of
from sensors.runs.issues import ALL, RunIssue
from sensors.runtime.text import counted, local_minute, readable

RULES_OF_ARRIVAL, RULES_OF_TODAY = "arrival", "now"
"""By which rules a replay reads files: those stored with the arrival, or those of its inbox today."""


class ReplayError(Exception):
    """There is nothing to announce again; the message says why and what to do."""


@dataclass(frozen=True)
class Selection:
    """Conditions that select arrivals: a file's name, a start time, failed ones only. All that are given must hold."""

    file: str | None = None
    since: datetime | None = None
    failed: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether no condition was given, which must not mean everything."""
        return self.file is None and self.since is None and not self.failed


def retry(settings: Settings, arrival_id: str) -> list[str]:
    """Announce one arrival again and return what happens next, in lines; raises ReplayError, LedgerError."""
    with Ledger(_existing(settings), make=False) as ledger:
        found = arrivals.by_id(ledger, arrival_id)
        if found is None:
            raise ReplayError(f"there is no arrival {readable(arrival_id)}; `just status` names those that failed")
        if not _again(ledger, found, ()):
            raise ReplayError(f"arrival {arrival_id} is {found.state}: it is under way, there is nothing to try again")
        return [f"arrival {arrival_id} ({counted(found.files, 'file')}) is announced again; it was {found.state}"]


def replay(
    settings: Settings, selection: Selection, *, reload: bool = False, rules: str = RULES_OF_ARRIVAL
) -> list[str]:
    """Announce the selected arrivals again and return what happens next, in lines.

    With `reload`, the rows of their files, or of the one file that was named, are replaced. With `rules` "now", files
    are read by their inbox's rules of today instead of those of the day on which they came. Raises ReplayError,
    LedgerError, InboxesError.
    """
    if rules not in {RULES_OF_ARRIVAL, RULES_OF_TODAY}:
        raise ReplayError(f"--rules: expected {RULES_OF_ARRIVAL} or {RULES_OF_TODAY}, got {readable(rules)}")
    if selection.is_empty:
        raise ReplayError("say which arrivals are meant: FILE, --since TIME or --failed")
    replaced = () if not reload else (selection.file or "*",)
    with Ledger(_existing(settings), make=False) as ledger:
        chosen = _chosen(ledger, selection)
        ended = [one for one in chosen if one.state in ENDED]
        rules_of = _rules_of_today(settings, ended) if rules == RULES_OF_TODAY else dict[str, NewRules]()
        again = [one for one in ended if _again(ledger, one, replaced, rules_of.get(one.inbox))]
    if not chosen:
        raise ReplayError(f"no arrival was found{_said(selection)}")
    under_way = len(chosen) - len(again)
    what = "their rows are replaced" if reload else "what is loaded already is skipped"
    lines = [f"arrival {one.id} ({counted(one.files, 'file')}) is announced again; it was {one.state}" for one in again]
    if under_way:
        lines.append(f"{under_way} {'is' if under_way == 1 else 'are'} under way and left alone")
    if rules == RULES_OF_TODAY:
        what += "; files are read by today's rules"
    return [*lines, f"{len(again)} of {len(chosen)} arrivals are announced again; {what}"]


def _rules_of_today(settings: Settings, chosen: Sequence[Replayable]) -> Mapping[str, NewRules]:
    """Return the present rules of the arrivals' inboxes by name. Raises ReplayError, InboxesError."""
    inboxes = {inbox.name: inbox for inbox in read_inboxes(settings.inboxes_file, settings.inbox_dir)}
    if gone := sorted({one.inbox for one in chosen} - inboxes.keys()):
        raise ReplayError(
            f"--rules {RULES_OF_TODAY}: there is no inbox {readable(gone[0])} in {settings.inboxes_file} any more;"
            " leave the option out, or define the inbox again"
        )
    return {name: NewRules(inbox.load_rules) for name, inbox in inboxes.items()}


def _again(ledger: Ledger, chosen: Replayable, reload: Sequence[str], new_rules: NewRules | None = None) -> bool:
    """Announce one arrival again; False if it is under way. Its files stop counting as duplicates."""
    again = arrivals.record_replayed(ledger, chosen.id, reload, new_rules)
    arrival = arrivals.get(ledger, chosen.id)
    if again and chosen.state is ArrivalState.SKIPPED and arrival is not None:
        unmark_duplicates(arrival.folder)
    return again


def _chosen(ledger: Ledger, selection: Selection) -> list[Replayable]:
    states: Sequence[ArrivalState] = (ArrivalState.FAILED,) if selection.failed else tuple(ArrivalState)
    if selection.file is None:
        return arrivals.since(ledger, selection.since, states)
    wanted = {one.id for one in arrivals.since(ledger, selection.since, states)}
    return [one for one in arrivals.holding(ledger, selection.file) if one.id in wanted]


def _existing(settings: Settings) -> Path:
    if not settings.ledger_path.exists():
        raise ReplayError(f"nothing has been dropped yet: there is no ledger at {settings.ledger_path}")
    return settings.ledger_path


def _said(selection: Selection) -> str:
    said = [
        f"with a file {readable(selection.file)}" if selection.file else "",
        f"since {local_minute(selection.since)}" if selection.since else "",
        "that failed" if selection.failed else "",
    ]
    return "".join(f" {part}" for part in said if part)


def moment_of(text: str, now: datetime) -> datetime:
    """Return the time that the user means by `2h`, `3d`, `30m` or a local date, with or without a time.

    >>> moment_of("2h", datetime(2026, 11, 24, 9, 0, tzinfo=UTC)).isoformat()
    '2026-11-24T07:00:00+00:00'
    """
    units = {"m": "minutes", "h": "hours", "d": "days"}
    if text[-1:] in units and text[:-1].isdigit():
        return now - timedelta(**{units[text[-1]]: int(text[:-1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise ReplayError(
            f"--since: expected a time such as 2h, 3d or '2026-11-24 09:00' (local), got {readable(text)!r}"
        ) from None


# Dismiss files that were not loaded and runs that failed, so that they no longer need attention.


class DismissalError(Exception):
    """There is nothing to dismiss; the message says why and what to do."""


def dismiss(
    settings: Settings, wanted: str | None, now: datetime, runs: Callable[[], Sequence[RunIssue]] = tuple
) -> str:
    """Dismiss an arrival's files, all files of a name, or a run; with None, everything. Return a line about it.

    Dismissed files stay rejected or failed, in the ledger and in every list. `runs` asks the server for the runs that
    need attention; it is called only if `wanted` is neither an arrival nor a file. Raises DismissalError, LedgerError,
    and what `runs` raises.
    """
    if not settings.ledger_path.exists():
        raise DismissalError(f"nothing has been dropped yet: there is no ledger at {settings.ledger_path}")
    with Ledger(settings.ledger_path, make=False) as ledger:
        if wanted is None:
            files.record_runs(ledger, [ALL], now)
            return dismissed(files.record_until(ledger, now, now))
        is_arrival = arrivals.by_id(ledger, wanted) is not None
        record = files.record_arrival if is_arrival else files.record_named
        if count := record(ledger, wanted, now):
            return dismissed(count)
        is_known = is_arrival or journey_of(ledger, wanted) is not None
        if not is_known and (issues := [one for one in runs() if one.is_called(wanted)]):
            return _dismiss_runs(ledger, wanted, issues, now)
    if is_known:
        raise DismissalError(f"no file of {readable(wanted)} needs attention; `just status` names those that do")
    raise DismissalError(
        f"expected an arrival's id, a file's name, a run or --all, got {readable(wanted)}, which is none; "
        "`just status` names what needs attention"
    )


def _dismiss_runs(ledger: Ledger, wanted: str, issues: Sequence[RunIssue], now: datetime) -> str:
    settled = [one for one in issues if one.is_dismissable]
    if not settled:
        raise DismissalError(f"{readable(wanted)} waits, and goes on when that is mended: {issues[0].line}")
    files.record_runs(ledger, [one.key for one in settled], now)
    return f"{settled[0].title}: this needs attention no more"


def dismissed(count: int) -> str:
    """Return a line that says how many files were dismissed."""
    if not count:
        return "no file needs attention"
    return f"{counted(count, 'file needs', 'files need')} no attention any more; what became of them stays listed"
