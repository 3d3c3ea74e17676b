"""What is deleted when it is old, and what never is."""

from datetime import timedelta

import pytest

from sensors.config.inboxes import Inbox
from sensors.daemon import inbox_loops
from sensors.daemon.inbox_loops import Pruner
from sensors.ledger.database import stamp


@pytest.fixture
def inbox(tmp_path):
    return Inbox(name="metrics", path=tmp_path / "inbox", keep_days=30)


@pytest.fixture
def pruner(ledger, inbox, hand_clock):
    return Pruner(ledger, [inbox], hand_clock.clock)


@pytest.fixture
def arrive(ledger, tmp_path, hand_clock):
    """Make an arrival that ended some days ago, with one file of a state."""

    def make(name: str, state: str, file_state: str, days: float):
        folder = tmp_path / "arrivals" / "day" / name
        folder.mkdir(parents=True)
        (folder / "a.csv").write_text(name)
        ended = stamp(hand_clock.now - timedelta(days=days))
        ledger.change(
            "INSERT INTO arrivals (id, inbox, folder, state, created_at, ended_at) VALUES (?, 'metrics', ?, ?, ?, ?)",
            (name, str(folder), state, ended, ended if state in {"loaded", "failed", "skipped"} else None),
        )
        ledger.change(
            "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, arrival_id, seen_at)"
            " VALUES ('metrics', ?, 'a.csv', '1', '1', 1, 1, ?, ?, '2026')",
            (name, file_state, name),
        )
        ledger.change("INSERT INTO announcements VALUES (?, ?, 1, '2026', NULL, NULL, NULL)", (name, name))
        return folder

    return make


def left(ledger) -> list[str]:
    return [row["id"] for row in ledger.rows("SELECT id FROM arrivals ORDER BY id")]


@pytest.mark.parametrize("state", ["loaded", "skipped"])
def test_what_ended_well_long_ago_goes_with_all_that_is_known_of_it(ledger, pruner, arrive, state):
    old, young = arrive("old", state, state, 31), arrive("young", state, state, 29)
    assert not pruner.step()
    assert (left(ledger), old.exists(), young.exists()) == (["young"], False, True)
    assert len(ledger.rows("SELECT * FROM files")) == len(ledger.rows("SELECT * FROM announcements")) == 1


@pytest.mark.parametrize(
    ("state", "file_state"),
    [("failed", "failed"), ("failed", "loaded"), ("running", "staged"), ("staged", "staged"), ("loaded", "rejected")],
)
def test_what_is_unfinished_or_failed_stays_however_old(ledger, pruner, arrive, state, file_state):
    folder = arrive("old", state, file_state, 3000)
    pruner.step()
    assert left(ledger) == ["old"]
    assert (folder / "a.csv").exists()


def test_without_a_limit_everything_is_kept(ledger, inbox, hand_clock, arrive):
    arrive("old", "loaded", "loaded", 3000)
    Pruner(ledger, [inbox.model_copy(update={"keep_days": None})], hand_clock.clock).step()
    assert left(ledger) == ["old"]


def test_a_crash_while_files_go_leaves_the_arrival_to_be_pruned_again(ledger, pruner, arrive, monkeypatch):
    folder = arrive("old", "loaded", "loaded", 31)

    def crash(_place: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inbox_loops, "kill_point", crash)
    with pytest.raises(KeyboardInterrupt):
        pruner.step()
    assert left(ledger) == ["old"]
    monkeypatch.undo()
    pruner.step()
    assert (left(ledger), folder.exists()) == ([], False)


def test_many_are_deleted_in_steps(ledger, pruner, arrive):
    for n in range(inbox_loops.AT_ONCE + 1):
        arrive(f"old{n:02}", "loaded", "loaded", 31)
    assert pruner.step()
    assert not pruner.step()
    assert left(ledger) == []


def test_withdrawn_files_and_notices_that_were_sent_go_as_well(ledger, pruner, hand_clock):
    old, young = stamp(hand_clock.now - timedelta(days=31)), stamp(hand_clock.now)
    for name, at in (("old", old), ("young", young)):
        ledger.change(
            "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, seen_at, ended_at)"
            " VALUES ('metrics', ?, 'a.csv', '1', '1', 1, 1, 'withdrawn', ?, ?)",
            (name, at, at),
        )
        ledger.change("INSERT INTO notices VALUES (?, ?, 'e', 'metrics', '{}', ?, ?)", (name, name, at, at))
    ledger.change("INSERT INTO notices VALUES ('unsent', 'unsent', 'e', 'metrics', '{}', ?, NULL)", (old,))
    pruner.step()
    assert [row["path"] for row in ledger.rows("SELECT path FROM files")] == ["young"]
    assert [row["key"] for row in ledger.rows("SELECT key FROM notices ORDER BY key")] == ["unsent", "young"]
