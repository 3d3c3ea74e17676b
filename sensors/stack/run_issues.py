"""Run issues as the status has them: asked of the server anew, whether or not the sensor is at work."""

from datetime import datetime

import httpx

from sensors.config.settings import PROJECT_ROOT, Settings
from sensors.ledger import Ledger, dismissals
from sensors.runs.api import ApiError, PrefectApi
from sensors.runs.facts import read_run_facts
from sensors.runs.issues import RunIssue, read_run_issues
from sensors.runs.ours import our_deployments
from sensors.runtime.clock_part import Clock

TIMEOUT = httpx.Timeout(5.0)


def find_run_issues(settings: Settings, clock: Clock | None = None) -> tuple[RunIssue, ...]:
    """Return the runs that need attention, the most urgent first. Raises ApiError, LedgerError."""
    now = (clock or Clock()).utc()
    with PrefectApi(settings.api_url, settings.auth_string, TIMEOUT) as api:
        facts = read_run_facts(api, now)
        ours = our_deployments(facts, PROJECT_ROOT)
        return read_run_issues(api, facts, ours, _dismissed(settings), now)


def known_run_issues(settings: Settings) -> tuple[RunIssue, ...]:
    """Return the same, or nothing while the server gives no usable answer: what is wrong with it is reported anyway."""
    try:
        return find_run_issues(settings)
    except (ApiError, ValueError, LookupError):
        return ()


def _dismissed(settings: Settings) -> dict[str, datetime]:
    if not settings.ledger_path.exists():
        return {}
    with Ledger(settings.ledger_path, read_only=True) as ledger:
        return dismissals.of_runs(ledger)
