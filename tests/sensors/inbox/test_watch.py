"""Hints: they come from real folders, and what cannot be hinted at is found by looking."""

import logging
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from sensors.inbox.pending_files import scan
from sensors.inbox.watcher import Watch, WatchMode
from tests.journeys.stack import wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "eventfd"), reason="the events of Linux")


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "inbox"
    made.mkdir()
    return made


@pytest.fixture
def watch(folder):
    made = Watch(folder)
    yield made
    made.close()


def look(watch: Watch, folder: Path, *, subfolders: bool = False) -> set[str]:
    """Scan as the intake does and return the names that were found."""
    folders: set[str] = set()

    def cover(name: str, status: os.stat_result) -> None:
        folders.add(name)
        watch.cover(name, status)

    found = {entry.name for entry in scan(folder, cover, subfolders=subfolders)}
    watch.uncover_all_but(folders)
    return found


def hinted(watch: Watch) -> set[str]:
    """Return the names of the next hints."""
    return set(wait_until(watch.fetch, "a hint came", 5, pause=0.01).completed)


def test_closing_after_writing_and_renaming_in_are_hints(watch, folder, tmp_path):
    look(watch, folder)
    (folder / "written.csv").write_text("x")
    assert hinted(watch) == {"written.csv"}
    (tmp_path / "made.csv").write_text("x")
    (tmp_path / "made.csv").rename(folder / "renamed.csv")
    assert hinted(watch) == {"renamed.csv"}
    assert watch.mode is WatchMode.EVENTS


def test_a_file_that_got_another_time_is_a_hint_that_proves_nothing(watch, folder):
    (folder / "a.csv.done").write_text("")
    look(watch, folder)
    watch.fetch()
    os.utime(folder / "a.csv.done")
    hints = wait_until(watch.fetch, "a hint came", 5, pause=0.01)
    assert (set(hints.completed), set(hints.touched)) == (set(), {"a.csv.done"})


def test_a_file_that_is_being_written_gives_no_hint(watch, folder):
    look(watch, folder)
    with (folder / "slow.csv").open("w") as slow:
        slow.write("x")
        slow.flush()
        assert not watch.wake.wait(0.2)
    assert hinted(watch) == {"slow.csv"}


def test_an_inbox_that_is_deleted_and_made_again_is_watched_again(watch, folder):
    look(watch, folder)
    folder.rmdir()
    wait_until(watch.fetch, "the deletion is a hint to look", 5, pause=0.01)
    folder.mkdir()
    look(watch, folder)
    (folder / "a.csv").write_text("x")
    assert "a.csv" in hinted(watch)


def test_a_folder_that_is_renamed_in_is_a_hint_and_is_watched_from_then_on(watch, folder, tmp_path):
    look(watch, folder, subfolders=True)
    full = tmp_path / "north"
    (full / "deep").mkdir(parents=True)
    (full / "deep" / "a.csv").write_text("x")
    full.rename(folder / "north")
    wait_until(watch.fetch, "the rename is a hint to look", 5, pause=0.01)
    assert look(watch, folder, subfolders=True) == {"north/deep/a.csv"}
    (folder / "north" / "deep" / "b.csv").write_text("x")
    assert hinted(watch) == {"north/deep/b.csv"}


def test_a_folder_that_went_is_not_watched_any_more(watch, folder):
    (folder / "north").mkdir()
    look(watch, folder, subfolders=True)
    (folder / "north").rename(folder.parent / "taken-away")
    look(watch, folder, subfolders=True)
    watch.fetch()
    (folder.parent / "taken-away" / "a.csv").write_text("x")
    assert not watch.wake.is_set() or "north/a.csv" not in watch.fetch().completed


def test_when_the_kernel_has_no_watch_left_it_is_said_once_and_looked_every_second(watch, folder, caplog, monkeypatch):
    with caplog.at_level(logging.INFO):
        # The kernel's own limit is in tests/crashes/test_refusing_machine.py, in a namespace; here it comes and goes.
        monkeypatch.setattr("watchdog.observers.inotify_c.InotifyFD", _Refusing)
        for _ in range(3):
            look(watch, folder)
        assert watch.mode is WatchMode.POLLING
        assert watch.why_polling == "inotify watch limit reached"
        monkeypatch.undo()
        look(watch, folder)
    assert watch.mode is WatchMode.EVENTS
    assert [record.message for record in caplog.records] == [
        f"{folder}: no file events (inotify watch limit reached), looking every second instead",
        f"{folder}: file events come in again",
    ]


class _Refusing:
    @staticmethod
    def get_instance() -> "_Refusing":
        return _Refusing()

    def add_callback(self, *_: object) -> int:
        raise OSError(28, "inotify watch limit reached")

    def is_alive(self) -> bool:
        return True


def test_a_queue_that_overflows_is_a_hint_to_look_and_is_said_once(watch, folder, caplog):
    look(watch, folder)
    for _ in range(3):
        watch.overflowed()
        assert watch.fetch().changed
    assert [record.message for record in caplog.records] == [
        f"{folder}: the kernel's queue of file events was full; looking at everything"
    ]


def test_an_inbox_may_ask_for_polling(folder):
    watch = Watch(folder, polling=True)
    look(watch, folder)
    (folder / "a.csv").write_text("x")
    assert not watch.wake.wait(0.2)
    assert watch.mode is WatchMode.POLLING


def test_hints_of_two_inboxes_do_not_mix(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    watches: list[Watch] = []
    for folder in folders:
        folder.mkdir()
        watches.append(Watch(folder, threading.Event()))
        look(watches[-1], folder)
    (folders[1] / "a.csv").write_text("x")
    assert hinted(watches[1]) == {"a.csv"}
    assert not watches[0].wake.is_set()
    for watch in watches:
        watch.close()


@pytest.fixture
def mounted(tmp_path):
    """A real mount whose files others change behind its back: the original's folder and the mount's."""
    original, mount = tmp_path / "original", tmp_path / "mount"
    original.mkdir()
    mount.mkdir()
    bindfs = shutil.which("bindfs")
    if bindfs is None or not Path("/dev/fuse").exists():
        if os.environ.get("CI"):
            raise AssertionError("CI has to install bindfs, see .ci/run")
        pytest.skip("needs bindfs and /dev/fuse: apt-get install bindfs")
    subprocess.run([bindfs, original, mount], check=True)
    yield original, mount
    subprocess.run(["umount", mount], check=True)


def test_a_mount_without_events_is_polled_by_itself_and_says_why(mounted, caplog):
    original, mount = mounted
    watch = Watch(mount)
    look(watch, mount)
    (original / "a.csv").write_text("x")
    assert not watch.wake.wait(0.3), "there are no events"
    assert look(watch, mount) == {"a.csv"}
    assert watch.mode is WatchMode.POLLING
    assert [record.message for record in caplog.records] == [
        f"{mount}: no file events (fuse does not report what other machines do there), looking every second instead"
    ]
    watch.close()
