"""What would be made of the files in the inboxes; looking changes nothing."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sensors.arrivals.failed_links import FailedFolder
from sensors.arrivals.staging import Stager
from sensors.cli.preview import InboxPreview, Known, lines, look, preview
from sensors.config.inboxes import EmptyFiles, Inbox
from sensors.config.settings import Settings
from sensors.files.beneath import Identity
from sensors.inbox.intake import Intake
from sensors.inbox.rejections import Rejections
from sensors.inbox.watcher import Watch
from sensors.ledger import Ledger
from sensors.runtime.clock import Clock
from tests.conftest import HandClock

ARRIVALS = Path("/state/arrivals")


def drop(inbox: Inbox, name: str, content: str = "a,b\n1,2\n", changed: int = 1000) -> Path:
    path = inbox.path / name
    path.write_text(content)
    os.utime(path, (changed, changed))
    return path


def named(found: InboxPreview) -> list[list[str]]:
    return [[file.name for file in arrival.files] for arrival in found.arrivals]


def test_files_are_taken_in_the_order_of_their_last_change_up_to_the_inboxes_limits(inbox: Inbox) -> None:
    for number, name in enumerate(["c.csv", "a.csv", "b.csv", "d.csv"]):
        drop(inbox, name, changed=1000 + number)
    assert named(look(inbox, Known(), ARRIVALS)) == [["c.csv", "a.csv", "b.csv", "d.csv"]]
    by_two = inbox.model_copy(update={"max_files": 2})
    assert named(look(by_two, Known(), ARRIVALS)) == [["c.csv", "a.csv"], ["b.csv", "d.csv"]]
    by_bytes = inbox.model_copy(update={"max_bytes": 17})
    assert named(look(by_bytes, Known(), ARRIVALS)) == [["c.csv", "a.csv"], ["b.csv", "d.csv"]]


def test_arrivals_beyond_those_in_flight_wait(inbox: Inbox) -> None:
    for name in ("a.csv", "b.csv", "c.csv"):
        drop(inbox, name)
    one_each = inbox.model_copy(update={"max_files": 1, "max_in_flight": 3})
    found = look(one_each, Known(unfinished=1), ARRIVALS)
    assert [arrival.waits for arrival in found.arrivals] == [False, False, True]


def test_the_parameters_are_those_of_the_run(inbox: Inbox) -> None:
    drop(inbox, "a.csv")
    [arrival] = look(inbox, Known(), ARRIVALS).arrivals
    assert arrival.parameters == {
        "source_url": "file:///state/arrivals/<date>/metrics-<time>-<digits>",
        "arrival_id": "metrics-<time>-<digits>",
        "reload": None,
        "manifest": "<SHA-256>",
        "rules": None,
    }


def test_what_is_refused_or_left_alone_is_reported_with_the_reason(
    inbox: Inbox, identity: Callable[..., Identity]
) -> None:
    drop(inbox, "a.exe")
    drop(inbox, ".hidden.csv")
    known = drop(inbox, "refused.csv")
    (inbox.path / "folder").mkdir()
    refused = {str(known): Identity.of(known.lstat())}
    found = look(inbox, Known(refused=refused), ARRIVALS)
    assert found.arrivals == []
    reasons = dict([*found.refused, *found.left_alone])
    assert "not this kind of file" in reasons["a.exe"]
    assert reasons["refused.csv"] == "it was refused as it is, and has not changed since"
    assert reasons[".hidden.csv"] == "hidden name"
    assert reasons["folder"] == "not a regular file"
    drop(inbox, "refused.csv", "changed,since\n")
    assert named(look(inbox, Known(refused=refused), ARRIVALS)) == [["refused.csv"]]


def test_empty_files_and_done_files_are_waited_for_as_the_inbox_says(inbox: Inbox) -> None:
    drop(inbox, "empty.csv", "")
    assert [name for name, _ in look(inbox, Known(), ARRIVALS).waiting] == ["empty.csv"]
    rejecting = inbox.model_copy(update={"empty": EmptyFiles.REJECT})
    assert look(rejecting, Known(), ARRIVALS).refused == [("empty.csv", "the file is empty")]
    (inbox.path / "empty.csv").unlink()
    with_done = inbox.model_copy(update={"done_file": ".done"})
    for name in ("none.csv", "old.csv", "done.csv"):
        drop(inbox, name)
    drop(inbox, "old.csv.done", "", changed=999)
    drop(inbox, "done.csv.done", "", changed=1000)
    found = look(with_done, Known(), ARRIVALS)
    assert named(found) == [["done.csv"]]
    assert dict(found.waiting) == {
        "none.csv": "none.csv.done is not there",
        "old.csv": "old.csv.done is older than the file",
    }
    assert found.left_alone == []


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="only Linux tells who writes")
def test_a_file_that_is_being_written_waits(inbox: Inbox) -> None:
    path = drop(inbox, "a.csv")
    with path.open("a"):
        assert look(inbox, Known(), ARRIVALS).waiting == [("a.csv", "a process has it open for writing")]
    assert named(look(inbox, Known(), ARRIVALS)) == [["a.csv"]]


def test_a_folder_that_is_not_there_is_reported(inbox: Inbox) -> None:
    inbox.path.rmdir()
    found = look(inbox, Known(), ARRIVALS)
    assert "No such file or directory" in found.trouble
    assert any("No such file" in line for line in lines([found]))


def test_it_is_what_the_intake_then_makes_of_them(inbox: Inbox, ledger: Ledger, hand_clock: HandClock) -> None:
    small = inbox.model_copy(update={"max_files": 2})
    for number, name in enumerate(["c.csv", "a.csv", "b.csv", "x.exe"]):
        drop(small, name, changed=1000 + number)
    foretold = named(look(small, Known(), ARRIVALS))
    clock: Clock = hand_clock.clock
    stager = Stager(ledger, small.path.parent.parent / "arrivals", clock)
    rejections = Rejections(small, ledger, FailedFolder(ledger, small.path.parent.parent / "failed"), clock)
    watch = Watch(small.path, polling=True)
    intake = Intake(small, watch, ledger, stager, rejections, clock)
    for _ in range(4):
        intake.step()
        hand_clock.turn(6)
    taken = ledger.rows("SELECT name, arrival_id FROM files WHERE arrival_id IS NOT NULL ORDER BY id")
    made: dict[str, list[str]] = {}
    for row in taken:
        made.setdefault(row["arrival_id"], []).append(row["name"])
    assert [*made.values()] == foretold


def test_looking_changes_nothing_and_makes_no_ledger(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    folder = settings.inbox_dir / "metrics"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("a\n1\n")
    said = list(lines(preview(settings)))
    assert said[0] == f"inbox metrics ({folder}): 1 file would fire as 1 arrival"
    assert '      arrival_id = "metrics-<time>-<digits>"' in said
    assert {path.name for path in tmp_path.rglob("*")} == {"inbox", "metrics", "a.csv"}
    assert (folder / "a.csv").read_text() == "a\n1\n"
