"""The intake of one inbox, with real files, real hints, and a clock turned by hand."""

import errno
import os
import threading
import time

import pytest

from sensors.arrivals import move
from sensors.arrivals.failed_links import FailedFolder
from sensors.arrivals.staging import Stager
from sensors.inbox.intake import Intake
from sensors.inbox.rejections import Rejections
from sensors.inbox.watcher import Watch
from sensors.ledger import arrivals
from sensors.ledger.states import FileState
from sensors.reports.files import journey_of
from tests.dropped_arrivals import waiting_files


@pytest.fixture
def wake():
    return threading.Event()


@pytest.fixture
def watch(inbox, wake):
    watch = Watch(inbox.path, wake)
    yield watch
    watch.close()


@pytest.fixture
def intake(inbox, watch, ledger, tmp_path, hand_clock):
    return new_intake(inbox, watch, ledger, tmp_path, hand_clock)


def new_intake(inbox, watch, ledger, tmp_path, hand_clock) -> Intake:
    stager = Stager(ledger, tmp_path / "arrivals", hand_clock.clock)
    rejections = Rejections(inbox, ledger, FailedFolder(ledger, tmp_path / "failed"), hand_clock.clock)
    return Intake(inbox, watch, ledger, stager, rejections, hand_clock.clock)


def names_staged(tmp_path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "arrivals").glob("*/*/[!.]*"))


def until_idle(intake, hand_clock, seconds: float) -> None:
    """Let `seconds` pass on the clock in short steps."""
    for _ in range(round(seconds / 0.05)):
        hand_clock.turn(0.05)
        intake.step()


def until_settled(intake, hand_clock, count: int) -> None:
    """Let time pass until so many files wait that are complete: the kernel's hints come when they come."""
    deadline = time.monotonic() + 10
    while intake._ledger.rows("SELECT count(*) FROM files WHERE state = 'settled'")[0][0] < count:
        assert time.monotonic() < deadline, "they did not settle"
        until_idle(intake, hand_clock, 0.5)


def test_a_file_that_was_written_and_closed_is_taken_after_the_grace_period(intake, inbox, wake, hand_clock, tmp_path):
    intake.step()
    (inbox.path / "a.csv").write_text("a\n1\n")
    assert wake.wait(5), "closing the file is a hint"
    intake.step()
    assert names_staged(tmp_path) == []
    hand_clock.turn(0.1)
    assert intake.step().found_work
    assert names_staged(tmp_path) == ["a.csv"]


def test_a_file_that_was_renamed_in_is_taken_at_once(intake, inbox, wake, hand_clock, tmp_path):
    intake.step()
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "a.csv").rename(inbox.path / "a.csv")
    assert wake.wait(5), "the rename is a hint"
    until_idle(intake, hand_clock, 0.2)
    assert names_staged(tmp_path) == ["a.csv"]


def test_a_file_that_was_there_before_is_taken_after_the_quiet_period(intake, inbox, hand_clock, tmp_path):
    (inbox.path / "before.csv").write_text("a\n1\n")
    intake.watch.fetch()
    fresh = new_intake(inbox, Watch(inbox.path), intake._ledger, tmp_path, hand_clock)
    until_idle(fresh, hand_clock, 0.8)
    assert names_staged(tmp_path) == []
    until_idle(fresh, hand_clock, 0.4)
    assert names_staged(tmp_path) == ["before.csv"]


def test_a_file_is_not_taken_while_somebody_writes_it(intake, inbox, hand_clock, tmp_path):
    with (inbox.path / "slow.csv").open("w") as slow:
        slow.write("a\n")
        slow.flush()
        until_idle(intake, hand_clock, 20)
        assert names_staged(tmp_path) == []
        assert journey_of(intake._ledger, "slow.csv").state is FileState.SEEN
    until_idle(intake, hand_clock, 2)
    assert names_staged(tmp_path) == ["slow.csv"]


def test_an_empty_file_waits_for_its_content(intake, inbox, hand_clock, tmp_path):
    (inbox.path / "empty.csv").touch()
    until_idle(intake, hand_clock, 20)
    assert names_staged(tmp_path) == []
    (inbox.path / "empty.csv").write_text("a\n1\n")
    until_idle(intake, hand_clock, 7)
    assert names_staged(tmp_path) == ["empty.csv"]


def test_a_file_that_cannot_be_loaded_is_rejected_once_and_stays(intake, inbox, hand_clock, tmp_path):
    (inbox.path / "report.pdf").write_text("%PDF")
    until_idle(intake, hand_clock, 12)
    rows = intake._ledger.rows("SELECT name, state, reason FROM files")
    assert [(row["name"], row["state"]) for row in rows] == [("report.pdf", "rejected")]
    again = new_intake(inbox, intake.watch, intake._ledger, tmp_path, hand_clock)
    until_idle(again, hand_clock, 12)
    assert len(intake._ledger.rows("SELECT * FROM files")) == 1
    assert (inbox.path / "report.pdf").read_text() == "%PDF"
    shown = tmp_path / "failed" / "inboxes" / "metrics"
    assert (shown / "links" / "report.pdf").read_text() == "%PDF"
    assert "report.pdf: inbox 'metrics' takes *.csv" in (shown / "REASONS.txt").read_text()


def test_the_same_name_dropped_again_is_another_file(intake, inbox, hand_clock, tmp_path):
    for text in ("first", "second"):
        (inbox.path / "a.csv").write_text(text)
        until_idle(intake, hand_clock, 7)
    texts = sorted(path.read_text() for path in (tmp_path / "arrivals").glob("*/*/[!.]*"))
    assert texts == ["first", "second"]


def test_a_file_that_its_owner_takes_away_is_forgotten(intake, inbox, hand_clock):
    path = inbox.path / "gone.csv"
    with path.open("w") as opened:
        opened.write("a")
        opened.flush()
        until_idle(intake, hand_clock, 6)
        path.unlink()
        until_idle(intake, hand_clock, 6)
    assert journey_of(intake._ledger, "gone.csv").state is FileState.WITHDRAWN
    assert waiting_files(intake._ledger, inbox.name) == []


def test_files_that_waited_when_the_sensor_died_are_taken_by_the_next(intake, inbox, hand_clock, tmp_path):
    held = inbox.model_copy(update={"max_in_flight": 1})
    first = new_intake(held, intake.watch, intake._ledger, tmp_path, hand_clock)
    for name in ("a", "b", "c"):
        (inbox.path / f"{name}.csv").write_text("x\n1\n")
        until_idle(first, hand_clock, 7)
    assert names_staged(tmp_path) == ["a.csv"]
    until_settled(first, hand_clock, 2)
    second = new_intake(inbox, intake.watch, intake._ledger, tmp_path, hand_clock)
    until_idle(second, hand_clock, 7)
    assert names_staged(tmp_path) == ["a.csv", "b.csv", "c.csv"]
    assert arrivals.count_unfinished(intake._ledger, inbox.name) == 2


def test_hints_that_are_lost_cost_time_and_no_file(intake, inbox, hand_clock, tmp_path):
    intake.step()
    for n in range(50):
        (inbox.path / f"{n}.csv").write_text("x\n1\n")
    deadline = time.monotonic() + 5
    lost: set[str] = set()
    while len(lost) < 50 and time.monotonic() < deadline:
        lost |= intake.watch.fetch().completed
    assert len(lost) == 50
    until_idle(intake, hand_clock, inbox.rescan_seconds + inbox.quiet_seconds + 0.1)
    assert len(names_staged(tmp_path)) == 50


def test_an_inbox_that_is_away_raises_and_is_scanned_when_it_is_back(intake, inbox, hand_clock, tmp_path):
    intake.step()
    away = inbox.path.with_name("away")
    inbox.path.rename(away)
    hand_clock.turn(inbox.rescan_seconds)
    with pytest.raises(FileNotFoundError):
        intake.step()
    (away / "a.csv").write_text("x\n1\n")
    away.rename(inbox.path)
    until_idle(intake, hand_clock, 2)
    assert names_staged(tmp_path) == ["a.csv"]


def test_the_order_of_arrival_is_kept_within_an_inbox(inbox, watch, ledger, tmp_path, hand_clock):
    strict = inbox.model_copy(update={"max_files": 1, "max_in_flight": 100})
    intake = new_intake(strict, watch, ledger, tmp_path, hand_clock)
    for age, name in enumerate(["b.csv", "c.csv", "a.csv"]):
        (inbox.path / name).write_text("x\n1\n")
        os.utime(inbox.path / name, (1000 + age, 1000 + age))
    until_idle(intake, hand_clock, 7)
    taken = [arrivals.contents(ledger, one.id)[0] for one in arrivals.to_announce(ledger, hand_clock.now)]
    assert taken == [["b.csv"], ["c.csv"], ["a.csv"]]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSPC])
def test_what_is_not_the_files_fault_stops_the_staging_and_it_is_finished_later(
    intake, inbox, hand_clock, tmp_path, monkeypatch, number
):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    (inbox.path / "a.csv").write_text("x\n1\n")
    with monkeypatch.context() as patched:
        patched.setattr("sensors.arrivals.move.rename_without_replacing", refuse)
        with pytest.raises(OSError, match=os.strerror(number)):
            until_idle(intake, hand_clock, 7)
        assert (inbox.path / "a.csv").read_text() == "x\n1\n"
    until_idle(intake, hand_clock, 1)
    assert names_staged(tmp_path) == ["a.csv"]


def test_one_file_that_cannot_be_taken_holds_up_no_other_and_is_reported_once(
    intake, inbox, hand_clock, tmp_path, monkeypatch, caplog
):
    rename = move.rename_without_replacing

    def refuse_one(old: str, new: str, **folders: int) -> None:
        if old == "locked.csv":
            raise PermissionError(errno.EPERM, "Operation not permitted")  # as for a file that is immutable
        rename(old, new, **folders)

    monkeypatch.setattr("sensors.arrivals.move.rename_without_replacing", refuse_one)
    for name in ("locked.csv", "good.csv"):
        (inbox.path / name).write_text("x\n1\n")
    until_idle(intake, hand_clock, 20)
    assert names_staged(tmp_path) == ["good.csv"]
    assert journey_of(intake._ledger, "locked.csv").state in {FileState.SEEN, FileState.SETTLED}
    assert sum("locked.csv cannot be taken, it waits" in record.message for record in caplog.records) == 1
