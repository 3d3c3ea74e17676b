"""Dismiss files that were not loaded and runs that failed, so that they no longer need attention."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sensors.config.admission import readable
from sensors.config.settings import Settings
from sensors.ledger import Ledger, arrivals, files
from sensors.runs.issues import ALL, RunIssue


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
        is_known = is_arrival or files.latest_named(ledger, wanted) is not None
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
    needing = "file needs" if count == 1 else "files need"
    return f"{count} {needing} no attention any more; what became of them stays listed"
