"""Fates: what Prefect knows of arrivals of which the ledger knows nothing any more."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sensors.runs.api import PrefectApi, Report, Run
from sensors.runs.outcomes import ARTIFACT_KEY, Outcome, outcome_of


@dataclass(frozen=True)
class Fate:
    """The run that decides about an arrival, and its outcome unless that run is still at work."""

    run: Run
    outcome: Outcome | None = None


def read_fates(api: PrefectApi, arrival_ids: Iterable[str]) -> dict[str, Fate]:
    """Return what became of arrivals; those of which nothing is known, or whose run crashed, are left out.

    A run tells its files only when it ends, so runs at work are known by the parameter they were started with, and
    so are those that failed before they came to a file. Raises ApiError.
    """
    keys = {ARTIFACT_KEY.format(id_): id_ for id_ in arrival_ids}
    # The runs first: one that ends meanwhile counts as at work and is followed to its end.
    silent = _latest(api.runs_of_arrivals(unless=("COMPLETED", "CRASHED")))
    reports = api.latest_reports(list(keys))
    runs = api.runs(sorted({report.run_id for report in reports.values() if report.run_id}))
    fates = {id_: _fate(silent.get(id_), reports.get(key), runs) for key, id_ in keys.items()}
    return {id_: fate for id_, fate in fates.items() if fate is not None}


def _latest(runs: Iterable[Run]) -> dict[str, Run]:
    """Return for each arrival its run that is at work, or else the one that ended last."""
    ordered = sorted(runs, key=lambda run: (not run.ended, run.since))
    return {run.arrival_id: run for run in ordered if run.arrival_id}


def _fate(silent: Run | None, report: Report | None, runs: Mapping[str, Run]) -> Fate | None:
    if silent is not None and not silent.ended:
        return Fate(silent)
    if report is not None:
        run = runs.get(report.run_id) or _deleted_run(report)
        if not run.ended:
            return Fate(run)
        crashed = run.state_type == "CRASHED"  # the sensor would have the arrival announced again
        return None if crashed else Fate(run, outcome_of(run, report.table))
    return None if silent is None else Fate(silent, outcome_of(silent, ()))


def _deleted_run(report: Report) -> Run:
    """Return a run that somebody has deleted since, as far as its report tells it."""
    rejected = sum(row.get("outcome") == "rejected" for row in report.table)
    run = Run(report.run_id, "", "Completed", "COMPLETED", "", ended=True, since=report.created_at)
    if not rejected:
        return run
    message = f"{rejected} of {len(report.table)} files rejected; the run was deleted since"
    return replace(run, state="Failed", state_type="FAILED", message=message)
