"""Files that may not be moved: they wait, are tried ever more rarely under the same id, and are reported once."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sensors.arrivals import move, staging
from sensors.config.inboxes import Inbox
from sensors.reports.arrivals import books_of
from tests.one_inbox import OneInbox
from tests.other_user import NOBODY, as_user, needs_root, reachable_folder

HOUR = 3600.0


@pytest.fixture
def common_folder() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


def as_another_user(do: Callable[[], Any]) -> Any:
    return as_user(do, may_return=True)


@pytest.fixture
def ids(monkeypatch) -> list[str]:
    """List the ids of the arrivals that are made."""
    made: list[str] = []
    real = staging.new_arrival

    def new_arrival(*args: Any, **kwargs: Any) -> Any:
        arrival = real(*args, **kwargs)
        made.append(arrival.id)
        return arrival

    monkeypatch.setattr(staging, "new_arrival", new_arrival)
    return made


@pytest.fixture
def place(common_folder) -> Callable[..., Inbox]:
    """Make an inbox whose folder belongs to root, with this mode; the state belongs to the other user."""

    def made(mode: int, **rules: object) -> Inbox:
        folder = common_folder / "inbox"
        folder.mkdir()
        folder.chmod(mode)
        (common_folder / "state").mkdir()
        if os.geteuid() == 0:
            os.chown(common_folder / "state", NOBODY, NOBODY)
        return Inbox.model_validate({"name": "metrics", "path": folder, "unproven_quiet_seconds": 1, **rules})

    return made


def drop(inbox: Inbox, *names: str, owner: int = 0) -> None:
    for name in names:
        path = inbox.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("a\n1\n")
        path.chmod(0o644)
        if os.geteuid() == 0:
            os.chown(path, owner, owner)


@needs_root
def test_a_file_in_a_sticky_folder_is_reported_once_and_the_others_are_taken(place, common_folder, ids, caplog):
    inbox = place(0o1777)
    drop(inbox, "theirs.csv")
    drop(inbox, "ours.csv", owner=NOBODY)

    def work() -> Any:
        sensor = OneInbox(common_folder / "state", inbox)
        sensor.pass_time(HOUR)
        books = books_of(sensor.ledger, ["metrics"])["metrics"]
        lines = [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"]
        return sensor.states(), books, sensor.notices(), sensor.attention(), ids, sensor.folders(), lines

    states, books, notices, attention, made, folders, lines = as_another_user(work)
    assert states == {"theirs.csv": "seen", "ours.csv": "staged"}
    assert (books.seen, books.waiting, books.in_flight) == (2, 1, 1)
    assert [notice["event"] for notice in notices] == ["inbox.files.waiting"]
    assert "theirs.csv" in notices[0]["text"]
    assert "sticky" in notices[0]["text"]
    assert str(inbox.path) in notices[0]["text"]
    assert "ours.csv" not in notices[0]["text"]
    assert len(attention) == 1
    assert "theirs.csv" in attention[0]
    assert "sticky" in attention[0]
    assert len(made) <= 2, "one for the good file, and one that every further attempt takes again"
    assert len(folders) == 1
    assert sum("theirs.csv" in line for line in lines) <= 2, lines


@needs_root
@pytest.mark.parametrize(
    ("mode", "word"), [pytest.param(0o755, "permission", id="not ours"), pytest.param(0o1777, "sticky", id="sticky")]
)
def test_it_is_taken_soon_after_the_permission_was_mended_and_reported_no_more(place, common_folder, mode, word):
    inbox = place(mode)
    drop(inbox, "a.csv", "north/b.csv")
    (inbox.path / "north").chmod(mode)
    inbox = inbox.model_copy(update={"subfolders": True})

    def work() -> Any:
        sensor = OneInbox(common_folder / "state", inbox)
        sensor.pass_time(HOUR)
        before = sensor.attention(), sensor.notices()
        os.seteuid(0)
        for folder in (inbox.path, inbox.path / "north"):
            folder.chmod(0o777)
        os.seteuid(NOBODY)
        sensor.pass_time(15)
        return before, sensor.states(), sensor.attention(), sensor.notices(), sensor.folders()

    (lines, notices), states, attention, after, folders = as_another_user(work)
    assert len(lines) == 2
    assert all(word in line for line in lines)
    assert len(notices) == 1, "both in one"
    assert states == {"a.csv": "staged", "north/b.csv": "staged"}
    assert attention == []
    assert after == notices
    assert len(folders) == 1


@needs_root
def test_a_subfolder_that_may_not_be_changed_holds_up_no_other(place, common_folder):
    inbox = place(0o777, subfolders=True)
    drop(inbox, "a.csv", "locked/b.csv", "open/c.csv")
    (inbox.path / "open").chmod(0o777)

    def work() -> Any:
        sensor = OneInbox(common_folder / "state", inbox)
        sensor.pass_time(60)
        return sensor.states(), sensor.attention()

    states, attention = as_another_user(work)
    assert states == {"a.csv": "staged", "locked/b.csv": "seen", "open/c.csv": "staged"}
    assert len(attention) == 1
    assert "locked/b.csv" in attention[0]


@needs_root
def test_a_file_that_vanishes_is_reported_no_more(place, common_folder):
    inbox = place(0o755)
    drop(inbox, "a.csv")

    def work() -> Any:
        sensor = OneInbox(common_folder / "state", inbox)
        sensor.pass_time(60)
        before = sensor.attention()
        os.seteuid(0)
        (inbox.path / "a.csv").unlink()
        os.seteuid(NOBODY)
        sensor.pass_time(60)
        return before, sensor.attention(), sensor.states()

    before, after, states = as_another_user(work)
    assert len(before) == 1
    assert after == []
    assert states == {"a.csv": "withdrawn"}


@needs_root
def test_a_restart_and_a_file_that_grows_report_nothing_twice(place, common_folder, ids):
    inbox = place(0o755)
    drop(inbox, "a.csv")

    def work() -> Any:
        sensor = OneInbox(common_folder / "state", inbox)
        sensor.pass_time(60)
        since = sensor.attention()
        sensor.restart()
        sensor.pass_time(60)
        for _ in range(10):
            os.seteuid(0)
            with (inbox.path / "a.csv").open("a") as grown:
                grown.write("2\n")
            os.seteuid(NOBODY)
            sensor.pass_time(60)
        return since, sensor.attention(), sensor.notices(), ids

    since, attention, notices, made = as_another_user(work)
    assert attention == since, "it has waited since then"
    assert len(notices) == 1
    assert len(made) <= 2, "one for each process"


@needs_root
def test_a_target_that_cannot_be_written_is_no_fault_of_the_files(place, common_folder):
    inbox = place(0o777)
    drop(inbox, "a.csv")
    (common_folder / "state" / "arrivals").mkdir()

    def work() -> Any:
        sensor = OneInbox(common_folder / "state", inbox)
        with pytest.raises(PermissionError):
            sensor.pass_time(60)
        return sensor.states(), sensor.notices()

    states, notices = as_another_user(work)
    assert states == {"a.csv": "staging"}
    assert notices == [], "the loop fails, and that is reported by itself"


@pytest.mark.parametrize("number", [errno.EPERM, errno.EIO, errno.EROFS, errno.ESTALE])
def test_whatever_keeps_one_file_from_being_moved_holds_up_no_other(tmp_path, monkeypatch, number, ids):
    rename = move.rename_without_replacing

    def refuse_one(old: Any, new: Any, **folders: Any) -> None:
        if os.path.basename(old) == "locked.csv":  # noqa: PTH119 - a name or a path
            raise OSError(number, os.strerror(number))
        rename(old, new, **folders)

    monkeypatch.setattr(move, "rename_without_replacing", refuse_one)
    (tmp_path / "inbox").mkdir()
    inbox = Inbox.model_validate({"name": "metrics", "path": tmp_path / "inbox"})
    drop(inbox, "locked.csv", "good.csv")
    sensor = OneInbox(tmp_path / "state", inbox)
    sensor.pass_time(HOUR)
    assert sensor.states() == {"good.csv": "staged", "locked.csv": "seen"}
    assert os.strerror(number) in sensor.notices()[0]["text"]
    assert len(sensor.notices()) == 1
    assert len(ids) <= 2
    drop(inbox, "later.csv")
    sensor.pass_time(10)
    assert sensor.states()["later.csv"] == "staged"


@needs_root
def test_the_pauses_between_attempts_grow_up_to_five_minutes(place, common_folder, monkeypatch):
    inbox = place(0o755)
    drop(inbox, "a.csv")
    assert stat.S_IMODE(inbox.path.stat().st_mode) == 0o755

    def work() -> Any:
        sensor = OneInbox(common_folder / "state", inbox)
        attempts: list[float] = []
        take_all = sensor.intake._stager.origin.take_all

        def counted(*args: Any, **kwargs: Any) -> Any:
            attempts.append(sensor.hand.seconds)
            return take_all(*args, **kwargs)

        monkeypatch.setattr(sensor.intake._stager.origin, "take_all", counted)
        sensor.pass_time(HOUR)
        return attempts

    attempts = as_another_user(work)
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert 10 <= len(attempts) <= 20
    assert all(later >= earlier - 0.1 for earlier, later in pairwise(pauses))
    assert 290 <= pauses[-1] <= 310


def test_a_file_that_a_disk_does_not_give_while_it_is_copied_is_put_back_and_holds_up_no_other(tmp_path, monkeypatch):
    def unreadable(source: Any, copy: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(move, "copy_content", unreadable)
    (tmp_path / "inbox").mkdir()
    inbox = Inbox.model_validate({"name": "metrics", "path": tmp_path / "inbox"})
    drop(inbox, "linked.csv", "good.csv")
    (tmp_path / "elsewhere").hardlink_to(inbox.path / "linked.csv")  # so that it is copied
    sensor = OneInbox(tmp_path / "state", inbox)
    sensor.pass_time(60)
    assert sensor.states() == {"good.csv": "staged", "linked.csv": "seen"}
    assert sorted(path.name for path in inbox.path.iterdir()) == ["linked.csv"]
    assert "Input/output error" in sensor.attention()[0]
    monkeypatch.undo()
    sensor.pass_time(60)
    assert sensor.states() == {"good.csv": "staged", "linked.csv": "staged"}
