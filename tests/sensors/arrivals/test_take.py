"""Taking one file: it is at its address, claimed, or where it was dropped, whatever happens."""

import errno
import os
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sensors.arrivals import move
from sensors.arrivals.move import Move, claim_name, claim_token, claimed_name, take
from sensors.files.beneath import Identity
from sensors.ledger.files import WaitingFile
from tests.dropped_arrivals import identity_at


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "arrivals" / "metrics-1"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def elsewhere(tmp_path):
    """A folder on another device than `tmp_path`."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system to write to at /dev/shm")
    with TemporaryDirectory(dir=memory) as made:
        yield Path(made)


def dropped(inbox: Path, content: str = "rows", name: str = "a.csv") -> WaitingFile:
    path = inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return WaitingFile(7, path, name, identity_at(path))


def everywhere(*folders: Path) -> dict[str, str]:
    """Return every file below some folders and what is in it."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folders[0]) if path.is_relative_to(folders[0]) else path.name): path.read_text()
        for path in files
    }


def test_a_file_is_moved_by_one_rename(tmp_path, folder):
    file = dropped(tmp_path / "inbox")
    assert take(file, folder) is Move.STAGED
    assert everywhere(tmp_path) == {"arrivals/metrics-1/a.csv": "rows"}
    assert identity_at(folder / "a.csv") == file.identity


def test_a_file_of_a_subfolder_keeps_its_path(tmp_path, folder):
    assert take(dropped(tmp_path / "inbox", name="north/a.csv"), folder) is Move.STAGED
    assert everywhere(tmp_path) == {"arrivals/metrics-1/north/a.csv": "rows"}


def test_taking_it_again_finds_it_there(tmp_path, folder):
    file = dropped(tmp_path / "inbox")
    assert [take(file, folder), take(file, folder)] == [Move.STAGED, Move.STAGED]


def test_a_file_of_the_same_name_that_came_since_is_not_touched(tmp_path, folder):
    file = dropped(tmp_path / "inbox")
    take(file, folder)
    dropped(tmp_path / "inbox", "another")
    assert take(file, folder) is Move.STAGED
    assert everywhere(tmp_path) == {"arrivals/metrics-1/a.csv": "rows", "inbox/a.csv": "another"}


def test_a_file_that_a_hard_link_reaches_from_outside_is_copied(tmp_path, folder):
    file = dropped(tmp_path / "inbox")
    outside = tmp_path / "outside.csv"
    os.link(file.path, outside)
    file = WaitingFile(file.id, file.path, file.name, identity_at(file.path))
    assert take(file, folder) is Move.STAGED
    outside.write_text("scribbled over")
    assert (folder / "a.csv").read_text() == "rows"
    assert list((tmp_path / "inbox").iterdir()) == []
    assert (folder / "a.csv").stat().st_mtime_ns == file.identity.mtime_ns


def test_across_devices_a_file_is_copied_whole_and_then_removed(folder, elsewhere):
    assert take(dropped(elsewhere), folder) is Move.STAGED
    assert everywhere(folder, elsewhere) == {"a.csv": "rows"}


@pytest.mark.parametrize("name", ["taken", "copied", "copy-in-place"])
def test_a_copy_that_a_crash_interrupted_is_finished(folder, elsewhere, monkeypatch, name):
    class Killed(BaseException):
        pass

    def crash(place: str) -> None:
        if place == name:
            raise Killed

    file = dropped(elsewhere)
    monkeypatch.setattr(move, "kill_point", crash)
    with pytest.raises(Killed):
        take(file, folder)
    monkeypatch.undo()
    assert take(file, folder) is Move.STAGED
    assert everywhere(folder, elsewhere) == {"a.csv": "rows"}


def test_a_claim_shows_the_files_name_and_fits_into_255_bytes():
    name = "ü" * 98 + ".csv"  # 200 bytes, the longest that is admitted
    file = WaitingFile(2**63 - 1, Path("/inbox") / name, name, Identity(1, 1, 1, 1))
    claim = claim_name(claim_token(file, f"{'i' * 40}-20261124-140509-3f9a1c"), name)
    assert len(claim.encode()) <= 255
    assert claimed_name(claim) == ("20261124-140509-3f9a1c", name)
    assert claimed_name(".orders.csv.part") is None


def test_a_copy_for_which_there_is_no_room_leaves_the_file_claimed_and_can_be_repeated(folder, elsewhere, monkeypatch):
    file = dropped(elsewhere)

    def full(*_args: object, **_kwargs: object) -> None:  # a real full disk is in tests/test_full_disk.py
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(move, "copy_content", full)
    with pytest.raises(OSError, match="No space left"):
        take(file, folder)
    assert list(everywhere(folder, elsewhere).values()) == ["rows"]
    monkeypatch.undo()
    assert take(file, folder) is Move.STAGED
    assert everywhere(folder, elsewhere) == {"a.csv": "rows"}


def test_a_file_that_changed_is_left_where_it_is(tmp_path, folder):
    file = dropped(tmp_path / "inbox")
    file.path.write_text("rows and more")
    assert take(file, folder) is Move.CHANGED
    assert everywhere(tmp_path) == {"inbox/a.csv": "rows and more"}


def test_a_file_that_is_gone_is_gone(tmp_path, folder):
    file = dropped(tmp_path / "inbox")
    file.path.unlink()
    assert take(file, folder) is Move.GONE


def test_of_two_sensors_one_takes_the_file(tmp_path, elsewhere):
    for inbox, arrivals in ((tmp_path / "inbox", tmp_path), (elsewhere / "inbox", tmp_path)):
        for _ in range(30):
            file = dropped(inbox)
            folders = [arrivals / "one" / "m-1", arrivals / "two" / "m-2"]
            moves: list[Move] = []
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            start = threading.Barrier(2)

            def race(folder: Path, file=file, start=start, moves=moves) -> None:
                start.wait()
                moves.append(take(file, folder))

            threads = [threading.Thread(target=race, args=(folder,)) for folder in folders]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(moves) == sorted([Move.STAGED, Move.GONE])
            taken = [path for folder in folders for path in folder.iterdir()]
            assert [path.read_text() for path in taken] == ["rows"]
            taken[0].unlink()


def test_a_writer_that_opens_the_file_at_the_last_moment_gets_it_back(tmp_path, folder, monkeypatch):
    """The writer waits in open(2) for the lease while the file is renamed, and then writes to what was renamed."""
    file = dropped(tmp_path / "inbox")
    opened = threading.Event()

    def append() -> None:
        with file.path.open("a") as late:
            opened.set()
            late.write(" and more")
            late.flush()
            closing.wait(10)

    closing = threading.Event()
    writer = threading.Thread(target=append)
    rename = move.rename_without_replacing

    def rename_while_somebody_opens(old: str, new: str, **folders: int) -> None:
        if not writer.ident:
            writer.start()
            time.sleep(0.2)  # long enough to be in open(2), where it waits for the lease
            assert not opened.is_set(), "the lease holds the writer up"
        rename(old, new, **folders)

    monkeypatch.setattr(move, "rename_without_replacing", rename_while_somebody_opens)
    assert take(file, folder) is Move.CHANGED
    closing.set()
    writer.join()
    assert everywhere(tmp_path) == {"inbox/a.csv": "rows and more"}


def test_a_file_that_has_to_go_back_never_replaces_another(tmp_path, folder, monkeypatch):
    file = dropped(tmp_path / "inbox")
    rename = move.rename_without_replacing

    moved: list[str] = []

    def replace_it_meanwhile(old: str, new: str, **folders: int) -> None:
        rename(old, new, **folders)
        moved.append(new)
        if moved == ["a.csv"]:
            # It is not what it was any more; to open it would wait for the lease.
            os.utime(folder / new, ns=(1, 1))
            file.path.write_text("a newer one")

    monkeypatch.setattr(move, "rename_without_replacing", replace_it_meanwhile)
    assert take(file, folder) is Move.CHANGED
    found = everywhere(tmp_path)
    assert found.pop("inbox/a.csv") == "a newer one"
    (beside,) = found
    assert beside.startswith("inbox/a.")
    assert beside.endswith(".csv")
    assert found[beside] == "rows"


def test_a_done_file_is_removed_with_the_file_that_it_was_about(tmp_path, folder):
    file = dropped(tmp_path / "inbox")
    (tmp_path / "inbox" / "a.csv.done").touch()
    assert take(file, folder, ".done") is Move.STAGED
    assert everywhere(tmp_path) == {"arrivals/metrics-1/a.csv": "rows"}


def test_a_symlink_that_is_there_now_is_not_followed(tmp_path, folder):
    file = dropped(tmp_path / "inbox")
    secret = tmp_path / "secret.csv"
    file.path.rename(secret)
    file.path.symlink_to(secret)
    assert take(file, folder) is Move.CHANGED
    assert secret.read_text() == "rows"


def test_a_crash_between_a_link_and_the_removal_that_make_a_rename_makes_no_second_file(tmp_path, folder, monkeypatch):
    """As on a file system that cannot rename without replacing."""

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    file = dropped(tmp_path / "inbox")
    monkeypatch.setattr("sensors.files.durability._libc_renameat2", None)
    monkeypatch.setattr("sensors.files.durability.os.unlink", killed)
    with pytest.raises(Killed):
        take(file, folder)
    monkeypatch.undo()
    assert len(everywhere(tmp_path)) == 2
    assert take(file, folder) is Move.STAGED
    assert everywhere(tmp_path) == {"arrivals/metrics-1/a.csv": "rows"}
