"""Rebuild the ledger from the arrivals on disk and from what Prefect knows of them."""

import sqlite3
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from sensors.arrivals import manifest
from sensors.arrivals.duplicates import digest_of, is_marked_as_duplicates
from sensors.arrivals.failed_links import FailedFolder
from sensors.arrivals.manifest import ArrivalOnDisk, stored_arrivals
from sensors.config.inboxes import Duplicates, Inbox, read_inboxes
from sensors.config.settings import Settings
from sensors.files.durability import rename_without_replacing, sync_folder
from sensors.files.permissions import make_state_folder
from sensors.ledger import Ledger, announcements, maintenance
from sensors.ledger.arrivals import Arrival
from sensors.ledger.files import Dropped
from sensors.ledger.states import ArrivalState
from sensors.recovery.claims import give_back_claims, give_back_remote_claims
from sensors.runs.api import ApiError, PrefectApi, Report, Run
from sensors.runs.outcomes import ARTIFACT_KEY, RunOutcome, outcome_of


@dataclass(frozen=True)
class KnownOutcome:
    """The run that determines an arrival's outcome, and the outcome unless that run is still active."""

    run: Run
    outcome: RunOutcome | None = None


def read_fates(api: PrefectApi, arrival_ids: Iterable[str]) -> dict[str, KnownOutcome]:
    """Return the fates of arrivals; arrivals that Prefect does not know, or whose run crashed, are left out.

    A run reports its files only when it ends. Active runs, and runs that failed before they came to a file, are
    therefore found by the parameter they were started with. Raises ApiError.
    """
    keys = {ARTIFACT_KEY.format(id_): id_ for id_ in arrival_ids}
    # Runs are read before reports: a run that ends in between counts as active and is followed to its end.
    silent = _latest(api.runs_of_arrivals(unless=("COMPLETED", "CRASHED")))
    reports = api.latest_reports(list(keys))
    runs = api.runs(sorted({report.run_id for report in reports.values() if report.run_id}))
    fates = {id_: _fate(silent.get(id_), reports.get(key), runs) for key, id_ in keys.items()}
    return {id_: fate for id_, fate in fates.items() if fate is not None}


def _latest(runs: Iterable[Run]) -> dict[str, Run]:
    """Return for each arrival its active run, or else the run that ended last."""
    ordered = sorted(runs, key=lambda run: (not run.ended, run.since))
    return {run.arrival_id: run for run in ordered if run.arrival_id}


def _fate(silent: Run | None, report: Report | None, runs: Mapping[str, Run]) -> KnownOutcome | None:
    if silent is not None and not silent.ended:
        return KnownOutcome(silent)
    if report is not None:
        run = runs.get(report.run_id) or _deleted_run(report)
        if not run.ended:
            return KnownOutcome(run)
        crashed = run.state_type == "CRASHED"  # the sensor announces such an arrival again
        return None if crashed else KnownOutcome(run, outcome_of(run, report.table))
    return None if silent is None else KnownOutcome(silent, outcome_of(silent, ()))


def _deleted_run(report: Report) -> Run:
    """Return a run that has been deleted since, as far as its report describes it."""
    rejected = sum(row.get("outcome") == "rejected" for row in report.table)
    run = Run(report.run_id, "", "Completed", "COMPLETED", "", ended=True, since=report.created_at)
    if not rejected:
        return run
    message = f"{rejected} of {len(report.table)} files rejected; the run was deleted since"
    return replace(run, state="Failed", state_type="FAILED", message=message)


LOCK_SECONDS = 3.0
"""A sensor that repeatedly fails on its ledger holds the lock for a moment each time."""


class RebuildError(Exception):
    """The ledger was not rebuilt; the message says why and what to do."""


@dataclass(frozen=True)
class Rebuilt:
    """How much a rebuilt ledger holds, by state, and what else was done."""

    path: Path
    arrivals: Mapping[str, int]
    files: Mapping[str, int]
    aside: Path | None
    given_back: Sequence[Path]
    remote: Sequence[str] = ()
    """What was done with claims in remote inboxes, one line each."""
    damaged: Sequence[str] = ()
    """Manifests that cannot be used, one line each."""

    def lines(self) -> list[str]:
        """Return the report for the user, with the next step."""
        again = self.arrivals.get(ArrivalState.STAGED, 0)
        return [
            f"the ledger {self.path} is rebuilt",
            f"  arrivals: {_counted(self.arrivals)}",
            f"  files:    {_counted(self.files)}",
            *(f"  {path} was being taken; it is back and is taken again" for path in self.given_back),
            *(f"  {line}" for line in self.remote),
            *(f"  {line}" for line in self.damaged),
            *([f"  {again} of the arrivals will be announced again; what is loaded is skipped"] if again else []),
            f"the old ledger is {self.aside}; nothing needs it any more" if self.aside else "there was no old ledger",
            "next: `just up`; if that runs already and has given the sensor up, stop it (Ctrl-C) first",
        ]


def rebuild(settings: Settings, *, offline: bool = False) -> Rebuilt:
    """Create a new ledger and put the old one aside.

    With `offline`, Prefect is not asked, and all arrivals are announced again. A crash at any point leaves the old
    ledger, none, or the new one, and the rebuild can be repeated. Raises RebuildError, InboxesError.
    """
    inboxes = read_inboxes(settings.inboxes_file, settings.inbox_dir)
    try:
        make_state_folder(settings.state_dir)
        with _no_sensor(settings):
            return _rebuild(settings, inboxes, offline=offline)
    except (OSError, sqlite3.Error) as error:
        raise RebuildError(f"the ledger was not rebuilt: {error}; put that right and run it again") from error


@contextmanager
def _no_sensor(settings: Settings) -> Generator[None]:
    """Hold the ledger's lock, so that no sensor works on the state folder."""
    try:
        held = FileLock(f"{settings.ledger_path}.lock", timeout=LOCK_SECONDS, mode=0o600).acquire()
    except Timeout as error:
        raise RebuildError(
            f"a sensor works on {settings.state_dir}, so its ledger is left alone; stop `just up` and run this again"
        ) from error
    with held:
        yield


def _rebuild(settings: Settings, inboxes: Sequence[Inbox], *, offline: bool) -> Rebuilt:
    found = stored_arrivals(settings.arrivals_dir)
    fates = {} if offline else _ask(settings, [stored.id for stored in found])
    given_back = give_back_claims(inboxes, settings.arrivals_dir)
    remote = give_back_remote_claims(inboxes, settings.arrivals_dir)
    new = settings.ledger_path.with_name(f"{settings.ledger_path.name}.rebuilding")
    for leftover in maintenance.files_of_ledger(new):
        leftover.unlink(missing_ok=True)
    with Ledger(new) as ledger:
        maintenance.hurry(ledger)
        writer = _Writer(ledger, {inbox.name: inbox for inbox in inboxes}, settings.inbox_dir)
        failed = FailedFolder(ledger, settings.failed_dir)
        for stored in found:
            writer.write(stored, fates.get(stored.id))
            failed.refresh(stored.id)
        maintenance.finish(ledger)
        arrivals, files = maintenance.counts(ledger, "arrivals"), maintenance.counts(ledger, "files")
    damaged = [_put_aside_manifest(stored) for stored in found if stored.damage]
    aside = put_aside(settings.ledger_path, datetime.now(UTC))
    rename_without_replacing(new, settings.ledger_path)
    sync_folder(settings.state_dir)
    return Rebuilt(settings.ledger_path, arrivals, files, aside, given_back, remote, damaged)


def _put_aside_manifest(stored: ArrivalOnDisk) -> str:
    """Put a damaged manifest aside, so that it stops no run; return a line that says so."""
    manifest.set_aside(stored.folder)
    what = f"the manifest of {stored.folder} is damaged and was put aside"
    return f"{what}, its files are loaded as they are: {stored.damage}"


def _ask(settings: Settings, arrival_ids: Sequence[str]) -> dict[str, KnownOutcome]:
    try:
        with PrefectApi(settings.api_url, settings.auth_string) as api:
            return read_fates(api, arrival_ids)
    except ApiError as error:
        raise RebuildError(
            f"the ledger was left as it is, because Prefect cannot be asked what became of the arrivals: {error}\n"
            "`just rebuild --offline` asks no server and announces all of them again; what is loaded is skipped then"
        ) from error


@dataclass(frozen=True)
class _Writer:
    """Writes stored arrivals into a new ledger."""

    ledger: Ledger
    inboxes: Mapping[str, Inbox]
    inbox_dir: Path

    def write(self, stored: ArrivalOnDisk, fate: KnownOutcome | None) -> None:
        inbox = self.inboxes.get(stored.inbox)
        at = inbox.at("") if inbox else f"{self.inbox_dir / stored.inbox}/"
        files = [Dropped(at + file.name, file.name, file.identity) for file in stored.files]
        arrival = replace(_arrival(stored, fate), rules=inbox.load_rules if inbox else None)
        maintenance.record_found(self.ledger, arrival, fate.run.name if fate else None, files, stored.taken_at)
        if stored.manifest:
            digests = {file.name: file.sha256 for file in stored.manifest.files if file.sha256}
            maintenance.record_digests(self.ledger, stored.id, digests, stored.manifest.digest)
        elif inbox and inbox.duplicates is not Duplicates.LOAD:
            digests = {file.name: digest_of(stored.folder, file.name, file.identity) for file in files}
            known = {name: digest for name, digest in digests.items() if digest}
            maintenance.record_digests(self.ledger, stored.id, known)
        if fate and fate.outcome:
            outcome, ended_at = fate.outcome, fate.run.since
            announcements.record_outcome(self.ledger, stored.id, outcome.state, outcome.files, outcome.reason, ended_at)


def _arrival(stored: ArrivalOnDisk, fate: KnownOutcome | None) -> Arrival:
    """Return an arrival as it is before its outcome is known: running, skipped as a duplicate, or staged."""
    is_duplicate = fate is None and is_marked_as_duplicates(stored.folder)
    state = ArrivalState.RUNNING if fate else ArrivalState.SKIPPED if is_duplicate else ArrivalState.STAGED
    run_id = fate.run.id if fate else None
    attempt = 1 if fate else 0
    return Arrival(stored.id, stored.inbox, stored.folder, state, attempt, None, run_id, None, is_duplicate)


def put_aside(ledger_path: Path, now: datetime) -> Path | None:
    """Rename a ledger's files to `ledger.db.broken-<time>`, never over others; None if there was no ledger.

    The database is renamed first: without its -wal file it would pass for a complete database in an earlier state.
    """
    aside = _free_name(ledger_path, now)
    moved = [
        (file, kept)
        for file, kept in zip(maintenance.files_of_ledger(ledger_path), maintenance.files_of_ledger(aside), strict=True)
        if file.exists()
    ]
    for file, kept in moved:
        rename_without_replacing(file, kept)
    sync_folder(ledger_path.parent)
    return aside if moved else None


def _free_name(ledger_path: Path, now: datetime) -> Path:
    aside = ledger_path.with_name(f"{ledger_path.name}.broken-{now:%Y%m%d-%H%M%S}")
    taken = any(file.exists() for file in maintenance.files_of_ledger(aside))
    return _free_name(ledger_path, now + timedelta(seconds=1)) if taken else aside


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in counts.items()) or "none"
