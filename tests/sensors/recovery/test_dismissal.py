"""Dismissal: what a person has settled needs no attention any more, until it fails once more."""

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sensors.__main__ import app
from sensors.config.settings import Settings
from sensors.ledger import Ledger, files
from sensors.ledger.database import stamp
from sensors.recovery.replay import DismissalError, dismiss
from sensors.reports.files import bad_files, count_needing_attention, needing_attention, read_needs_attention
from sensors.runs.issues import IssueKind, RunIssue
from sensors.stack.errors import StackError
from tests.dropped_arrivals import record_arrival, record_waiting
from tests.served_page import page_settings, served_page

TAKEN = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
LATER = TAKEN + timedelta(hours=1)


@pytest.fixture
def bad(ledger: Ledger) -> Ledger:
    """A ledger with three arrivals, of each of which something was not loaded, and a file that waits."""
    record_arrival(ledger, "m-0", TAKEN, {"a.csv": "rejected", "good.csv": "loaded"}, state="failed")
    record_arrival(ledger, "m-1", TAKEN + timedelta(minutes=1), {"a.csv": "failed", "b.csv": "failed"}, state="failed")
    record_arrival(ledger, "m-2", TAKEN + timedelta(minutes=2), {"c.csv": "failed"}, state="failed", inbox="orders")
    record_waiting(ledger, "waiting.csv", TAKEN)
    return ledger


@pytest.fixture
def settings(bad: Ledger, tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


def needed(ledger: Ledger) -> list[str]:
    return [f"{file.arrival_id}/{file.name}" for file in needing_attention(ledger, 10)]


ALL = ["m-2/c.csv", "m-1/b.csv", "m-1/a.csv", "m-0/a.csv"]


def test_whatever_was_not_loaded_needs_a_person_the_latest_first(bad):
    assert needed(bad) == ALL
    assert [file.name for file in needing_attention(bad, 1)] == ["c.csv"]
    assert count_needing_attention(bad) == 4


@pytest.mark.parametrize(
    ("wanted", "left", "said"),
    [
        ("m-1", ["m-2/c.csv", "m-0/a.csv"], "2 files need no attention any more"),
        ("a.csv", ["m-2/c.csv", "m-1/b.csv"], "2 files need no attention any more"),
        ("c.csv", ALL[1:], "1 file needs no attention any more"),
        (None, [], "4 files need no attention any more"),
    ],
)
def test_an_arrival_a_name_or_everything_is_dismissed(settings, bad, wanted, left, said):
    assert dismiss(settings, wanted, LATER).startswith(said)
    assert needed(bad) == left
    assert count_needing_attention(bad) == len(left)


def issue(run_id: str, name: str, *, is_dismissable: bool = True) -> RunIssue:
    return RunIssue(
        IssueKind.FAILED, run_id, "ETL/etl", f"run {name}", "boom", "mend it", TAKEN, run_id, name, is_dismissable
    )


@pytest.mark.parametrize("wanted", ["r-1", "otter", "etl", "ETL/etl"])
def test_a_run_is_dismissed_by_its_id_its_name_or_its_deployments(settings, bad, wanted):
    said = dismiss(settings, wanted, LATER, lambda: [issue("r-1", "otter")])
    assert said == "run otter: this needs attention no more"
    assert files.of_runs(bad) == {"r-1": LATER}
    assert needed(bad) == ALL


def test_everything_is_dismissed_with_the_runs_and_no_server_is_asked(settings, bad):
    def ask() -> list[RunIssue]:
        raise AssertionError

    dismiss(settings, None, LATER, ask)
    assert files.of_runs(bad) == {"*": LATER}


def test_a_run_that_waits_goes_on_when_that_is_mended_and_is_not_dismissed(settings, bad):
    with pytest.raises(DismissalError, match="otter waits, and goes on when that is mended: run otter: boom; mend it"):
        dismiss(settings, "otter", LATER, lambda: [issue("p/paused", "otter", is_dismissable=False)])
    assert files.of_runs(bad) == {}


def test_what_was_dismissed_long_ago_is_forgotten(settings, bad):
    files.record_runs(bad, ["r-1"], TAKEN)
    files.record_runs(bad, ["r-2"], TAKEN + files.KEPT_FOR + timedelta(seconds=1))
    assert list(files.of_runs(bad)) == ["r-2"]


def test_what_became_of_dismissed_files_stays_as_it_was(settings, bad):
    before = [dict(row) for row in bad.rows("SELECT * FROM files ORDER BY id")]
    dismiss(settings, None, LATER)
    after = [dict(row) for row in bad.rows("SELECT * FROM files ORDER BY id")]
    dismissed = {row["id"] for row in after if row["dismissed_at"]}
    assert dismissed == {row["id"] for row in before if row["state"] in {"rejected", "failed"}}
    assert [row | {"dismissed_at": None} for row in after] == before
    assert {file.dismissed_at for file in bad_files(bad, 10)} == {LATER}


def test_a_file_that_fails_once_more_needs_a_person_anew(settings, bad):
    dismiss(settings, "c.csv", LATER)
    again = stamp(LATER + timedelta(minutes=1))
    with bad.transaction():
        bad.change("UPDATE files SET ended_at = ? WHERE name = 'c.csv'", (again,))
    assert needed(bad)[0] == "m-2/c.csv"
    assert bad_files(bad, 1)[0].dismissed_at is None
    assert dismiss(settings, "c.csv", LATER + timedelta(hours=1)).startswith("1 file")
    assert "m-2/c.csv" not in needed(bad)


def test_what_failed_after_the_list_was_made_is_not_dismissed_with_it(bad):
    latest_seen = TAKEN + timedelta(minutes=1, seconds=1)  # when m-1 ended
    assert files.record_until(bad, latest_seen, LATER) == 3
    assert needed(bad) == ["m-2/c.csv"]


def test_the_first_to_dismiss_a_file_wins(bad):
    (file,) = [one for one in needing_attention(bad, 10) if one.name == "c.csv"]
    assert [files.record_file(bad, file.id, LATER) for _ in range(2)] == [1, 0]
    (loaded,) = bad.rows("SELECT id FROM files WHERE name = 'good.csv'")
    assert files.record_file(bad, loaded["id"], LATER) == 0


def test_the_status_shows_what_is_left_and_counts_the_rest(settings):
    trouble = read_needs_attention(settings, 1)
    assert ([file.name for file in trouble.files], trouble.more_files) == (["c.csv"], 3)
    dismiss(settings, "m-1", LATER)
    assert read_needs_attention(settings, 1).more_files == 1
    dismiss(settings, None, LATER)
    assert (read_needs_attention(settings).files, read_needs_attention(settings).more_files) == ((), 0)


# -- mistakes


def test_what_is_settled_or_unknown_is_distinguished(settings, tmp_path):
    dismiss(settings, None, LATER)
    assert dismiss(settings, None, LATER) == "no file needs attention"
    for settled in ("m-1", "a.csv", "good.csv"):
        with pytest.raises(DismissalError, match=rf"no file of {settled} needs attention; `just status`"):
            dismiss(settings, settled, LATER)
    with pytest.raises(
        DismissalError, match=r"expected an arrival's id, a file's name, a run or --all, got nothing\.csv"
    ):
        dismiss(settings, "nothing.csv", LATER)
    with pytest.raises(DismissalError, match="nothing has been dropped yet"):
        dismiss(Settings(state_dir=tmp_path / "elsewhere"), None, LATER)


@pytest.mark.parametrize("arguments", [[], ["m-1", "--all"]])
def test_the_command_wants_to_know_what_and_nothing_besides(arguments):
    result = CliRunner().invoke(app, ["dismiss", *arguments])
    assert isinstance(result.exception, StackError)
    assert "either an arrival's id, a file's name or a run, or --all" in str(result.exception)


def test_the_command_says_what_it_did(settings, monkeypatch):
    monkeypatch.setenv("STATE_DIR", str(settings.state_dir))
    result = CliRunner().invoke(app, ["dismiss", "c.csv"])
    assert (result.exit_code, result.output) == (
        0,
        "1 file needs no attention any more; what became of them stays listed\n",
    )


def test_a_ledger_of_the_version_before_dismissals_takes_them(bad, settings, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    with bad.transaction():
        bad.change("DROP INDEX files_blocked")
        for column in ("blocked_since", "blocked_reason", "blocked_as", "blocked_reported_at"):
            bad.change(f"ALTER TABLE files DROP COLUMN {column}")
        for column in ("manifest", "rules"):
            bad.change(f"ALTER TABLE arrivals DROP COLUMN {column}")
        bad.change("DROP TABLE dismissed_runs")
        bad.change("DROP INDEX files_dismissed")
        bad.change("ALTER TABLE files DROP COLUMN dismissed_at")
        bad.change("PRAGMA user_version = 3")
    bad.close()
    shutil.copy(settings.ledger_path, old / "ledger.db")
    assert dismiss(Settings(state_dir=old), "m-1", LATER).startswith("2 files")


# -- a disk that is full


@pytest.fixture
def full(tmp_path: Path, bad: Ledger) -> Generator[Settings]:
    """A stack whose ledger lies on a real file system of 1 MiB that has no room left."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    try:
        bad.close()
        shutil.copy(tmp_path / "ledger.db", disk)
        (disk / "logs").mkdir()
        (disk / "logs" / "audit.log").write_text("{}\n")  # its block is there; a new one would take the last of them
        with Ledger(disk / "ledger.db"), (disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 512):
                pass
        yield Settings(state_dir=disk)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_on_a_full_disk_the_command_says_so_in_one_line(full, monkeypatch):
    monkeypatch.setenv("STATE_DIR", str(full.state_dir))
    result = CliRunner().invoke(app, ["dismiss", "--all"])
    assert isinstance(result.exception, StackError)
    (line,) = result.exception.lines
    assert line.endswith("database or disk is full; make room on the disk")


def test_on_a_full_disk_the_page_says_so_in_one_line(full):
    with served_page(page_settings(full.state_dir)) as page, page.client() as client:
        answer = client.post("/files/dismiss", params={"until": "2026-11-25T00:00:00Z"})
    assert answer.status_code == 503
    assert answer.json()["detail"].endswith("database or disk is full; make room on the disk")
