"""What a look costs, counted in stats and SQL statements: that of the files that changed, however many lie there."""

import os
import threading

import pytest

from sensors.arrivals import move
from sensors.arrivals.failed_links import FailedFolder
from sensors.arrivals.staging import Stager
from sensors.config.inboxes import Inbox
from sensors.inbox import pending_files, scanner, watcher
from sensors.inbox.intake import Intake
from sensors.inbox.rejections import Rejections
from sensors.inbox.watcher import FolderTimes, Watch
from tests.conftest import HandClock
from tests.journeys.stack import wait_until

LYING = 50


@pytest.fixture
def wake():
    return threading.Event()


@pytest.fixture
def make(tmp_path, ledger, hand_clock, wake, scans, stats):
    """Make the intake of an inbox in which files lie that it knows, with this rule and these names."""
    watches: list[Watch] = []

    def made(name: str = "{}.csv", text: str = "a\n1\n", **rules: object) -> Intake:
        inbox = Inbox.model_validate({"name": "metrics", "path": tmp_path / "inbox", "subfolders": True, **rules})
        (inbox.path / "north").mkdir(parents=True)
        for n in range(LYING):
            (inbox.path / name.format(n)).write_text(text)
        for folder in (inbox.path, inbox.path / "north"):
            os.utime(folder, (1000, 1000))  # long ago, so that its time can be relied on
        watches.append(Watch(inbox.path, wake, polling=inbox.watch == "polling"))
        rejections = Rejections(inbox, ledger, FailedFolder(ledger, tmp_path / "failed"), hand_clock.clock)
        stager = Stager(ledger, tmp_path / "arrivals", hand_clock.clock)
        intake = Intake(inbox, watches[-1], ledger, stager, rejections, hand_clock.clock)
        for _ in range(8):
            intake.step()
            hand_clock.turn(1)
        intake.step()
        for folder in (inbox.path, inbox.path / "north"):
            os.utime(folder, (2000, 2000))
        hand_clock.turn(100)
        intake.step()  # the last scan: one file was taken, perhaps
        for counted in (wake, scans, stats):
            counted.clear()
        return intake

    yield made
    for watch in watches:
        watch.close()


@pytest.fixture
def scans(monkeypatch) -> list[str]:
    """Count the folders that are listed."""
    listed: list[str] = []
    real = pending_files._folder

    def folder(descriptor, prefix, *rest):
        listed.append(prefix)
        yield from real(descriptor, prefix, *rest)

    monkeypatch.setattr(pending_files, "_folder", folder)
    return listed


@pytest.fixture
def stats(monkeypatch) -> list[str]:
    """Count the names that are looked at by a hint."""
    looked: list[str] = []
    real = os.stat

    def stat(path, *args, **kwargs):
        if kwargs.get("dir_fd") is not None:
            looked.append(path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(pending_files.os, "stat", stat)
    return looked


REASONS = [
    pytest.param({"max_in_flight": 1, "max_files": 1}, id="enough is in flight"),
    pytest.param({"name": "{}.pdf"}, id="refused"),
    pytest.param({"done_file": ".done"}, id="no done-file"),
    pytest.param({"text": ""}, id="empty"),
    pytest.param({"name": "{}.csv.part"}, id="temporary"),
]


@pytest.mark.parametrize("why", REASONS)
def test_while_nothing_happens_nothing_is_listed_and_nothing_is_asked_of_the_files(
    make, scans, stats, hand_clock, ledger, why
):
    intake = make(**why)
    said: list[str] = []
    ledger._connection.set_trace_callback(said.append)
    for _ in range(10):
        hand_clock.turn(5)
        intake.step()
    ledger._connection.set_trace_callback(None)
    assert (scans, stats) == ([], [])
    assert {line for line in said if "FROM files" in line or "UPDATE" in line or "INSERT" in line} <= {
        line for line in said if "state = 'settled' ORDER BY id LIMIT" in line
    }


@pytest.mark.parametrize("why", REASONS)
@pytest.mark.parametrize("name", ["new.csv", "north/new.csv"])
def test_a_hint_has_the_named_file_looked_at_and_no_other(make, scans, stats, wake, ledger, why, name):
    intake = make(**why)
    (intake.inbox.path / name).write_text("a\n1\n")
    assert wake.wait(5)
    intake.step()
    assert scans == []
    assert set(stats) <= {"new.csv", "new.csv.done"}
    assert len(ledger.rows("SELECT 1 FROM files WHERE name = ?", (name,))) == 1


def test_as_many_statements_are_run_for_many_waiting_files_as_for_few(make, ledger, wake, hand_clock):
    counts: list[int] = []
    for waiting in ("few", "many"):
        intake = make(text="") if waiting == "few" else intake  # noqa: F821 - the first one, with more in it
        if waiting == "many":
            for n in range(200):
                (intake.inbox.path / f"more-{n}.csv").write_text("")
            hand_clock.turn(10)
            intake.step()
        said: list[str] = []
        wake.clear()
        (intake.inbox.path / f"{waiting}.csv").write_text("a\n1\n")
        assert wake.wait(5)
        ledger._connection.set_trace_callback(said.append)
        for _ in range(3):
            intake.step()
            hand_clock.turn(0.1)
        ledger._connection.set_trace_callback(None)
        counts.append(len(said))
    assert ledger.rows("SELECT count(*) FROM files WHERE state = 'staged'")[0][0] == 2
    assert counts[0] == counts[1]


def test_a_name_that_came_without_a_hint_is_found_by_the_folders_time(make, scans, stats, hand_clock, ledger):
    intake = make()
    (intake.inbox.path / "north" / "quiet.csv").write_text("a\n1\n")
    wait_until(lambda: "north/quiet.csv" in intake.watch.fetch().completed, "the hint came and is lost", 5, pause=0.01)
    hand_clock.turn(intake.inbox.rescan_seconds)
    intake.step()
    assert scans == ["", "north"]
    assert ledger.rows("SELECT state FROM files WHERE name = 'north/quiet.csv'")


def test_what_was_changed_in_place_without_a_hint_is_found_in_the_end(make, scans, hand_clock, ledger):
    intake = make(text="")
    (intake.inbox.path / "7.csv").write_text("a\n1\n")
    wait_until(lambda: "7.csv" in intake.watch.fetch().completed, "the hint came and is lost", 5, pause=0.01)
    for _ in range(11):
        hand_clock.turn(intake.inbox.rescan_seconds)
        intake.step()
    assert scans == []
    hand_clock.turn(intake.inbox.rescan_seconds)
    intake.step()
    assert scans == ["", "north"]
    hand_clock.turn(1)
    intake.step()
    assert [row["state"] for row in ledger.rows("SELECT state FROM files WHERE name = '7.csv'")] == ["staged"]


def test_a_hint_of_a_file_below_a_symlink_is_not_followed(make, tmp_path, ledger):
    intake = make()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.csv").write_text("secret")
    (intake.inbox.path / "link").symlink_to(tmp_path / "outside")
    intake.watch.completed("link/secret.csv")
    intake.step()
    assert ledger.rows("SELECT 1 FROM files WHERE name LIKE '%secret%'") == []


def test_a_folder_that_changed_just_before_it_was_listed_is_listed_again(tmp_path, monkeypatch):
    folder = tmp_path / "inbox"
    folder.mkdir()
    times = FolderTimes(folder)
    times.note("", folder.stat())
    assert times.have_changed(), "its clock is too coarse to tell"
    os.utime(folder, (1000, 1000))
    times.note("", folder.stat())
    assert not times.have_changed()
    (folder / "a.csv").touch()
    assert times.have_changed()


def test_a_folder_that_went_or_became_another_has_changed(tmp_path):
    folder = tmp_path / "inbox"
    (folder / "north").mkdir(parents=True)
    os.utime(folder / "north", (1000, 1000))
    times = FolderTimes(folder)
    times.note("north", (folder / "north").stat())
    (folder / "north").rename(folder / "south")
    assert times.have_changed()
    (folder / "north").mkdir()
    os.utime(folder / "north", (1000, 1000))
    assert times.have_changed()
    times.forget_all_but(set())
    assert times.have_changed(), "nothing is known of any folder"
    assert watcher.JUST_NOW_NS > 0


def test_the_intake_looks_again_at_once_while_more_has_settled_than_one_arrival_takes(
    make, hand_clock: HandClock, ledger
):
    intake = make(max_files=10, max_in_flight=2)
    assert ledger.rows("SELECT count(*) FROM arrivals")[0][0] == 2
    ledger.change("UPDATE arrivals SET state = 'loaded'")
    steps = [intake.step() for _ in range(3)]
    assert [step.found_work for step in steps] == [True, True, False]
    assert steps[0].look_again_in == 0.0


@pytest.fixture
def slow_listing(monkeypatch, hand_clock):
    """Have each listing take the seconds that are in this list, one after the other, then none."""
    seconds: list[float] = []
    real = scanner.scan

    def scan_slowly(*args, **kwargs):
        hand_clock.turn(seconds.pop(0) if seconds else 0.0)
        yield from real(*args, **kwargs)

    monkeypatch.setattr(scanner, "scan", scan_slowly)
    return seconds


def seconds_until_taken(intake: Intake, name: str, hand_clock: HandClock, most: float) -> float:
    """Drop a file and let time pass as a sleeping loop does, until it is taken."""
    (intake.inbox.path / name).write_text("a\n1\n")
    dropped = hand_clock.seconds
    while (pause := intake.step().look_again_in) >= 0 and (intake.inbox.path / name).exists():
        hand_clock.turn(max(pause, 0.01))
        assert hand_clock.seconds - dropped <= most, f"{name} was not taken within {most} s"
    return hand_clock.seconds - dropped


def test_one_slow_listing_costs_a_few_seconds_and_blinds_no_inbox(make, slow_listing, hand_clock):
    intake = make(watch="polling", max_in_flight=9)
    slow_listing += [6.0]
    hand_clock.turn(1)
    intake.step()
    assert slow_listing == [], "that one was slow"
    seconds_until_taken(intake, "new.csv", hand_clock, most=5)


def test_the_first_listing_after_a_start_may_be_slow_as_well(make, slow_listing, hand_clock):
    intake = make(watch="polling", max_in_flight=9)
    slow_listing += [6.0]
    fresh = Intake(intake.inbox, intake.watch, intake._ledger, intake._stager, intake._rejections, hand_clock.clock)
    fresh.step()
    seconds_until_taken(fresh, "new.csv", hand_clock, most=5)


def test_a_folder_that_is_slow_to_list_for_good_is_listed_seldom_but_within_bounds(make, slow_listing, hand_clock):
    intake = make(watch="polling", max_in_flight=9)
    slow_listing += [60.0] * 9
    pauses: list[float] = []
    for _ in range(6):
        pauses.append(intake.step().look_again_in)
        hand_clock.turn(pauses[-1])
    assert pauses[-1] == scanner.LONGEST_PAUSE_SECONDS
    assert all(pause <= scanner.LONGEST_PAUSE_SECONDS for pause in pauses)
    slow_listing.clear()
    intake.step()
    assert intake.step().look_again_in <= 1, "it is as fast as ever once it lists quickly again"


def test_a_change_in_place_without_a_hint_is_found_within_minutes_however_slow_the_listing_was(
    make, slow_listing, scans, hand_clock
):
    intake = make(text="")
    slow_listing += [60.0] * 5
    for _ in range(5):
        intake.watch.changed()
        intake.step()
    scans.clear()
    for _ in range(200):
        hand_clock.turn(5)
        intake.step()
    assert scans


def test_a_long_listing_and_a_long_taking_give_signs_of_life(make, scans, hand_clock, monkeypatch):
    intake = make(text="")
    beats: list[int] = []
    for module in (scanner, move):
        monkeypatch.setattr(module, "beat", lambda: beats.append(len(scans)))
    intake.watch.changed()
    intake.step()
    assert len(beats) == 2 + LYING, "one for each folder, and for each file"
    for n in range(5):
        (intake.inbox.path / f"again-{n}.csv").write_text("a\n1\n")
    intake.watch.changed()
    intake.step()
    hand_clock.turn(intake.inbox.quiet_seconds)
    beats.clear()
    intake.step()
    assert len(beats) == 5, "one for each file that is taken"
