"""Find the runs that need attention, each with the reason and the command that fixes it.

The server is authoritative: an issue is gone once a later run for the same cause has succeeded. Dismissals are in the
ledger. Failed arrivals are not listed here but with their files.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import yaml

from automations.alert_service import Alert
from sensors.runs.api import EVENTS_PAGE, Event, PrefectApi
from sensors.runs.facts import Found, RunFacts, RunHold, hold_of, part, parts

LOOK_BACK = timedelta(days=30)
MOST_FAILED = 400
"""How many failed runs to read, the latest first, and as many again of the deployments without one among them."""
MOST_SUCCEEDED = 1000
"""As MOST_FAILED, of runs that may have made up for the failed ones."""
MISSING = "run.missing"
"""The sensor's event for a scheduled run that does not exist."""
OVER_LIMIT = "Deployment concurrency "
"""Start of the message of a run that Prefect cancelled because of its deployment's concurrency limit."""
LONG_RUN_FILE = Path(__file__).parents[2] / "automations" / "alert-on-long-run.yaml"
LONG_AFTER = timedelta(hours=1)
"""Limit for a run's duration if that file has none."""
ALL = "*"
"""Key of a dismissal of all issues."""


class IssueKind(StrEnum):
    """What is wrong with a run."""

    FAILED = "failed"
    MISSING = "missing"
    LONG = "long"
    WAITING = "waiting"


@dataclass(frozen=True)
class RunIssue:
    """A run that needs attention, or several with the same reason; each text is one line without credentials."""

    kind: IssueKind
    key: str
    """Key for dismissals: the run's id, for a missing run the deployment's, for waiting runs that of the hold."""
    deployment: str
    """`flow/deployment`."""
    title: str
    reason: str
    mend: str
    since: datetime
    run_id: str | None = None
    run_name: str = ""
    is_dismissable: bool = True
    more: int = 0
    """How many others there are with the same reason."""

    @property
    def line(self) -> str:
        """The line that the status shows."""
        more = f", and {self.more} more" if self.more else ""
        return f"{self.title}{more}: {self.reason}; {self.mend}"

    def is_called(self, name: str) -> bool:
        """Return whether a name that the user gave means this issue: the run's name or id, or the deployment's."""
        return name in {self.key, self.run_id, self.run_name, self.deployment, self.deployment.partition("/")[2]}


def undismissed(issues: Iterable[RunIssue], dismissed: Mapping[str, datetime]) -> tuple[RunIssue, ...]:
    """Return the issues that were not dismissed since they came up."""
    everything = dismissed.get(ALL)

    def is_open(issue: RunIssue) -> bool:
        at = [one for one in (dismissed.get(issue.key), everything) if one is not None]
        return not issue.is_dismissable or not at or max(at) < issue.since

    return tuple(filter(is_open, issues))


def read_run_issues(
    api: PrefectApi, facts: RunFacts, ours: frozenset[str], dismissed: Mapping[str, datetime], now: datetime
) -> tuple[RunIssue, ...]:
    """Return the issues of the deployments with these ids, the most urgent first. Raises ApiError."""
    if not ours:
        return ()
    ended = _ended_runs(api, ours, ("FAILED", "CRASHED", "CANCELLED"), now - LOOK_BACK, MOST_FAILED)
    failed = [run for run in ended if _needs_attention(run)]
    missing = _missing_runs(api, ours, now)
    oldest = min([_ended(run) for run in failed] + [one.since for one in missing], default=None)
    wanting = {run["deployment_id"] for run in failed} | {one.key for one in missing}
    succeeded = [] if oldest is None else _ended_runs(api, wanting, ("COMPLETED",), oldest, MOST_SUCCEEDED)
    found = [
        *waiting_issues(facts, ours, now),
        *long_issues(facts, ours, now, long_after()),
        *(one for one in missing if not _is_made_up_for(one, succeeded)),
        *failed_issues(failed, succeeded, facts, dismissed),
    ]
    return undismissed(found, dismissed)


def waiting_issues(facts: RunFacts, ours: frozenset[str], now: datetime) -> list[RunIssue]:
    """Return the waiting runs, as one issue for each cause."""
    held: dict[str, list[tuple[Found, RunHold]]] = {}
    for run in facts.runs:
        if run.get("deployment_id") in ours and (hold := hold_of(run, facts)) and hold.is_reportable(now):
            held.setdefault(hold.key, []).append((run, hold))
    return [_waiting(some, facts) for some in held.values()]


def _waiting(held: Sequence[tuple[Found, RunHold]], facts: RunFacts) -> RunIssue:
    run, hold = min(held, key=lambda one: one[1].since)
    return RunIssue(
        IssueKind.WAITING,
        hold.key,
        facts.full_name(facts.deployment_of(run)),
        one_line(f"run {run['name']} of {facts.full_name(facts.deployment_of(run))} waits since {_local(hold.since)}"),
        one_line(hold.reason),
        hold.mend,
        hold.since,
        run["id"],
        run["name"],
        is_dismissable=hold.key == run["id"],
        more=len(held) - 1,
    )


def long_issues(facts: RunFacts, ours: frozenset[str], now: datetime, limit: timedelta) -> list[RunIssue]:
    """Return the runs that take longer than the limit, except those of arrivals."""
    return [
        RunIssue(
            IssueKind.LONG,
            run["id"],
            facts.full_name(facts.deployment_of(run)),
            one_line(f"run {run['name']} of {facts.full_name(facts.deployment_of(run))} takes long"),
            f"it is running since {_local(since)}",
            f"`just prefect flow-run logs {run['id']}` says why, `just prefect flow-run cancel {run['id']}` ends it",
            since + limit,
            run["id"],
            run["name"],
        )
        for run in facts.runs
        if run["state_type"] == "RUNNING" and run.get("deployment_id") in ours and not is_of_an_arrival(run)
        if now - (since := datetime.fromisoformat(run["state"]["timestamp"])) > limit
    ]


def failed_issues(
    failed: Iterable[Found], succeeded: Sequence[Found], facts: RunFacts, dismissed: Mapping[str, datetime]
) -> list[RunIssue]:
    """Return the failed runs that no later run has made up for, the latest of each cause."""
    by_cause: dict[tuple[str, str], list[Found]] = {}
    for run in sorted(failed, key=_ended, reverse=True):
        if not any(_makes_up_for(later, run, facts) for later in succeeded):
            by_cause.setdefault((run["deployment_id"], _cause(run)), []).append(run)
    return [issue for runs in by_cause.values() if (issue := _failed(runs, facts, dismissed)) is not None]


def _failed(runs: Sequence[Found], facts: RunFacts, dismissed: Mapping[str, datetime]) -> RunIssue | None:
    """Return the latest failed run of a cause; dismissing a run also dismisses the earlier ones."""
    reported = [
        one for one, at in ((run, dismissed.get(run["id"])) for run in runs) if at is not None and at >= _ended(one)
    ]
    latest = runs[: runs.index(reported[0])] if reported else runs
    if not latest:
        return None
    run, deployment = latest[0], facts.full_name(facts.deployment_of(latest[0]))
    message = part(run, "state").get("message") or "no message"
    return RunIssue(
        IssueKind.FAILED,
        run["id"],
        deployment,
        one_line(f"run {run['name']} of {deployment} {_how(run)} at {_local(_ended(run))}"),
        one_line(message),
        f"`just prefect flow-run retry {run['id']}` tries it again, or `just dismiss {run['id']}`",
        _ended(run),
        run["id"],
        run["name"],
        more=len(latest) - 1,
    )


def _how(run: Found) -> str:
    """Return how a run ended, as a verb; a flow may choose its state's name."""
    name = str(run["state_name"])
    return {"TimedOut": "timed out", "Cancelled": "was cancelled"}.get(name, name.lower())


def is_of_an_arrival(run: Found) -> bool:
    """Return whether a run was started for an arrival; its failure is shown with the arrival's files."""
    return bool(part(run, "parameters").get("arrival_id"))


def was_cancelled_by_a_limit(state_type: str, message: str, run_count: int) -> bool:
    """Return whether Prefect cancelled a run before it ran, because of its deployment's concurrency limit."""
    return state_type == "CANCELLED" and run_count == 0 and message.startswith(OVER_LIMIT)


def _needs_attention(run: Found) -> bool:
    if is_of_an_arrival(run):
        return False
    message = part(run, "state").get("message") or ""
    is_cancelled = run["state_type"] == "CANCELLED"  # usually by a user, who knows about it
    return not is_cancelled or was_cancelled_by_a_limit("CANCELLED", message, run.get("run_count") or 0)


T = TypeVar("T")

BY_OTHERS: Mapping[str, object] = {"operator": "or_", "is_null_": True, "type_": ["SCHEDULE", "DEPLOYMENT", "USER"]}
"""Filter for runs that no automation has created; those belong to arrivals. Null: a user at a command line."""


def _ended_runs(
    api: PrefectApi, deployments: Iterable[str], types: Sequence[str], since: datetime, most: int
) -> list[Found]:
    def read(ids: Sequence[str]) -> Iterable[Found]:
        wanted = {
            "deployment_id": {"any_": ids},
            "state": {"type": {"any_": types}},
            "end_time": {"after_": since.isoformat()},
            "created_by": BY_OTHERS,
        }
        return api.results("/flow_runs/filter", {"flow_runs": wanted, "sort": "END_TIME_DESC"})

    return _latest_of(deployments, most, read, lambda run: str(run["deployment_id"]))


def _latest_of(
    deployments: Iterable[str],
    most: int,
    read: Callable[[Sequence[str]], Iterable[T]],
    deployment_of: Callable[[T], str],
) -> list[T]:
    """Return the `most` latest results, and as many again of the deployments that are not among them.

    So the many results of one deployment neither hide those of another nor all have to be read.
    """
    found: list[T] = []
    left = set(deployments)
    while left:
        some = list(islice(read(sorted(left)), most))
        found += some
        if len(some) < most:
            break
        left -= {deployment_of(one) for one in some}
    return found


def _makes_up_for(later: Found, run: Found, facts: RunFacts) -> bool:
    """Return whether a later run has done the work of an earlier one of the same deployment."""
    if later["deployment_id"] != run["deployment_id"] or _ended(later) <= _ended(run):
        return False
    if _cause(later) == _cause(run):
        return True
    schedule, other = _schedule(run), _schedule(later)
    if schedule is None or other is None:
        return False
    deployment = facts.deployment_of(run) or {}
    # Another schedule of the same deployment may do other work, unless it has replaced this one.
    return schedule == other or schedule not in {one["id"] for one in parts(deployment, "schedules")}


def _schedule(run: Found) -> str | None:
    creator = part(run, "created_by")
    return str(creator.get("id")) if creator.get("type") == "SCHEDULE" else None


def _cause(run: Found) -> str:
    return json.dumps(part(run, "parameters"), sort_keys=True)


def _ended(run: Found) -> datetime:
    return datetime.fromisoformat(run.get("end_time") or run["state"]["timestamp"])


def _missing_runs(api: PrefectApi, ours: frozenset[str], now: datetime) -> list[RunIssue]:
    """Return the latest missing run of each deployment, from the sensor's own events."""

    def read(ids: Sequence[str]) -> Iterable[Event]:
        return api.events(
            {
                "event": {"name": [MISSING]},
                "resource": {"id": [f"{_DEPLOYMENT}{id_}" for id_ in ids]},
                "occurred": {"since": (now - LOOK_BACK).isoformat()},
                "order": "DESC",
            }
        )

    found: dict[str, RunIssue] = {}
    for event in _latest_of(ours, EVENTS_PAGE, read, _deployment_of):
        if (identity := _deployment_of(event)) not in found:
            found[identity] = _missing(identity, event.payload)
    return list(found.values())


_DEPLOYMENT = "prefect.deployment."


def _deployment_of(event: Event) -> str:
    return event.resource["prefect.resource.id"].removeprefix(_DEPLOYMENT)


def _missing(deployment: str, payload: Mapping[str, Any]) -> RunIssue:
    name, quoted = str(payload["deployment"]), str(payload["deployment"]).replace("'", "'\\''")
    return RunIssue(
        IssueKind.MISSING,
        deployment,
        name,
        one_line(f"the run of {name} at {payload['first']} does not exist"),
        "the schedule wanted it, and Prefect's scheduler did not make it or someone deleted it",
        f"`just prefect deployment run '{quoted}'` runs it now, or `just dismiss {deployment}`",
        datetime.fromisoformat(payload["due"]),
        more=int(payload.get("more") or 0),
    )


def _is_made_up_for(missing: RunIssue, succeeded: Iterable[Found]) -> bool:
    return any(run["deployment_id"] == missing.key and _ended(run) > missing.since for run in succeeded)


def long_after() -> timedelta:
    """Return how long a run may take, as alert-on-long-run.yaml says."""
    try:
        return timedelta(seconds=float(yaml.safe_load(LONG_RUN_FILE.read_text("utf-8"))["trigger"]["within"]))
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return LONG_AFTER


def one_line(text: str) -> str:
    """Return text from outside as one short line, without credentials and control characters."""
    return Alert.of(text, "").subject


def numbered(issues: Sequence[RunIssue]) -> dict[str, int]:
    """Return the number of issues of each kind."""
    return {kind: sum(1 + one.more for one in issues if one.kind is kind) for kind in IssueKind}


def _local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"
