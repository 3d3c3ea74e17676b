"""Files and folders that are deleted, replaced or cut while the sensor uses them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sensors.alerts.in_place import FolderGuard, LedgerGuard
from sensors.ledger import Ledger, LedgerMovedError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def used(path: Path):
    """A ledger that another thread would use."""
    with Ledger(path) as ledger:
        yield ledger


@pytest.fixture
def guard(path: Path, used: Ledger):
    guard = LedgerGuard(path)
    note(used, "before")
    assert not list(guard.look())
    yield guard
    guard.close()


def note(ledger: Ledger, inbox: str) -> None:
    with ledger.transaction():
        ledger.change(
            "INSERT INTO expectations (inbox, rule, checked_until) VALUES (?, '', '2026-11-24T09:00:00+00:00')",
            (inbox,),
        )


def noted(ledger: Ledger) -> list[str]:
    return [row["inbox"] for row in ledger.rows("SELECT inbox FROM expectations ORDER BY rowid")]


def test_a_ledger_in_its_place_is_no_issue(guard: LedgerGuard, used: Ledger) -> None:
    note(used, "again")
    assert not list(guard.look())


@pytest.mark.parametrize("names", [("ledger.db",), ("ledger.db", "ledger.db-wal", "ledger.db-shm"), ("ledger.db-wal",)])
def test_nothing_is_written_into_a_deleted_ledger_until_it_is_restored_and_nothing_is_missing_then(
    guard: LedgerGuard, used: Ledger, path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        path.with_name(name).unlink()
    with pytest.raises(LedgerMovedError, match="deleted or replaced"):
        note(used, "lost")
    [issue] = guard.look()
    assert "restored from the open file" in issue.detail
    note(used, "after")
    assert not list(guard.look())
    with Ledger(path) as anew:
        anew.check()
        assert noted(anew) == noted(used) == ["before", "after"]


def test_a_ledger_whose_place_another_file_has_taken_is_kept_beside_it(
    guard: LedgerGuard, used: Ledger, path: Path
) -> None:
    with Ledger(path.with_name("other.db")) as other:
        note(other, "other")
    path.with_name("other.db").replace(path)
    for _ in range(3):
        with pytest.raises(LedgerMovedError):
            note(used, "lost")
        [issue] = guard.look()
        assert "another file was put in its place" in issue.detail
    [kept] = path.parent.glob("ledger.db.in-use-*")
    with Ledger(kept) as ours:
        assert noted(ours) == ["before"]


def test_a_ledger_that_was_cut_overwritten_or_emptied_is_an_issue_until_it_is_rebuilt(
    guard: LedgerGuard, used: Ledger, path: Path
) -> None:
    used.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    assert not list(guard.look())
    whole = path.read_bytes()
    for damaged, why in (
        (whole[:4096], "it was cut from"),
        (b"no database" + whole[11:], "it was overwritten"),
        (b"", "or emptied"),
    ):
        path.write_bytes(damaged)
        assert not list(guard.look()), "it may be a checkpoint that is under way"
        [issue] = guard.look()
        assert why in issue.detail
        assert "just rebuild" in issue.mend
        path.write_bytes(whole)
        assert not list(guard.look())


def test_looking_at_the_ledger_leaves_the_locks_that_this_process_has_on_it(
    guard: LedgerGuard, used: Ledger, path: Path
) -> None:
    with used.transaction():
        for _ in range(3):
            assert not list(guard.look())
        code = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        other = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert "database is locked" in other.stderr


def test_one_that_cannot_be_restored_says_why(guard: LedgerGuard, path: Path) -> None:
    path.unlink()
    restored = path.with_name("ledger.db.restored")
    restored.mkdir()
    [issue] = guard.look()
    assert "cannot be restored" in issue.detail
    restored.rmdir()
    [issue] = guard.look()
    assert "restored from the open file" in issue.detail


# -- folders


@pytest.fixture
def folders(tmp_path: Path) -> FolderGuard:
    for name in ("state/arrivals", "state/inbox/metrics", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    state = tmp_path / "state"
    inboxes = {"metrics": state / "inbox" / "metrics", "other": tmp_path / "elsewhere"}
    guard = FolderGuard({"folder of arrivals": state / "arrivals"}, inboxes, state / "inbox")
    assert not list(guard.look())
    return guard


def test_an_inbox_of_our_own_that_is_deleted_is_made_again(folders: FolderGuard, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "state" / "inbox" / "metrics")
    [issue] = folders.look()
    assert (issue.title, issue.patience_seconds) == ("The folder of inbox metrics was deleted", 0)
    assert (tmp_path / "state" / "inbox" / "metrics").is_dir()
    assert not list(folders.look())


def test_an_inbox_elsewhere_is_not_made_again_as_a_mount_may_be_missing(folders: FolderGuard, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").rmdir()
    for _ in range(2):
        [issue] = folders.look()
        assert issue.title == "The folder of inbox other is gone"
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "elsewhere").mkdir()
    assert not list(folders.look())


def test_a_folder_of_arrivals_that_is_another_one_is_an_issue_until_it_is_back(
    folders: FolderGuard, tmp_path: Path
) -> None:
    arrivals = tmp_path / "state" / "arrivals"
    arrivals.rename(tmp_path / "away")
    assert [issue.title for issue in folders.look()] == ["The folder of arrivals was deleted or replaced"]
    arrivals.mkdir()
    assert [issue.title for issue in folders.look()] == ["The folder of arrivals was deleted or replaced"]
    arrivals.rmdir()
    (tmp_path / "away").rename(arrivals)
    assert not list(folders.look())
