"""What needs attention, in the folder `failed/` and in the status."""

import pytest

from sensors.arrivals.failed_links import FailedFolder
from sensors.config.settings import Settings
from sensors.ledger import Ledger
from sensors.reports.files import read_needs_attention


@pytest.fixture
def settings(tmp_path):
    return Settings(state_dir=tmp_path)


@pytest.fixture
def arrival(settings):
    """A failed arrival of one good and one bad file, and another one that gets no run."""
    folder = settings.arrivals_dir / "2026-11-24" / "metrics-1"
    folder.mkdir(parents=True)
    with Ledger(settings.ledger_path) as ledger:
        for arrival_id, state, attempt in (("metrics-1", "failed", 1), ("metrics-2", "announced", 3)):
            ledger.change(
                "INSERT INTO arrivals (id, inbox, folder, state, attempt, created_at)"
                " VALUES (?, 'metrics', ?, ?, ?, '2026')",
                (arrival_id, str(folder), state, attempt),
            )
        ledger.change(
            "INSERT INTO announcements (event_id, arrival_id, attempt, intended_at, failure)"
            " VALUES ('e', 'metrics-2', 2, '2026', 'Deployment not found')"
        )
        for name, state, reason in (("good.csv", "loaded", None), ("bad.csv", "rejected", "line 3: too many columns")):
            (folder / name).write_text(name)
            ledger.change(
                "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, reason, arrival_id,"
                " seen_at, ended_at) VALUES ('metrics', ?, ?, '1', '1', 1, 1, ?, ?, 'metrics-1',"
                " '2026-11-24T09:00:00+00:00', '2026-11-24T09:00:00+00:00')",
                (name, name, state, reason),
            )
    return folder


def test_only_the_bad_files_of_a_failed_arrival_are_linked_with_their_reasons(settings, arrival):
    with Ledger(settings.ledger_path) as ledger:
        failed = FailedFolder(ledger, settings.failed_dir)
        failed.show_all()
        failed.show("metrics-1")
    shown = settings.failed_dir / "arrivals" / "metrics-1"
    assert sorted(path.name for path in shown.iterdir()) == ["REASONS.txt", "links"]
    (link,) = (shown / "links").iterdir()
    assert link.is_symlink()
    assert link.resolve() == arrival / "bad.csv"
    assert link.read_text() == "bad.csv"
    assert (shown / "REASONS.txt").read_text() == "bad.csv: line 3: too many columns\n"


@pytest.mark.usefixtures("arrival")
def test_the_status_can_show_each_bad_file_and_each_arrival_without_a_run(settings):
    trouble = read_needs_attention(settings)
    assert [(file.name, file.reason) for file in trouble.files] == [("bad.csv", "line 3: too many columns")]
    assert [(one.id, one.attempt, one.reason) for one in trouble.arrivals] == [("metrics-2", 3, "Deployment not found")]


def test_before_anything_was_dropped_there_is_no_trouble(settings):
    trouble = read_needs_attention(settings)
    assert (trouble.files, trouble.arrivals) == ((), ())
