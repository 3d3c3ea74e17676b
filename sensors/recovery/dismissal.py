"""Dismissal: a person says that files which were not loaded are settled, and they need nobody any more."""

from datetime import datetime

from sensors.ledger import Ledger, dismissals, replays
from sensors.settings import Settings
from sensors.settling.admission import readable


class DismissalError(Exception):
    """There is nothing to dismiss; the message says why and what to do."""


def dismiss(settings: Settings, wanted: str | None, now: datetime) -> str:
    """Dismiss the files of an arrival, those of a name, or with None all of them; return what was done, in a line.

    They stay rejected or failed, in the books and wherever they are listed. Raises DismissalError, LedgerError.
    """
    if not settings.ledger_path.exists():
        raise DismissalError(f"nothing has been dropped yet: there is no ledger at {settings.ledger_path}")
    with Ledger(settings.ledger_path) as ledger:
        if wanted is None:
            return dismissed(dismissals.record_until(ledger, now, now))
        is_arrival = replays.by_id(ledger, wanted) is not None
        record = dismissals.record_arrival if is_arrival else dismissals.record_named
        if count := record(ledger, wanted, now):
            return dismissed(count)
        is_known = is_arrival or ledger.rows("SELECT 1 FROM files WHERE name = ? LIMIT 1", (wanted,))
    if is_known:
        raise DismissalError(f"no file of {readable(wanted)} needs a person; `just status` names those that do")
    raise DismissalError(
        f"expected an arrival's id, a file's name or --all, got {readable(wanted)}, which is none; "
        "`just status` names what needs a person"
    )


def dismissed(count: int) -> str:
    """Return what was done with so many files, in a line."""
    if not count:
        return "no file needs a person"
    return f"{count} {'file needs' if count == 1 else 'files need'} nobody any more; what became of them stays listed"
